/* Formatting, for the kernel's messages and for the programs' printf: %s %c %d %u %x and %%, and a width, padded with
 * zeros if it begins with one (%5d, %08x). Text is padded on the right, numbers on the left. */
#include <stdarg.h>

struct output {
    char *at, *end;
};

static void put(struct output *output, char c)
{
    if (output->at < output->end)
        *output->at++ = c;
}

static void put_text(struct output *output, const char *text, unsigned width)
{
    for (; *text; text++, width -= width != 0)
        put(output, *text);
    while (width--)
        put(output, ' ');
}

static void put_number(struct output *output, unsigned value, unsigned base, unsigned width, char pad, int negative)
{
    char digits[12];
    unsigned count = 0;
    do
        digits[count++] = "0123456789abcdef"[value % base];
    while (value /= base);
    if (negative)
        digits[count++] = '-';
    for (; width > count; width--)
        put(output, pad);
    while (count)
        put(output, digits[--count]);
}

/* Write at most `size` bytes, without a NUL; return how many. */
unsigned format_text(char *to, unsigned size, const char *format, va_list *arguments)
{
    struct output output = { to, to + size };
    for (; *format; format++) {
        if (*format != '%') {
            put(&output, *format);
            continue;
        }
        char pad = *++format == '0' ? '0' : ' ';
        unsigned width = 0;
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        int value;
        switch (*format) {
        case 's': put_text(&output, va_arg(*arguments, const char *), width); break;
        case 'c': put(&output, (char)va_arg(*arguments, int)); break;
        case 'u': put_number(&output, va_arg(*arguments, unsigned), 10, width, pad, 0); break;
        case 'x': put_number(&output, va_arg(*arguments, unsigned), 16, width, pad, 0); break;
        case 'd':
            value = va_arg(*arguments, int);
            put_number(&output, value < 0 ? 0u - (unsigned)value : (unsigned)value, 10, width, pad, value < 0);
            break;
        default: put(&output, *format); break;
        }
    }
    return (unsigned)(output.at - to);
}
