/* Page faults of every kind: what CR2 and the error code say about each (AMD APM vol. 2, section 8.4.2). */
#include "faults.h"

#include "console.h"
#include "tables.h"
#include "trap64.h"

enum { PAGE = 4096, VECTOR_PF = 14, VECTOR_GP = 13, VECTOR_DONE = 0x80, RFLAGS_FIXED = 2 };
enum { DATA, ABSENT, READ_ONLY, NO_EXECUTE, SUPERVISOR, USER_CODE, USER_STACK }; /* pages of the window */

#define CR0_WP (1ull << 16)

static uint8_t data_page[PAGE] __attribute__((aligned(4096))) = { 0xC3 }; /* RET */
static uint8_t user_stack[PAGE] __attribute__((aligned(4096)));
extern const char user_page[], user_read[], user_write[];

static uint64_t at(unsigned page)
{
    return WINDOW + page * PAGE;
}

static void read(uint64_t address) { (void)*(volatile uint8_t *)address; }
static void write(uint64_t address) { *(volatile uint8_t *)address = 0xC3; }
static void execute(uint64_t address) { ((void (*)(void))address)(); }

static void in_ring3(uint64_t which)
{
    /* RDI is the page that the code in `user_page` touches. */
    uint64_t code = at(USER_CODE) + (which & 1 ? user_write - user_page : user_read - user_page);
    run_in_ring3(code, at(USER_STACK) + PAGE, which & ~1ull, RFLAGS_FIXED);
}

static void describe(uint64_t code)
{
    say("%s, %s, %s", code & PF_PRESENT ? "protection" : "not present",
        code & PF_FETCH ? "fetch" : code & PF_WRITE ? "write" : "read",
        code & PF_USER ? "user" : "supervisor");
}

static void attempt(const char *words, void (*action)(uint64_t), uint64_t argument)
{
    say("%s: ", words);
    if (!trapped(action, argument) || last_trap.vector == VECTOR_DONE) {
        say("no fault\n");
    } else if (last_trap.vector == VECTOR_PF) {
        say("#PF, CR2 = %l, error code 0x%02x (", last_trap.cr2, (uint32_t)last_trap.error_code);
        describe(last_trap.error_code);
        say(")\n");
    } else if (last_trap.vector == VECTOR_GP) {
        say("#GP, error code 0x%02x\n", (uint32_t)last_trap.error_code);
    } else {
        trap_unexpected(&last_trap);
    }
}

static void map_pages(void)
{
    map_window(DATA, data_page, PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_NO_EXECUTE);
    map_window(ABSENT, data_page, 0);
    map_window(READ_ONLY, data_page, PTE_PRESENT | PTE_USER);
    map_window(NO_EXECUTE, data_page, PTE_PRESENT | PTE_NO_EXECUTE);
    map_window(SUPERVISOR, data_page, PTE_PRESENT | PTE_WRITABLE);
    map_window(USER_CODE, user_page, PTE_PRESENT | PTE_USER);
    map_window(USER_STACK, user_stack, PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_NO_EXECUTE);
}

static void set_write_protect(int on)
{
    uint64_t cr0;
    __asm__ volatile("mov %0, cr0" : "=r"(cr0));
    cr0 = on ? cr0 | CR0_WP : cr0 & ~CR0_WP;
    __asm__ volatile("mov cr0, %0" : : "r"(cr0));
}

static void show_accessed_and_dirty(void)
{
    volatile uint64_t *entry = window_entry(DATA);
    map_window(DATA, data_page, PTE_PRESENT | PTE_WRITABLE);
    say("a fresh entry:  A=%u D=%u\n", !!(*entry & PTE_ACCESSED), !!(*entry & PTE_DIRTY));
    read(at(DATA));
    say("after a read:   A=%u D=%u\n", !!(*entry & PTE_ACCESSED), !!(*entry & PTE_DIRTY));
    write(at(DATA));
    say("after a write:  A=%u D=%u\n", !!(*entry & PTE_ACCESSED), !!(*entry & PTE_DIRTY));
}

void show_faults(void)
{
    map_pages();
    say("\nring 0\n");
    attempt("  read a page that is there", read, at(READ_ONLY));
    attempt("  read an absent page", read, at(ABSENT));
    attempt("  write an absent page", write, at(ABSENT) + 0x123);
    attempt("  write a read-only page, CR0.WP = 1", write, at(READ_ONLY));
    set_write_protect(0);
    attempt("  write a read-only page, CR0.WP = 0", write, at(READ_ONLY));
    set_write_protect(1);
    attempt("  execute a page", execute, at(READ_ONLY));
    attempt("  execute a page marked NX", execute, at(NO_EXECUTE));
    attempt("  follow a null pointer", read, 0);
    attempt("  read an address that is not canonical", read, 0x0000800000000000);
    say("ring 3\n");
    attempt("  read a user page", in_ring3, at(READ_ONLY));
    attempt("  read a supervisor page", in_ring3, at(SUPERVISOR));
    attempt("  write a supervisor page", in_ring3, at(SUPERVISOR) | 1);
    attempt("  write a read-only user page", in_ring3, at(READ_ONLY) | 1);
    attempt("  read an absent page", in_ring3, at(ABSENT));
    say("\n");
    show_accessed_and_dirty();
}
