/* Four levels of page tables with pages of all sizes (AMD APM vol. 2, rev. 3.42, section 5.3), and the
 * TSS. */
#include "tables.h"

#include "console.h"

enum { ENTRIES = 512, PAGE = 4096, TASK_STATE = 0x30 };
#define LARGE_PAGE 0x200000ull

typedef uint64_t table[ENTRIES] __attribute__((aligned(4096)));

static table pml4, low_pdpt, low_directory, low_pages, window_pdpt, window_directory, window_pages,
    giant_pdpt;

/* From the linker script: the code is read-only and may be executed, everything else is the other way
 * round. */
extern char text_start[], text_end[], kernel_stack_top[];
extern uint64_t gdt[];

static struct {
    uint32_t reserved0;
    uint64_t rsp0, rsp1, rsp2, reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map_base;
} __attribute__((packed)) task_state;

int has_giant_pages(void)
{
    uint32_t eax = 0x80000001, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return edx >> 26 & 1;
}

static void point_at(uint64_t *entry, uint64_t *next, uint64_t flags)
{
    *entry = (uint64_t)next | PTE_PRESENT | PTE_WRITABLE | flags;
}

/* The first 2 MiB in small pages: page 0 is absent, so that null pointers fault, and the kernel's own code is
 * write-protected. */
static void build_low_pages(void)
{
    for (uint64_t address = PAGE; address < LARGE_PAGE; address += PAGE) {
        int is_code = address >= (uint64_t)text_start && address < (uint64_t)text_end;
        low_pages[address / PAGE] = address | PTE_PRESENT | (is_code ? 0 : PTE_WRITABLE | PTE_NO_EXECUTE);
    }
}

void build_tables(void)
{
    build_low_pages();
    point_at(&low_directory[0], low_pages, 0);
    for (uint64_t i = 1; i < ENTRIES; i++)
        low_directory[i] = i * LARGE_PAGE | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE | PTE_NO_EXECUTE;
    point_at(&low_pdpt[0], low_directory, 0);
    point_at(&pml4[0], low_pdpt, 0);

    /* The upper levels let ring 3 through: what counts is the strictest entry on the way. */
    point_at(&window_directory[0], window_pages, PTE_USER);
    point_at(&window_pdpt[0], window_directory, PTE_USER);
    point_at(&pml4[256], window_pdpt, PTE_USER);

    if (has_giant_pages()) {
        giant_pdpt[0] = 0 | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE | PTE_NO_EXECUTE;
        point_at(&pml4[257], giant_pdpt, 0);
    }
    __asm__ volatile("mov cr3, %0" : : "r"(pml4) : "memory");
}

volatile uint64_t *window_entry(unsigned index)
{
    return &window_pages[index];
}

void flush_page(uint64_t address)
{
    __asm__ volatile("invlpg [%0]" : : "r"(address) : "memory");
}

void map_window(unsigned index, const void *page, uint64_t flags)
{
    window_pages[index] = (uint64_t)page | flags;
    flush_page(WINDOW + index * PAGE);
}

/* Ring 3 needs a stack for the way back: RSP0. */
void load_task_state(void)
{
    uint64_t base = (uint64_t)&task_state;
    task_state.rsp0 = (uint64_t)kernel_stack_top - 4096; /* the upper part is in use when ring 3 is entered */
    task_state.io_map_base = sizeof task_state;
    gdt[TASK_STATE / 8] = (sizeof task_state - 1) | (base & 0xFFFFFF) << 16 | 0x89ull << 40
        | (base >> 24 & 0xFF) << 56;
    gdt[TASK_STATE / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(TASK_STATE));
}
