/* Ring 3 in 64-bit mode, and the stacks that interrupts find: RSP0, the interrupt-stack table, alignment. */
#include "actions64.h"
#include "segments64.h"

enum { UD = 6, GP = 13, IN_IDT = 2, SCRATCH = 0x3FF };

static void frames(void)
{
    check_trap("long.ring3.int_n", ring3(action_int_user, 0, IF | DF_FLAG), VECTOR_USER, 0, after_int_user);
    begin_check("long.ring3.frame");
    check_part("cs", USER_CODE, last_trap.cs);
    check_part("ss", USER_DATA, last_trap.ss);
    check_part("rsp", (uint64_t)user_stack_top - 8, last_trap.rsp);
    check_part("rflags", IF | DF_FLAG, last_trap.rflags & (IF | DF_FLAG | TF | NT));
    check_part("stack", (uint64_t)ring0_stack_top, last_trap.frame_end);
    check_part("handler_cs", KERNEL_CODE, last_trap.handler_cs & 0xFFFF);
    check_part("handler_ss_is_null", 0, last_trap.handler_ss & 0xFFFF);
    end_check();
    check_trap("long.ring3.error_code", ring3(action_load_ds, BEYOND_GDT, 0), GP, BEYOND_GDT, at_load_ds);
    check("long.ring3.error_code_stack", (uint64_t)ring0_stack_top, last_trap.frame_end);
    task_state.rsp0 -= 8; /* the processor aligns a new stack by itself */
    ring3(action_int_user, 0, 0);
    check("long.ring3.stack_is_aligned", (uint64_t)ring0_stack_top - 16, last_trap.frame_end);
    task_state.rsp0 += 8;
}

static void same_ring(void)
{
    check_trap("long.ring0.int_n", ring0(action_int_misaligned, 0), VECTOR_USER, 0, after_int_misaligned);
    begin_check("long.ring0.frame");
    check_part("rsp", seen_rsp, last_trap.rsp);
    check_part("ss", KERNEL_DATA, last_trap.ss);
    check_part("cs", KERNEL_CODE, last_trap.cs);
    check_part("aligned", seen_rsp & ~15ull, last_trap.frame_end);
    check_part("handler_ss_stays", KERNEL_DATA, last_trap.handler_ss & 0xFFFF);
    end_check();
}

static void interrupt_stacks(void)
{
    trap_set_gate(VECTOR_IST, GATE_INTERRUPT | GATE_FROM_USER, 1);
    check_trap("long.ist.ring0", ring0(action_int_ist, 0), VECTOR_IST, 0, after_int_ist);
    check("long.ist.ring0_stack", (uint64_t)ist_stack_top, last_trap.frame_end);
    check_trap("long.ist.ring3", ring3(action_int_ist, 0, 0), VECTOR_IST, 0, after_int_ist);
    check("long.ist.ring3_stack", (uint64_t)ist_stack_top, last_trap.frame_end);
    task_state.ist[0] -= 5;
    ring0(action_int_ist, 0);
    check("long.ist.is_aligned", (uint64_t)ist_stack_top - 16, last_trap.frame_end);
    task_state.ist[0] += 5;
}

static void privilege(void)
{
    check_trap("long.ring3.int_to_ring_0_gate", ring3(action_int_kernel, 0, 0), GP,
        VECTOR_KERNEL * 8 + IN_IDT, at_int_kernel);
    check_trap("long.ring3.cli", ring3(action_cli, 0, 0), GP, 0, at_cli);
    check("long.ring3.cli_with_iopl", VECTOR_DONE, ring3(action_cli, 0, IOPL(3) | IF));
    check_trap("long.ring3.hlt", ring3(action_hlt, 0, 0), GP, 0, at_hlt);
    check_trap("long.ring3.mov_from_cr0", ring3(action_mov_from_cr0, 0, 0), GP, 0, at_mov_from_cr0);
    check_trap("long.ring3.mov_from_cr8", ring3(action_mov_from_cr8, 0, 0), GP, 0, at_mov_from_cr8);
    check_trap("long.ring3.swapgs", ring3(action_swapgs, 0, 0), GP, 0, at_swapgs);
    check_trap("long.ring3.sysret", ring3(action_sysret, 0, 0), GP, 0, at_sysret);
    ring3(action_popf_all, RFLAGS_FIXED | IOPL(3), IF);
    check("long.ring3.popf_ignores_if_and_iopl", IF, seen_rflags & (IF | IOPL(3)));
}

static void ports(void)
{
    check_trap("long.port.denied", ring3(action_in8, SCRATCH, 0), GP, 0, at_in8);
    check("long.port.with_iopl", VECTOR_DONE, ring3(action_out8, SCRATCH, IOPL(3)));
    task_state.io_map[SCRATCH / 8] &= 0x7F;
    check("long.port.allowed", VECTOR_DONE, ring3(action_in8, SCRATCH, 0));
    task_state.io_map[SCRATCH / 8] |= 0x80;
    check_trap("long.port.denied_again", ring3(action_out8, SCRATCH, 0), GP, 0, at_out8);
}

void test_rings64(void)
{
    frames();
    same_ring();
    interrupt_stacks();
    privilege();
    ports();
}
