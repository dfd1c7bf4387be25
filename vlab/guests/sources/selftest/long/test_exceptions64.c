/* Exceptions and gates in 64-bit mode (APM2 8.9). */
#include "actions64.h"
#include "segments64.h"

enum { DE = 0, DB = 1, BP = 3, UD = 6, DF = 8, NP = 11, GP = 13, IN_IDT = 2 };

static void exceptions(void)
{
    check_trap("long.divide", ring0(action_divide, 0), DE, 0, at_divide);
    check_trap("long.invalid_opcode", ring0(action_ud2, 0), UD, 0, at_ud2);
    check_trap("long.into_is_invalid", ring0(action_into_opcode, 0), UD, 0, at_into_opcode);
    check_trap("long.push_es_is_invalid", ring0(action_push_es_opcode, 0), UD, 0, at_push_es_opcode);
    check_trap("long.int3", ring0(action_int3, 0), BP, 0, after_int3);
    check_trap("long.single_step", ring0(action_single_step, 0), DB, 0, after_single_step);
    check_trap("long.segment_absent", ring0(action_load_ds, ABSENT_DATA), NP, ABSENT_DATA, at_load_ds);
    check_trap("long.segment_beyond_gdt", ring0(action_load_ds, BEYOND_GDT), GP, BEYOND_GDT, at_load_ds);
    check_trap("long.not_canonical", ring0(action_read, 0x0000800000000000), GP, 0, at_read);
    check_trap("long.nested_return", ring0(action_nested_return, 0), GP, 0, at_nested_return);
    check_trap("long.msr_not_canonical", ring0(action_wrmsr_canonical, 0), GP, 0, at_wrmsr_canonical);
}

static void gates(void)
{
    set_gate64(VECTOR_ABSENT, KERNEL_CODE, GATE_INTERRUPT & ~0x80);
    set_gate64(VECTOR_TO_32, KERNEL_CODE_32, GATE_INTERRUPT);
    set_gate64(VECTOR_TASK, TASK_STATE, 0x85);
    set_gate64(VECTOR_BAD, BEYOND_GDT, GATE_INTERRUPT);
    check_trap("long.gate", ring0(action_int_user, 0), VECTOR_USER, 0, after_int_user);
    check_trap("long.gate_absent", ring0(action_int_absent, 0), NP, VECTOR_ABSENT * 8 + IN_IDT,
        at_int_absent);
    check_trap("long.gate_to_32_bits", ring0(action_int_to_32, 0), GP, KERNEL_CODE_32, at_int_to_32);
    check_trap("long.task_gate", ring0(action_int_task, 0), GP, VECTOR_TASK * 8 + IN_IDT, at_int_task);
    check_trap("long.gate_beyond_gdt", ring0(action_int_bad, 0), GP, BEYOND_GDT, at_int_bad);
    set_gate64(VECTOR_TO_32, BOTH_BITS, GATE_INTERRUPT);
    check_trap("long.gate_to_l_and_d", ring0(action_int_to_32, 0), GP, BOTH_BITS, at_int_to_32);
}

static void flags(void)
{
    trap_set_gate(VECTOR_TRAP, GATE_TRAP | GATE_FROM_USER, 0);
    ring3(action_int_user, 0, IF);
    check("long.interrupt_gate_clears_if", 0, last_trap.handler_rflags & (IF | TF));
    ring3(action_int_trap, 0, IF);
    check("long.trap_gate_keeps_if", IF, last_trap.handler_rflags & (IF | TF));
}

static void double_faults(void)
{
    trap_set_gate(DF, GATE_INTERRUPT, 1);
    trap_set_gate(GP, GATE_INTERRUPT & ~0x80, 0);
    check_trap("long.double_fault", ring0(action_load_ds, BEYOND_GDT), DF, 0, at_load_ds);
    check("long.double_fault_on_its_stack", (uint64_t)ist_stack_top, last_trap.frame_end);
    check_trap("long.double_fault_from_ring_3", ring3(action_cli, 0, 0), DF, 0, at_cli);
    check("long.double_fault_from_ring_3_stack", (uint64_t)ist_stack_top, last_trap.frame_end);
    trap_set_gate(GP, GATE_INTERRUPT, 0);
    trap_set_gate(UD, GATE_INTERRUPT & ~0x80, 0);
    uint64_t vector = ring0(action_ud2, 0);
    last_trap.error_code &= ~1ull; /* EXT: processors disagree about an earlier exception */
    check_trap("long.benign_then_absent", vector, NP, UD * 8 + IN_IDT, at_ud2);
    trap_set_gate(UD, GATE_INTERRUPT, 0);
}

void test_exceptions64(void)
{
    exceptions();
    gates();
    flags();
    double_faults();
}
