/* GDT, LDT, IDT and the task-state segments of the 32-bit half. */
#pragma once

#include <stdint.h>

#include "segments.h"

/* Types of gates, with the present bit; or in GATE_DPL. */
enum {
    TASK_GATE = 0x85,
    CALL_GATE = 0x8C,
    INTERRUPT_GATE_16 = 0x86,
    TRAP_GATE_16 = 0x87,
    INTERRUPT_GATE_32 = 0x8E,
    TRAP_GATE_32 = 0x8F,
    GATE_PRESENT = 0x80,
};
#define GATE_DPL(level) ((level) << 5)

enum { PORTS_IN_BITMAP = 0x400 };

struct tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map_base;
    uint8_t io_map[PORTS_IN_BITMAP / 8 + 1]; /* the last byte must be FF */
};

struct tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags;
    uint16_t ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

extern struct tss32 main_task, other_task, fault_task;
extern struct tss16 main_task_16;
extern uint64_t gdt[GDT_ENTRIES];

/* The fault task (tasks.S) notes where the old task was, and lets it go on at `resume_eip`. */
extern uint32_t fault_eip, resume_eip;

/* Fill everything in and load GDTR, IDTR, LDTR and TR. Every vector leads to `trap_entries`. */
void load_tables(void);

/* A gate of any kind; DPL and present bit are part of `type`. */
void set_gate(unsigned vector, uint16_t selector, uint32_t offset, uint8_t type);

/* The usual gate of a vector, with another type. */
void set_trap_gate(unsigned vector, uint8_t type);

/* Make TR name this TSS, whether it was busy or not. */
void load_task(uint16_t selector);

void load_idt(uint32_t base, uint16_t limit);
void load_usual_idt(void);
extern uint64_t idt[256];
