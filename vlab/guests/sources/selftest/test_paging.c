/* Legacy paging: two levels with 4 KiB and 4 MiB pages, then three with no-execute (APM2 5.1-5.2, 5.6,
 * 8.4.2). */
#include "paging.h"

#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"

enum { DF = 8, PF = 14 };
enum { P = 1, W = 2, U = 4, RSVD = 8, I = 16 }; /* error code */
enum { CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21 };
#define CR0_PG (1u << 31)
#define CR0_WP (1u << 16)

/* Pages of the window: what is done with each. */
enum { ABSENT, KERNEL_RW, KERNEL_RO, USER_RW, USER_RO, CROSSING, BEHIND, IDT_FIRST, IDT_SECOND, HIDDEN_STACK,
    NX_PAGE };

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t window[1024] __attribute__((aligned(4096)));
static uint64_t pae_pointers[4] __attribute__((aligned(32)));
static uint64_t pae_directories[4][512] __attribute__((aligned(4096)));
static uint64_t pae_window[512] __attribute__((aligned(4096)));
static uint8_t frame[3][PAGE] __attribute__((aligned(4096))) = { { 0xC3 } }; /* RET */

static uint32_t at(unsigned page)
{
    return WINDOW + page * PAGE;
}

#define READ_CR(n) ({ uint32_t v_; __asm__ volatile("mov %0, cr" #n : "=r"(v_)); v_; })
#define WRITE_CR(n, value) __asm__ volatile("mov cr" #n ", %0" : : "r"(value) : "memory")

static void map(unsigned page, const void *where, uint32_t flags)
{
    window[page] = (uint32_t)where | flags;
    __asm__ volatile("invlpg [%0]" : : "r"(at(page)) : "memory");
}

static void switch_on(void)
{
    for (uint32_t i = 0; i < 4; i++)
        directory[i] = i << 22 | PTE_ALL | PTE_LARGE;
    directory[WINDOW >> 22] = (uint32_t)window | PTE_ALL;
    WRITE_CR(4, READ_CR(4) | CR4_PSE);
    WRITE_CR(3, directory);
    WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
    main_task.cr3 = other_task.cr3 = fault_task.cr3 = (uint32_t)directory;
}

static void switch_off(void)
{
    WRITE_CR(0, READ_CR(0) & ~CR0_PG);
    WRITE_CR(3, 0);
}

static void check_fault(const char *name, uint32_t vector, uint32_t error_code, uint32_t address,
    const void *eip)
{
    begin_check(name);
    check_part("vector", PF, vector);
    check_part("error_code", error_code, last_trap.frame.error_code);
    check_part("cr2", address, last_trap.cr2);
    check_part("eip", (uint32_t)eip, last_trap.frame.eip);
    end_check();
}

static void faults(void)
{
    map(KERNEL_RW, frame[0], PTE_PRESENT | PTE_WRITABLE);
    map(KERNEL_RO, frame[0], PTE_PRESENT);
    map(USER_RW, frame[0], PTE_ALL);
    map(USER_RO, frame[0], PTE_PRESENT | PTE_USER);
    check_fault("paging.read_absent", ring0(action_read, at(ABSENT) + 5), 0, at(ABSENT) + 5, at_read);
    check_fault("paging.write_absent", ring0(action_write, at(ABSENT)), W, at(ABSENT), at_write);
    check_fault("paging.ring3_read_absent", ring3(action_read, at(ABSENT), 0), U, at(ABSENT), at_read);
    check_fault("paging.write_protected", ring0(action_write, at(KERNEL_RO)), P | W, at(KERNEL_RO), at_write);
    WRITE_CR(0, READ_CR(0) & ~CR0_WP);
    check("paging.write_without_wp", NO_TRAP, ring0(action_write, at(KERNEL_RO)));
    check_fault("paging.ring3_write_without_wp", ring3(action_write, at(USER_RO), 0), P | W | U, at(USER_RO),
        at_write);
    WRITE_CR(0, READ_CR(0) | CR0_WP);
    check_fault("paging.write_with_wp_again", ring0(action_write, at(KERNEL_RO)), P | W, at(KERNEL_RO),
        at_write);
    check_fault("paging.ring3_read_kernel", ring3(action_read, at(KERNEL_RW), 0), P | U, at(KERNEL_RW),
        at_read);
    check_fault("paging.ring3_write_kernel", ring3(action_write, at(KERNEL_RW), 0), P | W | U, at(KERNEL_RW),
        at_write);
    check_fault("paging.ring3_execute_kernel", ring3(action_call, at(KERNEL_RW), 0), P | U, at(KERNEL_RW),
                (void *)at(KERNEL_RW));
    check("paging.ring3_read", VECTOR_DONE, ring3(action_read, at(USER_RO), 0));
    check("paging.ring3_write", VECTOR_DONE, ring3(action_write, at(USER_RW), 0));
    directory[WINDOW >> 22] &= ~(uint32_t)PTE_USER;
    WRITE_CR(3, READ_CR(3));
    check_fault("paging.ring3_directory_counts", ring3(action_read, at(USER_RW), 0), P | U, at(USER_RW),
        at_read);
    directory[WINDOW >> 22] = ((uint32_t)window | PTE_ALL) & ~(uint32_t)PTE_WRITABLE;
    WRITE_CR(3, READ_CR(3));
    check_fault("paging.directory_write_protects", ring0(action_write, at(USER_RW)), P | W, at(USER_RW),
        at_write);
    directory[WINDOW >> 22] = (uint32_t)window | PTE_ALL;
    WRITE_CR(3, READ_CR(3));
}

static uint32_t accessed_dirty(uint32_t entry)
{
    return entry & (PTE_ACCESSED | PTE_DIRTY);
}

static void accessed_and_dirty(void)
{
    frame[0][0] = 0xC3;
    map(USER_RW, frame[0], PTE_ALL);
    directory[WINDOW >> 22] &= ~(uint32_t)PTE_ACCESSED;
    WRITE_CR(3, READ_CR(3));
    check("paging.fresh_entry", 0, accessed_dirty(window[USER_RW]));
    ring0(action_read, at(USER_RW));
    check("paging.read_sets_accessed", PTE_ACCESSED, accessed_dirty(window[USER_RW]));
    check("paging.directory_accessed", PTE_ACCESSED, directory[WINDOW >> 22] & PTE_ACCESSED);
    ring0(action_write, at(USER_RW));
    check("paging.write_sets_dirty", PTE_ACCESSED | PTE_DIRTY, accessed_dirty(window[USER_RW]));
    map(KERNEL_RO, frame[0], PTE_PRESENT);
    ring0(action_write, at(KERNEL_RO));
    check("paging.refused_write_is_not_dirty", 0, window[KERNEL_RO] & PTE_DIRTY);
    directory[3] &= ~(uint32_t)(PTE_ACCESSED | PTE_DIRTY);
    WRITE_CR(3, READ_CR(3));
    ring0(action_read, 3u << 22);
    check("paging.large_page_accessed", PTE_ACCESSED, accessed_dirty(directory[3]));
    ring0(action_write, 3u << 22);
    check("paging.large_page_dirty", PTE_ACCESSED | PTE_DIRTY, accessed_dirty(directory[3]));
}

static void stale_translations(void)
{
    frame[0][8] = 1;
    frame[1][8] = 2;
    map(USER_RW, frame[0], PTE_ALL);
    volatile uint8_t *byte = (volatile uint8_t *)(at(USER_RW) + 8);
    uint8_t before = *byte;
    map(USER_RW, frame[1], PTE_ALL); /* with INVLPG */
    check("paging.invlpg", 0x12, before << 4 | *byte);
    window[USER_RW] = (uint32_t)frame[0] | PTE_ALL;
    WRITE_CR(3, READ_CR(3));
    check("paging.cr3_write_flushes", 1, *byte);
}

static void on_absent(struct frame32 *f)
{
    (void)f;
    map(BEHIND, frame[1], PTE_ALL);
}

/* A string instruction that reaches an absent page stops there, and goes on when it is present. */
static void crossing(void)
{
    static uint8_t from[64];
    uint8_t *end, *start = (uint8_t *)(at(CROSSING) + PAGE - 32);
    uint32_t left;
    map(CROSSING, frame[0], PTE_ALL);
    map(BEHIND, frame[1], 0);
    for (unsigned i = 0; i < 64; i++)
        from[i] = (uint8_t)(i + 100);
    trap_set_handler(PF, on_absent);
    __asm__ volatile("rep movsb" : "=D"(end), "=c"(left) : "D"(start), "S"(from), "c"(64) : "memory");
    trap_set_handler(PF, 0);
    begin_check("paging.rep_movs_resumes");
    check_part("edi", (uint32_t)start + 64, (uint32_t)end);
    check_part("ecx", 0, left);
    check_part("first_page", 100 + 31, frame[0][PAGE - 1]);
    check_part("second_page", 100 + 32, frame[1][0]);
    check_part("last", 100 + 63, frame[1][31]);
    end_check();

    map(BEHIND, frame[1], 0);
    frame[0][PAGE - 1] = 0x55;
    check_fault("paging.write_across_into_absent", ring0(action_write_word, at(BEHIND) - 1), W, at(BEHIND),
        at_write_word);
    check("paging.nothing_half_written", 0x55, frame[0][PAGE - 1]);
}

/* The IDT itself may be absent: the processor reads it as the supervisor, whoever is running. */
static void fault_in_delivery(void)
{
    enum { IN_FIRST = 64 * 8 }; /* the table lies across two pages: vectors 40 and up are in the absent one */
    uint32_t table = at(IDT_FIRST) + PAGE - IN_FIRST;
    __builtin_memcpy(frame[0] + PAGE - IN_FIRST, idt, IN_FIRST);
    map(IDT_FIRST, frame[0], PTE_PRESENT | PTE_WRITABLE);
    map(IDT_SECOND, frame[1], 0);
    load_idt(table, sizeof idt - 1);
    uint32_t vector = ring3(action_int_user, 0, 0);
    load_usual_idt();
    check_fault("paging.gate_absent", vector, 0, table + 8 * VECTOR_USER, at_int_user);
}

static void double_fault(void)
{
    set_gate(DF, FAULT_TASK, 0, TASK_GATE);
    map(HIDDEN_STACK, frame[2], 0);
    resume_eip = (uint32_t)after_lose_stack;
    check("paging.stack_absent", NO_TRAP, ring0(action_lose_stack, at(HIDDEN_STACK) + 64));
    begin_check("paging.stack_absent_double_fault");
    check_part("eip", (uint32_t)at_lose_stack, fault_eip);
    check_part("cr2", at(HIDDEN_STACK) + 60, READ_CR(2));
    end_check();
    set_trap_gate(DF, INTERRUPT_GATE_32);
}

static void write_efer_nxe(bool on)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xC0000080));
    low = on ? low | 1 << 11 : low & ~(1u << 11);
    __asm__ volatile("wrmsr" : : "a"(low), "d"(high), "c"(0xC0000080));
}

static uint32_t cpuid_edx(uint32_t leaf)
{
    uint32_t eax = leaf, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return edx;
}

/* Three levels and 64-bit entries; the window is at the same address. */
static void physical_address_extension(void)
{
    enum { PAE_FEATURE = 1 << 6, NX_FEATURE = 1 << 20 };
    if (!(cpuid_edx(1) & PAE_FEATURE) || !(cpuid_edx(0x80000001) & NX_FEATURE) || !wanted("pae"))
        return;
    for (unsigned i = 0; i < 4; i++)
        pae_pointers[i] = (uint32_t)pae_directories[i] | PTE_PRESENT;
    for (uint32_t i = 0; i < 8; i++)
        pae_directories[0][i] = i << 21 | PTE_ALL | PTE_LARGE;
    pae_directories[WINDOW >> 30][0] = (uint32_t)pae_window | PTE_ALL;
    pae_window[USER_RW] = (uint32_t)frame[0] | PTE_ALL;
    pae_window[NX_PAGE] = (uint32_t)frame[0] | PTE_ALL | 1ull << 63;
    pae_window[KERNEL_RO] = (uint32_t)frame[0] | PTE_PRESENT | 1ull << 51;
    frame[0][0] = 0xC3;
    write_efer_nxe(true);
    WRITE_CR(4, READ_CR(4) | CR4_PAE);
    WRITE_CR(3, pae_pointers);
    WRITE_CR(0, READ_CR(0) | CR0_PG | CR0_WP);
    check("pae.execute", NO_TRAP, ring0(action_call, at(USER_RW)));
    check("pae.accessed", PTE_ACCESSED, (uint32_t)pae_window[USER_RW] & (PTE_ACCESSED | PTE_DIRTY));
    check_fault("pae.absent", ring0(action_write, at(ABSENT)), W, at(ABSENT), at_write);
    check_fault("pae.no_execute", ring0(action_call, at(NX_PAGE)), P | I, at(NX_PAGE), (void *)at(NX_PAGE));
    check_fault("pae.ring3_no_execute", ring3(action_call, at(NX_PAGE), 0), P | U | I, at(NX_PAGE),
        (void *)at(NX_PAGE));
    check("pae.no_execute_can_be_read", NO_TRAP, ring0(action_read, at(NX_PAGE)));
    check_fault("pae.reserved_bit", ring0(action_read, at(KERNEL_RO)), P | RSVD, at(KERNEL_RO), at_read);
    switch_off();
    WRITE_CR(4, READ_CR(4) & ~(uint32_t)CR4_PAE);
    write_efer_nxe(false);
}

static uint32_t features_7(void)
{
    uint32_t highest = 0, eax = 7, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(highest), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (highest < 7)
        return 0;
    ecx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx;
}

/* Supervisor mode execution and access prevention, where the processor has them. */
static void supervisor_prevention(void)
{
    uint32_t features = features_7();
    map(USER_RW, frame[0], PTE_ALL);
    directory[0] &= ~(uint32_t)PTE_USER; /* our own code would be a user page */
    WRITE_CR(3, READ_CR(3));
    if (features >> 7 & 1) {
        WRITE_CR(4, READ_CR(4) | CR4_SMEP);
        check_fault("paging.smep", ring0(action_call, at(USER_RW)), P | I, at(USER_RW), (void *)at(USER_RW));
        WRITE_CR(4, READ_CR(4) & ~(uint32_t)CR4_SMEP);
    }
    if (features >> 20 & 1) {
        WRITE_CR(4, READ_CR(4) | CR4_SMAP);
        check_fault("paging.smap", ring0(action_read, at(USER_RW)), P, at(USER_RW), at_read);
        check("paging.smap_with_ac", NO_TRAP, ring0(action_read_with_ac, at(USER_RW)));
        WRITE_CR(4, READ_CR(4) & ~(uint32_t)CR4_SMAP);
    }
    directory[0] |= PTE_USER;
    WRITE_CR(3, READ_CR(3));
}

void test_paging(void)
{
    switch_on();
    faults();
    accessed_and_dirty();
    stale_translations();
    crossing();
    fault_in_delivery();
    double_fault();
    supervisor_prevention();
    switch_off();
    physical_address_extension();
}
