/* The keyboard: the 8042 controller, INT 09h from scan codes to the buffer, and INT 16h from the buffer -
 * or from COM1 - to the program. */
#include "keyboard.h"

#include "bios.h"

enum {
    DATA_PORT = 0x60,
    COMMAND_PORT = 0x64,
    STATUS_OUTPUT_FULL = 0x01,
    STATUS_INPUT_FULL = 0x02,
    PATIENCE = 20000, /* polls before the controller counts as missing */

    WRITE_COMMAND_BYTE = 0x60,
    SELF_TEST = 0xAA,
    ENABLE_KEYBOARD = 0xAE,
    PULSE_RESET = 0xFE,
    COMMAND_BYTE = 0x65, /* translate to set 1, mouse off, system flag, keyboard interrupt */
    ENABLE_SCANNING = 0xF4,

    BUFFER_START = 0x1E, /* offsets in segment 40h */
    BUFFER_END = 0x3E,
};

static uint8_t prefix; /* E0 or E1 when that was the last byte from the keyboard */
static uint8_t skip;   /* bytes of the Pause key's sequence that are still to come */

static bool wait_status(uint8_t mask, uint8_t value)
{
    for (unsigned patience = PATIENCE; patience; patience--)
        if ((in8(COMMAND_PORT) & mask) == value)
            return true;
    return false;
}

static bool controller_write(uint16_t port, uint8_t value)
{
    bool ready = wait_status(STATUS_INPUT_FULL, 0);
    if (ready)
        out8(port, value);
    return ready;
}

void keyboard_init(void)
{
    bda->keyboard_start = bda->keyboard_head = bda->keyboard_tail = BUFFER_START;
    bda->keyboard_end = BUFFER_END;
    if (in8(COMMAND_PORT) == 0xFF || !controller_write(COMMAND_PORT, SELF_TEST)
        || !wait_status(STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL))
        return;
    in8(DATA_PORT); /* 55: passed */
    controller_write(COMMAND_PORT, WRITE_COMMAND_BYTE);
    controller_write(DATA_PORT, COMMAND_BYTE);
    controller_write(COMMAND_PORT, ENABLE_KEYBOARD);
    if (controller_write(DATA_PORT, ENABLE_SCANNING) && wait_status(STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL))
        in8(DATA_PORT); /* FA: acknowledged */
    bda->keyboard_mode = 0x10;
}

/* ---- The buffer: a ring of 16 words, one of which stays empty ------------------------------------------ */

static uint16_t next_slot(uint16_t slot)
{
    return slot + 2 >= bda->keyboard_end ? bda->keyboard_start : slot + 2;
}

static bool buffer_put(uint16_t key)
{
    uint16_t tail = bda->keyboard_tail, next = next_slot(tail);
    if (next == bda->keyboard_head)
        return false;
    *(volatile uint16_t __seg_fs *)(0x400u + tail) = key;
    bda->keyboard_tail = next;
    return true;
}

static bool buffer_peek(uint16_t *key)
{
    if (bda->keyboard_head == bda->keyboard_tail)
        return false;
    *key = *(volatile uint16_t __seg_fs *)(0x400u + bda->keyboard_head);
    return true;
}

/* ---- INT 09h ------------------------------------------------------------------------------------------ */

/* Shift, Ctrl, Alt change a flag as long as they are held, the locks when they go down. */
static bool modifier(uint8_t scan, bool released)
{
    uint16_t held = modifier_flag(scan, prefix == 0xE0), lock = lock_flag(scan);
    if (prefix == 0xE0 && (scan == 0x2A || scan == 0x36))
        return true; /* a shift that the keyboard makes up around grey keys */
    if (held)
        bda->keyboard_flags = released ? bda->keyboard_flags & ~held : bda->keyboard_flags | held;
    else if (lock && !released)
        bda->keyboard_flags ^= lock;
    return held || lock;
}

static void scan_code(uint8_t code)
{
    uint8_t scan = code & 0x7F;
    if (skip) {
        skip--;
    } else if (code == 0xE1) {
        skip = 2;
    } else if (code == 0xE0) {
        prefix = code;
        return;
    } else if (!modifier(scan, code & 0x80) && !(code & 0x80)) {
        uint16_t flags = bda->keyboard_flags;
        if (scan == SCAN_DELETE && (flags & KEY_CTRL) && (flags & KEY_ALT))
            out8(COMMAND_PORT, PULSE_RESET);
        uint16_t key = key_of_scan_code(scan, prefix == 0xE0, flags);
        if (key)
            buffer_put(key);
    }
    prefix = 0;
}

enum verdict keyboard_interrupt(void)
{
    if (in8(COMMAND_PORT) & STATUS_OUTPUT_FULL)
        scan_code(in8(DATA_PORT));
    out8(0x20, 0x20);
    return DONE;
}

/* ---- INT 16h ------------------------------------------------------------------------------------------ */

static int receive_soon(void)
{
    int character = -1;
    for (unsigned patience = 3000; patience && character < 0; patience--)
        character = serial_receive();
    return character;
}

/* A terminal sends the cursor keys as ESC [ letter, without a pause. */
static uint16_t key_from_serial(void)
{
    int character = serial_receive();
    if (character != 0x1B)
        return character < 0 ? 0 : key_of_character((uint8_t)character);
    int second = receive_soon();
    if (second < 0)
        return key_of_character(0x1B);
    int third = receive_soon();
    return second == '[' && third > 0 ? key_of_escape((uint8_t)third) : key_of_character((uint8_t)second);
}

static void take_serial_input(void)
{
    if (next_slot(bda->keyboard_tail) == bda->keyboard_head)
        return; /* full: let it wait in the UART */
    uint16_t key = key_from_serial();
    if (key)
        buffer_put(key);
}

/* Programs that ask with AH=00h or 01h expect the keys of the first keyboard: no E0 in AL. */
static uint16_t for_function(uint8_t function, uint16_t key)
{
    if (function < 0x10 && (key & 0xFF) == 0xE0 && key >> 8)
        return key & 0xFF00;
    return key;
}

static enum verdict read_key(void)
{
    uint16_t key;
    if (!buffer_peek(&key))
        return SLEEP_AND_RETRY;
    bda->keyboard_head = next_slot(bda->keyboard_head);
    caller.ax = for_function(caller.ah, key);
    return DONE;
}

static enum verdict peek_key(void)
{
    uint16_t key;
    bool there = buffer_peek(&key);
    if (there)
        caller.ax = for_function(caller.ah, key);
    answer_flag(FLAG_ZERO, !there);
    return DONE;
}

enum verdict keyboard_service(void)
{
    if ((caller.ah & 0x0F) < 2)
        take_serial_input();
    switch (caller.ah) {
    case 0x00:
    case 0x10:
        return read_key();
    case 0x01:
    case 0x11:
        return peek_key();
    case 0x12:
        caller.ah = bda->keyboard_flags >> 8;
        caller.al = (uint8_t)bda->keyboard_flags;
        break;
    case 0x02:
        caller.al = (uint8_t)bda->keyboard_flags;
        break;
    case 0x05:
        caller.al = !buffer_put(caller.cx);
        break;
    default:
        break;
    }
    return DONE;
}
