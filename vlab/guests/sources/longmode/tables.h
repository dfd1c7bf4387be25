/* The page tables of the longmode guest. */
#pragma once

#include <stdint.h>

enum {
    PTE_PRESENT = 1 << 0,
    PTE_WRITABLE = 1 << 1,
    PTE_USER = 1 << 2,
    PTE_ACCESSED = 1 << 5,
    PTE_DIRTY = 1 << 6,
    PTE_LARGE = 1 << 7, /* in levels 2 and 3: the walk ends here */
};

#define PTE_NO_EXECUTE (1ull << 63)
#define PTE_ADDRESS 0x000FFFFFFFFFF000ull

/* A window of 4 KiB pages for the demonstrations, in the upper half of the address space. */
#define WINDOW 0xFFFF800000000000ull

/* The first GiB once more, as a single page. */
#define GIANT 0xFFFF808000000000ull

void build_tables(void);
void load_task_state(void);
int has_giant_pages(void);

/* The page-table entry of page `index` of the window; after a change call flush_page. */
volatile uint64_t *window_entry(unsigned index);
void map_window(unsigned index, const void *page, uint64_t flags);
void flush_page(uint64_t address);

/* walk.c: print how the processor translates `address`. */
void walk(uint64_t address);
