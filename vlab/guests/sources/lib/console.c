/* The serial console: polled output on COM1 (PC16550D data sheet, section 8). */
#include "console.h"

#include <stdarg.h>
#include <stdint.h>

#include "port.h"

enum {
    DATA = 0,              /* THR; with DLAB set the divisor's low byte */
    INTERRUPT_ENABLE = 1,  /* IER; with DLAB set the divisor's high byte */
    FIFO_CONTROL = 2,
    LINE_CONTROL = 3,
    MODEM_CONTROL = 4,
    LINE_STATUS = 5,

    LCR_8N1 = 0x03,
    LCR_DLAB = 0x80,
    FCR_ENABLE_AND_CLEAR = 0x07,
    MCR_DTR_RTS = 0x03,
    LSR_THR_EMPTY = 0x20,
    LSR_ALL_SENT = 0x40,
};

void console_init(void)
{
    out8(COM1 + INTERRUPT_ENABLE, 0);
    out8(COM1 + LINE_CONTROL, LCR_DLAB);
    out8(COM1 + DATA, 1); /* 115200 baud */
    out8(COM1 + INTERRUPT_ENABLE, 0);
    out8(COM1 + LINE_CONTROL, LCR_8N1);
    out8(COM1 + FIFO_CONTROL, FCR_ENABLE_AND_CLEAR);
    out8(COM1 + MODEM_CONTROL, MCR_DTR_RTS);
}

void put_char(char c)
{
    if (c == '\n')
        put_char('\r');
    while (!(in8(COM1 + LINE_STATUS) & LSR_THR_EMPTY))
        ;
    out8(COM1 + DATA, (uint8_t)c);
}

void console_flush(void)
{
    while (!(in8(COM1 + LINE_STATUS) & LSR_ALL_SENT))
        ;
}

static void put_text(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_hex(unsigned long value, unsigned digits)
{
    unsigned needed = 1;
    while (needed < 2 * sizeof value && value >> (4 * needed))
        needed++;
    if (digits < needed)
        digits = needed;
    while (digits--)
        put_char("0123456789abcdef"[(value >> (4 * digits)) & 15]);
}

static void put_decimal(uint32_t value)
{
    char digits[10];
    unsigned count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count--)
        put_char(digits[count]);
}

static void put_signed(int value)
{
    if (value < 0)
        put_char('-');
    put_decimal(value < 0 ? 0u - (uint32_t)value : (uint32_t)value);
}

/* Print the conversion at `format`, which points behind the per cent sign; return where it ends. */
static const char *put_conversion(const char *format, va_list *arguments)
{
    unsigned width = 0;
    while (*format >= '0' && *format <= '9')
        width = width * 10 + (unsigned)(*format++ - '0');
    switch (*format) {
    case 's': put_text(va_arg(*arguments, const char *)); break;
    case 'c': put_char((char)va_arg(*arguments, int)); break;
    case 'd': put_signed(va_arg(*arguments, int)); break;
    case 'u': put_decimal(va_arg(*arguments, uint32_t)); break;
    case 'x': put_hex(va_arg(*arguments, uint32_t), width); break;
    case 'l': put_hex(va_arg(*arguments, unsigned long), 2 * sizeof(unsigned long)); break;
    default: put_char(*format); break;
    }
    return format + 1;
}

void say(const char *format, ...)
{
    struct {
        va_list list;
    } arguments; /* in a struct, so that its address means the same in 32-bit and 64-bit code */
    va_start(arguments.list, format);
    while (*format) {
        if (*format != '%')
            put_char(*format++);
        else
            format = put_conversion(format + 1, &arguments.list);
    }
    va_end(arguments.list);
}
