/* Ring 3 and the gates between the rings: stack switches, what may be done where, what IRET changes. (APM2
 * 8.7.) */
#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"

enum { DE = 0, BP = 3, OF = 4, UD = 6, NP = 11, GP = 13, IN_IDT = 2, DF_FLAG = 1 << 10 };

/* rings.S */
void ring1_entry(void), conforming_entry(void);
extern volatile uint32_t seen_cs, seen_ss, seen_esp, seen_ds, seen_es;
extern volatile uint32_t seen_frame[5];
ACTION(look_at_segments);

static void stack_switch(void)
{
    uint32_t vector = ring3(action_int_user, 0, IF | DF_FLAG);
    check_trap("ring3.int_n", vector, VECTOR_USER, 0, after_int_user);
    begin_check("ring3.int_n_frame");
    check_part("cs", USER_CODE, last_trap.frame.cs);
    check_part("ss", USER_DATA, last_trap.frame.ss);
    check_part("esp", (uint32_t)user_stack_top - 8, last_trap.frame.esp);
    check_part("eflags", IF | DF_FLAG | EFLAGS_FIXED,
        last_trap.frame.eflags & (IF | DF_FLAG | TF | NT | EFLAGS_FIXED));
    check_part("stack", (uint32_t)ring0_stack_top, last_trap.frame_end);
    check_part("handler_cs", KERNEL_CODE, last_trap.handler_cs);
    check_part("handler_ss", KERNEL_DATA, last_trap.handler_ss);
    check_part("handler_if", 0, last_trap.handler_eflags & IF);
    end_check();
    check_trap("ring3.trap_gate", ring3(action_int_trap, 0, IF), VECTOR_TRAP, 0, after_int_trap);
    check("ring3.trap_gate_keeps_if", IF, last_trap.handler_eflags & IF);
    check_trap("ring0.trap_gate", ring0(action_int_trap, 0), VECTOR_TRAP, 0, after_int_trap);
    begin_check("ring0.no_stack_switch");
    check_part("ss", KERNEL_DATA, last_trap.handler_ss);
    check_part("cs", KERNEL_CODE, last_trap.frame.cs);
    check_part("on_this_stack", true, last_trap.frame_end - 4096 < (uint32_t)&vector
                   && last_trap.frame_end + 4096 > (uint32_t)&vector);
    end_check();
}

static void exceptions(void)
{
    check_trap("ring3.divide", ring3(action_divide, 0, 0), DE, 0, at_divide);
    check_trap("ring3.invalid_opcode", ring3(action_ud2, 0, 0), UD, 0, at_ud2);
    check_trap("ring3.segment_absent", ring3(action_load_ds, LOCAL_ABSENT, 0), NP, LOCAL_ABSENT, at_load_ds);
    check("ring3.error_code_and_stack", (uint32_t)ring0_stack_top, last_trap.frame_end);
    check_trap("ring3.segment_of_ring_0", ring3(action_load_ds, KERNEL_DATA, 0), GP, KERNEL_DATA, at_load_ds);
}

/* A gate's DPL counts for INT n, INT3 and INTO, not for exceptions. */
static void gate_privilege(void)
{
    check_trap("ring3.int_to_ring_0_gate", ring3(action_int_kernel, 0, 0), GP, VECTOR_KERNEL * 8 + IN_IDT,
        at_int_kernel);
    check_trap("ring3.int3_to_ring_0_gate", ring3(action_int3, 0, 0), GP, BP * 8 + IN_IDT, at_int3);
    check_trap("ring3.into_to_ring_0_gate", ring3(action_into, 0, 0), GP, OF * 8 + IN_IDT, at_into);
    set_trap_gate(BP, INTERRUPT_GATE_32 | GATE_DPL(3));
    check_trap("ring3.int3_to_ring_3_gate", ring3(action_int3, 0, 0), BP, 0, after_int3);
    set_trap_gate(BP, INTERRUPT_GATE_32);
    check_trap("ring3.int_absent", ring3(action_int_absent, 0, 0), NP, VECTOR_ABSENT * 8 + IN_IDT,
        at_int_absent);
}

static void privileged_instructions(void)
{
    check_trap("ring3.cli", ring3(action_cli, 0, 0), GP, 0, at_cli);
    check_trap("ring3.sti", ring3(action_sti, 0, 0), GP, 0, at_sti);
    check_trap("ring3.hlt", ring3(action_hlt, 0, 0), GP, 0, at_hlt);
    check_trap("ring3.mov_from_cr0", ring3(action_mov_from_cr0, 0, 0), GP, 0, at_mov_from_cr0);
    check_trap("ring3.mov_to_cr3", ring3(action_mov_to_cr3, 0, 0), GP, 0, at_mov_to_cr3);
    check_trap("ring3.mov_from_dr", ring3(action_mov_from_dr, 0, 0), GP, 0, at_mov_from_dr);
    check_trap("ring3.lgdt", ring3(action_lgdt, 0, 0), GP, 0, at_lgdt);
    check_trap("ring3.lidt", ring3(action_lidt, 0, 0), GP, 0, at_lidt);
    check_trap("ring3.lldt", ring3(action_load_ldtr, 0, 0), GP, 0, at_load_ldtr);
    check_trap("ring3.ltr", ring3(action_load_tr, 0, 0), GP, 0, at_load_tr);
    check_trap("ring3.lmsw", ring3(action_lmsw, 0, 0), GP, 0, at_lmsw);
    check_trap("ring3.clts", ring3(action_clts, 0, 0), GP, 0, at_clts);
    check_trap("ring3.rdmsr", ring3(action_rdmsr, 0, 0), GP, 0, at_rdmsr);
    check_trap("ring3.wrmsr", ring3(action_wrmsr, 0, 0), GP, 0, at_wrmsr);
    check_trap("ring3.invlpg", ring3(action_invlpg, 0, 0), GP, 0, at_invlpg);
    check_trap("ring3.wbinvd", ring3(action_wbinvd, 0, 0), GP, 0, at_wbinvd);
}

/* IOPL decides about CLI and STI; POPF takes what it may change and ignores the rest, without a fault. */
static void io_privilege(void)
{
    const uint32_t all = IF | IOPL(3);
    check("iopl.cli_allowed", VECTOR_DONE, ring3(action_cli, 0, IF | IOPL(3)));
    check("iopl.cli_has_cleared_if", 0, last_trap.frame.eflags & IF);
    check("iopl.sti_allowed", VECTOR_DONE, ring3(action_sti, 0, IOPL(3)));
    check("iopl.sti_has_set_if", IF, last_trap.frame.eflags & IF);
    check("popf.ring3_ignores_if_and_iopl", VECTOR_DONE, ring3(action_popf_all, EFLAGS_FIXED | IOPL(3), IF));
    check("popf.ring3_flags", IF, seen_eflags & all);
    ring3(action_popf_all, EFLAGS_FIXED, IOPL(3) | IF);
    check("popf.ring3_with_iopl_changes_if", IOPL(3), seen_eflags & all);
    ring0(action_popf_all, EFLAGS_FIXED | IOPL(2));
    check("popf.ring0_changes_iopl", IOPL(2), seen_eflags & all);
}

static void time_stamp_disable(void)
{
    enum { CR4_TSD = 1 << 2 };
    uint32_t cr4;
    __asm__ volatile("mov %0, cr4" : "=r"(cr4));
    __asm__ volatile("mov cr4, %0" : : "r"(cr4 | CR4_TSD));
    check_trap("ring3.rdtsc_disabled", ring3(action_rdtsc, 0, 0), GP, 0, at_rdtsc);
    check("ring0.rdtsc_with_tsd", NO_TRAP, ring0(action_rdtsc, 0));
    __asm__ volatile("mov cr4, %0" : : "r"(cr4));
    check("ring3.rdtsc", VECTOR_DONE, ring3(action_rdtsc, 0, 0));
}

static void leave_kernel_es(struct frame32 *frame)
{
    frame->es = KERNEL_DATA;
}

/* IRET to an outer ring takes away data segments that the ring may not use (APM2 8.7.5). */
static void return_outward(void)
{
    struct outer where = {
        .eip = (uint32_t)action_look_at_segments, .cs = USER_CODE, .eflags = EFLAGS_FIXED,
        .esp = (uint32_t)user_stack_top - 16, .ss = USER_DATA,
    };
    check("iret.outward", VECTOR_DONE, run_outer(&where));
    check("iret.keeps_user_segments", USER_DATA, seen_ds);
    where.eip = (uint32_t)at_look_at_segments;
    trap_set_handler(VECTOR_USER, leave_kernel_es);
    check("iret.from_a_handler", VECTOR_DONE, run_outer(&where));
    trap_set_handler(VECTOR_USER, 0);
    check("iret.nulls_kernel_es", 0, seen_es);
    where.ss = KERNEL_DATA;
    check_trap("iret.stack_of_ring_0", run_outer(&where), GP, KERNEL_DATA, at_outer_return);
    where.ss = USER_DATA;
    where.cs = KERNEL_DATA;
    check_trap("iret.code_is_data", run_outer(&where), GP, KERNEL_DATA, at_outer_return);
}

/* Gates that lead to ring 1, and to a conforming segment, which runs in the ring of whoever came. */
static void other_rings(void)
{
    set_gate(VECTOR_RING1, RING1_CODE & ~3, (uint32_t)ring1_entry, INTERRUPT_GATE_32 | GATE_DPL(3));
    check("ring1.from_ring_3", VECTOR_DONE, ring3(action_int_ring1, 0, 0));
    begin_check("ring1.state");
    check_part("cs", RING1_CODE, seen_cs);
    check_part("ss", RING1_DATA, seen_ss);
    check_part("esp", main_task.esp1 - 20, seen_esp);
    check_part("frame_eip", (uint32_t)after_int_ring1, seen_frame[0]);
    check_part("frame_cs", USER_CODE, seen_frame[1]);
    check_part("frame_ss", USER_DATA, seen_frame[4]);
    end_check();
    check("ring1.to_ring_0", RING1_CODE, last_trap.frame.cs);
    check_trap("ring1.not_from_ring_0", ring0(action_int_ring1, 0), GP, RING1_CODE & ~3, at_int_ring1);

    set_gate(VECTOR_CONFORMING, CONFORMING_CODE, (uint32_t)conforming_entry, INTERRUPT_GATE_32 | GATE_DPL(3));
    check("conforming.from_ring_3", VECTOR_DONE, ring3(action_int_conforming, 0, 0));
    begin_check("conforming.state");
    check_part("cs", CONFORMING_CODE | 3, seen_cs);
    check_part("ss", USER_DATA, seen_ss);
    check_part("esp", (uint32_t)user_stack_top - 8 - 12, seen_esp);
    check_part("frame_eip", (uint32_t)after_int_conforming, seen_frame[0]);
    end_check();
}

static void call_gates(void)
{
    check("call_gate.from_ring_3", VECTOR_DONE, ring3(action_call_gate, 0, 0));
    begin_check("call_gate.state");
    check_part("cs", KERNEL_CODE, seen_gate_cs);
    check_part("first", 0x11111111, seen_gate_first);
    check_part("second", 0x22222222, seen_gate_second);
    end_check();
    check_trap("call_gate.absent", ring3(action_call_gate_absent, 0, 0), NP, CALL_GATE_ABSENT & ~3,
        at_call_gate_absent);
}

void test_rings(void)
{
    stack_switch();
    exceptions();
    gate_privilege();
    privileged_instructions();
    io_privilege();
    time_stamp_disable();
    return_outward();
    other_rings();
    call_gates();
}
