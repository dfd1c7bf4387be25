/* The serial console: polled output on COM1, and a small printf. */
#pragma once

void console_init(void);
void put_char(char c);

/* Wait until the last character has left the transmitter. */
void console_flush(void);

/* Print with %s %c %d %u %x, an optional width with leading zeros (%08x), %l for unsigned long in hex
 * (16 digits in 64-bit code, 8 in 32-bit code) and %%. A newline is sent as CR LF. */
void say(const char *format, ...) __attribute__((noinline));
