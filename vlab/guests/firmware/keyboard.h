/* Keys: from a scan code of set 1, or from a character of the serial line, to what INT 16h returns:
 * the scan code in the high byte, the character (0 or E0 for none) in the low byte. 0 means no key. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The word at 40:17. The low byte is what INT 16h AH=02h returns. */
enum {
    KEY_RIGHT_SHIFT = 1 << 0,
    KEY_LEFT_SHIFT = 1 << 1,
    KEY_CTRL = 1 << 2,
    KEY_ALT = 1 << 3,
    KEY_SCROLL_LOCK = 1 << 4,
    KEY_NUM_LOCK = 1 << 5,
    KEY_CAPS_LOCK = 1 << 6,
    KEY_SHIFT = KEY_RIGHT_SHIFT | KEY_LEFT_SHIFT,

    SCAN_DELETE = 0x53,
};

uint16_t modifier_flag(uint8_t scan, bool grey);
uint16_t lock_flag(uint8_t scan);
uint16_t key_of_scan_code(uint8_t scan, bool grey, uint16_t flags);
uint16_t key_of_character(uint8_t character);
uint16_t key_of_escape(uint8_t letter);
