/* Exceptions raised in ring 0: which vector, which error code, and where EIP points. (APM2 8.2, 8.7.) */
#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"

enum { DE = 0, DB = 1, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13,
    MF = 16 };
enum { IN_IDT = 2, CR0_MP = 1 << 1, CR0_EM = 1 << 2, CR0_TS = 1 << 3, CR0_NE = 1 << 5 };
enum { DR6_B0 = 1 << 0, DR6_B1 = 1 << 1, DR6_BS = 1 << 14 };
enum { DR7_L0_EXECUTE = 1 << 0, DR7_L1 = 1 << 2, DR7_WRITE_1 = 1 << 20, DR7_FOUR_BYTES_1 = 3 << 22,
    DR7_FIXED = 1 << 10 };

static uint32_t read_cr0(void)
{
    uint32_t cr0;
    __asm__ volatile("mov %0, cr0" : "=r"(cr0));
    return cr0;
}

static void write_cr0(uint32_t cr0)
{
    __asm__ volatile("mov cr0, %0" : : "r"(cr0));
}

static void faults(void)
{
    check_trap("exception.divide_by_zero", ring0(action_divide, 0), DE, 0, at_divide);
    check_trap("exception.divide_overflow", ring0(action_overflow_divide, 0), DE, 0, at_overflow_divide);
    check_trap("exception.bound", ring0(action_bound, 0), BR, 0, at_bound);
    check("exception.bound_inside", NO_TRAP, ring0(action_bound_inside, 0));
    check_trap("exception.invalid_opcode", ring0(action_ud2, 0), UD, 0, at_ud2);
    check_trap("exception.invalid_lock", ring0(action_lock_nop, 0), UD, 0, at_lock_nop);
}

static void traps(void)
{
    check_trap("exception.int3", ring0(action_int3, 0), BP, 0, after_int3);
    check_trap("exception.into", ring0(action_into, 0), OF, 0, after_into);
    check("exception.into_without_overflow", NO_TRAP, ring0(action_into_clear, 0));
    check_trap("exception.int_n", ring0(action_int_user, 0), VECTOR_USER, 0, after_int_user);
}

static void coprocessor(void)
{
    uint32_t cr0 = read_cr0() & ~(uint32_t)(CR0_EM | CR0_TS | CR0_MP);
    write_cr0(cr0 | CR0_NE | CR0_TS);
    check_trap("exception.x87_with_ts", ring0(action_x87, 0), NM, 0, at_x87);
    write_cr0(cr0 | CR0_NE | CR0_EM);
    check_trap("exception.x87_with_em", ring0(action_x87, 0), NM, 0, at_x87);
    write_cr0(cr0 | CR0_NE);
    check("exception.x87", NO_TRAP, ring0(action_x87, 0));
    check_trap("exception.x87_error", ring0(action_x87_divide, 0), MF, 0, at_x87_divide);
    __asm__ volatile("fninit");
}

static void debug_by_flags(void)
{
    check_trap("debug.single_step", ring0(action_single_step, 0), DB, 0, after_single_step);
    begin_check("debug.single_step_state");
    check_part("dr6", DR6_BS, last_trap.dr6 & DR6_BS);
    check_part("saved_tf", TF, last_trap.frame.eflags & TF);
    check_part("handler_tf", 0, last_trap.handler_eflags & TF);
    end_check();
    check_trap("debug.int_with_tf", ring0(action_step_over_int, 0), VECTOR_USER, 0, after_step_over_int);
    check("debug.int_clears_tf", 0, last_trap.handler_eflags & TF);
}

static void debug_by_registers(void)
{
    if (!wanted("debug.registers"))
        return;
    __asm__ volatile("mov dr0, %0" : : "r"(at_breakpoint));
    __asm__ volatile("mov dr7, %0" : : "r"(DR7_FIXED | DR7_L0_EXECUTE));
    check_trap("debug.registers.execute", ring0(action_breakpoint, 0), DB, 0, at_breakpoint);
    check("debug.registers.execute_dr6", DR6_B0, last_trap.dr6 & (DR6_B0 | DR6_B1 | DR6_BS));
    __asm__ volatile("mov dr1, %0" : : "r"(&watched));
    __asm__ volatile("mov dr7, %0" : : "r"(DR7_FIXED | DR7_L1 | DR7_WRITE_1 | DR7_FOUR_BYTES_1));
    check_trap("debug.registers.write", ring0(action_watchpoint, 0), DB, 0, after_watchpoint);
    check("debug.registers.write_dr6", DR6_B1, last_trap.dr6 & (DR6_B0 | DR6_B1 | DR6_BS));
    __asm__ volatile("mov dr7, %0" : : "r"(DR7_FIXED));
}

static void segments(void)
{
    check_trap("segment.absent", ring0(action_load_ds, ABSENT_DATA), NP, ABSENT_DATA, at_load_ds);
    check_trap("segment.beyond_gdt", ring0(action_load_ds, BEYOND_GDT), GP, BEYOND_GDT, at_load_ds);
    check_trap("segment.execute_only", ring0(action_load_ds, EXECUTE_ONLY_CODE), GP, EXECUTE_ONLY_CODE,
        at_load_ds);
    check("segment.null_ds", NO_TRAP, ring0(action_load_ds, 0));
    check("segment.local", NO_TRAP, ring0(action_load_ds, LOCAL_DATA));
    check_trap("segment.local_absent", ring0(action_load_ds, LOCAL_ABSENT), NP, LOCAL_ABSENT, at_load_ds);
    check_trap("segment.beyond_ldt", ring0(action_load_ds, LOCAL_BEYOND), GP, LOCAL_BEYOND, at_load_ds);
    check_trap("segment.stack_absent", ring0(action_load_ss, ABSENT_DATA), SS, ABSENT_DATA, at_load_ss);
    check_trap("segment.stack_null", ring0(action_load_ss, 0), GP, 0, at_load_ss);
    check_trap("segment.stack_read_only", ring0(action_load_ss, READ_ONLY_DATA), GP, READ_ONLY_DATA,
        at_load_ss);
    check_trap("segment.stack_of_ring_3", ring0(action_load_ss, USER_DATA), GP, USER_DATA & ~3, at_load_ss);
    check_trap("segment.task_busy", ring0(action_load_tr, MAIN_TASK), GP, MAIN_TASK, at_load_tr);
    check_trap("segment.task_is_data", ring0(action_load_tr, KERNEL_DATA), GP, KERNEL_DATA, at_load_tr);
    check_trap("segment.ldt_is_data", ring0(action_load_ldtr, KERNEL_DATA), GP, KERNEL_DATA, at_load_ldtr);
}

static void jumps(void)
{
    check_trap("jump.absent", ring0(action_jump_absent, 0), NP, ABSENT_CODE, at_jump_absent);
    check_trap("jump.data", ring0(action_jump_data, 0), GP, KERNEL_DATA, at_jump_data);
    check_trap("jump.null", ring0(action_jump_null, 0), GP, 0, at_jump_null);
    check_trap("jump.beyond_gdt", ring0(action_jump_beyond, 0), GP, BEYOND_GDT, at_jump_beyond);
    check_trap("jump.beyond_limit", ring0(action_jump_short, 0), GP, 0, at_jump_short);
    main_task.link = LOCAL_DATA; /* a TSS cannot lie in the LDT */
    check_trap("jump.nested_return", ring0(action_nested_return, 0), TS, LOCAL_DATA, at_nested_return);
    main_task.link = 0;
}

/* What a segment allows is checked at each access. Address 1000 is the first beyond the short segment. */
static void limits(void)
{
    if (!wanted("limit"))
        return;
    limit_selector = SHORT_DATA;
    check("limit.last_byte", NO_TRAP, ring0(action_fs_read, 0xFFF));
    check_trap("limit.first_byte_beyond", ring0(action_fs_read, 0x1000), GP, 0, at_fs_read);
    check_trap("limit.word_across", ring0(action_fs_read_word, 0xFFF), GP, 0, at_fs_read_word);
    check_trap("limit.ring3", ring3(action_fs_read, 0x80000000, 0), GP, 0, at_fs_read);
    limit_selector = UPPER_DATA;
    check("limit.expand_down", NO_TRAP, ring0(action_fs_read, 0x1000));
    check_trap("limit.expand_down_below", ring0(action_fs_read, 0xFFF), GP, 0, at_fs_read);
    limit_selector = 0;
    check_trap("limit.null_selector", ring0(action_fs_read, 0x1000), GP, 0, at_fs_read);
    limit_selector = READ_ONLY_DATA;
    check("limit.read_only_read", NO_TRAP, ring0(action_fs_read, 0x1000));
    check_trap("limit.read_only_write", ring0(action_fs_write, 0x1000), GP, 0, at_fs_write);
    check_trap("limit.code_write", ring0(action_cs_write, 0x1000), GP, 0, at_cs_write);
    const struct outer where = {
        .eip = (uint32_t)action_ss_read, .cs = USER_CODE, .eflags = EFLAGS_FIXED, .esp = 0x800,
        .ss = SHORT_DATA,
    };
    check_trap("limit.stack", run_outer(&where), SS, 0, at_ss_read);
}

static uint32_t vector_error(unsigned vector)
{
    return vector * 8 + IN_IDT;
}

static void bad_gates(void)
{
    check_trap("gate.absent", ring0(action_int_absent, 0), NP, vector_error(VECTOR_ABSENT), at_int_absent);
    check_trap("gate.beyond_gdt", ring0(action_int_bad, 0), GP, BEYOND_GDT, at_int_bad);
    check_trap("gate.to_data", ring0(action_int_data, 0), GP, KERNEL_DATA, at_int_data);
    check_trap("gate.null", ring0(action_int_null, 0), GP, 0, at_int_null);
    check_trap("gate.beyond_idt", ring0(action_int_last, 0), GP, vector_error(VECTOR_LAST + 1), at_int_last);
}

/* Faults on the way to a handler. A benign one goes on; two contributory ones become #DF (APM2 8.2.9). */
static void faults_in_delivery(void)
{
    set_trap_gate(UD, INTERRUPT_GATE_32 & ~GATE_PRESENT);
    uint32_t vector = ring0(action_ud2, 0);
    last_trap.frame.error_code &= ~1u; /* EXT: processors disagree about an earlier exception */
    check_trap("nested.benign_then_absent", vector, NP, vector_error(UD), at_ud2);
    set_trap_gate(UD, INTERRUPT_GATE_32);

    set_trap_gate(GP, INTERRUPT_GATE_32 & ~GATE_PRESENT);
    check_trap("nested.double_fault", ring0(action_load_ds, BEYOND_GDT), DF, 0, at_load_ds);
    check_trap("nested.double_fault_from_ring_3", ring3(action_cli, 0, 0), DF, 0, at_cli);
    check("nested.double_fault_on_the_ring_0_stack", (uint32_t)ring0_stack_top, last_trap.frame_end);
    set_trap_gate(DE, INTERRUPT_GATE_32 & ~GATE_PRESENT);
    set_trap_gate(NP, INTERRUPT_GATE_32 & ~GATE_PRESENT);
    check_trap("nested.double_fault_by_divide", ring0(action_divide, 0), DF, 0, at_divide);
    set_trap_gate(DE, INTERRUPT_GATE_32);
    set_trap_gate(NP, INTERRUPT_GATE_32);
    set_trap_gate(GP, INTERRUPT_GATE_32);
    check_trap("nested.afterwards", ring0(action_load_ds, BEYOND_GDT), GP, BEYOND_GDT, at_load_ds);
}

void test_exceptions(void)
{
    faults();
    traps();
    coprocessor();
    debug_by_flags();
    debug_by_registers();
    segments();
    jumps();
    limits();
    bad_gates();
    faults_in_delivery();
}
