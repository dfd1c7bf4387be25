/* INT 15h: how much memory there is and where, the A20 gate, waiting. (AH=87h is in entry.S.) */
#include "bios.h"
#include "clock.h"

enum {
    CMOS_EXTENDED_LOW = 0x30,  /* KiB above 1 MiB, 16 bits, ends at 64 MiB */
    CMOS_ABOVE_16M = 0x34,     /* 64 KiB units above 16 MiB, 16 bits */
    CMOS_ABOVE_4G = 0x5B,      /* 64 KiB units above 4 GiB, 24 bits */
    SYSTEM_CONTROL_A = 0x92,   /* bit 1: A20 */
    SMAP = 0x534D4150,
    MEMORY = 1,
    RESERVED = 2,
};

extern const uint8_t configuration_table[];

static uint32_t cmos_word(uint8_t index)
{
    return cmos_read(index) | (uint32_t)cmos_read(index + 1) << 8;
}

uint32_t memory_below_4g(void)
{
    uint32_t units = cmos_word(CMOS_ABOVE_16M);
    return units ? 16384 + units * 64 : 1024 + cmos_word(CMOS_EXTENDED_LOW);
}

/* ---- AX=E820h: the map, one entry a call -------------------------------------------------------------- */

struct range { uint32_t base, base_high, length, length_high, type; };

/* Entry `index` of the map; false behind the last. */
static bool map_entry(uint32_t index, struct range *range)
{
    uint32_t high_units = cmos_read(CMOS_ABOVE_4G) | (uint32_t)cmos_read(CMOS_ABOVE_4G + 1) << 8
        | (uint32_t)cmos_read(CMOS_ABOVE_4G + 2) << 16;
    switch (index) {
    case 0: *range = (struct range){ 0, 0, DATA_SEGMENT * 16, 0, MEMORY }; return true;
    case 1: *range = (struct range){ DATA_SEGMENT * 16, 0, 0x1000, 0, RESERVED }; return true;
    case 2: *range = (struct range){ 0xE0000, 0, 0x20000, 0, RESERVED }; return true;
    case 3: *range = (struct range){ 0x100000, 0, (memory_below_4g() - 1024) * 1024, 0, MEMORY }; return true;
    case 4: *range = (struct range){ 0xFEC00000, 0, 0x1000, 0, RESERVED }; return true; /* I/O APIC */
    case 5: *range = (struct range){ 0xFEE00000, 0, 0x1000, 0, RESERVED }; return true; /* local APIC */
    case 6: *range = (struct range){ 0xFFFF0000, 0, 0x10000, 0, RESERVED }; return true; /* this ROM, again */
    case 7:
        *range = (struct range){ 0, 1, high_units << 16, high_units >> 16, MEMORY };
        return high_units != 0;
    default: return false;
    }
}

static void memory_map(void)
{
    struct range range, next;
    if (caller.edx != SMAP || caller.ecx < sizeof range || !map_entry(caller.ebx, &range)) {
        answer_unsupported();
        return;
    }
    use_segment(caller.es);
    const uint32_t *words = (const uint32_t *)&range;
    for (unsigned i = 0; i < sizeof range / 4; i++)
        far32((uint16_t)(caller.di + 4 * i)) = words[i];
    caller.ebx = map_entry(caller.ebx + 1, &next) ? caller.ebx + 1 : 0;
    caller.eax = SMAP;
    caller.ecx = sizeof range;
    answer_flag(FLAG_CARRY, false);
}

/* AX=E801h: KiB from 1 to 16 MiB, and 64 KiB units above. */
static void memory_in_two_parts(void)
{
    uint32_t total = memory_below_4g();
    caller.ax = caller.cx = (uint16_t)(total > 16384 ? 15360 : total - 1024);
    caller.bx = caller.dx = (uint16_t)(total > 16384 ? (total - 16384) / 64 : 0);
    answer_flag(FLAG_CARRY, false);
}

/* AH=88h: KiB above 1 MiB, as far as 16 bits go. */
static void extended_memory(void)
{
    uint32_t above = memory_below_4g() - 1024;
    caller.ax = (uint16_t)(above > 0xFC00 ? 0xFC00 : above);
    answer_flag(FLAG_CARRY, false);
}

/* AX=2400h-2403h. */
static void a20_gate(void)
{
    uint8_t now = in8(SYSTEM_CONTROL_A);
    switch (caller.al) {
    case 0: out8(SYSTEM_CONTROL_A, now & 0xFC); break;
    case 1: out8(SYSTEM_CONTROL_A, (now & 0xFC) | 2); break;
    case 2: caller.al = now >> 1 & 1; break;
    case 3: caller.bx = 2; break; /* supported through port 92h */
    default: answer_unsupported(); return;
    }
    caller.ah = 0;
    answer_flag(FLAG_CARRY, false);
}

static void configuration(void)
{
    caller.es = ROM_SEGMENT;
    caller.bx = (uint16_t)(uint32_t)configuration_table;
    caller.ah = 0;
    answer_flag(FLAG_CARRY, false);
}

/* AH=C1h: the segment of the extended BIOS data area. */
static void extended_data_area(void)
{
    caller.es = bda->ebda_segment;
    answer_flag(FLAG_CARRY, false);
}

enum verdict system_service(void)
{
    if (caller.ax == 0xE820) {
        memory_map();
        return DONE;
    }
    if (caller.ax == 0xE801) {
        memory_in_two_parts();
        return DONE;
    }
    switch (caller.ah) {
    case 0x24: a20_gate(); break;
    case 0x86: {
        enum verdict verdict = wait_microseconds((uint32_t)caller.cx << 16 | caller.dx);
        if (verdict == DONE)
            answer_flag(FLAG_CARRY, false);
        return verdict;
    }
    case 0x88: extended_memory(); break;
    case 0xC0: configuration(); break;
    case 0xC1: extended_data_area(); break;
    default: answer_unsupported(); break;
    }
    return DONE;
}
