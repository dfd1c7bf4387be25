/* The page walk in software: what the processor does in hardware for each address that it has not seen
 * yet. */
#include "console.h"
#include "tables.h"

static void print_flags(uint64_t entry)
{
    static const struct { uint64_t mask; const char *name; } flags[] = {
        { PTE_PRESENT, " P" }, { PTE_WRITABLE, " W" }, { PTE_USER, " U" }, { PTE_ACCESSED, " A" },
        { PTE_DIRTY, " D" }, { PTE_LARGE, " PS" }, { PTE_NO_EXECUTE, " NX" },
    };
    for (unsigned i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (entry & flags[i].mask)
            say("%s", flags[i].name);
    say("\n");
}

static const char *size_name(unsigned level)
{
    return level == 3 ? "1 GiB" : level == 2 ? "2 MiB" : "4 KiB";
}

void walk(uint64_t address)
{
    uint64_t table, strictest = PTE_WRITABLE | PTE_USER, no_execute = 0;
    __asm__ volatile("mov %0, cr3" : "=r"(table));
    say("walk %l\n", address);
    for (unsigned level = 4; level; level--) {
        unsigned shift = 12 + 9 * (level - 1), index = address >> shift & 511;
        uint64_t entry = ((uint64_t *)(table & PTE_ADDRESS))[index];
        say("  level %u  table %l  index %u  entry %l ", level, table & PTE_ADDRESS, index, entry);
        print_flags(entry);
        if (!(entry & PTE_PRESENT)) {
            say("  not present: a page fault\n");
            return;
        }
        strictest &= entry;
        no_execute |= entry & PTE_NO_EXECUTE;
        if (level == 1 || (level < 4 && entry & PTE_LARGE)) {
            uint64_t offset_mask = (1ull << shift) - 1;
            say("  is physical %l, in a page of %s, %s, %s, %s\n",
                (entry & PTE_ADDRESS & ~offset_mask) | (address & offset_mask), size_name(level),
                strictest & PTE_WRITABLE ? "writable" : "read-only",
                strictest & PTE_USER ? "user" : "supervisor",
                no_execute ? "no execute" : "executable");
            return;
        }
        table = entry;
    }
}
