/* What the command line asks for. */
#pragma once

#include <stdint.h>

struct options {
    uint32_t pages;   /* 4 KiB pages in the working set */
    uint32_t rounds;  /* how often the touches and updates below are made */
    uint32_t touches; /* accesses in a round, each to a page that the generator picks */
    uint32_t updates; /* page-table entries that are edited in a round, after its touches */
    uint32_t large;   /* 1: the working set is mapped in 2 MiB pages */
};

enum { MOST_PAGES = 8192 };

/* Read the words `name=number` of the command line that Multiboot left at `information`. Returns 0 for a word
 * that is not understood, and for a working set that memory does not hold. */
int read_options(const uint32_t *information, struct options *options);
