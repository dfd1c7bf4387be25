/* COM1: the second console, and INT 14h.
 *
 * Everything that INT 10h writes as teletype output also goes out on COM1, and INT 16h takes characters
 * that come in there for keys, so a user at the serial line has what a user at the screen has. */
#include "bios.h"

enum {
    COM1 = 0x3F8,
    DATA = 0,
    INTERRUPT_ENABLE = 1,
    FIFO_CONTROL = 2,
    LINE_CONTROL = 3,
    MODEM_CONTROL = 4,
    LINE_STATUS = 5,
    MODEM_STATUS = 6,
    SCRATCH = 7,

    LCR_8N1 = 0x03,
    LCR_DLAB = 0x80,
    LSR_DATA_READY = 0x01,
    LSR_THR_EMPTY = 0x20,
    PATIENCE = 100000, /* polls before a transmitter counts as stuck */
    TIMED_OUT = 0x80,  /* INT 14h's bit in AH */
};

static uint32_t receive_deadline; /* BIOS ticks; 0: nobody waits */

static void set_line(uint16_t divisor, uint8_t control)
{
    out8(COM1 + LINE_CONTROL, LCR_DLAB);
    out8(COM1 + DATA, (uint8_t)divisor);
    out8(COM1 + INTERRUPT_ENABLE, (uint8_t)(divisor >> 8));
    out8(COM1 + LINE_CONTROL, control);
}

/* A UART is there if its scratch register remembers; then it is set to 115200 baud, 8N1, no interrupts. */
void serial_init(void)
{
    out8(COM1 + SCRATCH, 0x5A);
    if (in8(COM1 + SCRATCH) != 0x5A)
        return;
    bda->com_port[0] = COM1;
    bda->com_timeout[0] = 1;
    bda->equipment |= 1 << 9;
    out8(COM1 + INTERRUPT_ENABLE, 0);
    set_line(1, LCR_8N1);
    out8(COM1 + FIFO_CONTROL, 0xC7); /* on and empty; some senders fill it up to the trigger level, 14 */
    out8(COM1 + MODEM_CONTROL, 0x03);
}

static bool serial_try_send(uint8_t character)
{
    for (unsigned patience = PATIENCE; patience; patience--) {
        if (in8(COM1 + LINE_STATUS) & LSR_THR_EMPTY) {
            out8(COM1 + DATA, character);
            return true;
        }
    }
    return false;
}

void serial_send(uint8_t character)
{
    if (bda->com_port[0])
        serial_try_send(character);
}

int serial_receive(void)
{
    if (!bda->com_port[0] || !(in8(COM1 + LINE_STATUS) & LSR_DATA_READY))
        return -1;
    return in8(COM1 + DATA);
}

/* AH=00h: AL = baud rate (7-5), parity (4-3), stop bits (2), length (1-0). The rate goes up to 9600 only. */
static void serial_setup(uint8_t parameters)
{
    static const uint16_t divisors[8] = { 1047, 768, 384, 192, 96, 48, 24, 12 };
    set_line(divisors[parameters >> 5], parameters & 0x1F);
}

/* AH=02h waits for a character, one second at most. */
static enum verdict serial_read(void)
{
    int character = serial_receive();
    if (character < 0 && receive_deadline == 0) {
        receive_deadline = bda->ticks + 19;
        return SLEEP_AND_RETRY;
    }
    if (character < 0 && bda->ticks < receive_deadline)
        return SLEEP_AND_RETRY;
    receive_deadline = 0;
    caller.al = character < 0 ? 0 : (uint8_t)character;
    caller.ah = character < 0 ? TIMED_OUT : in8(COM1 + LINE_STATUS) & 0x1E;
    return DONE;
}

/* INT 14h; DX = 0 is COM1, the only one. */
enum verdict serial_service(void)
{
    if (caller.dx != 0 || !bda->com_port[0]) {
        caller.ah = TIMED_OUT;
        return DONE;
    }
    switch (caller.ah) {
    case 0x00:
        serial_setup(caller.al);
        break;
    case 0x01:
        caller.ah = serial_try_send(caller.al) ? in8(COM1 + LINE_STATUS) & 0x7F : TIMED_OUT;
        return DONE;
    case 0x02:
        return serial_read();
    case 0x03:
        break;
    default:
        caller.ah = TIMED_OUT;
        return DONE;
    }
    caller.ah = in8(COM1 + LINE_STATUS);
    caller.al = in8(COM1 + MODEM_STATUS);
    return DONE;
}
