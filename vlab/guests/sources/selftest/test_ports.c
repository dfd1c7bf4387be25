/* IN, OUT, INS and OUTS: IOPL and the I/O permission bitmap of the TSS (APM2 12.2.4), and the serial port. */
#include "actions.h"
#include "check.h"
#include "console.h"
#include "port.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"

enum { GP = 13, SCRATCH = COM1 + 7, NOBODY = 0x87, BEYOND = 0x7F0 };

static void allow(unsigned port, bool allowed)
{
    uint8_t bit = (uint8_t)(1 << (port & 7));
    if (allowed)
        main_task.io_map[port / 8] &= (uint8_t)~bit;
    else
        main_task.io_map[port / 8] |= bit;
}

static void single_ports(void)
{
    check_trap("port.in_denied", ring3(action_in8, SCRATCH, 0), GP, 0, at_in8);
    check_trap("port.out_denied", ring3(action_out8, SCRATCH, 0), GP, 0, at_out8);
    check("port.out_with_iopl", VECTOR_DONE, ring3(action_out8, SCRATCH, IOPL(3)));
    check("port.out_has_arrived", 0x5A, in8(SCRATCH));
    allow(SCRATCH, true);
    out8(SCRATCH, 0x77);
    check("port.in_allowed", VECTOR_DONE, ring3(action_in8, SCRATCH, 0));
    check("port.in_value", 0x77, last_trap.frame.eax & 0xFF);
    check("port.out_allowed", VECTOR_DONE, ring3(action_out8, SCRATCH, 0));
    check_trap("port.neighbour_denied", ring3(action_in8, SCRATCH - 1, 0), GP, 0, at_in8);
    check_trap("port.beyond_bitmap", ring3(action_in8, BEYOND, 0), GP, 0, at_in8);
    allow(SCRATCH, false);
}

/* A wide access needs a permission for each of its ports; these cross a byte of the bitmap. */
static void wide_ports(void)
{
    allow(NOBODY, true);
    check_trap("port.word_needs_both", ring3(action_in16, NOBODY, 0), GP, 0, at_in16);
    allow(NOBODY + 1, true);
    check("port.word_allowed", VECTOR_DONE, ring3(action_in16, NOBODY, 0));
    check_trap("port.doubleword_needs_four", ring3(action_in32, NOBODY, 0), GP, 0, at_in32);
    allow(NOBODY + 2, true);
    allow(NOBODY + 3, true);
    check("port.doubleword_allowed", VECTOR_DONE, ring3(action_in32, NOBODY, 0));
    for (unsigned i = 0; i < 4; i++)
        allow(NOBODY + i, false);
}

static void string_ports(void)
{
    watched = 0x11111111;
    check_trap("port.ins_denied", ring3(action_insb, SCRATCH, 0), GP, 0, at_insb);
    if (wanted("port.ins_denied_memory"))
        check("port.ins_denied_memory", 0x11111111, watched);
    check_trap("port.outs_denied", ring3(action_outsb, SCRATCH, 0), GP, 0, at_outsb);
    allow(SCRATCH, true);
    watched = 0x111111C3;
    check("port.outs_allowed", VECTOR_DONE, ring3(action_outsb, SCRATCH, 0));
    check("port.outs_value", 0xC3, in8(SCRATCH));
    out8(SCRATCH, 0x3C);
    check("port.ins_allowed", VECTOR_DONE, ring3(action_insb, SCRATCH, 0));
    check("port.ins_value", 0x1111113C, watched);
    allow(SCRATCH, false);

    static uint8_t bytes[6] = { 9, 9, 9, 9, 9, 9 };
    uint8_t *end;
    uint32_t left;
    __asm__ volatile("rep insb" : "=D"(end), "=c"(left) : "D"(bytes), "c"(4), "d"(SCRATCH) : "memory");
    begin_check("port.rep_ins");
    check_part("edi", (uint32_t)(bytes + 4), (uint32_t)end);
    check_part("ecx", 0, left);
    check_part("last", 0x3C, bytes[3]);
    check_part("behind", 9, bytes[4]);
    end_check();
    bytes[5] = 0xE7;
    __asm__ volatile("rep outsb" : "=S"(end), "=c"(left) : "S"(bytes), "c"(6), "d"(SCRATCH) : "memory");
    check("port.rep_outs", 0xE7, in8(SCRATCH));
}

static void no_bitmap(void)
{
    uint16_t base = main_task.io_map_base;
    allow(SCRATCH, true);
    main_task.io_map_base = 0xFFFF;
    check_trap("port.bitmap_beyond_tss", ring3(action_in8, SCRATCH, 0), GP, 0, at_in8);
    main_task.io_map_base = base;
    allow(SCRATCH, false);
}

/* The UART connected to itself (PC16550D, 8.7: MCR bit 4). Nothing goes out while it is. */
static void serial_loopback(void)
{
    enum { DATA = 0, MODEM_CONTROL = 4, LINE_STATUS = 5, LOOP = 0x10, DATA_READY = 0x01 };
    bool all_back = true;
    console_flush();
    out8(COM1 + MODEM_CONTROL, LOOP | 0x03);
    for (unsigned i = 0; i < 256; i += 15) {
        unsigned patience = 100000;
        out8(COM1 + DATA, (uint8_t)i);
        while (!(in8(COM1 + LINE_STATUS) & DATA_READY) && --patience)
            ;
        all_back &= patience && in8(COM1 + DATA) == (uint8_t)i;
    }
    uint8_t empty = in8(COM1 + LINE_STATUS) & DATA_READY;
    out8(COM1 + MODEM_CONTROL, 0x03);
    check("serial.loopback", true, all_back);
    check("serial.empty_afterwards", 0, empty);
}

void test_ports(void)
{
    single_ports();
    wide_ports();
    string_ports();
    no_bitmap();
    serial_loopback();
}
