/* The 64-bit half: called by entry.S in long mode, with interrupts off. */
#include "../../lib/console.h"
#include "../../lib/port.h"
#include "actions64.h"
#include "segments64.h"

void trap_unexpected(const struct trap64 *trap)
{
    say("FAIL unexpected vector 0x%x in long mode, error code 0x%x at %l\n", (uint32_t)trap->vector,
        (uint32_t)trap->error_code, trap->rip);
    debug_exit(1);
}

void long_main(struct tally *counts)
{
    tally = counts;
    trap_init();
    trap_set_gate(VECTOR_DONE, GATE_INTERRUPT | GATE_FROM_USER, 0);
    trap_set_gate(VECTOR_USER, GATE_INTERRUPT | GATE_FROM_USER, 0);
    load_task_state();
    test_exceptions64();
    test_rings64();
    test_paging64();
    test_syscall64();
    test_compatibility64();
    test_state64();
}
