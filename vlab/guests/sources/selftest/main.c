/* selftest: does this machine deliver what the manuals promise? One line for each check, then `PASS n` or
 * `FAIL failed/all`; the machine ends with status 0 or 1.
 *
 * Only what every real processor does is checked. What an emulator gets wrong can be left out by name, with
 * skip=NAME,NAME on the command line; what QEMU's TCG is known to get wrong is left out there (check.c). */
#include "apic.h"
#include "check.h"
#include "console.h"
#include "port.h"
#include "tables.h"
#include "tests.h"

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, command_line;
};

enum { HAS_COMMAND_LINE = 1 << 2, PIC_MASTER_MASK = 0x21, PIC_SLAVE_MASK = 0xA1 };

/* Copy what follows `skip=` on the command line. */
static void read_skip_list(const struct multiboot_info *info)
{
    static const char key[] = "skip=";
    if (!(info->flags & HAS_COMMAND_LINE))
        return;
    for (const char *at = (const char *)info->command_line; *at; at++) {
        unsigned matched = 0;
        while (key[matched] && at[matched] == key[matched])
            matched++;
        if (key[matched])
            continue;
        const char *word = at + matched;
        for (unsigned i = 0; i < sizeof tally->skip_list - 1 && word[i] && word[i] != ' '; i++)
            tally->skip_list[i] = (uint8_t)word[i];
        return;
    }
}

void kernel_main(const struct multiboot_info *info)
{
    static struct tally counts;
    tally = &counts;
    console_init();
    read_skip_list(info);
    detect_tcg();
    out8(PIC_MASTER_MASK, 0xFF);
    out8(PIC_SLAVE_MASK, 0xFF);
    load_tables();
    apic_virtual_wire();

    test_processor();
    test_exceptions();
    test_rings();
    test_gates_16();
    test_tasks();
    test_ports();
    test_system_calls();
    test_virtual_8086();
    test_real_mode();
    test_paging();
    test_interrupts();
    test_local_apic();
    test_long_mode();

    if (counts.skipped)
        say("%u skipped\n", counts.skipped);
    if (counts.failed)
        say("FAIL %u/%u\n", counts.failed, counts.failed + counts.passed);
    else
        say("PASS %u\n", counts.passed);
    debug_exit(counts.failed != 0);
}
