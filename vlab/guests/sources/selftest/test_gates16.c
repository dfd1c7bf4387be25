/* Gates and task-state segments of the 80286: 16-bit frames in a 32-bit system. (APM2 8.7, 12.2.) */
#include "gates16.h"

#include "check.h"
#include "tables.h"
#include "tests.h"
#include "trap32.h"

enum { GP = 13 };

static void call(uint32_t offset)
{
    call_16(offset);
}

static void same_ring(void)
{
    set_gate(VECTOR_INT16, CODE_16, OFFSET_16(handler16), INTERRUPT_GATE_16 | GATE_DPL(3));
    set_gate(VECTOR_TRAP16, CODE_16, OFFSET_16(handler16), TRAP_GATE_16 | GATE_DPL(3));
    check("gate16.interrupt", NO_TRAP, ring0(call, OFFSET_16(run_int16)));
    begin_check("gate16.interrupt_state");
    check_part("ip", OFFSET_16(after_int16), seen16.ip);
    check_part("cs", CODE_16, seen16.cs);
    check_part("flags", IF, seen16.flags & (IF | TF));
    check_part("handler_if", 0, seen16.handler_flags & IF);
    check_part("handler_cs", CODE_16, seen16.handler_cs);
    end_check();
    check("gate16.trap", NO_TRAP, ring0(call, OFFSET_16(run_trap16)));
    begin_check("gate16.trap_state");
    check_part("ip", OFFSET_16(after_trap16), seen16.ip);
    check_part("handler_if", IF, seen16.handler_flags & IF);
    end_check();

    set_gate(GP, CODE_16, OFFSET_16(handler16_error), INTERRUPT_GATE_16);
    check("gate16.error_code", NO_TRAP, ring0(call, OFFSET_16(run_load16)));
    begin_check("gate16.error_code_state");
    check_part("error_code", BEYOND_GDT, seen16.error_code);
    check_part("ip", OFFSET_16(at_load16), seen16.ip);
    check_part("cs", CODE_16, seen16.cs);
    end_check();
    set_trap_gate(GP, INTERRUPT_GATE_32);
}

static void check_user_frame(const char *name, uint16_t handler_ss, uint16_t handler_sp)
{
    const struct outer where = {
        .eip = OFFSET_16(user_int16), .cs = USER_CODE_16, .eflags = EFLAGS_FIXED | IF,
        .esp = OFFSET_16(user_stack16_top) - OFFSET_16(stack16), .ss = USER_DATA_16,
    };
    uint32_t vector = run_outer(&where);
    begin_check(name);
    check_part("vector", VECTOR_DONE, vector);
    check_part("ip", OFFSET_16(after_user_int16), seen16.ip);
    check_part("cs", USER_CODE_16, seen16.cs);
    check_part("flags", IF, seen16.flags & IF);
    check_part("sp", (uint16_t)where.esp, seen16.sp);
    check_part("ss", USER_DATA_16, seen16.ss);
    check_part("handler_ss", handler_ss, seen16.handler_ss);
    check_part("handler_sp", handler_sp, seen16.handler_sp);
    end_check();
}

void test_gates_16(void)
{
    enum { FRAME = 10 };
    same_ring();
    check_user_frame("gate16.from_ring_3", KERNEL_DATA, (uint16_t)((uint32_t)ring0_stack_top - FRAME));
    begin_check("gate16.back_to_ring_3");
    check_part("cs", USER_CODE_16, last_trap.frame.cs);
    check_part("ss", USER_DATA_16, last_trap.frame.ss);
    check_part("sp", seen16.sp, (uint16_t)last_trap.frame.esp);
    end_check();

    set_gate(VECTOR_INT16, CODE_16, OFFSET_16(handler16_small_stack), INTERRUPT_GATE_16 | GATE_DPL(3));
    load_task(MAIN_TASK_16);
    check_user_frame("gate16.stack_from_a_16_bit_tss", DATA_16, (uint16_t)(main_task_16.sp0 - FRAME));
    load_task(MAIN_TASK);
}
