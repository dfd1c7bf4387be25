/* Long mode: the 64-bit half is a program of its own (long/), which is copied to its place and called. */
#include "check.h"
#include "tables.h"
#include "tests.h"
#include "timer.h"

#define LONG_BASE 0x400000

extern const char long_image[], long_image_end[];

static bool has_long_mode(void)
{
    uint32_t eax = 0x80000000, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (eax < 0x80000001)
        return false;
    eax = 0x80000001;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return edx >> 29 & 1;
}

static uint32_t read_cr0(void)
{
    uint32_t cr0;
    __asm__ volatile("mov %0, cr0" : "=r"(cr0));
    return cr0;
}

void test_long_mode(void)
{
    if (!has_long_mode() || !wanted("long"))
        return;
    timer_prepare(); /* vectors at IRQ_BASE, everything masked */
    __builtin_memcpy((void *)LONG_BASE, long_image, (unsigned)(long_image_end - long_image));
    ((void (*)(struct tally *))LONG_BASE)(tally);
    load_tables();
    timer_stop();
    check("long.left_again", 0, read_cr0() >> 31);
}
