/* The US keyboard, scan code set 1. */
#include "keyboard.h"

enum {
    SCAN_BACKSPACE = 0x0E,
    SCAN_TAB = 0x0F,
    SCAN_ENTER = 0x1C,
    SCAN_SPACE = 0x39,
    SCAN_F1 = 0x3B,
    SCAN_F10 = 0x44,
    SCAN_KEYPAD = 0x47, /* the first of the keypad's 13 */
    SCAN_F11 = 0x57,
    SCAN_F12 = 0x58,
};

/* What the keys 00-39 type, without and with Shift. */
static const char plain[] = "\0\0331234567890-=\b\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
static const char shifted[] = "\0\033!@#$%^&*()_+\b\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";

_Static_assert(sizeof plain == SCAN_SPACE + 2 && sizeof shifted == sizeof plain,
    "one character for each key");

/* The keypad from 47 on: its digits, and what its cursor keys give with Ctrl. */
static const char keypad[] = "789-456+1230.";
static const uint8_t keypad_ctrl[] = {
    0x77, 0x8D, 0x84, 0x8E, 0x73, 0x8F, 0x74, 0x90, 0x75, 0x91, 0x76, 0x92, 0x93,
};

static bool is_letter(char c)
{
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

static uint16_t key(uint8_t scan, uint8_t character)
{
    return (uint16_t)(scan << 8 | character);
}

uint16_t modifier_flag(uint8_t scan, bool grey)
{
    switch (scan) {
    case 0x1D: return grey ? KEY_CTRL | 0x0400 : KEY_CTRL | 0x0100;
    case 0x38: return grey ? KEY_ALT | 0x0800 : KEY_ALT | 0x0200;
    case 0x2A: return KEY_LEFT_SHIFT;
    case 0x36: return KEY_RIGHT_SHIFT;
    default: return 0;
    }
}

uint16_t lock_flag(uint8_t scan)
{
    switch (scan) {
    case 0x3A: return KEY_CAPS_LOCK;
    case 0x45: return KEY_NUM_LOCK;
    case 0x46: return KEY_SCROLL_LOCK;
    default: return 0;
    }
}

/* Ctrl with a key of the main block: control characters, and three more by tradition. */
static uint16_t with_ctrl(uint8_t scan)
{
    char c = plain[scan];
    switch (scan) {
    case SCAN_BACKSPACE: return key(scan, 0x7F);
    case SCAN_TAB: return key(0x94, 0);
    case SCAN_ENTER: return key(scan, '\n');
    case SCAN_SPACE: return key(scan, ' ');
    case 0x03: return key(scan, 0);    /* Ctrl-2: NUL */
    case 0x07: return key(scan, 0x1E); /* Ctrl-6 */
    case 0x0C: return key(scan, 0x1F); /* Ctrl-minus */
    default: return is_letter(c) || c == '[' || c == '\\' || c == ']' ? key(scan, c & 0x1F) : 0;
    }
}

static uint16_t with_alt(uint8_t scan)
{
    if (scan >= 0x02 && scan <= 0x0D) /* Alt and 1 to = have numbers of their own */
        return key(scan - 0x02 + 0x78, 0);
    return scan == SCAN_SPACE ? key(scan, ' ') : key(scan, 0);
}

static uint16_t main_block(uint8_t scan, uint16_t flags)
{
    char c = plain[scan];
    bool shift = flags & KEY_SHIFT;
    if (!c)
        return 0;
    if (flags & KEY_ALT)
        return with_alt(scan);
    if (flags & KEY_CTRL)
        return with_ctrl(scan);
    if (scan == SCAN_TAB && shift)
        return key(scan, 0);
    if (is_letter(c) && (flags & KEY_CAPS_LOCK))
        shift = !shift;
    return key(scan, (uint8_t)(shift ? shifted[scan] : c));
}

/* F1-F10 are 3B-44 and with Shift, Ctrl, Alt 54-5D, 5E-67, 68-71; F11 and F12 came later. */
static uint16_t function_key(uint8_t scan, uint16_t flags)
{
    static const uint8_t first[4] = { SCAN_F1, 0x54, 0x5E, 0x68 }, eleventh[4] = { 0x85, 0x87, 0x89, 0x8B };
    unsigned level = flags & KEY_ALT ? 3 : flags & KEY_CTRL ? 2 : flags & KEY_SHIFT ? 1 : 0;
    if (scan >= SCAN_F11)
        return key(eleventh[level] + (scan - SCAN_F11), 0);
    return key(first[level] + (scan - SCAN_F1), 0);
}

static uint16_t keypad_key(uint8_t scan, bool grey, uint16_t flags)
{
    unsigned place = scan - SCAN_KEYPAD;
    bool sign = keypad[place] == '-' || keypad[place] == '+';
    bool digits = !(flags & KEY_NUM_LOCK) == !!(flags & KEY_SHIFT);
    if (flags & KEY_CTRL)
        return key(keypad_ctrl[place], grey ? 0xE0 : 0);
    if (grey)
        return key(scan, 0xE0);
    return sign || digits ? key(scan, (uint8_t)keypad[place]) : key(scan, 0);
}

uint16_t key_of_scan_code(uint8_t scan, bool grey, uint16_t flags)
{
    if (grey && scan == SCAN_ENTER)
        return key(0xE0, flags & KEY_CTRL ? '\n' : '\r');
    if (grey && scan == 0x35)
        return key(0xE0, '/');
    if (scan <= SCAN_SPACE)
        return main_block(scan, flags);
    if ((scan >= SCAN_F1 && scan <= SCAN_F10) || scan == SCAN_F11 || scan == SCAN_F12)
        return function_key(scan, flags);
    if (scan >= SCAN_KEYPAD && scan < SCAN_KEYPAD + sizeof keypad - 1)
        return keypad_key(scan, grey, flags);
    return 0;
}

/* The key that types a character: a terminal's DEL is Backspace, and either line ending is Enter. */
uint16_t key_of_character(uint8_t character)
{
    if (character == 0x7F)
        character = '\b';
    if (character == '\n')
        character = '\r';
    for (uint8_t scan = 1; scan <= SCAN_SPACE; scan++)
        if ((uint8_t)plain[scan] == character || (uint8_t)shifted[scan] == character)
            return key(scan, character);
    for (uint8_t scan = 1; scan <= SCAN_SPACE; scan++)
        if (with_ctrl(scan) == key(scan, character))
            return key(scan, character);
    return key(0, character);
}

/* The last letter of a terminal's ESC [ sequence. */
uint16_t key_of_escape(uint8_t letter)
{
    switch (letter) {
    case 'A': return key(0x48, 0xE0); /* up */
    case 'B': return key(0x50, 0xE0); /* down */
    case 'C': return key(0x4D, 0xE0); /* right */
    case 'D': return key(0x4B, 0xE0); /* left */
    case 'F': return key(0x4F, 0xE0); /* End */
    case 'H': return key(0x47, 0xE0); /* Home */
    default: return 0;
    }
}
