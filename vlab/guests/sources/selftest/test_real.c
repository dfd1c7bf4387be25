/* Real mode: interrupts through the vector table (APM2 8.6). */
#include "real.h"

#include "check.h"
#include "segments.h"
#include "tests.h"
#include "timer.h"
#include "trap32.h"

enum { DE, DB, BP = 3, OF = 4, UD = 6, GP = 13, INT_N = 0x60, REAL_SEGMENT = REAL_BASE >> 4 };
enum { FRAME = 6, DIRECTION = 1 << 10 };

extern const uint16_t real_handlers[9];

static const volatile struct real_seen *const seen = (const struct real_seen *)REAL_SEEN;

static uint16_t offset(const char *label)
{
    return (uint16_t)(label - real_code);
}

static void check_note(const char *name, const volatile struct note *note, const char *ip)
{
    begin_check(name);
    check_part("count", 1, note->count);
    check_part("ip", offset(ip), note->ip);
    check_part("cs", REAL_SEGMENT, note->cs);
    check_part("sp", REAL_STACK - FRAME, note->sp);
    check_part("handler_if_tf", 0, note->handler_flags & (IF | TF));
    end_check();
}

static void set_vectors(void)
{
    static const uint8_t vectors[8] = { DE, DB, BP, OF, UD, GP, IRQ_BASE, INT_N };
    uint32_t *table = (uint32_t *)0;
    __asm__("" : "+r"(table)); /* address 0 is memory like any other here */
    for (unsigned i = 0; i < 8; i++)
        table[vectors[i]] = (uint32_t)REAL_SEGMENT << 16 | real_handlers[i];
    ((uint32_t *)REAL_VECTORS)[INT_N] = (uint32_t)REAL_SEGMENT << 16 | real_handlers[8];
}

void test_real_mode(void)
{
    __builtin_memcpy((void *)REAL_BASE, real_code, (unsigned)(real_code_end - real_code));
    __builtin_memset((void *)REAL_SEEN, 0, sizeof *seen);
    set_vectors();
    timer_prepare();
    timer_once(TIMER_FAST);
    visit_real_mode();
    timer_stop();

    check_note("real.int_n", &seen->int_n, real_after_int);
    check("real.int_n_saves_flags", IF | DIRECTION, seen->int_n.flags & (IF | TF | DIRECTION));
    check("real.int_n_leaves_df", DIRECTION, seen->int_n.handler_flags & DIRECTION);
    check("real.iret_restores_flags", IF | DIRECTION, seen->flags_after_iret & (IF | DIRECTION));
    check_note("real.vectors_moved", &seen->moved, real_after_moved);
    check_note("real.divide", &seen->divide, real_at_divide);
    check_note("real.invalid_opcode", &seen->undefined, real_at_undefined);
    check_note("real.int3", &seen->int3, real_after_int3);
    check_note("real.into", &seen->into, real_after_into);
    check_note("real.single_step", &seen->step, real_after_step);
    check_note("real.vector_beyond_limit", &seen->beyond, real_at_beyond);
    check_note("real.irq_wakes_hlt", &seen->irq, real_after_hlt);
    check("real.and_goes_on", 1, seen->hlt_returned);
}
