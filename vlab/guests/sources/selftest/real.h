/* The visit to real mode (real.S): code at REAL_BASE, what it noted at REAL_SEEN. */
#pragma once

#define REAL_BASE 0x8000  /* the code is copied here and runs with CS = 0800, IP from 0 */
#define REAL_STACK 0x7C00 /* SS = 0 */
#define REAL_SEEN 0x6000
#define REAL_VECTORS 0x6800 /* a second vector table */

#ifndef __ASSEMBLER__
#include <stdint.h>

/* One note for each interrupt that was taken. */
struct note {
    uint16_t count, ip, cs, flags, handler_flags, sp;
};

struct real_seen {
    struct note int_n, moved, divide, undefined, step, int3, into, beyond, irq;
    uint16_t flags_after_iret, hlt_returned;
};

extern char real_code[], real_code_end[];
extern char real_at_divide[], real_at_undefined[], real_after_int[], real_after_moved[], real_after_step[];
extern char real_after_int3[], real_after_into[], real_at_beyond[], real_after_hlt[];
void visit_real_mode(void);
#endif
