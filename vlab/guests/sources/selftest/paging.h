/* Page tables of the 32-bit half: the first 16 MiB onto themselves for all rings, and a window of 4 KiB
 * pages. */
#pragma once

#include <stdint.h>

#define WINDOW 0xC0000000u
#define PAGE 4096u

enum {
    PTE_PRESENT = 1 << 0,
    PTE_WRITABLE = 1 << 1,
    PTE_USER = 1 << 2,
    PTE_ACCESSED = 1 << 5,
    PTE_DIRTY = 1 << 6,
    PTE_LARGE = 1 << 7,
    PTE_ALL = PTE_PRESENT | PTE_WRITABLE | PTE_USER,
};
