/* Interrupts and exceptions in 64-bit mode: the IDT, one frame for all of them, and a way to run code that is
 * meant to fault. (AMD APM vol. 2, rev. 3.42, section 8.9.) */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The stack as `trap_common` leaves it, lowest address first. */
struct frame64 {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code; /* error_code: 0 where the processor pushes none */
    uint64_t rip, cs, rflags, rsp, ss;
};

/* What the last trap was that nobody had a handler for. */
struct trap64 {
    uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
    uint64_t cr2;
    uint64_t frame_end;      /* the stack pointer that the processor began to push at */
    uint64_t handler_rflags; /* RFLAGS, CS and SS as the handler found them */
    uint64_t handler_cs, handler_ss;
};

enum { GATE_INTERRUPT = 0x8E, GATE_TRAP = 0x8F, GATE_FROM_USER = 0x60 };
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_RESERVED = 8, PF_FETCH = 16 };

typedef void trap_handler(struct frame64 *frame);

extern struct trap64 last_trap;

/* Fill the IDT with interrupt gates of DPL 0 on the current code segment, and load it. */
void trap_init(void);

/* Change one gate: its type, DPL (GATE_... ored) and interrupt stack (0 for none). */
void trap_set_gate(unsigned vector, uint8_t type, unsigned ist);

/* Have `handler` called for a vector (NULL for none); execution then continues where the frame says. */
void trap_set_handler(unsigned vector, trap_handler *handler);

/* Run action(argument). Returns true if a trap without a handler ended it: then `last_trap` says which. */
bool trapped(void (*action)(uint64_t), uint64_t argument);

/* Like `trapped`, but in ring 3: code at `rip` with `rsp`, RDI = argument. It comes back by a trap. */
void run_in_ring3(uint64_t rip, uint64_t rsp, uint64_t argument, uint64_t rflags);

/* Called for a trap that nobody expects; defined by the guest. */
void trap_unexpected(const struct trap64 *trap) __attribute__((noreturn));
