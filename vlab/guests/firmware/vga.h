/* The VGA chip, as video.c needs it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    CRTC_CURSOR_SHAPE = 0x0A, /* pairs of registers: high byte, low byte */
    CRTC_START_ADDRESS = 0x0C,
    CRTC_CURSOR_ADDRESS = 0x0E,
};

void vga_set_text_mode(void);
void vga_set_crtc_pair(uint8_t index, uint16_t value);
void vga_set_blink(bool blink); /* attribute bit 7: blinking, or bright background */
