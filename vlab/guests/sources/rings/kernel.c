/* rings: who may do what. Ring 0 sets up the tables and drops to ring 3; ring 3 tries what it may not do,
 * and asks for what it may. Each change of ring is one line on the serial console.
 *
 * Ring 0 keeps clear of the instructions that read privileged state without a trap (PUSHF, MOV from CS...),
 * so this guest prints the same under every monitor: what it knows of rings, it knows from the frames that
 * the processor pushes. */
#include "kernel.h"

#include "console.h"
#include "port.h"
#include "segments.h"

enum {
    PIC_MASTER_MASK = 0x21,
    PIC_SLAVE_MASK = 0xA1,
    CPUID_EDX_SEP = 1 << 11,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    EFLAGS_ALWAYS_ONE = 1 << 1,
    EFLAGS_IF = 1 << 9,
};

static unsigned inward, outward, refusals;

static void returning(const char *how, uint32_t eip)
{
    outward++;
    say("ring 0 -> ring 3  %s to %08x\n", how, eip);
}

static void refuse(struct frame *frame)
{
    refusals++;
    say("ring 3 -> ring 0  #GP, error code 0x%x, at %08x: %s is not for ring %u\n", frame->error_code,
        frame->eip, (const char *)user_attempt, frame->cs & 3);
    frame->eip = frame->edi; /* by agreement with `attempt` in user.S: the address behind the instruction */
}

static void serve(uint32_t number, const char *how)
{
    switch (number) {
    case SAY_HELLO:
        say("ring 0            says hello for ring 3, asked through %s\n", how);
        break;
    case FINISH:
        say("rings: done, %u times in, %u times out, %u refusals\n", inward, outward, refusals);
        debug_exit(0);
    default:
        say("rings: FAIL: no system call has the number %u\n", number);
        debug_exit(1);
    }
}

/* Called by every gate. */
void ring0_entered(struct frame *frame)
{
    inward++;
    if (frame->vector == VECTOR_GP && (frame->cs & 3) == 3) {
        refuse(frame);
    } else if (frame->vector == VECTOR_SYSCALL) {
        say("ring 3 -> ring 0  INT 80h, system call %u, returns to %08x, user stack %04x:%08x\n", frame->eax,
            frame->eip, frame->ss, frame->esp);
        serve(frame->eax, "INT 80h");
    } else {
        say("rings: FAIL: vector 0x%x, error code 0x%x at %04x:%08x\n", frame->vector, frame->error_code,
            frame->cs, frame->eip);
        debug_exit(1);
    }
    returning("IRET", frame->eip);
}

/* Called by SYSENTER's entry point. */
void ring0_entered_by_sysenter(uint32_t number, uint32_t return_to)
{
    inward++;
    say("ring 3 -> ring 0  SYSENTER, system call %u, will return to %08x\n", number, return_to);
    serve(number, "SYSENTER");
    returning("SYSEXIT", return_to);
}

static void write_msr(uint32_t msr, uint32_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0));
}

static int set_up_sysenter(void)
{
    uint32_t eax = 1, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (!(edx & CPUID_EDX_SEP))
        return 0;
    write_msr(MSR_SYSENTER_CS, KERNEL_CODE);
    write_msr(MSR_SYSENTER_ESP, (uint32_t)kernel_stack_top);
    write_msr(MSR_SYSENTER_EIP, (uint32_t)sysenter_entry);
    return 1;
}

void kernel_main(void)
{
    console_init();
    out8(PIC_MASTER_MASK, 0xFF); /* no device interrupts here: this guest is about rings */
    out8(PIC_SLAVE_MASK, 0xFF);
    load_tables(kernel_stack_top);
    user_has_sysenter = (uint32_t)set_up_sysenter();
    say("rings: GDT, TSS and IDT are loaded; SYSENTER is %s\n", user_has_sysenter ? "there" : "not there");
    returning("IRET", (uint32_t)ring3_main);
    enter_ring3(ring3_main, user_stack_top, EFLAGS_ALWAYS_ONE | EFLAGS_IF);
}
