#include "trap64.h"

#include <stddef.h>

struct gate64 {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
} __attribute__((packed));

extern char trap_entries[];
uint64_t trap_return_stack; /* of the innermost `trapped`; 0 outside */
struct trap64 last_trap;

static struct gate64 idt[256] __attribute__((aligned(16)));
static trap_handler *handlers[256];

void trap_set_gate(unsigned vector, uint8_t type, unsigned ist)
{
    uint64_t entry = (uint64_t)trap_entries + 16 * vector;
    uint16_t selector;
    __asm__("mov %0, cs" : "=r"(selector));
    idt[vector] = (struct gate64){
        (uint16_t)entry, selector, (uint8_t)ist, type, (uint16_t)(entry >> 16), (uint32_t)(entry >> 32), 0,
    };
}

void trap_set_handler(unsigned vector, trap_handler *handler)
{
    handlers[vector] = handler;
}

void trap_init(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        trap_set_gate(vector, GATE_INTERRUPT, 0);
    struct { uint16_t limit; uint64_t base; } __attribute__((packed)) idtr = {
        sizeof idt - 1, (uint64_t)idt,
    };
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

uint64_t trap_dispatch(struct frame64 *frame, uint64_t rflags, uint64_t cs, uint64_t ss)
{
    uint64_t cr2;
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return 0;
    }
    __asm__ volatile("mov %0, cr2" : "=r"(cr2));
    last_trap = (struct trap64){
        .vector = frame->vector, .error_code = frame->error_code, .rip = frame->rip, .cs = frame->cs,
        .rflags = frame->rflags, .rsp = frame->rsp, .ss = frame->ss, .cr2 = cr2,
        .frame_end = (uint64_t)(frame + 1), .handler_rflags = rflags, .handler_cs = cs, .handler_ss = ss,
    };
    if (!trap_return_stack)
        trap_unexpected(&last_trap);
    return trap_return_stack;
}
