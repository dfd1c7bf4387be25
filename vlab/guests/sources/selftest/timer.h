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

/* Initialise the 8259s with everything masked, and let the timer tick every `divisor` counts of 1.193182
 * MHz. */
void timer_start(uint16_t divisor);
void timer_stop(void);

/* Counter 0 once: its output rises after `count`. */
void timer_once(uint16_t count);
uint16_t timer_count(void);

void pic_mask(uint8_t master);
uint8_t pic_requests(void);
uint8_t pic_in_service(void);
void pic_end_of_interrupt(void);
