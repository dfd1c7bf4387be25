/* The kernel's part of the benchmarks: things that only ring 0 can do, often enough to be counted. They are those of
 * Adams and Agesen, "A comparison of software and hardware techniques for x86 virtualization" (ASPLOS 2006); what a
 * program can do by itself is in user/bench.c. */
#include "kernel.h"

static __attribute__((noinline)) void return_at_once(void)
{
    __asm__ volatile("");
}

int kernel_bench(unsigned what, uint32_t count, uint32_t address)
{
    for (; count; count--) {
        switch (what) {
        case BENCH_IN: touch_device(); break;
        case BENCH_CR: load_directory(current->directory); break;
        case BENCH_CALL: return_at_once(); break;
        case BENCH_DIVIDE: divide_by_zero(); break;
        case BENCH_ENTRY:
            if (!space_flip(current->directory, address))
                return E_FAULT;
            break;
        default: return E_INVALID;
        }
    }
    return 0;
}
