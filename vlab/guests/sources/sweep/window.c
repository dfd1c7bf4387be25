/* Page tables for the window (AMD APM vol. 2, rev. 3.42, section 5.3), with the accessed and dirty bits set
 * from the start: what is to be counted are the edits, not the processor's own writes. */
#include "window.h"

#include <stddef.h>

#include "options.h"

/* lib/memory.c */
void *memset(void *to, int value, size_t size);

#define PRESENT (1ull << 0)
#define WRITABLE (1ull << 1)
#define ACCESSED (1ull << 5)
#define DIRTY (1ull << 6)
#define LARGE (1ull << 7)
#define NO_EXECUTE (1ull << 63)
#define DATA (PRESENT | WRITABLE | ACCESSED | DIRTY | NO_EXECUTE)

enum { ENTRIES = 512, SLOT = 256 /* of WINDOW in the top table */, PAGE_SHIFT = 12, LARGE_SHIFT = 21 };

/* The tables are behind the image, and not in the 2 MiB that it shares with devices and ROMs: nested tables
 * cannot map those in one piece. The frames that the window shows are behind the tables. The first one is the
 * spare one. */
#define TABLES 0x200000ull
#define FIRST_FRAME 0x400000ull

typedef uint64_t table[ENTRIES];

extern uint64_t first_top_table[ENTRIES];

static struct {
    table top, pointers, directory, last_level[MOST_PAGES / ENTRIES];
} *const tables = (void *)TABLES;

static unsigned shift = PAGE_SHIFT; /* of the pages in use */
static uint64_t spare = FIRST_FRAME;

static uint64_t *entry_of(uint32_t page)
{
    if (shift == LARGE_SHIFT)
        return &tables->directory[page / ENTRIES];
    return &tables->last_level[page / ENTRIES][page % ENTRIES];
}

uint64_t window_end(uint32_t pages, uint32_t large)
{
    uint32_t mapped = large ? (pages + ENTRIES - 1) / ENTRIES : pages;
    return FIRST_FRAME + ((mapped + 1ull) << (large ? LARGE_SHIFT : PAGE_SHIFT));
}

void open_window(uint32_t pages, uint32_t large)
{
    uint32_t directory_entries = (pages + ENTRIES - 1) / ENTRIES;
    memset(tables, 0, sizeof *tables);
    tables->top[0] = first_top_table[0];
    tables->top[SLOT] = (uint64_t)tables->pointers | PRESENT | WRITABLE;
    tables->pointers[0] = (uint64_t)tables->directory | PRESENT | WRITABLE;
    if (large)
        shift = LARGE_SHIFT;
    for (uint32_t i = 0; i < directory_entries; i++)
        tables->directory[i] = (uint64_t)tables->last_level[i] | PRESENT | WRITABLE;
    for (uint32_t i = 0; i < (large ? directory_entries : pages); i++) {
        uint64_t frame = FIRST_FRAME + ((i + 1ull) << shift);
        *entry_of(large ? i * ENTRIES : i) = frame | DATA | (large ? LARGE : 0);
    }
    __asm__ volatile("mov cr3, %0" : : "r"(tables->top) : "memory");
}

void move_page(uint32_t page)
{
    uint64_t *entry = entry_of(page);
    uint64_t frame = *entry >> shift << shift & ~NO_EXECUTE;
    *(volatile uint64_t *)entry = *entry - frame + spare;
    spare = frame;
    __asm__ volatile("invlpg [%0]" : : "r"(cell_of(page)) : "memory");
}
