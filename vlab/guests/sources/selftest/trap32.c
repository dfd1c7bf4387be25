#include "trap32.h"

#include <stddef.h>

#include "check.h"
#include "console.h"
#include "port.h"
#include "segments.h"

struct trap32 last_trap;
uint32_t trap_return_stack; /* of the innermost call_trapped; 0 outside */

static trap_handler *handlers[256];

bool call_trapped(action *what, uint32_t argument);
void enter_outer(const struct outer *where);
extern char user_done[];

void trap_set_handler(unsigned vector, trap_handler *handler)
{
    handlers[vector] = handler;
}

static uint32_t read_cr2(void)
{
    uint32_t cr2;
    __asm__ volatile("mov %0, cr2" : "=r"(cr2));
    return cr2;
}

static uint32_t take_dr6(void)
{
    uint32_t dr6, clear = 0xFFFF0FF0;
    __asm__ volatile("mov %0, dr6\n\tmov dr6, %1" : "=&r"(dr6) : "r"(clear));
    return dr6;
}

uint32_t trap_dispatch(struct frame32 *frame, uint32_t eflags, uint32_t cs, uint32_t ss)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return 0;
    }
    bool changed = (frame->eflags & VM) || (frame->cs & 3) != (cs & 3);
    size_t size = frame->eflags & VM ? sizeof *frame : changed ? offsetof(struct frame32, v86_es)
                                                               : offsetof(struct frame32, esp);
    last_trap.frame = *frame;
    last_trap.frame.cs &= 0xFFFF;
    last_trap.cr2 = read_cr2();
    last_trap.dr6 = take_dr6();
    last_trap.frame_end = (uint32_t)frame + size;
    last_trap.handler_eflags = eflags;
    last_trap.handler_cs = cs & 0xFFFF; /* PUSH of a segment register leaves the upper half as it was */
    last_trap.handler_ss = ss & 0xFFFF;
    if (!trap_return_stack) {
        say("FAIL unexpected vector 0x%x, error code 0x%x at %04x:%08x\n", frame->vector, frame->error_code,
            frame->cs, frame->eip);
        debug_exit(1);
    }
    return trap_return_stack;
}

uint32_t ring0(action *what, uint32_t argument)
{
    return call_trapped(what, argument) ? last_trap.frame.vector : NO_TRAP;
}

static void leave_for(uint32_t where)
{
    enter_outer((const struct outer *)where);
}

uint32_t run_outer(const struct outer *where)
{
    return ring0(leave_for, (uint32_t)where);
}

uint32_t ring3(action *what, uint32_t argument, uint32_t eflags)
{
    uint32_t *stack = (uint32_t *)user_stack_top;
    *--stack = argument;
    *--stack = (uint32_t)user_done;
    struct outer where = {
        .eip = (uint32_t)what, .cs = USER_CODE, .eflags = EFLAGS_FIXED | eflags, .esp = (uint32_t)stack,
        .ss = USER_DATA,
    };
    return run_outer(&where);
}

void check_trap(const char *name, uint32_t got, uint32_t vector, uint32_t error_code, const void *eip)
{
    begin_check(name);
    check_part("vector", vector, got);
    if (got == vector && vector != NO_TRAP) {
        check_part("error_code", error_code, last_trap.frame.error_code);
        check_part("eip", (uint32_t)eip, last_trap.frame.eip);
    }
    end_check();
}
