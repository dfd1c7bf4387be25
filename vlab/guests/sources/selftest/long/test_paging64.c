/* Four-level paging (APM2 5.3): the faults that the 32-bit half cannot have, large pages, and the double
 * fault. */
#include "actions64.h"
#include "segments64.h"

#define WINDOW 0xFFFF800000000000ull
#define GIANT 0xFFFF808000000000ull
#define NO_EXECUTE (1ull << 63)
#define RESERVED_BIT (1ull << 51)

enum { PRESENT = 1, WRITABLE = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80, ALL = 7,
    PAGE = 4096 };
enum { ABSENT, NX_PAGE, RESERVED, PLAIN, SUPERVISOR }; /* pages of the window */
enum { DF = 8, PF = 14 };

extern uint64_t pml4[512];
static uint64_t window_pdpt[512] __attribute__((aligned(4096)));
static uint64_t window_directory[512] __attribute__((aligned(4096)));
static uint64_t window_pages[512] __attribute__((aligned(4096)));
static uint64_t giant_pdpt[512] __attribute__((aligned(4096)));
static uint8_t frame[PAGE] __attribute__((aligned(4096))) = { 0xC3 }; /* RET */

static uint64_t at(unsigned page)
{
    return WINDOW + page * PAGE;
}

static void reload(void)
{
    uint64_t cr3;
    __asm__ volatile("mov %0, cr3\n\tmov cr3, %0" : "=r"(cr3) : : "memory");
}

static void check_fault(const char *name, uint64_t vector, uint64_t error_code, uint64_t address)
{
    begin_check(name);
    check_part("vector", PF, vector);
    check_part("error_code", error_code, last_trap.error_code);
    check_part("cr2", address, last_trap.cr2);
    end_check();
}

static void build(void)
{
    pml4[256] = (uint64_t)window_pdpt | ALL;
    window_pdpt[0] = (uint64_t)window_directory | ALL;
    window_directory[0] = (uint64_t)window_pages | ALL;
    window_directory[1] = 0x200000 | ALL | LARGE | NO_EXECUTE; /* a 2 MiB page behind the window */
    window_pages[NX_PAGE] = (uint64_t)frame | ALL | NO_EXECUTE;
    window_pages[RESERVED] = (uint64_t)frame | ALL | RESERVED_BIT;
    window_pages[PLAIN] = (uint64_t)frame | ALL;
    window_pages[SUPERVISOR] = (uint64_t)frame | PRESENT | WRITABLE;
    reload();
}

static void faults(void)
{
    check_fault("long.paging.absent", ring0(action_write, at(ABSENT) + 8), PF_WRITE, at(ABSENT) + 8);
    check_fault("long.paging.no_execute", ring0(action_call, at(NX_PAGE)), PF_PRESENT | PF_FETCH,
        at(NX_PAGE));
    check_fault("long.paging.ring3_no_execute", ring3(action_call, at(NX_PAGE), 0),
        PF_PRESENT | PF_FETCH | PF_USER,
                at(NX_PAGE));
    check_fault("long.paging.ring3_supervisor", ring3(action_read, at(SUPERVISOR), 0), PF_PRESENT | PF_USER,
        at(SUPERVISOR));
    check_fault("long.paging.reserved_bit", ring0(action_read, at(RESERVED)), PF_PRESENT | PF_RESERVED,
        at(RESERVED));
    check("long.paging.execute", NO_TRAP, ring0(action_call, at(PLAIN)));
    window_directory[0] |= NO_EXECUTE;
    reload();
    check_fault("long.paging.no_execute_above", ring0(action_call, at(PLAIN)), PF_PRESENT | PF_FETCH,
        at(PLAIN));
    window_directory[0] &= ~NO_EXECUTE;
    pml4[256] &= ~(uint64_t)USER;
    reload();
    check_fault("long.paging.supervisor_above", ring3(action_read, at(PLAIN), 0), PF_PRESENT | PF_USER,
        at(PLAIN));
    pml4[256] |= USER;
    reload();
}

static void large_pages(void)
{
    const uint64_t address = WINDOW + 0x200000;
    check("long.paging.large_fresh", 0, window_directory[1] & (ACCESSED | DIRTY));
    check("long.paging.large_read", *(volatile uint8_t *)0x234567, *(volatile uint8_t *)(address + 0x34567));
    check("long.paging.large_accessed", ACCESSED, window_directory[1] & (ACCESSED | DIRTY));
    check_fault("long.paging.large_no_execute", ring0(action_call, address), PF_PRESENT | PF_FETCH, address);
    uint32_t eax = 0x80000001, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (!(edx >> 26 & 1))
        return;
    pml4[257] = (uint64_t)giant_pdpt | ALL;
    giant_pdpt[0] = ALL | LARGE;
    reload();
    frame[100] = 0x77;
    check("long.paging.giant_read", 0x77, *(volatile uint8_t *)(GIANT + (uint64_t)frame + 100));
    check("long.paging.giant_accessed", ACCESSED, giant_pdpt[0] & (ACCESSED | DIRTY));
}

/* No stack for the page fault: its delivery faults again, and #DF has a stack of its own. */
static void lost_stack(void)
{
    trap_set_gate(DF, GATE_INTERRUPT, 1);
    check_trap("long.paging.lost_stack", ring0(action_lose_stack, at(ABSENT) + 64), DF, 0, at_lose_stack);
    check("long.paging.lost_stack_cr2", at(ABSENT) + 56, last_trap.cr2);
    trap_set_gate(PF, GATE_INTERRUPT, 1);
    check_fault("long.paging.lost_stack_with_ist", ring0(action_lose_stack, at(ABSENT) + 64), PF_WRITE,
        at(ABSENT) + 56);
    trap_set_gate(PF, GATE_INTERRUPT, 0);
}

void test_paging64(void)
{
    build();
    faults();
    large_pages();
    lost_stack();
}
