/* Protection: what a program may not do ends it, and with the right exception; what it may not ask for is refused. */
#include "selftest.h"

enum { DIVIDE = 0, INVALID_OPCODE = 6, NO_DEVICE = 7, GENERAL = 13, PAGE_FAULT = 14 };

#define ATTEMPT(name, instructions) \
    static int name(void)           \
    {                               \
        __asm__ volatile(instructions : : : "eax", "edx", "memory"); \
        return 1;                   \
    }

ATTEMPT(read_null, "mov eax, ds:[0]")
ATTEMPT(write_code, "mov byte ptr ds:[0x400100], 0")
ATTEMPT(read_kernel, "mov eax, ds:[0xC0100000]")
ATTEMPT(write_kernel, "mov byte ptr ds:[0xC0100000], 0")
ATTEMPT(jump_into_kernel, "mov eax, 0xC010000C\n\tjmp eax")
ATTEMPT(divide_by_zero, "xor eax, eax\n\tcdq\n\tdiv eax")
ATTEMPT(undefined, "ud2")
ATTEMPT(floating, "fninit")
ATTEMPT(disable_interrupts, "cli")
ATTEMPT(halt, "hlt")
ATTEMPT(read_cr0, "mov eax, cr0")
ATTEMPT(write_cr3, "xor eax, eax\n\tmov cr3, eax")
ATTEMPT(flush, "invlpg ds:[0]")
ATTEMPT(load_idt, "lidt ds:[0x400000]")
ATTEMPT(read_port, "in al, 0x21")
ATTEMPT(write_port, "mov dx, 0xF4\n\tmov al, 0\n\tout dx, al")
ATTEMPT(fake_timer, "int 0x20")
ATTEMPT(fake_page_fault, "int 14")
ATTEMPT(missing_gate, "int 0x81")
ATTEMPT(kernel_segment, "mov eax, 0x10\n\tmov ds, eax")

static const struct {
    const char *what;
    int (*attempt)(void);
    int vector;
} attempts[] = {
    { "read_null", read_null, PAGE_FAULT },
    { "write_code", write_code, PAGE_FAULT },
    { "read_kernel", read_kernel, PAGE_FAULT },
    { "write_kernel", write_kernel, PAGE_FAULT },
    { "jump_into_kernel", jump_into_kernel, PAGE_FAULT },
    { "divide_by_zero", divide_by_zero, DIVIDE },
    { "undefined", undefined, INVALID_OPCODE },
    { "floating", floating, NO_DEVICE },
    { "disable_interrupts", disable_interrupts, GENERAL },
    { "halt", halt, GENERAL },
    { "read_cr0", read_cr0, GENERAL },
    { "write_cr3", write_cr3, GENERAL },
    { "flush", flush, GENERAL },
    { "load_idt", load_idt, GENERAL },
    { "read_port", read_port, GENERAL },
    { "write_port", write_port, GENERAL },
    { "fake_timer", fake_timer, GENERAL },
    { "fake_page_fault", fake_page_fault, GENERAL },
    { "missing_gate", missing_gate, GENERAL },
    { "kernel_segment", kernel_segment, GENERAL },
};

/* Try all attempts on vectors from `first` to `last`, each in a child. */
static bool attempts_end(int first, int last)
{
    bool right = true;
    for (unsigned i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        if (attempts[i].vector < first || attempts[i].vector > last)
            continue;
        int status = child_status(attempts[i].attempt);
        if (status != STATUS_FAULT + attempts[i].vector) {
            printf("%s ends with status %d\n", attempts[i].what, status);
            right = false;
        }
    }
    return right;
}

static bool other_memory_is_out_of_reach(void) { return attempts_end(PAGE_FAULT, PAGE_FAULT); }
static bool privileged_instructions_are_refused(void) { return attempts_end(GENERAL, GENERAL); }
static bool wrong_instructions_are_noticed(void) { return attempts_end(DIVIDE, NO_DEVICE); }

/* POPF in ring 3 does not fault, and leaves IF and IOPL as they are (SDM2, POPF). */
static bool popf_keeps_interrupts_on(void)
{
    unsigned flags;
    __asm__ volatile("pushfd\n\t"
                     "and dword ptr [esp], ~0x200\n\t"
                     "or dword ptr [esp], 0x3000\n\t"
                     "popfd\n\t"
                     "pushfd\n\t"
                     "pop %0" : "=r"(flags) : : "cc");
    return (flags & 0x3200) == 0x200;
}

static bool bad_addresses_are_refused(void)
{
    int ends[2];
    char *kernel = (char *)0xC0100000, *code = (char *)0x400100, *nothing = (char *)0x3FFFF0;
    int file = open("welcome", OPEN_READ);
    pipe(ends);
    bool right = write(1, kernel, 4) == E_FAULT && write(1, nothing, 4) == E_FAULT
        && write(1, (char *)0xBFFFFFF0, 0x100) == E_FAULT && write(ends[1], (char *)-4, 8) == E_FAULT
        && read(file, kernel, 4) == E_FAULT && read(file, code, 4) == E_FAULT && read(file, nothing, 4) == E_FAULT
        && open(kernel, OPEN_READ) == E_FAULT
        && file_info(0, (struct file_info *)kernel) == E_FAULT && process_info(0, (void *)code) == E_FAULT;
    close(file);
    close(ends[0]);
    close(ends[1]);
    int pid = fork();
    if (pid == 0)
        exit(0);
    return wait((int *)kernel) == E_FAULT && right;
}

/* A buffer whose second page is not there: the first part may arrive, but nothing worse may happen. */
static int read_over_the_edge(void)
{
    char *end = sbrk(4096) + 4096;
    int file = open("welcome", OPEN_READ);
    return read(file, end - 4, 40) == E_FAULT && write(file, end - 4, 40) == E_READ_ONLY;
}

static bool buffers_end_at_the_edge(void)
{
    return child_status(read_over_the_edge) == 1;
}

const struct test protection_tests[] = {
    { "protection.other_memory_is_out_of_reach", other_memory_is_out_of_reach },
    { "protection.privileged_instructions_are_refused", privileged_instructions_are_refused },
    { "protection.wrong_instructions_are_noticed", wrong_instructions_are_noticed },
    { "protection.popf_keeps_interrupts_on", popf_keeps_interrupts_on },
    { "protection.bad_addresses_are_refused", bad_addresses_are_refused },
    { "protection.buffers_end_at_the_edge", buffers_end_at_the_edge },
    { 0, 0 },
};
