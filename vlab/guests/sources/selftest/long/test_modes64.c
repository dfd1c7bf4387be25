/* Compatibility mode: 32-bit code in long mode, interrupted through 64-bit gates; and the state of the
 * mode itself. */
#include "actions64.h"
#include "segments64.h"

enum { EFER = 0xC0000080, EFER_LME_LMA = 1 << 8 | 1 << 10 };

/* The handler needs to do nothing: IRETQ finds its way back to 32-bit code. */
static void go_on(struct frame64 *frame)
{
    (void)frame;
}

void test_compatibility64(void)
{
    check_trap("long.compatibility.ring3", ring3(action_enter_32, USER_CODE_32, IF), VECTOR_USER, 0,
        after_enter_32);
    begin_check("long.compatibility.ring3_frame");
    check_part("cs", USER_CODE_32, last_trap.cs);
    check_part("ss", USER_DATA, last_trap.ss);
    check_part("stack", (uint64_t)ring0_stack_top, last_trap.frame_end);
    check_part("handler_cs", KERNEL_CODE, last_trap.handler_cs & 0xFFFF);
    end_check();
    check_trap("long.compatibility.ring0", ring0(action_enter_32, KERNEL_CODE_32), VECTOR_USER, 0,
        after_enter_32);
    check("long.compatibility.ring0_cs", KERNEL_CODE_32, last_trap.cs);
    trap_set_handler(VECTOR_USER, go_on);
    uint64_t vector = ring3(action_enter_32, USER_CODE_32, 0);
    trap_set_handler(VECTOR_USER, 0);
    check_trap("long.compatibility.returns", vector, VECTOR_DONE, 0, after_enter_32_ring0);
    check("long.compatibility.still_32_bits", USER_CODE_32, last_trap.cs);
}

static volatile uint32_t ticks;

static void on_timer(struct frame64 *frame)
{
    (void)frame;
    ticks++;
    __asm__ volatile("out 0x20, al" : : "a"((uint8_t)0x20));
}

static void out(uint16_t port, uint8_t value)
{
    __asm__ volatile("out %1, %0" : : "a"(value), "d"(port));
}

/* The 32-bit half has set up the interrupt controllers; here is one tick. */
static void start_timer(void)
{
    out(0x43, 0x30);
    out(0x21, 0xFE); /* (only now: a request that is withdrawn would become a spurious one) */
    out(0x40, 0xA9);
    out(0x40, 0x04);
}

static void interrupts(void)
{
    trap_set_handler(IRQ_BASE, on_timer);
    start_timer();
    __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
    check("long.irq.wakes_hlt", 1, ticks);
    trap_set_handler(IRQ_BASE, 0);
    start_timer();
    check_trap("long.irq.in_ring_3", ring3(action_spin, 0, IF), IRQ_BASE, 0, at_spin);
    check("long.irq.in_ring_3_stack", (uint64_t)ring0_stack_top, last_trap.frame_end);
    out(0x20, 0x20);
    out(0x21, 0xFF);
}

void test_state64(void)
{
    uint32_t low, high;
    uint64_t cr8;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(EFER));
    check("long.efer", EFER_LME_LMA, low & EFER_LME_LMA);
    __asm__ volatile("mov cr8, %0" : : "r"(5ull));
    __asm__ volatile("mov %0, cr8" : "=r"(cr8));
    check("long.cr8", 5, cr8);
    __asm__ volatile("mov cr8, %0" : : "r"(0ull));
    interrupts();
}
