#include "tables.h"

#include "real.h"
#include "trap32.h"

enum {
    ACCESSED_CODE = 0x9B, /* present, DPL 0, readable */
    ACCESSED_DATA = 0x93, /* present, DPL 0, writable */
    EXECUTE_ONLY = 0x99,
    READ_ONLY = 0x91,
    CONFORMING = 0x9F,
    EXPAND_DOWN = 0x97,
    TSS_16 = 0x81,
    TSS_32 = 0x89,
    LDT = 0x82,
    BUSY = 2,
    PRESENT = 0x80,
    BITS_32 = 0x4, /* D or B */
    PAGES = 0x8,   /* the limit counts pages */
};
#define DPL(level) ((level) << 5)

extern char trap_entries[], code16[], stack16[], call_gate_target[];
extern char other_task_stack_top[], fault_task_stack_top[], kernel_stack16_top[];
void other_task_main(void), fault_task_main(void);

struct tss32 main_task, other_task, fault_task;
struct tss16 main_task_16;
uint64_t gdt[GDT_ENTRIES], idt[256];
static uint64_t ldt[3];

static uint64_t descriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags)
{
    return (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)access << 40
        | (uint64_t)(limit >> 16 & 0xF) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static uint64_t flat_segment(uint8_t access)
{
    return descriptor(0, 0xFFFFF, access, BITS_32 | PAGES);
}

static uint64_t gate(uint16_t selector, uint32_t offset, uint8_t parameters, uint8_t type)
{
    return (offset & 0xFFFF) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 | (uint64_t)type << 40
        | (uint64_t)(offset >> 16) << 48;
}

static void set(uint16_t selector, uint64_t content)
{
    gdt[selector / 8] = content;
}

static void fill_gdt(void)
{
    uint32_t base16 = (uint32_t)code16, data16 = (uint32_t)stack16;
    set(KERNEL_CODE, flat_segment(ACCESSED_CODE));
    set(KERNEL_DATA, flat_segment(ACCESSED_DATA));
    set(USER_CODE, flat_segment(ACCESSED_CODE | DPL(3)));
    set(USER_DATA, flat_segment(ACCESSED_DATA | DPL(3)));
    set(MAIN_TASK, descriptor((uint32_t)&main_task, sizeof main_task - 1, TSS_32, 0));
    set(OTHER_TASK, descriptor((uint32_t)&other_task, sizeof other_task - 1, TSS_32, 0));
    set(FAULT_TASK, descriptor((uint32_t)&fault_task, sizeof fault_task - 1, TSS_32, 0));
    set(MAIN_TASK_16, descriptor((uint32_t)&main_task_16, sizeof main_task_16 - 1, TSS_16, 0));
    set(CODE_16, descriptor(base16, 0xFFFF, ACCESSED_CODE, 0));
    set(DATA_16, descriptor(data16, 0xFFFF, ACCESSED_DATA, 0));
    set(USER_CODE_16, descriptor(base16, 0xFFFF, ACCESSED_CODE | DPL(3), 0));
    set(USER_DATA_16, descriptor(data16, 0xFFFF, ACCESSED_DATA | DPL(3), 0));
    set(RING1_CODE, flat_segment(ACCESSED_CODE | DPL(1)));
    set(RING1_DATA, flat_segment(ACCESSED_DATA | DPL(1)));
    set(CONFORMING_CODE, flat_segment(CONFORMING));
    set(ABSENT_DATA, flat_segment(ACCESSED_DATA & ~PRESENT));
    set(READ_ONLY_DATA, flat_segment(READ_ONLY));
    set(EXECUTE_ONLY_CODE, flat_segment(EXECUTE_ONLY));
    set(SHORT_CODE, descriptor(0, 0xFFF, ACCESSED_CODE, BITS_32));
    set(ABSENT_CODE, flat_segment(ACCESSED_CODE & ~PRESENT));
    set(CALL_GATE_32, gate(KERNEL_CODE, (uint32_t)call_gate_target, 2, CALL_GATE | GATE_DPL(3)));
    set(CALL_GATE_ABSENT, gate(KERNEL_CODE, (uint32_t)call_gate_target, 0,
        (CALL_GATE & ~PRESENT) | GATE_DPL(3)));
    set(LOCAL_TABLE, descriptor((uint32_t)ldt, sizeof ldt - 1, LDT, 0));
    set(SHORT_DATA, descriptor(0, 0xFFF, ACCESSED_DATA | DPL(3), BITS_32));
    set(UPPER_DATA, descriptor(0, 0xFFF, EXPAND_DOWN | DPL(3), BITS_32));
    set(REAL_CODE_16, descriptor(REAL_BASE, 0xFFFF, ACCESSED_CODE, 0));
    set(REAL_DATA_16, descriptor(0, 0xFFFF, ACCESSED_DATA, 0));
    ldt[1] = flat_segment(ACCESSED_DATA);
    ldt[2] = flat_segment((ACCESSED_DATA | DPL(3)) & ~PRESENT);
}

static void fill_tasks(void)
{
    main_task.esp0 = (uint32_t)ring0_stack_top;
    main_task.ss0 = KERNEL_DATA;
    main_task.esp1 = (uint32_t)ring0_stack_top - 2048;
    main_task.ss1 = RING1_DATA;
    main_task.io_map_base = __builtin_offsetof(struct tss32, io_map);
    for (unsigned i = 0; i < sizeof main_task.io_map; i++)
        main_task.io_map[i] = 0xFF;
    main_task_16.sp0 = (uint16_t)(kernel_stack16_top - stack16);
    main_task_16.ss0 = DATA_16;

    struct tss32 empty = { .cs = KERNEL_CODE, .ss = KERNEL_DATA, .ds = KERNEL_DATA, .es = KERNEL_DATA };
    empty.eflags = EFLAGS_FIXED;
    empty.io_map_base = sizeof empty;
    other_task = fault_task = empty;
    other_task.eip = (uint32_t)other_task_main;
    other_task.esp = (uint32_t)other_task_stack_top;
    fault_task.eip = (uint32_t)fault_task_main;
    fault_task.esp = (uint32_t)fault_task_stack_top;
}

void set_gate(unsigned vector, uint16_t selector, uint32_t offset, uint8_t type)
{
    idt[vector] = gate(selector, offset, 0, type);
}

void set_trap_gate(unsigned vector, uint8_t type)
{
    set_gate(vector, KERNEL_CODE, (uint32_t)trap_entries + 16 * vector, type);
}

static void fill_idt(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        set_trap_gate(vector, INTERRUPT_GATE_32);
    set_trap_gate(VECTOR_DONE, INTERRUPT_GATE_32 | GATE_DPL(3));
    set_trap_gate(VECTOR_USER, INTERRUPT_GATE_32 | GATE_DPL(3));
    set_trap_gate(VECTOR_TRAP, TRAP_GATE_32 | GATE_DPL(3));
    set_trap_gate(VECTOR_ABSENT, (INTERRUPT_GATE_32 & ~GATE_PRESENT) | GATE_DPL(3));
    set_gate(VECTOR_BAD, BEYOND_GDT, 0, INTERRUPT_GATE_32);
    set_gate(VECTOR_DATA, KERNEL_DATA, 0, INTERRUPT_GATE_32);
    set_gate(VECTOR_NULL, 0, 0, INTERRUPT_GATE_32);
}

static void load_gdt(void)
{
    struct { uint16_t limit; uint32_t base; } __attribute__((packed)) gdtr = {
        sizeof gdt - 1, (uint32_t)gdt,
    };
    __asm__ volatile("lgdt %0\n\t"
                     "push %1\n\t"
                     "push offset 1f\n\t"
                     "retf\n"
                     "1:\n\t"
                     "mov ds, %2\n\t"
                     "mov es, %2\n\t"
                     "mov ss, %2\n\t"
                     "xor %2, %2\n\t"
                     "mov fs, %2\n\t"
                     "mov gs, %2"
                     : : "m"(gdtr), "i"(KERNEL_CODE), "r"(KERNEL_DATA) : "memory");
}

void load_idt(uint32_t base, uint16_t limit)
{
    struct { uint16_t limit; uint32_t base; } __attribute__((packed)) idtr = { limit, base };
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

void load_usual_idt(void)
{
    load_idt((uint32_t)idt, 8 * (VECTOR_LAST + 1) - 1);
}

void load_task(uint16_t selector)
{
    gdt[selector / 8] &= ~((uint64_t)BUSY << 40);
    __asm__ volatile("ltr %0" : : "r"(selector) : "memory");
}

void load_tables(void)
{
    fill_gdt();
    fill_tasks();
    fill_idt();
    load_gdt();
    load_usual_idt();
    __asm__ volatile("lldt %0" : : "r"((uint16_t)LOCAL_TABLE));
    load_task(MAIN_TASK);
}
