/* What the files of the 64-bit half share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "../check.h"
#include "../../lib/trap64.h"

enum { NO_TRAP = 0xFFFF, TF = 1 << 8, IF = 1 << 9, DF_FLAG = 1 << 10, NT = 1 << 14, RFLAGS_FIXED = 2 };
#define IOPL(level) ((uint64_t)(level) << 12)

typedef void action(uint64_t argument);

/* Small pieces of code with their places marked, as in the 32-bit half (actions64.S). */
#define ACTION(name) extern action action_##name; extern const char at_##name[], after_##name[]

struct tss64 {
    uint32_t reserved0;
    uint64_t rsp0, rsp1, rsp2, reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map_base;
    uint8_t io_map[0x400 / 8 + 1];
} __attribute__((packed));

extern struct tss64 task_state;
extern char ring0_stack_top[], ist_stack_top[], user_stack_top[];

void load_task_state(void);
void set_gate64(unsigned vector, uint16_t selector, uint8_t type);

/* Run an action in ring 0 or in ring 3; returns the vector that ended it: NO_TRAP, or VECTOR_DONE from
 * ring 3, if it returned. `last_trap` has the rest. */
uint64_t ring0(action *what, uint64_t argument);
uint64_t ring3(action *what, uint64_t argument, uint64_t rflags);

void check_trap(const char *name, uint64_t got, uint64_t vector, uint64_t error_code, const void *rip);

void test_exceptions64(void);
void test_rings64(void);
void test_stacks64(void);
void test_paging64(void);
void test_syscall64(void);
void test_compatibility64(void);
void test_state64(void);
