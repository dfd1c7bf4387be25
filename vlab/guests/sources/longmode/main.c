/* longmode: a 64-bit kernel over page tables of its own making. It shows how a few addresses are
 * translated, and what the processor says when a translation fails. */
#include "console.h"
#include "faults.h"
#include "port.h"
#include "tables.h"
#include "trap64.h"

enum { PIC_MASTER_MASK = 0x21, PIC_SLAVE_MASK = 0xA1, VECTOR_DONE = 0x80 };

void trap_unexpected(const struct trap64 *trap)
{
    say("longmode: FAIL: vector 0x%x, error code 0x%x at %l, CR2 = %l\n", (uint32_t)trap->vector,
        (uint32_t)trap->error_code, trap->rip, trap->cr2);
    debug_exit(1);
}

void kernel_main(void)
{
    static const uint8_t page[4096] __attribute__((aligned(4096)));
    console_init();
    out8(PIC_MASTER_MASK, 0xFF);
    out8(PIC_SLAVE_MASK, 0xFF);
    trap_init();
    trap_set_gate(VECTOR_DONE, GATE_INTERRUPT | GATE_FROM_USER, 0);
    build_tables();
    load_task_state();
    say("longmode: 64-bit mode, pages of 4 KiB, 2 MiB%s\n\n", has_giant_pages() ? " and 1 GiB" : "");

    map_window(0, page, PTE_PRESENT | PTE_NO_EXECUTE);
    walk((uint64_t)kernel_main);
    walk(0x2345678);
    walk(WINDOW + 0x234);
    if (has_giant_pages())
        walk(GIANT + 0x12345678);
    walk(WINDOW + 0x5000);
    show_faults();
    say("longmode: done\n");
    debug_exit(0);
}
