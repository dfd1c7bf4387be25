/* Interrupts and exceptions in 32-bit protected mode: one record of all that can be seen, and ways to run
 * code that is meant to fault, in any ring and in virtual-8086 mode. (AMD APM vol. 2, rev. 3.42, section
 * 8.7.) */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct frame32 {
    uint32_t gs, fs, es, ds; /* pushed by trap_common */
    uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
    uint32_t vector, error_code;
    uint32_t eip, cs, eflags;
    uint32_t esp, ss;                    /* only when the ring changed */
    uint32_t v86_es, v86_ds, v86_fs, v86_gs; /* only from virtual-8086 mode */
};

/* What the last trap looked like that nobody had a handler for. */
struct trap32 {
    struct frame32 frame;
    uint32_t cr2, dr6;
    uint32_t frame_end; /* the stack pointer that the processor began to push at */
    uint32_t handler_eflags, handler_cs, handler_ss;
};

/* What an IRET to an outer ring takes from the stack; the last four are for virtual-8086 mode. */
struct outer {
    uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

typedef void action(uint32_t argument);
typedef void trap_handler(struct frame32 *frame);

enum { NO_TRAP = 0xFFFFFFFF, IF = 1 << 9, TF = 1 << 8, NT = 1 << 14, VM = 1 << 17, EFLAGS_FIXED = 2 };
#define IOPL(level) ((uint32_t)(level) << 12)

extern struct trap32 last_trap;
extern char ring0_stack_top[]; /* ESP0 of the main task */
extern char user_stack_top[];

void trap_set_handler(unsigned vector, trap_handler *handler);

/* Run an action in ring 0. Returns the vector of the trap that ended it, or NO_TRAP. */
uint32_t ring0(action *what, uint32_t argument);

/* Run an action in ring 3 with these bits of EFLAGS; returns the vector that ended it, VECTOR_DONE when it
 * returned. */
uint32_t ring3(action *what, uint32_t argument, uint32_t eflags);

/* Leave for an outer ring or for virtual-8086 mode; returns the vector that came back. */
uint32_t run_outer(const struct outer *where);
extern const char at_outer_return[]; /* its IRET */

/* One check of vector, error code and place. */
void check_trap(const char *name, uint32_t got, uint32_t vector, uint32_t error_code, const void *eip);
