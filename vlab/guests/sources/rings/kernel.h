/* What ring 0 of the rings guest shares between its files. */
#pragma once

#include <stdint.h>

/* The stack as `common` in entry.S leaves it, lowest address first. */
struct frame {
    uint32_t edi, esi, ebp, kernel_esp, ebx, edx, ecx, eax; /* PUSHAD */
    uint32_t vector, error_code;
    uint32_t eip, cs, eflags; /* pushed by the processor always, */
    uint32_t esp, ss;         /* and these two because the ring changed */
};

enum system_call { SAY_HELLO = 1, FINISH = 2 };

/* entry.S */
void gate_gp(void);
void gate_syscall(void);
void gate_unexpected(void);
void sysenter_entry(void);
void enter_ring3(void (*entry)(void), void *stack, uint32_t eflags) __attribute__((noreturn));
extern char kernel_stack_top[];

/* tables.c */
void load_tables(void *ring0_stack);

/* user.S */
extern volatile const char *user_attempt; /* the instruction that ring 3 is about to try, in words */
void ring3_main(void);
extern char user_stack_top[];
extern volatile uint32_t user_has_sysenter;
