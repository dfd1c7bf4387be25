/* Time: the tick of IRQ 0, the real-time clock's date and time (INT 1Ah), and waiting (INT 15h AH=86h). */
#include "clock.h"

#include "bios.h"

enum {
    CMOS_INDEX = 0x70,
    CMOS_DATA = 0x71,
    RTC_SECONDS = 0x00,
    RTC_MINUTES = 0x02,
    RTC_HOURS = 0x04,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_STATUS_A = 0x0A,
    RTC_STATUS_B = 0x0B,
    RTC_STATUS_C = 0x0C,
    RTC_CENTURY = 0x32,
    UPDATE_IN_PROGRESS = 0x80,
    PATIENCE = 10000,

    PIT_CHANNEL_0 = 0x40,
    PIT_CONTROL = 0x43,
    TICKS_PER_DAY = 0x1800B0,
    PIC_MASTER = 0x20,
    READ_REQUESTS = 0x0A,
};

uint8_t cmos_read(uint8_t index)
{
    out8(CMOS_INDEX, index);
    return in8(CMOS_DATA);
}

void cmos_write(uint8_t index, uint8_t value)
{
    out8(CMOS_INDEX, index);
    out8(CMOS_DATA, value);
}

/* Just before the clock moves on its registers may be read half old, half new: wait until it has. */
static void wait_for_update(void)
{
    for (unsigned patience = PATIENCE; patience && cmos_read(RTC_STATUS_A) & UPDATE_IN_PROGRESS; patience--)
        ;
}

static uint32_t from_bcd(uint8_t bcd)
{
    return (bcd >> 4) * 10u + (bcd & 15);
}

/* Start the count of ticks at the time of day. 18.2065 ticks a second: 18, and 13535 / 65536. */
void clock_init(void)
{
    wait_for_update();
    uint32_t seconds = from_bcd(cmos_read(RTC_HOURS)) * 3600 + from_bcd(cmos_read(RTC_MINUTES)) * 60
        + from_bcd(cmos_read(RTC_SECONDS));
    bda->ticks = seconds < 86400 ? seconds * 18 + (seconds * 13535 >> 16) : 0;
}

enum verdict timer_tick(void)
{
    if (++bda->ticks >= TICKS_PER_DAY) {
        bda->ticks = 0;
        bda->midnight++;
    }
    return DONE;
}

/* IRQ 8: nobody asked for it, so quiet the clock by reading what it wants. */
enum verdict rtc_interrupt(void)
{
    cmos_read(RTC_STATUS_C);
    out8(0xA0, 0x20);
    out8(0x20, 0x20);
    return DONE;
}

/* ---- INT 1Ah ------------------------------------------------------------------------------------------ */

static void read_ticks(void)
{
    caller.cx = (uint16_t)(bda->ticks >> 16);
    caller.dx = (uint16_t)bda->ticks;
    caller.al = bda->midnight;
    bda->midnight = 0;
}

static void set_ticks(void)
{
    bda->ticks = (uint32_t)caller.cx << 16 | caller.dx;
    bda->midnight = 0;
}

static void read_time(void)
{
    wait_for_update();
    caller.ch = cmos_read(RTC_HOURS);
    caller.cl = cmos_read(RTC_MINUTES);
    caller.dh = cmos_read(RTC_SECONDS);
    caller.dl = cmos_read(RTC_STATUS_B) & 1;
}

static void set_time(void)
{
    cmos_write(RTC_HOURS, caller.ch);
    cmos_write(RTC_MINUTES, caller.cl);
    cmos_write(RTC_SECONDS, caller.dh);
}

static void read_date(void)
{
    wait_for_update();
    caller.ch = cmos_read(RTC_CENTURY);
    caller.cl = cmos_read(RTC_YEAR);
    caller.dh = cmos_read(RTC_MONTH);
    caller.dl = cmos_read(RTC_DAY);
}

static void set_date(void)
{
    cmos_write(RTC_CENTURY, caller.ch);
    cmos_write(RTC_YEAR, caller.cl);
    cmos_write(RTC_MONTH, caller.dh);
    cmos_write(RTC_DAY, caller.dl);
}

enum verdict clock_service(void)
{
    answer_flag(FLAG_CARRY, false);
    switch (caller.ah) {
    case 0x00: read_ticks(); break;
    case 0x01: set_ticks(); break;
    case 0x02: read_time(); break;
    case 0x03: set_time(); break;
    case 0x04: read_date(); break;
    case 0x05: set_date(); break;
    default: answer_flag(FLAG_CARRY, true); return DONE; /* alarms, PCI BIOS: not here */
    }
    caller.ah = 0;
    return DONE;
}

/* ---- INT 15h AH=86h: wait CX:DX microseconds ---------------------------------------------------------- */

struct moment { uint32_t tick; uint16_t count; }; /* the timer counts down from 65536 (0) in each tick */

static struct {
    bool active;
    uint32_t microseconds, left; /* what was asked for; timer counts that are left of it */
    struct moment last;
} wait;

/* Interrupts are off here: the timer may have begun a new tick that the count of ticks does not know yet. */
static struct moment timer_now(void)
{
    out8(PIT_CONTROL, 0x00); /* latch channel 0 */
    uint16_t count = in8(PIT_CHANNEL_0);
    count |= (uint16_t)(in8(PIT_CHANNEL_0) << 8);
    out8(PIC_MASTER, READ_REQUESTS);
    bool uncounted = (in8(PIC_MASTER) & 1) && (count == 0 || count > 0x8000);
    return (struct moment){ bda->ticks + uncounted, count };
}

static uint32_t counts_between(struct moment from, struct moment to)
{
    if (to.tick < from.tick)
        to.tick += TICKS_PER_DAY; /* midnight */
    int32_t down = (uint16_t)(from.count - 1) - (uint16_t)(to.count - 1);
    if (to.tick == from.tick && down < 0)
        down += 0x10000; /* a program has taken INT 08h away from us, and nobody counts the ticks */
    return ((to.tick - from.tick) << 16) + (uint32_t)down;
}

/* 1.193182 counts a microsecond: 1, and 12660 / 65536. */
static uint32_t counts_of(uint32_t microseconds)
{
    return microseconds + (microseconds >> 16) * 12660 + ((microseconds & 0xFFFF) * 12660 >> 16);
}

/* Whether sleeping is safe: the next tick will come, and be counted. */
static bool ticks_are_counted(void)
{
    bool ours = ((volatile uint16_t __seg_fs *)0)[2 * 0x08 + 1] == ROM_SEGMENT;
    return ours && !(in8(PIC_MASTER + 1) & 1);
}

/* Called again and again: what the timer has counted since the last time is taken off. A wait begun within
 * a wait (by an interrupt handler) takes over; the outer one then begins anew. */
enum verdict wait_microseconds(uint32_t microseconds)
{
    struct moment now = timer_now();
    if (!wait.active || wait.microseconds != microseconds) {
        wait.active = true;
        wait.microseconds = microseconds;
        wait.left = counts_of(microseconds) + 1;
        wait.last = now;
    }
    uint32_t passed = counts_between(wait.last, now);
    wait.last = now;
    if (passed < wait.left) {
        wait.left -= passed;
        return wait.left > 0x10000 && ticks_are_counted() ? SLEEP_AND_RETRY : SPIN_AND_RETRY;
    }
    wait.active = false;
    return DONE;
}
