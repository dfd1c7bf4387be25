/* The TSS of the 64-bit half, the gates that are unlike trap64's, and the ways into the rings. */
#include "segments64.h"
#include "tests64.h"

extern uint64_t gdt[];
extern char trap_entries[], user_done[];

struct tss64 task_state;

void load_task_state(void)
{
    uint64_t base = (uint64_t)&task_state;
    task_state.rsp0 = (uint64_t)ring0_stack_top;
    task_state.ist[0] = (uint64_t)ist_stack_top;
    task_state.io_map_base = __builtin_offsetof(struct tss64, io_map);
    for (unsigned i = 0; i < sizeof task_state.io_map; i++)
        task_state.io_map[i] = 0xFF;
    gdt[TASK_STATE / 8] = (sizeof task_state - 1) | (base & 0xFFFFFF) << 16 | 0x89ull << 40
        | (base >> 24 & 0xFF) << 56;
    gdt[TASK_STATE / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(TASK_STATE));
}

/* Take the gate that trap64 made and give it another selector and type. */
void set_gate64(unsigned vector, uint16_t selector, uint8_t type)
{
    struct { uint16_t limit; uint64_t base; } __attribute__((packed)) idtr;
    __asm__ volatile("sidt %0" : "=m"(idtr));
    uint8_t *gate = (uint8_t *)idtr.base + 16 * vector;
    gate[2] = (uint8_t)selector;
    gate[3] = (uint8_t)(selector >> 8);
    gate[5] = type;
}

uint64_t ring0(action *what, uint64_t argument)
{
    return trapped(what, argument) ? last_trap.vector : NO_TRAP;
}

static struct { uint64_t rip, argument, rflags; } visit;

static void enter(uint64_t unused)
{
    uint64_t *stack = (uint64_t *)user_stack_top;
    (void)unused;
    *--stack = (uint64_t)user_done;
    run_in_ring3(visit.rip, (uint64_t)stack, visit.argument, visit.rflags);
}

uint64_t ring3(action *what, uint64_t argument, uint64_t rflags)
{
    visit.rip = (uint64_t)what;
    visit.argument = argument;
    visit.rflags = RFLAGS_FIXED | rflags;
    return ring0(enter, 0);
}

void check_trap(const char *name, uint64_t got, uint64_t vector, uint64_t error_code, const void *rip)
{
    begin_check(name);
    check_part("vector", vector, got);
    if (got == vector && vector != NO_TRAP) {
        check_part("error_code", error_code, last_trap.error_code);
        check_part("rip", (uint64_t)rip, last_trap.rip);
    }
    end_check();
}
