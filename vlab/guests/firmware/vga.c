/* The VGA chip itself: the register values of text mode 3 (IBM VGA technical reference), and the cursor. */
#include "vga.h"

#include "bios.h"

enum {
    MISC_WRITE = 0x3C2,
    ATTRIBUTE = 0x3C0,
    SEQUENCER = 0x3C4,
    PALETTE_MASK = 0x3C6,
    PALETTE_INDEX = 0x3C8,
    PALETTE_DATA = 0x3C9,
    GRAPHICS = 0x3CE,
    CRTC = 0x3D4,
    INPUT_STATUS_1 = 0x3DA,
};

/* 720 x 400 pixels at 70 Hz: 80 x 25 characters of 9 x 16. */
static const uint8_t sequencer[] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
static const uint8_t crtc[] = {
    0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00, 0x00, 0x00, 0x00,
    0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF,
};
static const uint8_t graphics[] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF };
static const uint8_t attribute[] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3A, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F,
    0x0C, 0x00, 0x0F, 0x08, 0x00,
};

static void set_indexed(uint16_t port, const uint8_t *values, unsigned count)
{
    for (unsigned index = 0; index < count; index++) {
        out8(port, (uint8_t)index);
        out8(port + 1, values[index]);
    }
}

/* The 64 colours of the EGA: bits 2-0 are two thirds of red, green and blue, bits 5-3 the remaining third. */
static void set_palette(void)
{
    out8(PALETTE_MASK, 0xFF);
    out8(PALETTE_INDEX, 0);
    for (unsigned colour = 0; colour < 64; colour++)
        for (unsigned gun = 3; gun--;) {
            uint8_t level = (colour >> gun & 1 ? 0x2A : 0) + (colour >> (gun + 3) & 1 ? 0x15 : 0);
            out8(PALETTE_DATA, level);
        }
}

void vga_set_text_mode(void)
{
    out8(MISC_WRITE, 0x67); /* colour addresses, 28 MHz */
    set_indexed(SEQUENCER, sequencer, sizeof sequencer);
    out8(CRTC, 0x11); /* registers 0-7 are write-protected until bit 7 of register 11h goes */
    out8(CRTC + 1, crtc[0x11] & 0x7F);
    set_indexed(CRTC, crtc, sizeof crtc);
    set_indexed(GRAPHICS, graphics, sizeof graphics);
    in8(INPUT_STATUS_1); /* the attribute controller takes an index next */
    for (unsigned index = 0; index < sizeof attribute; index++) {
        out8(ATTRIBUTE, (uint8_t)index);
        out8(ATTRIBUTE, attribute[index]);
    }
    out8(ATTRIBUTE, 0x20); /* picture on */
    set_palette();
}

void vga_set_crtc_pair(uint8_t index, uint16_t value)
{
    out8(CRTC, index);
    out8(CRTC + 1, (uint8_t)(value >> 8));
    out8(CRTC, index + 1);
    out8(CRTC + 1, (uint8_t)value);
}

void vga_set_blink(bool blink)
{
    in8(INPUT_STATUS_1);
    out8(ATTRIBUTE, 0x30); /* register 10h, picture on */
    out8(ATTRIBUTE, blink ? 0x0C : 0x04);
}
