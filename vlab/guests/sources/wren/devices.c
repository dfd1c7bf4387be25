/* The chips of a PC, natively: two 8259 interrupt controllers, the 8254 timer, the 16550A serial port.
 *
 * Data sheets: Intel 8259A (231468), 8254 (231164); National PC16550D. The debug-exit port F4h belongs to no PC,
 * but to QEMU (isa-debug-exit) and vlab: a byte written there ends the machine. */
#include "kernel.h"
#include "port.h"

enum {
    PIC1 = 0x20, PIC2 = 0xA0, /* command; data is one above */
    ICW1_INIT_ICW4 = 0x11,
    ICW4_8086 = 0x01,
    CASCADE = 2, /* the second controller is at IRQ 2 of the first */
    EOI = 0x20,

    PIT_CHANNEL0 = 0x40,
    PIT_COMMAND = 0x43,
    PIT_RATE_GENERATOR = 0x34, /* channel 0, low byte then high byte, mode 2 */
    PIT_HZ = 1193182,

    POST_CODE = 0x80,

    DATA = 0,             /* the serial port's registers, from COM1 */
    INTERRUPT_ENABLE = 1, /* 1: received data */
    FIFO_CONTROL = 2,     /* 7: on, and both cleared; an interrupt for each byte */
    LINE_CONTROL = 3,     /* 3: 8 bits, no parity, 1 stop bit */
    MODEM_CONTROL = 4,    /* 0B: DTR, RTS, and OUT2, which lets the interrupt through on a PC */
    LINE_STATUS = 5,
    LSR_DATA_READY = 0x01,
    LSR_TRANSMITTER_EMPTY = 0x20,
    FIFO_SIZE = 16,
};

static void pic_start(uint16_t command, uint8_t vector, uint8_t cascade, uint8_t mask)
{
    out8(command, ICW1_INIT_ICW4);
    out8(command + 1, vector);
    out8(command + 1, cascade);
    out8(command + 1, ICW4_8086);
    out8(command + 1, mask);
}

void devices_start(void)
{
    uint8_t mask = (uint8_t)~(1 << IRQ_TIMER | 1 << IRQ_SERIAL);
    pic_start(PIC1, IRQ_BASE, 1 << CASCADE, mask);
    pic_start(PIC2, IRQ_BASE + 8, CASCADE, 0xFF);
    out8(COM1 + INTERRUPT_ENABLE, 0);
    out8(COM1 + LINE_CONTROL, 0x80); /* DLAB: the divisor */
    out8(COM1 + DATA, 1);            /* 115200 baud */
    out8(COM1 + INTERRUPT_ENABLE, 0);
    out8(COM1 + LINE_CONTROL, 3);
    out8(COM1 + FIFO_CONTROL, 7);
    out8(COM1 + MODEM_CONTROL, 0x0B);
    out8(COM1 + INTERRUPT_ENABLE, 1);
}

void timer_start(void)
{
    uint32_t divisor = PIT_HZ / TICKS_PER_SECOND;
    out8(PIT_COMMAND, PIT_RATE_GENERATOR);
    out8(PIT_CHANNEL0, (uint8_t)divisor);
    out8(PIT_CHANNEL0, (uint8_t)(divisor >> 8));
}

void timer_again(void)
{
    /* mode 2 counts again by itself */
}

/* Not specific: it ends the request of highest priority, and handlers do not nest. */
void interrupt_done(unsigned irq)
{
    if (irq >= 8)
        out8(PIC2, EOI);
    out8(PIC1, EOI);
}

/* Once the transmitter's FIFO is empty it takes 16 bytes without being asked again. */
void serial_write(const char *text, uint32_t size)
{
    while (size) {
        while (!(in8(COM1 + LINE_STATUS) & LSR_TRANSMITTER_EMPTY))
            ;
        for (unsigned room = FIFO_SIZE; room && size; room--, size--)
            out8(COM1 + DATA, (uint8_t)*text++);
    }
}

int serial_read(void)
{
    return in8(COM1 + LINE_STATUS) & LSR_DATA_READY ? in8(COM1 + DATA) : -1;
}

/* Port 80h shows the progress of the firmware's self-test; nobody minds who reads it. */
void touch_device(void)
{
    in8(POST_CODE);
}

void power_off(uint8_t status)
{
    debug_exit(status);
}
