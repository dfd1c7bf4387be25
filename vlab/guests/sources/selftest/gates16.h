/* 16-bit code and what its handlers noted (gates16.S). Offsets are in the segment CODE_16. */
#pragma once

#include <stdint.h>

struct seen16 {
    uint16_t ip, cs, flags, sp, ss; /* the frame; the last two only when the ring changed */
    uint16_t error_code;
    uint16_t handler_flags, handler_cs, handler_ss, handler_sp;
};

extern struct seen16 seen16;

extern char code16[], stack16[], user_stack16_top[], kernel_stack16_top[];
extern char run_int16[], after_int16[], run_trap16[], after_trap16[], run_load16[], at_load16[], user_int16[];
extern char after_user_int16[], handler16[], handler16_error[], handler16_small_stack[];
void call_16(uint32_t offset); /* a far call from 32-bit code */

#define OFFSET_16(label) ((uint16_t)((label) - code16))
