#include "apic.h"

#include "check.h"
#include "segments.h"
#include "tests.h"
#include "timer.h"
#include "trap32.h"

enum { FEATURE_APIC = 1 << 9, MSR_APIC_BASE = 0x1B, APIC_ENABLED = 1 << 11 };

/* Registers: offsets in the APIC's page. */
enum {
    VERSION = 0x030,
    TASK_PRIORITY = 0x080,
    PROCESSOR_PRIORITY = 0x0A0,
    END_OF_INTERRUPT = 0x0B0,
    SPURIOUS_VECTOR = 0x0F0,
    IN_SERVICE = 0x100,
    REQUESTS = 0x200,
    COMMAND = 0x300,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_LINT1 = 0x360,
    TIMER_INITIAL = 0x380,
    TIMER_CURRENT = 0x390,
    TIMER_DIVIDE = 0x3E0,

    SOFTWARE_ENABLED = 1 << 8,
    DELIVER_EXTINT = 7 << 8,
    DELIVER_NMI = 4 << 8,
    MASKED = 1 << 16,
    PERIODIC = 1 << 17,
    TO_SELF = 1 << 18,
    DIVIDE_BY_16 = 0x3,
    ONE_SHOT = 1000000, /* long enough to be seen counting on a busy host */
    PERIOD = 50000,

    SPURIOUS = 0x9F,
    LOW = 0x91, /* two vectors of one priority class, and one of a lower */
    LOW_TOO = 0x93,
    LOWER = 0x70,
    PATIENCE = 20000000,
};

static volatile uint32_t *page;
static volatile uint32_t counts[256];
static volatile bool keep_in_service;

static uint32_t get(unsigned offset)
{
    return page[offset / 4];
}

static void put(unsigned offset, uint32_t value)
{
    page[offset / 4] = value;
}

static bool bit_of(unsigned bank, unsigned vector)
{
    return get(bank + vector / 32 * 16) >> (vector % 32) & 1;
}

static void on_vector(struct frame32 *frame)
{
    counts[frame->vector]++;
    if (!keep_in_service)
        put(END_OF_INTERRUPT, 0);
}

/* The APIC's way to say "it was nothing": an interrupt that has been withdrawn meanwhile. It wants no EOI. */
static void on_spurious(struct frame32 *frame)
{
    (void)frame;
}

static void open_window(void)
{
    __asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
}

bool apic_virtual_wire(void)
{
    uint32_t eax = 1, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (!(edx & FEATURE_APIC))
        return false;
    __asm__ volatile("rdmsr" : "=a"(eax), "=d"(edx) : "c"(MSR_APIC_BASE));
    if (!(eax & APIC_ENABLED))
        return false;
    page = (volatile uint32_t *)(eax & 0xFFFFF000);
    put(SPURIOUS_VECTOR, SPURIOUS | SOFTWARE_ENABLED);
    put(LVT_LINT0, DELIVER_EXTINT);
    put(LVT_LINT1, DELIVER_NMI);
    return true;
}

static void send(unsigned vector)
{
    put(COMMAND, TO_SELF | vector);
}

static void interrupts_to_oneself(void)
{
    send(LOW);
    check("apic.requested", true, bit_of(REQUESTS, LOW));
    check("apic.held_back_without_if", 0, counts[LOW]);
    open_window();
    check("apic.taken", 1, counts[LOW]);
    check("apic.no_longer_requested", false, bit_of(REQUESTS, LOW));

    put(TASK_PRIORITY, 0xA0);
    send(LOW);
    open_window();
    check("apic.task_priority_holds_back", 1, counts[LOW]);
    put(TASK_PRIORITY, 0x80);
    open_window();
    check("apic.task_priority_lets_through", 2, counts[LOW]);
    put(TASK_PRIORITY, 0);
}

static void priorities(void)
{
    keep_in_service = true;
    send(LOW);
    open_window();
    check("apic.in_service", true, bit_of(IN_SERVICE, LOW));
    check("apic.processor_priority", LOW & 0xF0, get(PROCESSOR_PRIORITY) & 0xF0);
    send(LOW_TOO);
    send(LOWER);
    open_window();
    check("apic.same_class_waits", 0, counts[LOW_TOO]);
    put(END_OF_INTERRUPT, 0);
    open_window();
    check("apic.same_class_after_eoi", 1, counts[LOW_TOO]);
    check("apic.lower_class_waits", 0, counts[LOWER]);
    put(END_OF_INTERRUPT, 0);
    open_window();
    check("apic.lower_class_after_eoi", 1, counts[LOWER]);
    put(END_OF_INTERRUPT, 0);
    keep_in_service = false;
}

static bool wait_for(unsigned vector, uint32_t count)
{
    unsigned patience = PATIENCE / 4;
    while (counts[vector] < count && --patience)
        open_window();
    return patience != 0;
}

static void timer(void)
{
    counts[LOW] = 0;
    put(TIMER_DIVIDE, DIVIDE_BY_16);
    put(LVT_TIMER, LOW);
    put(TIMER_INITIAL, ONE_SHOT);
    uint32_t first = get(TIMER_CURRENT), second = first;
    for (unsigned patience = PATIENCE; second == first && patience; patience--)
        second = get(TIMER_CURRENT);
    check("apic.timer_counts_down", true, second < first && first <= ONE_SHOT);
    check("apic.timer_once", true, wait_for(LOW, 1));
    check("apic.timer_stops_at_0", 0, get(TIMER_CURRENT));
    put(LVT_TIMER, LOW | PERIODIC);
    put(TIMER_INITIAL, PERIOD);
    check("apic.timer_periodic", true, wait_for(LOW, 4));
    put(LVT_TIMER, LOW | PERIODIC | MASKED);
    open_window();
    counts[LOW] = 0;
    for (unsigned i = 0; i < 100000; i++)
        open_window();
    check("apic.timer_masked", 0, counts[LOW]);
    put(TIMER_INITIAL, 0);
}

/* The 8259 reaches the processor through LINT0. */
static void virtual_wire(void)
{
    trap_set_handler(IRQ_BASE, on_vector);
    timer_prepare();
    put(LVT_LINT0, DELIVER_EXTINT | MASKED);
    pic_mask(0xFE);
    timer_once(TIMER_FAST);
    for (unsigned patience = PATIENCE / 10; !(pic_requests() & 1) && patience; patience--)
        ;
    open_window();
    check("apic.lint0_masked", 0, counts[IRQ_BASE]);
    put(LVT_LINT0, DELIVER_EXTINT);
    open_window();
    check("apic.lint0_open", 1, counts[IRQ_BASE]);
    pic_end_of_interrupt();
    timer_stop();
    trap_set_handler(IRQ_BASE, 0);
}

void test_local_apic(void)
{
    static const uint8_t vectors[] = { LOW, LOW_TOO, LOWER };
    if (!page || !wanted("apic"))
        return;
    for (unsigned i = 0; i < sizeof vectors; i++)
        trap_set_handler(vectors[i], on_vector);
    trap_set_handler(SPURIOUS, on_spurious);
    check("apic.version", 0x10, get(VERSION) & 0xF0);
    interrupts_to_oneself();
    priorities();
    timer();
    virtual_wire();
    for (unsigned i = 0; i < sizeof vectors; i++)
        trap_set_handler(vectors[i], 0);
}
