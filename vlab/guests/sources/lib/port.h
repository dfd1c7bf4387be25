/* Port I/O, and the two ports that every guest here uses: COM1 and the debug exit. */
#pragma once

#include <stdint.h>

enum {
    COM1 = 0x3F8,
    DEBUG_EXIT = 0xF4, /* writing a byte ends the machine with that status; 0 means success */
};

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("out %1, %0" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("out %1, %0" : : "a"(value), "Nd"(port));
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

/* End the machine. Where nothing listens at the port, sleep for ever instead. */
static inline __attribute__((noreturn)) void debug_exit(uint8_t status)
{
    out8(DEBUG_EXIT, status);
    for (;;)
        __asm__ volatile("cli; hlt");
}
