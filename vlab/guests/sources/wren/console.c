/* The console: the serial port as a terminal, and the kernel's own messages.
 *
 * Input arrives by interrupt and is put into a ring, as it is. Only a process that reads takes it out again, line by
 * line: it echoes, and lets Backspace take back. So what is typed ahead appears where it is read, not where some
 * program happened to be printing; the transcript does not depend on how fast anyone was. Ctrl-D on an empty line
 * is the end of the file. Output waits for the transmitter: a kernel must be able to say its last words. */
#include "kernel.h"

enum { RING = 1024, LINE = 128, CTRL_D = 4, BACKSPACE = 8, DELETE = 127 };

static char ring[RING];
static uint32_t ring_read, ring_written; /* they only count up, as in pipe.c */

static char line[LINE];
static uint32_t line_size, line_read;

/* Take what the port has, as long as there is room. What stays there stops the sender, or waits for a reader. */
static void fill_ring(void)
{
    int byte;
    while (ring_written - ring_read < RING && (byte = serial_read()) >= 0)
        ring[ring_written++ % RING] = (char)byte;
}

void console_interrupt(void)
{
    fill_ring();
    wake_up(ring);
}

/* The next byte from the port; sleeps for it. Negative if this process is to end. */
static int next_byte(void)
{
    uint32_t flags = irq_save();
    while (ring_read == ring_written && !current->killed) {
        fill_ring();
        if (ring_read == ring_written)
            sleep_on(ring);
    }
    int byte = current->killed ? E_KILLED : (uint8_t)ring[ring_read++ % RING];
    irq_restore(flags);
    return byte;
}

/* Read a line with echo; its size is 0 at the end of the file. Negative if this process is to end. */
static int read_line(void)
{
    line_size = line_read = 0;
    for (;;) {
        int byte = next_byte();
        if (byte < 0)
            return byte;
        if (byte == CTRL_D && !line_size)
            return 0;
        if (byte == BACKSPACE || byte == DELETE) {
            if (line_size) {
                line_size--;
                console_write("\b \b", 3);
            }
        } else if (byte == '\r' || byte == '\n') {
            line[line_size++] = '\n';
            console_write("\n", 1);
            return 0;
        } else if (byte >= ' ' && line_size < LINE - 1) {
            line[line_size++] = (char)byte;
            console_write(&line[line_size - 1], 1);
        }
    }
}

int console_read(char *to, uint32_t size)
{
    if (line_read == line_size) {
        int result = read_line();
        if (result < 0) {
            line_size = line_read; /* half a line is for nobody */
            return result;
        }
    }
    uint32_t rest = line_size - line_read, done = size < rest ? size : rest;
    if (copy_out(to, &line[line_read], done) < 0)
        return E_FAULT;
    line_read += done;
    return (int)done;
}

void console_write(const char *text, uint32_t size)
{
    while (size) {
        uint32_t plain = 0;
        while (plain < size && text[plain] != '\n')
            plain++;
        serial_write(text, plain);
        if (plain < size) {
            serial_write("\r\n", 2);
            plain++;
        }
        text += plain;
        size -= plain;
    }
}

static void say_list(const char *format, va_list *arguments)
{
    char text[160];
    console_write(text, format_text(text, sizeof text, format, arguments));
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, &arguments);
    va_end(arguments);
}

/* The kernel has found itself in a state that cannot be: better to stop than to go on. */
void panic(const char *format, ...)
{
    va_list arguments;
    irq_disable();
    say("panic: ");
    va_start(arguments, format);
    say_list(format, &arguments);
    va_end(arguments);
    say("\n");
    power_off(PANIC_STATUS);
}

void irq_must_be_off(const char *where)
{
    if (irq_enabled())
        panic("interrupts enabled inside a critical section: IF is 1 in %s", where);
}
