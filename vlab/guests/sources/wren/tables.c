/* Segments and traps, natively: the GDT (what the selectors mean), the TSS (which stack the kernel begins with when
 * it is entered from ring 3) and the IDT (where the entries are). SDM3 3.4.5, 6.11, 7.2.1; APM2 4.7, 4.8, 12.2. */
#include "kernel.h"

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
    GATE_KERNEL = 0x8E,  /* present, DPL 0, 32-bit interrupt gate: it clears IF */
    GATE_PROGRAM = 0xEE, /* the same with DPL 3: INT n may use it from ring 3 */
    TSS_AVAILABLE = 0x89,
    MULTIBOOT_LOADED = 0x2BADB002,
    HAS_MEMORY = 1 << 0,
    HAS_COMMAND_LINE = 1 << 2,
    CPUID_PGE = 1 << 13,
    CR4_PGE = 1 << 7,
    PDE_GLOBAL = 1 << 8,
};

extern uint32_t kernel_directory[1024]; /* boot.S */

static uint64_t gdt[] = {
    0,
    0x00CF9B000000FFFF, /* KERNEL_CODE */
    0x00CF93000000FFFF, /* KERNEL_DATA */
    0x00CFFB000000FFFF, /* USER_CODE */
    0x00CFF3000000FFFF, /* USER_DATA */
    0,                  /* TASK_STATE */
};

static struct {
    uint32_t link, esp0, ss0, unused[22];
    uint16_t trap, io_map_base;
} tss;

static struct gate idt[256]; /* what is not set is not present, and gives #GP or #NP */

static void set_gate(unsigned vector, uint32_t entry, uint8_t type)
{
    idt[vector] = (struct gate){ (uint16_t)entry, KERNEL_CODE, 0, type, (uint16_t)(entry >> 16) };
}

void load_trap_table(void)
{
    uint32_t base = (uint32_t)&tss, entry = (uint32_t)trap_entries;
    tss.ss0 = KERNEL_DATA;
    tss.io_map_base = sizeof tss; /* beyond the limit: programs may use no port */
    gdt[TASK_STATE / 8] = (sizeof tss - 1) | (uint64_t)(base & 0xFFFFFF) << 16
        | (uint64_t)TSS_AVAILABLE << 40 | (uint64_t)(base >> 24) << 56;
    for (unsigned vector = 0; vector < TRAP_VECTORS; vector++, entry += TRAP_ENTRY_SIZE)
        set_gate(vector, entry, GATE_KERNEL);
    set_gate(VECTOR_SYSCALL, entry, GATE_PROGRAM);

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
                     : : "m"(gdtr), "m"(idtr), "i"(KERNEL_CODE), "r"(KERNEL_DATA), "r"(TASK_STATE) : "memory");
}

void set_kernel_stack(uint32_t top)
{
    tss.esp0 = top;
}

/* What the loader said (Multiboot Specification 3.3). Its memory is ours later: the text must be copied. */
uint32_t memory_size(uint32_t magic, const void *information, const char **command_line)
{
    const struct {
        uint32_t flags, kib_from_0, kib_from_1_mib, boot_device, command_line;
    } *info = frame_memory((uint32_t)information);
    if (magic != MULTIBOOT_LOADED || !(info->flags & HAS_MEMORY))
        panic("no Multiboot loader was here");
    *command_line = info->flags & HAS_COMMAND_LINE ? frame_memory(info->command_line) : "";
    return (info->kib_from_1_mib + 1024) * 1024;
}

uint32_t first_free_frame(void)
{
    return ((uint32_t)image_end - KERNEL_BASE + PAGE - 1) & -(uint32_t)PAGE;
}

/* Boot's mapping of memory at 0 goes, and so does what lies beyond the end of memory. Where the processor has
 * global pages (SDM3 4.10.2.4), the kernel's stay in the TLB over a load of CR3; CR4.PGE comes last. */
uint32_t *first_directory(uint32_t size)
{
    uint32_t eax = 1, ebx, ecx, edx, cr4;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    for (unsigned i = 0; i < MEMORY_LIMIT / LARGE_PAGE; i++) {
        uint32_t *high = &kernel_directory[KERNEL_BASE / LARGE_PAGE + i];
        kernel_directory[i] = 0;
        if (i * LARGE_PAGE >= size)
            *high = 0;
        else if (edx & CPUID_PGE)
            *high |= PDE_GLOBAL;
    }
    load_directory(kernel_directory);
    if (edx & CPUID_PGE)
        __asm__ volatile("mov %0, cr4\n\t"
                         "or %0, %1\n\t"
                         "mov cr4, %0" : "=&r"(cr4) : "i"(CR4_PGE) : "memory");
    return kernel_directory;
}

/* The page tables are plain memory to the processor that walks them. */
void tables_in_use(uint32_t *directory)
{
    (void)directory;
}

void table_in_use(uint32_t *table)
{
    (void)table;
}

void tables_unused(uint32_t *directory)
{
    (void)directory;
}
