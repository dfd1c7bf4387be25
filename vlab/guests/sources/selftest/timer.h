/* The two chips behind a timer interrupt: 8254 channel 0, and the 8259 pair with its vectors at IRQ_BASE. */
#pragma once

#include <stdint.h>

enum {
    PIT_HZ = 1193182,
    TIMER_FAST = PIT_HZ / 1000, /* 1 ms */
    PIC_MASTER = 0x20,
    PIC_SLAVE = 0xA0,
    PIC_READ_REQUESTS = 0x0A,
    PIC_READ_IN_SERVICE = 0x0B,
    PIC_END_OF_INTERRUPT = 0x20,
};

/* Stop the timer, and initialise the 8259s with everything masked: nothing is requested any more. */
void timer_prepare(void);

/* After timer_prepare: tick every `divisor` counts of 1.193182 MHz. */
void timer_periodic(uint16_t divisor);

/* After timer_prepare: request one interrupt after `count`. */
void timer_once(uint16_t count);

/* Mask everything and stop the timer. */
void timer_stop(void);
uint16_t timer_count(void);

void pic_mask(uint8_t master);
uint8_t pic_requests(void);
uint8_t pic_in_service(void);
void pic_end_of_interrupt(void);
