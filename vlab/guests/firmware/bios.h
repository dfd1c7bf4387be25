/* What every part of the firmware shares.
 *
 * The C code is compiled for 16-bit mode (gcc -m16) and lives in three segments:
 *
 *   DS = ES = SS = the data segment: an ordinary pointer reaches variables, strings and the stack;
 *   FS = 0: `low memory` - the interrupt vector table and the BIOS data area at 400h;
 *   GS = whatever `use_segment` said last: the caller's buffers, video memory, ROM.
 *
 * It always runs with interrupts off, on its own stack, and never within itself: entry.S sees to that. So the
 * registers of the caller can be a plain variable, `caller`. A service that has to wait does not; it returns
 * SLEEP_AND_RETRY, and is called again, from the start, after the next interrupt. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

struct registers {
    union { uint32_t eax; uint16_t ax; struct { uint8_t al, ah; }; };
    union { uint32_t ebx; uint16_t bx; struct { uint8_t bl, bh; }; };
    union { uint32_t ecx; uint16_t cx; struct { uint8_t cl, ch; }; };
    union { uint32_t edx; uint16_t dx; struct { uint8_t dl, dh; }; };
    union { uint32_t esi; uint16_t si; };
    union { uint32_t edi; uint16_t di; };
    uint32_t ebp, esp;
    uint16_t ds, es, fs, gs, ss, flags, cs, ip;
};

_Static_assert(offsetof(struct registers, esp) == R_ESP && offsetof(struct registers, ip) == R_IP,
    "layout.h");

extern struct registers caller;

enum verdict {
    DONE = V_DONE,
    SLEEP_AND_RETRY = V_SLEEP_AND_RETRY, /* interrupts on, HLT, then the same call again */
    SPIN_AND_RETRY = V_SPIN_AND_RETRY,   /* interrupts on for a moment, then the same call again */
};

/* ---- The BIOS data area (addresses are offsets in segment 40h) ---------------------------------------- */

struct bios_data {
    uint16_t com_port[4];        /* 00 */
    uint16_t lpt_port[3];        /* 08 */
    uint16_t ebda_segment;       /* 0E */
    uint16_t equipment;          /* 10 */
    uint8_t post_flag;           /* 12 */
    uint16_t base_memory_kib;    /* 13 */
    uint16_t reserved_15;        /* 15 */
    uint16_t keyboard_flags;     /* 17: low byte as INT 16h AH=02 returns it */
    uint8_t alt_keypad;          /* 19 */
    uint16_t keyboard_head;      /* 1A */
    uint16_t keyboard_tail;      /* 1C */
    uint16_t keyboard_buffer[16];/* 1E */
    uint8_t diskette[11];        /* 3E; [3] is the last diskette status */
    uint8_t video_mode;          /* 49 */
    uint16_t columns;            /* 4A */
    uint16_t page_bytes;         /* 4C */
    uint16_t page_start;         /* 4E */
    uint16_t cursor[8];          /* 50: row in the high byte */
    uint16_t cursor_shape;       /* 60: start line in the high byte */
    uint8_t page;                /* 62 */
    uint16_t crtc_port;          /* 63 */
    uint8_t crt_mode;            /* 65 */
    uint8_t crt_palette;         /* 66 */
    uint8_t reserved_67[5];      /* 67 */
    uint32_t ticks;              /* 6C: since midnight, 18.2065 a second */
    uint8_t midnight;            /* 70: days since the last INT 1Ah AH=00 */
    uint8_t break_flag;          /* 71 */
    uint16_t reset_flag;         /* 72 */
    uint8_t disk_status;         /* 74 */
    uint8_t disk_count;          /* 75 */
    uint8_t reserved_76[2];      /* 76 */
    uint8_t lpt_timeout[4];      /* 78 */
    uint8_t com_timeout[4];      /* 7C */
    uint16_t keyboard_start;     /* 80 */
    uint16_t keyboard_end;       /* 82 */
    uint8_t rows_less_one;       /* 84 */
    uint16_t character_height;   /* 85 */
    uint8_t video_control;       /* 87 */
    uint8_t video_switches;      /* 88 */
    uint8_t video_flags;         /* 89 */
    uint8_t reserved_8a[12];     /* 8A */
    uint8_t keyboard_mode;       /* 96: bit 4 = an enhanced keyboard is there */
    uint8_t keyboard_leds;       /* 97 */
} __attribute__((packed));

_Static_assert(offsetof(struct bios_data, keyboard_buffer) == 0x1E, "bios_data");
_Static_assert(offsetof(struct bios_data, video_mode) == 0x49, "bios_data");
_Static_assert(offsetof(struct bios_data, ticks) == 0x6C, "bios_data");
_Static_assert(offsetof(struct bios_data, keyboard_mode) == 0x96, "bios_data");

#define bda ((volatile struct bios_data __seg_fs *)0x400)

/* ---- Far memory --------------------------------------------------------------------------------------- */

static inline void use_segment(uint16_t segment)
{
    __asm__ volatile("mov gs, %0" : : "r"((uint32_t)segment) : "memory");
}

#define far8(offset) (*(volatile uint8_t __seg_gs *)(uint32_t)(offset))
#define far16(offset) (*(volatile uint16_t __seg_gs *)(uint32_t)(offset))
#define far32(offset) (*(volatile uint32_t __seg_gs *)(uint32_t)(offset))

/* ---- Ports -------------------------------------------------------------------------------------------- */

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

/* ---- Answers to the caller ---------------------------------------------------------------------------- */

enum { FLAG_CARRY = 1 << 0, FLAG_ZERO = 1 << 6 };

static inline void answer_flag(uint16_t flag, bool on)
{
    caller.flags = on ? caller.flags | flag : caller.flags & ~flag;
}

/* The BIOS convention for "no such function": carry set, AH = 86h. */
static inline void answer_unsupported(void)
{
    caller.ah = 0x86;
    answer_flag(FLAG_CARRY, true);
}

/* ---- The parts ---------------------------------------------------------------------------------------- */

void video_init(void);
void teletype(uint8_t character, uint8_t page);
void print(const char *text);
void print_hex(uint32_t value, unsigned digits);
void print_decimal(uint32_t value);

void serial_init(void);
void serial_send(uint8_t character);
int serial_receive(void); /* -1: nothing there */

void keyboard_init(void);

bool disk_init(void);
uint8_t disk_transfer(bool write, uint32_t lba, uint32_t count, uint32_t physical);

void clock_init(void);
uint8_t cmos_read(uint8_t index);
void cmos_write(uint8_t index, uint8_t value);

uint32_t memory_below_4g(void); /* KiB, from address 0 */
