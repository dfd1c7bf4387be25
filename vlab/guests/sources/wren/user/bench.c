/* bench: does one thing many times, between two lines that say so; whoever measures looks at what happens between.
 *     bench syscall     the shortest system call
 *     bench pgfault     a first touch of a page of the heap
 *     bench in, cr, callret, divzero, ptemod     in the kernel (../bench.c)
 * A second argument says how many times. */
#include "user.h"

enum { PAGE = 4096, CHUNK = 256 };

static const struct {
    const char *name;
    int what;
} in_kernel[] = {
    { "in", BENCH_IN },
    { "cr", BENCH_CR },
    { "callret", BENCH_CALL },
    { "divzero", BENCH_DIVIDE },
    { "ptemod", BENCH_ENTRY },
};

static int call_system(int count)
{
    while (count--)
        getpid();
    return 0;
}

/* In chunks, which are given back, so that no count needs more memory than there is. */
static int touch_pages(int count)
{
    for (int done = 0, size; done < count; done += size) {
        size = count - done < CHUNK ? count - done : CHUNK;
        char *start = sbrk(size * PAGE);
        for (int i = 0; i < size; i++)
            start[i * PAGE] = 1;
        sbrk(-size * PAGE);
    }
    return 0;
}

static int call_kernel(const char *name, int count)
{
    static char page[PAGE] __attribute__((aligned(PAGE)));
    page[0] = 1;
    for (unsigned i = 0; i < sizeof in_kernel / sizeof *in_kernel; i++)
        if (equal(name, in_kernel[i].name))
            return syscall(SYS_BENCH, in_kernel[i].what, count & ~1, page); /* even: the page is as it was then */
    return E_MISSING;
}

int main(int count, char **arguments)
{
    const char *name = count > 1 ? arguments[1] : "";
    int rounds = count > 2 ? number(arguments[2]) : 1000, result;
    printf("bench %s: begin\n", name);
    if (equal(name, "syscall"))
        result = call_system(rounds);
    else if (equal(name, "pgfault"))
        result = touch_pages(rounds);
    else
        result = call_kernel(name, rounds);
    printf("bench %s: %s\n", name, result < 0 ? "failed" : "end");
    return result < 0;
}
