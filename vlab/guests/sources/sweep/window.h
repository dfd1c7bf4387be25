/* The working set: a window of linear addresses, and the page tables behind it. */
#pragma once

#include <stdint.h>

#define WINDOW 0xFFFF800000000000ull

/* Map `pages` 4 KiB pages from WINDOW on; with `large` in 2 MiB pages. */
void open_window(uint32_t pages, uint32_t large);

/* Where the memory ends that such a window and the spare frame need, physical address. */
uint64_t window_end(uint32_t pages, uint32_t large);

/* Move page `page` of the window to the frame that is spare, make its old one the spare one, and invalidate.
 * Where pages are large, the large page around it moves. */
void move_page(uint32_t page);

/* The cell of page `page`: in another cache line of each page, so that pages do not compete for a line. */
static inline volatile uint64_t *cell_of(uint32_t page)
{
    return (volatile uint64_t *)(WINDOW + ((uint64_t)page << 12) + ((page & 63) << 6));
}
