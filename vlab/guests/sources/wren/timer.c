/* Time: the timer interrupts 100 times a second. Each interrupt wakes who has slept long enough, and ends the time
 * slice of the process that it found. */
#include "kernel.h"

static uint32_t ticks;
static bool slice_over;

uint32_t timer_ticks(void)
{
    return ticks;
}

void timer_interrupt(void)
{
    timer_again();
    ticks++;
    slice_over = true;
    wake_sleepers(ticks);
}

/* Whether there was a tick since the last call: the process should make room. */
bool timer_slice_over(void)
{
    bool over = slice_over;
    slice_over = false;
    return over;
}

/* Sleep for a number of ticks: the current one, which has begun already, is not one of them. */
int timer_sleep(uint32_t count)
{
    uint32_t flags = irq_save(), end = ticks + count + 1;
    while ((int32_t)(end - ticks) > 0 && !current->killed) {
        current->wake_at = end;
        sleep_on(&current->wake_at);
    }
    irq_restore(flags);
    return current->killed ? E_KILLED : 0;
}
