/* Does the interrupt flag do what the manual says? The kernel's part of the self-test, run before the first program.
 *
 * Everything in cpu.h that guards a critical section is tried once. On a processor, in ring 0, nothing of this can
 * fail. It fails where a monitor runs this kernel in an outer ring and takes PUSHF and POPF for harmless: then PUSHF
 * shows the IF of the processor, which the monitor keeps at 1, and POPF changes nothing. */
#include "kernel.h"

enum { PATIENCE = 20000000 }; /* a tick takes a tenth of it, on a quick processor */

static unsigned passed, failed;

static void check(bool right, const char *name, const char *what)
{
    if (right) {
        passed++;
        say("ok kernel.%s\n", name);
    } else {
        failed++;
        say("FAILED kernel.%s: %s\n", name, what);
    }
}

/* Whether a tick arrives before we lose patience, with interrupts as they are. */
static bool tick_arrives(void)
{
    volatile unsigned spins = 0;
    uint32_t before = timer_ticks();
    while (timer_ticks() == before && spins < PATIENCE)
        spins++;
    return timer_ticks() != before;
}

/* Returns how many checks have passed; if one has not, ends the machine. */
unsigned kernel_check(void)
{
    irq_disable();
    check(!irq_enabled(), "cli_is_seen", "after CLI, PUSHF shows IF = 1");
    irq_enable();
    check(irq_enabled(), "sti_is_seen", "after STI, PUSHF shows IF = 0");

    uint32_t outer = irq_save();
    check(outer & EFLAGS_IF && !irq_enabled(), "save_disables", "inside a critical section, PUSHF shows IF = 1");
    uint32_t inner = irq_save();
    irq_restore(inner);
    check(!irq_enabled(), "restore_nests", "after a critical section inside another one, PUSHF shows IF = 1");
    irq_restore(outer);
    check(tick_arrives(), "restore_enables", "POPF has IF = 1 from the stack, but no interrupt arrives");

    irq_disable();
    if (failed) {
        say("FAIL %u of %u\n", failed, passed + failed);
        power_off(1);
    }
    return passed;
}
