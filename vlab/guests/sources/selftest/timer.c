#include "timer.h"

#include "port.h"
#include "segments.h"

enum { PIT_CHANNEL_0 = 0x40, PIT_CONTROL = 0x43, MODE_0 = 0x30, MODE_2 = 0x34, LATCH_0 = 0x00 };

static void pic_init(void)
{
    out8(PIC_MASTER, 0x11); /* ICW1-4: edge-triggered, cascaded, vectors, 8086 mode */
    out8(PIC_SLAVE, 0x11);
    out8(PIC_MASTER + 1, IRQ_BASE);
    out8(PIC_SLAVE + 1, IRQ_BASE + 8);
    out8(PIC_MASTER + 1, 0x04);
    out8(PIC_SLAVE + 1, 0x02);
    out8(PIC_MASTER + 1, 0x01);
    out8(PIC_SLAVE + 1, 0x01);
    out8(PIC_MASTER + 1, 0xFF);
    out8(PIC_SLAVE + 1, 0xFF);
}

static void pit_load(uint8_t mode, uint16_t count)
{
    out8(PIT_CONTROL, mode);
    out8(PIT_CHANNEL_0, (uint8_t)count);
    out8(PIT_CHANNEL_0, (uint8_t)(count >> 8));
}

void timer_prepare(void)
{
    out8(PIT_CONTROL, MODE_0); /* without a count it waits for one */
    pic_init();
}

void timer_periodic(uint16_t divisor)
{
    pit_load(MODE_2, divisor);
}

void timer_once(uint16_t count)
{
    pit_load(MODE_0, count);
}

void timer_stop(void)
{
    pic_mask(0xFF);
    out8(PIT_CONTROL, MODE_0);
}

uint16_t timer_count(void)
{
    out8(PIT_CONTROL, LATCH_0);
    uint8_t low = in8(PIT_CHANNEL_0);
    return (uint16_t)(low | in8(PIT_CHANNEL_0) << 8);
}

void pic_mask(uint8_t master)
{
    out8(PIC_MASTER + 1, master);
}

uint8_t pic_requests(void)
{
    out8(PIC_MASTER, PIC_READ_REQUESTS);
    return in8(PIC_MASTER);
}

uint8_t pic_in_service(void)
{
    out8(PIC_MASTER, PIC_READ_IN_SERVICE);
    return in8(PIC_MASTER);
}

void pic_end_of_interrupt(void)
{
    out8(PIC_MASTER, PIC_END_OF_INTERRUPT);
}
