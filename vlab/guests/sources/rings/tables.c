/* The three tables of protection: GDT (what each selector means), TSS (which stack ring 0 uses) and IDT
 * (the only doors into ring 0). AMD APM vol. 2, rev. 3.42, sections 4.7, 4.8 and 12.2. */
#include "kernel.h"
#include "segments.h"

struct gate {
    uint16_t offset_low, selector;
    uint8_t zero, type;
    uint16_t offset_high;
} __attribute__((packed));

struct table_register {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed));

enum {
    GATE_RING0 = 0x8E, /* present, DPL 0, 32-bit interrupt gate */
    GATE_RING3 = 0xEE, /* the same with DPL 3: INT n may use it from ring 3 */
    TSS_AVAILABLE_32 = 0x89,
};

/* Base 0, limit 4 GiB; they differ in type (code or data) and DPL (0 or 3) alone. */
static uint64_t gdt[] = {
    0,
    0x00CF9B000000FFFF, /* KERNEL_CODE */
    0x00CF93000000FFFF, /* KERNEL_DATA */
    0x00CFFB000000FFFF, /* USER_CODE */
    0x00CFF3000000FFFF, /* USER_DATA */
    0,                  /* TASK_STATE, filled in below */
};

static struct {
    uint32_t link, esp0, ss0, unused[22];
    uint16_t trap, io_map_base;
} tss;

static struct gate idt[256];

static void set_gate(unsigned vector, void (*entry)(void), uint8_t type)
{
    uint32_t address = (uint32_t)entry;
    idt[vector] = (struct gate){ (uint16_t)address, KERNEL_CODE, 0, type, (uint16_t)(address >> 16) };
}

void load_tables(void *ring0_stack)
{
    uint32_t base = (uint32_t)&tss;
    tss.esp0 = (uint32_t)ring0_stack;
    tss.ss0 = KERNEL_DATA;
    tss.io_map_base = sizeof tss; /* beyond the limit: ring 3 may use no port */
    gdt[TASK_STATE / 8] = (sizeof tss - 1) | (uint64_t)(base & 0xFFFFFF) << 16
        | (uint64_t)TSS_AVAILABLE_32 << 40 | (uint64_t)(base >> 24) << 56;

    for (unsigned vector = 0; vector < 256; vector++)
        set_gate(vector, gate_unexpected, GATE_RING0);
    set_gate(VECTOR_GP, gate_gp, GATE_RING0);
    set_gate(VECTOR_SYSCALL, gate_syscall, GATE_RING3);

    struct table_register gdtr = { sizeof gdt - 1, (uint32_t)gdt }, idtr = { sizeof idt - 1, (uint32_t)idt };
    __asm__ volatile("lgdt %0\n\t"
                     "lidt %1\n\t"
                     "push %2\n\t" /* a far return loads CS */
                     "push offset 1f\n\t"
                     "retf\n"
                     "1:\n\t"
                     "mov ds, %3\n\t"
                     "mov es, %3\n\t"
                     "mov ss, %3\n\t"
                     "ltr %w4"
                     : : "m"(gdtr), "m"(idtr), "i"(KERNEL_CODE), "r"(KERNEL_DATA),
                       "r"(TASK_STATE) : "memory");
}
