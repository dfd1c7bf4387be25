/* sweep: touches the pages of a working set, and edits the page tables behind it, as often as it is told.
 *
 *     pages=N rounds=N touches=N updates=N large=0|1
 *
 * Every round makes `touches` accesses to pages that a generator picks, then moves `updates` pages to other
 * frames: one store to a page-table entry and one INVLPG each. How often the first kind misses the TLB, and
 * how often the second kind disturbs a monitor, is what decides between shadow and nested page tables.
 *
 * All pages are touched once before the first round, so nothing is seen for the first time in it. At the end
 * the guest prints two digests: of the pages that it picked, so that a model can prove to follow it, and of
 * what is in all pages, in order, which is wrong if one of them was ever shown in the wrong frame. */
#include "console.h"
#include "options.h"
#include "port.h"
#include "window.h"

static uint32_t random_state = 1;
static uint64_t picked;

/* A linear congruential generator (the multiplier and increment of Numerical Recipes, section 7.1), of which
 * the high bits choose the page. */
static uint32_t pick(uint32_t pages)
{
    random_state = random_state * 1664525 + 1013904223;
    uint32_t page = (uint32_t)((uint64_t)random_state * pages >> 32);
    picked = picked * 31 + page;
    return page;
}

static void run(const struct options *options)
{
    for (uint32_t page = 0; page < options->pages; page++)
        *cell_of(page) = page;
    for (uint32_t round = 0; round < options->rounds; round++) {
        for (uint32_t i = 0; i < options->touches; i++)
            *cell_of(pick(options->pages)) += i;
        for (uint32_t i = 0; i < options->updates; i++)
            move_page(pick(options->pages));
    }
}

static uint64_t digest_of_contents(uint32_t pages)
{
    uint64_t digest = 0;
    for (uint32_t page = 0; page < pages; page++)
        digest = digest * 31 + *cell_of(page);
    return digest;
}

void kernel_main(const uint32_t *information)
{
    struct options options;
    console_init();
    if (!read_options(information, &options)) {
        say("sweep: give pages=1..%u rounds=N touches=N updates=N large=0|1, and memory for the pages\n",
            MOST_PAGES);
        debug_exit(2);
    }
    say("sweep: %u pages, mapped in pages of %s\n", options.pages, options.large ? "2 MiB" : "4 KiB");
    open_window(options.pages, options.large);
    run(&options);
    say("sweep: picked %l, contents %l\n", picked, digest_of_contents(options.pages));
    debug_exit(0);
}
