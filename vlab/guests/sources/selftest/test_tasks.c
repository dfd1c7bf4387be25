/* Task gates: the hardware task switch as an interrupt handler. (APM2 12.3; the
 * way to survive a double fault.) */
#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"

enum { DF = 8, TS = 10, GP = 13, CR0_TS = 1 << 3, BUSY = 2 };

/* tasks.S */
extern volatile struct {
    uint32_t eflags, cr0, tr, stack, depth, count;
} task_seen;
extern const char other_task_stack_top[], fault_task_stack_top[];

uint32_t fault_eip, resume_eip;

/* Called by the fault task: let the old task go on elsewhere, with a usable stack for ring 0. */
void fault_task_repair(void)
{
    fault_eip = main_task.eip;
    main_task.eip = resume_eip;
    main_task.ss0 = KERNEL_DATA;
    if (main_task.eip == (uint32_t)after_lose_stack)
        main_task.esp = main_task.ebx; /* where that action keeps its own */
}

static uint32_t type_of(uint16_t selector)
{
    return gdt[selector / 8] >> 40 & 0xF;
}

static void gate(void)
{
    set_gate(VECTOR_TASK, OTHER_TASK, 0, TASK_GATE | GATE_DPL(3));
    task_seen.count = 0;
    check("task.gate", NO_TRAP, ring0(action_int_task, 0));
    begin_check("task.state");
    check_part("count", 1, task_seen.count);
    check_part("nt", NT, task_seen.eflags & NT);
    check_part("ts", CR0_TS, task_seen.cr0 & CR0_TS);
    check_part("tr", OTHER_TASK, task_seen.tr);
    check_part("link", MAIN_TASK, other_task.link);
    check_part("old_eip", (uint32_t)after_int_task, main_task.eip);
    check_part("old_cs", KERNEL_CODE, main_task.cs);
    check_part("new_not_busy_any_more", 0, type_of(OTHER_TASK) & BUSY);
    check_part("old_still_busy", BUSY, type_of(MAIN_TASK) & BUSY);
    check_part("saved_eax", 0xA5A5A5A5, other_task.eax);
    end_check();
    check("task.again", NO_TRAP, ring0(action_int_task, 0));
    check("task.goes_on_where_it_left", 2, task_seen.count);
    check("task.from_ring_3", VECTOR_DONE, ring3(action_int_task, 0, 0));
    begin_check("task.from_ring_3_state");
    check_part("count", 3, task_seen.count);
    check_part("old_cs", USER_CODE, main_task.cs);
    check_part("old_ss", USER_DATA, main_task.ss);
    check_part("back_in", USER_CODE, last_trap.frame.cs);
    end_check();
}

static void faults_by_task(void)
{
    set_gate(GP, FAULT_TASK, 0, TASK_GATE);
    task_seen.count = 0;
    resume_eip = (uint32_t)after_load_ds;
    check("task.fault", NO_TRAP, ring0(action_load_ds, BEYOND_GDT));
    begin_check("task.fault_state");
    check_part("count", 1, task_seen.count);
    check_part("error_code", BEYOND_GDT, task_seen.stack);
    check_part("depth", 4, task_seen.depth);
    check_part("eip", (uint32_t)at_load_ds, fault_eip);
    end_check();

    set_trap_gate(GP, INTERRUPT_GATE_32 & ~GATE_PRESENT);
    set_gate(DF, FAULT_TASK, 0, TASK_GATE);
    task_seen.stack = 0xBAD;
    check("task.double_fault", NO_TRAP, ring0(action_load_ds, BEYOND_GDT));
    begin_check("task.double_fault_state");
    check_part("count", 2, task_seen.count);
    check_part("error_code", 0, task_seen.stack);
    check_part("eip", (uint32_t)at_load_ds, fault_eip);
    end_check();
    set_trap_gate(GP, INTERRUPT_GATE_32);
    set_trap_gate(DF, INTERRUPT_GATE_32);
}


/* A ring 0 stack that cannot be used is #TS, which can only be told on a stack of its own. */
static void bad_stack(void)
{
    set_gate(TS, FAULT_TASK, 0, TASK_GATE);
    task_seen.count = 0;
    resume_eip = (uint32_t)after_int_user;
    main_task.ss0 = USER_DATA;
    check("task.bad_stack", VECTOR_DONE, ring3(action_int_user, 0, 0));
    begin_check("task.bad_stack_state");
    check_part("count", 1, task_seen.count);
    check_part("error_code", USER_DATA & ~3, task_seen.stack & ~3u);
    check_part("eip", (uint32_t)at_int_user, fault_eip);
    end_check();
    main_task.ss0 = 0;
    check("task.null_stack", VECTOR_DONE, ring3(action_int_user, 0, 0));
    check("task.null_stack_error_code", 0, task_seen.stack & ~3u);
    set_trap_gate(TS, INTERRUPT_GATE_32);
}

void test_tasks(void)
{
    gate();
    faults_by_task();
    bad_stack();
}
