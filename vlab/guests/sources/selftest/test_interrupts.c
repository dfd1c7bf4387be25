/* Device interrupts: the 8254 and the 8259s, and when the processor takes an interrupt (APM2 8.5; 8259A
 * and 8254 data sheets). */
#include "actions.h"
#include "check.h"
#include "console.h"
#include "port.h"
#include "segments.h"
#include "tests.h"
#include "timer.h"
#include "v86.h"

enum { TIMER = 1 << 0, SERIAL = 1 << 4, PATIENCE = 20000000 };

/* irq.S */
void irq_hlt(void), irq_sti_cli(void), irq_sti_nop(void), irq_popf(void);
void irq_rep_movs(void *to, const void *from, uint32_t count);
extern const char irq_after_hlt[], irq_after_nop[], irq_after_popf[], irq_at_rep[];

static volatile uint32_t ticks, serials, last_eip, ticks_in_rep, in_service, order;
static volatile bool keep_in_service;

static void on_timer(struct frame32 *frame)
{
    ticks++;
    last_eip = frame->eip;
    ticks_in_rep += frame->eip == (uint32_t)irq_at_rep;
    in_service = pic_in_service();
    order = order * 16 + 0x1;
    if (!keep_in_service)
        pic_end_of_interrupt();
}

static void on_serial(struct frame32 *frame)
{
    enum { INTERRUPT_ID = 2, INTERRUPT_ENABLE = 1 };
    (void)frame;
    serials++;
    order = order * 16 + 0x4;
    in8(COM1 + INTERRUPT_ID); /* reading it takes the transmitter's request away */
    out8(COM1 + INTERRUPT_ENABLE, 0);
    if (!keep_in_service)
        pic_end_of_interrupt();
}

static bool wait_for_request(uint8_t bit)
{
    for (unsigned patience = PATIENCE / 10; patience; patience--)
        if (pic_requests() & bit)
            return true;
    return false;
}

/* Have the timer request one interrupt, and wait until it has. */
static bool request_one(void)
{
    timer_once(TIMER_FAST);
    return wait_for_request(TIMER);
}

/* Let interrupts in until `count` ticks have come. */
static bool wait_for_ticks(uint32_t count)
{
    ticks = 0;
    __asm__ volatile("sti");
    for (unsigned patience = PATIENCE; ticks < count && patience; patience--)
        __asm__ volatile("" : : : "memory");
    __asm__ volatile("cli");
    return ticks >= count;
}

static void arrival(void)
{
    timer_prepare();
    timer_periodic(TIMER_FAST);
    pic_mask((uint8_t)~TIMER);
    check("irq.timer_arrives", true, wait_for_ticks(3));
    check("irq.in_service_while_handled", TIMER, in_service);
    check("irq.not_in_service_afterwards", 0, pic_in_service());
    timer_prepare(); /* from here on one request at a time */
    pic_mask((uint8_t)~TIMER);
    check("irq.held_back_without_if", true, request_one());
    ticks = 0;
    irq_sti_cli();
    check("irq.sti_delays_one_instruction", 0, ticks);
    irq_sti_nop();
    check("irq.taken_behind_the_delay", 1, ticks);
    check("irq.taken_at", (uint32_t)irq_after_nop, last_eip);
    check("irq.again_requested", true, request_one());
    irq_popf();
    check("irq.popf_delays_nothing", (uint32_t)irq_after_popf, last_eip);
    timer_once(TIMER_FAST);
    irq_hlt();
    check("irq.hlt_wakes", (uint32_t)irq_after_hlt, last_eip);
    request_one();
    last_eip = 0;
    irq_hlt(); /* requested before: STI lets HLT begin, and the interrupt ends it at once */
    check("irq.sti_hlt_loses_nothing", (uint32_t)irq_after_hlt, last_eip);
}

static void masks(void)
{
    pic_mask(0xFF);
    check("irq.masked_is_requested", true, request_one());
    ticks = 0;
    irq_sti_nop();
    check("irq.masked_is_not_taken", 0, ticks);
    pic_mask((uint8_t)~TIMER);
    irq_sti_nop();
    check("irq.unmasked_is_taken", 1, ticks);
}

static void request_serial(void)
{
    enum { INTERRUPT_ENABLE = 1, MODEM_CONTROL = 4, TRANSMITTER_EMPTY = 0x02, OUT2 = 0x0B };
    console_flush();
    out8(COM1 + MODEM_CONTROL, OUT2);
    out8(COM1 + INTERRUPT_ENABLE, 0);
    out8(COM1 + INTERRUPT_ENABLE, TRANSMITTER_EMPTY);
}

static void end_of_interrupt(void)
{
    keep_in_service = true;
    pic_mask((uint8_t) ~(TIMER | SERIAL));
    timer_once(TIMER_FAST);
    check("irq.one_without_eoi", true, wait_for_ticks(1));
    request_serial();
    check("irq.second_is_requested", true, request_one());
    ticks = serials = 0;
    irq_sti_nop();
    irq_sti_nop();
    check("irq.no_second_without_eoi", 0, ticks);
    check("irq.no_lower_one_without_eoi", 0, serials);
    wait_for_request(SERIAL); /* writing the lines above has kept the transmitter busy */
    pic_end_of_interrupt();
    order = 0;
    irq_sti_nop();
    pic_end_of_interrupt();
    irq_sti_nop();
    check("irq.higher_priority_first", 0x14, order);

    pic_mask((uint8_t)~TIMER); /* IRQ 4 is in service now; IRQ 0 comes before it */
    check("irq.higher_one_is_requested", true, request_one());
    ticks = 0;
    irq_sti_nop();
    check("irq.higher_one_is_taken", 1, ticks);
    check("irq.both_in_service", TIMER | SERIAL, pic_in_service());
    pic_end_of_interrupt();
    check("irq.eoi_ends_the_highest", SERIAL, pic_in_service());
    pic_end_of_interrupt();
    keep_in_service = false;
}

static void outer_rings(void)
{
    pic_mask((uint8_t)~TIMER);
    trap_set_handler(IRQ_BASE, 0);
    timer_once(TIMER_FAST);
    check_trap("irq.in_ring_3", ring3(action_spin, 0, IF), IRQ_BASE, 0, at_spin);
    check("irq.in_ring_3_stack", (uint32_t)ring0_stack_top, last_trap.frame_end);
    pic_end_of_interrupt();

    const struct outer where = {
        .eip = (uint32_t)(v86_spin - v86_code), .cs = V86_BASE / 16, .eflags = EFLAGS_FIXED | VM | IF,
        .esp = V86_STACK, .ss = V86_BASE / 16,
    };
    timer_once(TIMER_FAST);
    check_trap("irq.in_virtual_8086", run_outer(&where), IRQ_BASE, 0, (void *)(v86_at_spin - v86_code));
    check("irq.in_virtual_8086_flags", VM | IF, last_trap.frame.eflags & (VM | IF));
    pic_end_of_interrupt();
    trap_set_handler(IRQ_BASE, on_timer);
}

/* A string instruction is interrupted between two elements, with EIP at itself, and goes on. */
static void repeated_instructions(void)
{
    static uint8_t from[65536], to[65536];
    bool same = true;
    ticks_in_rep = 0;
    timer_periodic(TIMER_FAST);
    for (unsigned i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 13 + (i >> 8));
    pic_mask((uint8_t)~TIMER);
    for (unsigned round = 0; round < 2000 && ticks_in_rep < 3; round++) {
        for (unsigned i = 0; i < sizeof to; i += 4096)
            to[i] = 0;
        irq_rep_movs(to, from, sizeof from);
        for (unsigned i = 0; i < sizeof to; i += 4096)
            same &= to[i] == from[i];
    }
    same &= __builtin_memcmp(to, from, sizeof from) == 0;
    check("irq.interrupts_rep_movs", true, ticks_in_rep >= 3);
    check("irq.rep_movs_goes_on", true, same);
}

static void timer_chip(void)
{
    enum { SYSTEM_CONTROL_B = 0x61, GATE_2 = 1, OUT_2 = 0x20, PIT_CONTROL = 0x43, PIT_CHANNEL_2 = 0x42,
        MODE_0 = 0xB0 };
    pic_mask(0xFF);
    timer_once(0xFFFF);
    uint16_t first = timer_count(), second = timer_count();
    for (unsigned patience = PATIENCE; second == first && patience; patience--)
        second = timer_count();
    check("pit.counts_down", true, second != first);

    uint8_t control = in8(SYSTEM_CONTROL_B) & 0x0C;
    out8(SYSTEM_CONTROL_B, control | GATE_2); /* the speaker stays off */
    out8(PIT_CONTROL, MODE_0);
    out8(PIT_CHANNEL_2, 0xFF);
    out8(PIT_CHANNEL_2, 0xFF);
    check("pit.output_2_is_low_at_first", 0, in8(SYSTEM_CONTROL_B) & OUT_2);
    unsigned patience = PATIENCE;
    while (!(in8(SYSTEM_CONTROL_B) & OUT_2) && --patience)
        ;
    check("pit.output_2_rises", true, patience != 0);
    out8(SYSTEM_CONTROL_B, control);
}

void test_interrupts(void)
{
    trap_set_handler(IRQ_BASE, on_timer);
    trap_set_handler(IRQ_BASE + 4, on_serial);
    arrival();
    masks();
    end_of_interrupt();
    outer_rings();
    repeated_instructions();
    timer_chip();
    timer_stop();
    trap_set_handler(IRQ_BASE, 0);
    trap_set_handler(IRQ_BASE + 4, 0);
}
