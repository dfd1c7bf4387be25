/* Does the interrupt flag do what the manual says? The kernel's part of the self-test.
 *
 * Everything in cpu.h that guards a critical section is tried once. On a processor, in ring 0, nothing of this can
 * fail. It fails where a monitor runs this kernel in an outer ring and takes PUSHF and POPF for harmless: then PUSHF
 * shows the IF of the processor, which the monitor keeps at 1, and POPF changes nothing. There no program can be
 * started, so the kernel checks itself first if it is to start the self-test; from the shell, the self-test asks for
 * the checks one by one. Each is made with interrupts off, and may leave them as it likes. */
#include "kernel.h"

enum { PATIENCE = 20000000 }; /* a tick takes a tenth of it, on a quick processor */

/* Whether a tick arrives before we lose patience, with interrupts as they are. */
static bool tick_arrives(void)
{
    volatile unsigned spins = 0;
    uint32_t before = timer_ticks();
    while (timer_ticks() == before && spins < PATIENCE)
        spins++;
    return timer_ticks() != before;
}

static bool cli_is_seen(void)
{
    return !irq_enabled();
}

static bool sti_is_seen(void)
{
    irq_enable();
    return irq_enabled();
}

static bool save_disables(void)
{
    irq_enable();
    return irq_save() & EFLAGS_IF && !irq_enabled();
}

static bool restore_nests(void)
{
    uint32_t inner = irq_save();
    irq_restore(inner);
    return !irq_enabled();
}

static bool restore_enables(void)
{
    irq_enable();
    uint32_t outer = irq_save();
    irq_restore(outer);
    return tick_arrives();
}

static const struct {
    char name[CHECK_NAME_SIZE];
    bool (*holds)(void);
    const char *otherwise;
} checks[] = {
    { "kernel.cli_is_seen", cli_is_seen, "after CLI, PUSHF shows IF = 1" },
    { "kernel.sti_is_seen", sti_is_seen, "after STI, PUSHF shows IF = 0" },
    { "kernel.save_disables", save_disables, "inside a critical section, PUSHF shows IF = 1" },
    { "kernel.restore_nests", restore_nests, "after a critical section inside another one, PUSHF shows IF = 1" },
    { "kernel.restore_enables", restore_enables, "POPF has IF = 1 from the stack, but no interrupt arrives" },
};
enum { CHECKS = sizeof checks / sizeof *checks };

/* Make the nth check. Interrupts are off before and after. */
static bool make(unsigned n)
{
    irq_disable();
    bool right = checks[n].holds();
    irq_disable();
    return right;
}

/* For a program: make the nth check, with interrupts on before and after. */
int check_info(unsigned n, struct check_info *info)
{
    if (n >= CHECKS)
        return E_MISSING;
    memcpy(info->name, checks[n].name, CHECK_NAME_SIZE);
    info->right = make(n);
    irq_enable();
    return 0;
}

/* Before the first program: make all of them. Returns how many there are; if one does not hold, ends the machine. */
unsigned kernel_check(void)
{
    unsigned failed = 0;
    for (unsigned n = 0; n < CHECKS; n++) {
        if (make(n)) {
            say("ok %s\n", checks[n].name);
        } else {
            failed++;
            say("FAILED %s: %s\n", checks[n].name, checks[n].otherwise);
        }
    }
    if (failed) {
        say("FAIL %u of %u\n", failed, CHECKS);
        power_off(1);
    }
    return CHECKS;
}
