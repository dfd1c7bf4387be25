"""The firmware's power-on state and its services, called one by one on vlab's own chips."""

from __future__ import annotations

import struct

import pytest

from tests.guests.real_mode_pc import MEMORY, RealModePc
from vlab.guests.firmware import DATA_BASE, ROM_BASE, ROM_SIZE, TABLES_SIZE, rom

BDA = 0x400
BUFFER = 0x8000
FLOPPY = 2880


def image(sectors: int) -> bytearray:
    """A disk whose sectors say which they are; the first is a boot sector that halts."""
    disk = bytearray(b"".join(struct.pack("<I", lba) * 128 for lba in range(sectors)))
    disk[:512] = b"\xfa\xf4".ljust(510, b"\0") + b"\x55\xaa"
    return disk


@pytest.fixture
def pc() -> RealModePc:
    """A PC that has booted a diskette image and stopped in its boot sector."""
    machine = RealModePc(image(FLOPPY))
    machine.run()
    return machine


# ---- the image and power-on ------------------------------------------------------------------------------


def test_the_image_is_64_kib_with_a_far_jump_at_the_reset_vector() -> None:
    assert len(rom()) == ROM_SIZE == 0x10000
    opcode, offset, segment = struct.unpack("<BHH", rom()[0xFFF0:0xFFF5])
    assert (opcode, segment) == (0xEA, ROM_BASE >> 4)
    assert offset >= TABLES_SIZE
    assert rom()[0xFFFE] == 0xFC, "model byte: AT"


def test_the_image_leaves_room_for_the_tables() -> None:
    assert not any(rom()[:TABLES_SIZE])


def test_without_a_disk_one_line_says_so_and_the_processor_halts() -> None:
    machine = RealModePc()
    machine.run()
    assert machine.console.decode().splitlines()[-1] == "Nothing to boot: there is no disk."
    assert machine.screen()[1] == "Nothing to boot: there is no disk."


@pytest.mark.parametrize(
    ("disk", "why"),
    [
        (bytes(512), "the disk's first sector does not end in 55 AA"),
        (b"", "there is no disk"),
    ],
)
def test_an_unbootable_disk_is_refused_with_the_reason(disk: bytes, why: str) -> None:
    machine = RealModePc(disk)
    machine.run()
    assert machine.console.decode().splitlines()[-1] == f"Nothing to boot: {why}."


def test_the_boot_sector_is_entered_at_7c00_with_the_drive_in_dl(pc: RealModePc) -> None:
    assert (pc.get("cs"), pc.get("ip")) == (0, 0x7C02)
    assert pc.get("edx") == 0x80
    assert pc.read(0x7DFE, 2) == b"\x55\xaa"


def test_the_bios_data_area_describes_the_machine(pc: RealModePc) -> None:
    assert pc.word(BDA + 0x00) == 0x3F8
    assert pc.word(BDA + 0x0E) == DATA_BASE >> 4
    assert pc.word(BDA + 0x10) == 0x0223, "a serial port, colour text, a coprocessor, a diskette drive"
    assert pc.word(BDA + 0x13) == DATA_BASE >> 10
    assert pc.read(BDA + 0x49, 1) == b"\x03"
    assert pc.word(BDA + 0x4A) == 80
    assert pc.word(BDA + 0x63) == 0x3D4
    assert pc.read(BDA + 0x75, 1) == b"\x01", "one hard disk"
    assert (pc.word(BDA + 0x80), pc.word(BDA + 0x82)) == (0x1E, 0x3E)
    assert pc.read(BDA + 0x84, 1) == b"\x18"
    assert pc.read(DATA_BASE, 1) == b"\x04", "the EBDA begins with its size in KiB"


def test_the_vectors_of_the_services_lie_in_the_rom_and_the_users_are_free(pc: RealModePc) -> None:
    for vector in (*range(0x1D), 0x1E, *range(0x70, 0x78)):
        offset, segment = struct.unpack("<HH", pc.read(4 * vector, 4))
        assert (segment, offset >= TABLES_SIZE) == (0xF000, True), f"vector {vector:02x}"
    assert not any(pc.read(4 * 0x60, 4 * 8))


# ---- INT 10h ---------------------------------------------------------------------------------------------


def test_teletype_writes_to_the_screen_and_to_com1(pc: RealModePc) -> None:
    pc.console.clear()
    for character in b"ab\b\bX\r\nc":
        pc.interrupt(0x10, ax=0x0E00 | character, bx=7)
    assert bytes(pc.console) == b"ab\b\bX\r\nc"
    assert pc.screen()[1:3] == ["Xb", "c"]
    assert pc.interrupt(0x10, ax=0x0300).dx == 0x0201


def test_a_line_feed_in_the_last_row_scrolls(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0200, dx=0x1800)
    pc.interrupt(0x10, ax=0x0E00 | ord("Z"))
    pc.interrupt(0x10, ax=0x0E0A)
    assert pc.screen()[23:] == ["Z", ""]
    assert pc.interrupt(0x10, ax=0x0300).dx == 0x1801


def test_a_full_row_wraps_to_the_next(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0200, dx=0x054F)
    pc.interrupt(0x10, ax=0x0E41)
    assert pc.interrupt(0x10, ax=0x0300).dx == 0x0600


def test_set_mode_clears_the_screen_unless_bit_7_says_keep(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0083)
    assert pc.screen()[0] == "vlab firmware: 24 MiB of memory"
    pc.interrupt(0x10, ax=0x0003)
    assert pc.screen() == [""] * 25
    state = pc.interrupt(0x10, ax=0x0F00)
    assert (state.al, state.ah, state.bh) == (3, 80, 0)


def test_characters_are_written_with_and_without_an_attribute_and_read_back(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0200, dx=0x0A05)
    pc.interrupt(0x10, ax=0x0900 | ord("q"), bx=0x001E, cx=3)
    pc.interrupt(0x10, ax=0x0A00 | ord("r"), bx=0x0044, cx=1)
    assert pc.screen()[10] == "     rqq"
    assert pc.interrupt(0x10, ax=0x0800, bx=0).ax == 0x1E00 | ord("r")
    assert pc.interrupt(0x10, ax=0x0300).dx == 0x0A05, "the cursor stays"


def test_windows_scroll_both_ways(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0003)
    for row in range(25):
        pc.interrupt(0x10, ax=0x0200, dx=row << 8)
        pc.interrupt(0x10, ax=0x0900 | ord("a") + row, bx=7, cx=4)
    pc.interrupt(0x10, ax=0x0601, bx=0x7000, cx=0x0201, dx=0x0402)
    assert pc.screen()[1:6] == ["bbbb", "cddc", "deed", "e  e", "ffff"]
    assert pc.read(0xB8000 + 2 * (4 * 80 + 1) + 1, 1) == b"\x70", "the new line has BH's attribute"
    pc.interrupt(0x10, ax=0x0702, bx=0x0700, cx=0x0A00, dx=0x0D4F)
    assert pc.screen()[9:15] == ["jjjj", "", "", "kkkk", "llll", "oooo"]
    pc.interrupt(0x10, ax=0x0600, bx=0x0700, cx=0x0000, dx=0xFFFF)
    assert pc.screen() == [""] * 25


def test_a_string_is_written_at_its_place(pc: RealModePc) -> None:
    pc.write(BUFFER, b"hello")
    pc.console.clear()
    before = pc.interrupt(0x10, ax=0x0300).dx
    pc.interrupt(0x10, ax=0x1300, bx=0x001F, cx=5, dx=0x0714, es=BUFFER >> 4, bp=0)
    assert pc.screen()[7] == " " * 20 + "hello"
    assert bytes(pc.console) == b"hello"
    assert pc.interrupt(0x10, ax=0x0300).dx == before
    pc.interrupt(0x10, ax=0x1301, bx=0x001F, cx=5, dx=0x0814, es=BUFFER >> 4, bp=0)
    assert pc.interrupt(0x10, ax=0x0300).dx == 0x0819


def test_the_shape_of_the_cursor_is_kept(pc: RealModePc) -> None:
    pc.interrupt(0x10, ax=0x0100, cx=0x2000)
    assert pc.interrupt(0x10, ax=0x0300).cx == 0x2000


def test_a_cursor_far_outside_the_screen_does_no_harm(pc: RealModePc) -> None:
    code = rom()[0x4000:0x5000]
    pc.interrupt(0x10, ax=0x0200, dx=0xFFFF, bx=0x0700)
    pc.interrupt(0x10, ax=0x0E58, bx=0x0700)
    pc.interrupt(0x10, ax=0x0958, bx=0x0700, cx=0xFFFF)
    pc.interrupt(0x10, ax=0x0800, bx=0x0700)
    assert pc.read(ROM_BASE + 0x4000, 0x1000) == code
    assert pc.read(0xC0000, 16) == bytes(16)


def test_a_program_finds_a_vga(pc: RealModePc) -> None:
    assert pc.interrupt(0x10, ax=0x1A00).bx == 8
    assert pc.interrupt(0x10, ax=0x1A00).al == 0x1A
    assert pc.interrupt(0x10, ax=0x1200, bx=0x10).bl == 3


# ---- INT 11h, 12h, 15h -----------------------------------------------------------------------------------


def test_the_size_of_memory_is_told_in_four_ways(pc: RealModePc) -> None:
    assert pc.interrupt(0x12).ax == DATA_BASE >> 10
    extended = pc.interrupt(0x15, ax=0x8800)
    assert (extended.ax, extended.carry) == ((MEMORY >> 10) - 1024, False)
    parts = pc.interrupt(0x15, ax=0xE801)
    assert (parts.ax, parts.bx, parts.carry) == (15360, (MEMORY - (16 << 20)) >> 16, False)
    assert (parts.cx, parts.dx) == (parts.ax, parts.bx)


def test_the_memory_map_is_read_entry_by_entry(pc: RealModePc) -> None:
    entries, following = [], 0
    for _ in range(20):
        answer = pc.interrupt(
            0x15, eax=0xE820, ebx=following, ecx=20, edx=0x534D4150, es=BUFFER >> 4, edi=0x10
        )
        assert not answer.carry
        assert (answer.eax, answer.ecx) == (0x534D4150, 20)
        entries.append(struct.unpack("<QQI", pc.read(BUFFER + 0x10, 20)))
        following = answer.ebx
        if not following:
            break
    assert entries[:4] == [
        (0, DATA_BASE, 1),
        (DATA_BASE, 0x1000, 2),
        (0xE0000, 0x20000, 2),
        (0x100000, MEMORY - 0x100000, 1),
    ]
    assert {base for base, _, kind in entries[4:] if kind == 2} == {0xFEC00000, 0xFEE00000, 0xFFFF0000}
    assert entries == sorted(entries)


def test_memory_above_4_gib_is_in_the_map(pc: RealModePc) -> None:
    for index, value in enumerate((0x00, 0x40, 0x00)):  # 1 GiB in units of 64 KiB
        pc.rtc.write(0, 0x5B + index)
        pc.rtc.write(1, value)
    pc.interrupt(0x15, eax=0xE820, ebx=7, ecx=20, edx=0x534D4150, es=BUFFER >> 4, edi=0)
    assert struct.unpack("<QQI", pc.read(BUFFER, 20)) == (1 << 32, 1 << 30, 1)


def test_a_wrong_question_about_the_map_is_refused(pc: RealModePc) -> None:
    for wrong in ({"edx": 0}, {"ecx": 19}, {"ebx": 99}):
        asked = {"eax": 0xE820, "ebx": 0, "ecx": 20, "edx": 0x534D4150, **wrong}
        answer = pc.interrupt(0x15, **asked)
        assert (answer.carry, answer.ah) == (True, 0x86)


def test_a20_can_be_closed_asked_and_opened(pc: RealModePc) -> None:
    assert pc.interrupt(0x15, ax=0x2402).al == 1
    pc.interrupt(0x15, ax=0x2400)
    assert pc.interrupt(0x15, ax=0x2402).al == 0
    pc.interrupt(0x15, ax=0x2401)
    assert pc.interrupt(0x15, ax=0x2402).al == 1
    assert pc.interrupt(0x15, ax=0x2403).bx == 2


@pytest.mark.parametrize("microseconds", [1, 900, 60_000, 1_500_000])
def test_a_wait_takes_as_long_as_it_was_asked_for(pc: RealModePc, microseconds: int) -> None:
    before = pc.now
    answer = pc.interrupt(0x15, ax=0x8600, cx=microseconds >> 16, dx=microseconds & 0xFFFF)
    assert not answer.carry
    assert microseconds <= (pc.now - before) / 1000 <= microseconds * 1.02 + 600


def test_the_configuration_table_has_the_model(pc: RealModePc) -> None:
    answer = pc.interrupt(0x15, ax=0xC000)
    assert not answer.carry
    assert pc.read(answer.es * 16 + answer.bx, 3) == b"\x08\x00\xfc"
    assert pc.interrupt(0x15, ax=0xC100).es == DATA_BASE >> 4


def test_an_unknown_function_is_refused(pc: RealModePc) -> None:
    answer = pc.interrupt(0x15, ax=0x5300)
    assert (answer.carry, answer.ah) == (True, 0x86)


# ---- INT 14h ---------------------------------------------------------------------------------------------


def test_the_serial_port_sends_receives_and_times_out(pc: RealModePc) -> None:
    pc.console.clear()
    assert not pc.interrupt(0x14, ax=0x0100 | ord("s"), dx=0).ah & 0x80
    assert bytes(pc.console) == b"s"
    pc.serial.receive(b"r")
    received = pc.interrupt(0x14, ax=0x0200, dx=0)
    assert (received.al, received.ah) == (ord("r"), 0)
    before = pc.now
    assert pc.interrupt(0x14, ax=0x0200, dx=0).ah & 0x80
    assert 0.9e9 < pc.now - before < 1.2e9
    assert pc.interrupt(0x14, ax=0x0300, dx=0).ah & 0x60 == 0x60
    assert pc.interrupt(0x14, ax=0x0300, dx=1).ah == 0x80, "there is no COM2"


def test_the_serial_port_is_set_to_9600_baud(pc: RealModePc) -> None:
    pc.interrupt(0x14, ax=0x00E3, dx=0)
    assert pc.serial.baud == 9600


# ---- INT 09h, 16h ----------------------------------------------------------------------------------------


def typed(pc: RealModePc, function: int = 0x00) -> int:
    return pc.interrupt(0x16, ax=function << 8).ax


def press(pc: RealModePc, *codes: int) -> None:
    """Put scan codes of set 1 into the controller, one interrupt each."""
    for code in codes:
        pc.keyboard.write(4, 0xD2)
        pc.keyboard.write(0, code)
        pc.interrupt(0x12)


def test_keys_arrive_through_the_keyboard_interrupt(pc: RealModePc) -> None:
    press(pc, 0x1E, 0x9E, 0x2A, 0x1E, 0x9E, 0xAA, 0x1C, 0x9C)
    assert [typed(pc) for _ in range(3)] == [0x1E61, 0x1E41, 0x1C0D]


@pytest.mark.parametrize(
    ("codes", "key"),
    [
        ((0x1D, 0x2E), 0x2E03),  # Ctrl-C
        ((0x38, 0x10), 0x1000),  # Alt-Q
        ((0x38, 0x02), 0x7800),  # Alt-1
        ((0x3A, 0xBA, 0x1E), 0x1E41),  # Caps Lock
        ((0x3A, 0xBA, 0x02), 0x0231),  # does not reach the digits
        ((0x3B,), 0x3B00),  # F1
        ((0x2A, 0x3B), 0x5400),  # Shift-F1
        ((0x57,), 0x8500),  # F11
        ((0x48,), 0x4800),  # keypad 8 without Num Lock
        ((0x45, 0xC5, 0x48), 0x4838),  # with it
        ((0xE0, 0x48), 0x4800),  # the grey key, as function 00h returns it
        ((0x0F,), 0x0F09),
        ((0x2A, 0x0F), 0x0F00),
        ((0x1D, 0x1C), 0x1C0A),
        ((0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5, 0x39), 0x3920),  # Pause types nothing
    ],
)
def test_shifted_and_special_keys_give_their_codes(pc: RealModePc, codes: tuple[int, ...], key: int) -> None:
    press(pc, *codes)
    assert typed(pc) == key


def test_the_enhanced_function_tells_grey_keys_from_the_keypad(pc: RealModePc) -> None:
    press(pc, 0xE0, 0x48)
    assert typed(pc, 0x10) == 0x48E0


def test_text_typed_at_the_keyboard_is_the_text_that_is_read(pc: RealModePc) -> None:
    text = "Hello, World! [42] {~} a|b"
    read = ""
    for character in text:
        pc.keyboard.keyboard.type_text(character)
        pc.interrupt(0x12)
        for _ in range(8):
            pc.interrupt(0x12)
        read += chr(typed(pc) & 0xFF)
    assert read == text


def test_peek_leaves_the_key_and_says_when_there_is_none(pc: RealModePc) -> None:
    assert pc.interrupt(0x16, ax=0x0100).zero
    press(pc, 0x1E)
    for _ in range(2):
        peeked = pc.interrupt(0x16, ax=0x0100)
        assert (peeked.zero, peeked.ax) == (False, 0x1E61)
    typed(pc)
    assert pc.interrupt(0x16, ax=0x1100).zero


def test_the_shift_keys_that_are_held_show_in_the_flags(pc: RealModePc) -> None:
    press(pc, 0x2A, 0x1D)
    assert pc.interrupt(0x16, ax=0x0200).al == 0x06
    press(pc, 0xAA, 0x9D)
    assert pc.interrupt(0x16, ax=0x0200).al == 0x00


def test_characters_on_com1_are_keys(pc: RealModePc) -> None:
    pc.serial.receive(b"aA\r\n\x7f\x03~")
    assert [typed(pc) for _ in range(7)] == [0x1E61, 0x1E41, 0x1C0D, 0x1C0D, 0x0E08, 0x2E03, 0x297E]


def test_cursor_keys_of_a_terminal_are_cursor_keys(pc: RealModePc) -> None:
    pc.serial.receive(b"\x1b[A\x1b[D")
    assert [typed(pc) for _ in range(2)] == [0x4800, 0x4B00]
    pc.serial.receive(b"\x1b")
    assert typed(pc) == 0x011B


def test_a_full_buffer_loses_nothing_that_waits_on_com1(pc: RealModePc) -> None:
    text = bytes(range(ord("a"), ord("z") + 1)) * 3
    pc.serial.receive(text)
    for _ in range(30):
        pc.interrupt(0x16, ax=0x0100)
    assert bytes(typed(pc) & 0xFF for _ in text) == text


def test_a_key_can_be_put_into_the_buffer(pc: RealModePc) -> None:
    assert pc.interrupt(0x16, ax=0x0500, cx=0x1234).al == 0
    assert typed(pc) == 0x1234
    assert [pc.interrupt(0x16, ax=0x0500, cx=0x1111).al for _ in range(16)] == [0] * 15 + [1]


def test_reading_a_key_sleeps_until_one_comes(pc: RealModePc) -> None:
    pc.write(0x700, b"\xb4\x00\xcd\x16\xfa\xf4")  # MOV AH, 0; INT 16h; CLI; HLT
    pc.set(cs=0, ip=0x700, ss=0, esp=0x7C00, eflags=0x202)
    with pytest.raises(AssertionError, match="still at"):
        pc.run(seconds=1)
    pc.serial.receive(b"k")
    pc.run(seconds=0.2)
    assert pc.get("ax") == 0x256B


def test_ctrl_alt_del_resets(pc: RealModePc) -> None:
    press(pc, 0x1D, 0x38, 0xE0, 0x53)
    assert pc.exit_status == 0x100


# ---- INT 08h, 1Ah ----------------------------------------------------------------------------------------


def test_the_tick_runs_at_18_2_a_second_and_starts_at_the_time_of_day(pc: RealModePc) -> None:
    start = pc.interrupt(0x1A, ax=0x0000)
    ticks = start.cx << 16 | start.dx
    assert abs(ticks / 18.2065 - (12 * 3600 + 34 * 60 + 56)) < 2
    pc.interrupt(0x15, ax=0x8600, cx=30, dx=0)  # 1.966 s
    end = pc.interrupt(0x1A, ax=0x0000)
    assert (end.cx << 16 | end.dx) - ticks in (35, 36)


def test_the_tick_turns_over_at_midnight(pc: RealModePc) -> None:
    pc.interrupt(0x1A, ax=0x0100, cx=0x0018, dx=0x00AF)
    pc.interrupt(0x15, ax=0x8600, cx=2, dx=0)
    first = pc.interrupt(0x1A, ax=0x0000)
    assert (first.al, first.cx, first.dx < 4) == (1, 0, True)
    assert pc.interrupt(0x1A, ax=0x0000).al == 0, "told once"


def test_each_tick_calls_the_programs_own_handler(pc: RealModePc) -> None:
    pc.write(0x700, b"\x2e\xff\x06\x50\x07\xcf")  # INC word CS:[0750]; IRET
    pc.write(4 * 0x1C, struct.pack("<HH", 0x700, 0))
    pc.interrupt(0x15, ax=0x8600, cx=5, dx=0)  # 0.33 s
    assert pc.word(0x750) in (5, 6)


def test_the_clock_gives_time_and_date_in_bcd_and_takes_them(pc: RealModePc) -> None:
    time = pc.interrupt(0x1A, ax=0x0200)
    assert (time.ch, time.cl, time.carry) == (0x12, 0x34, False)
    date = pc.interrupt(0x1A, ax=0x0400)
    assert (date.cx, date.dx) == (0x2024, 0x0229)
    pc.interrupt(0x1A, ax=0x0500, cx=0x1999, dx=0x1231)
    pc.interrupt(0x1A, ax=0x0300, cx=0x0102, dx=0x0300)
    assert pc.interrupt(0x1A, ax=0x0200).cx == 0x0102
    assert pc.interrupt(0x1A, ax=0x0400).dx == 0x1231


# ---- exceptions ------------------------------------------------------------------------------------------


def test_an_exception_is_told_with_its_place(pc: RealModePc) -> None:
    pc.console.clear()
    pc.write(0x700, b"\x0f\x0b")  # UD2
    pc.set(cs=0x60, ip=0x100, ss=0, esp=0x7C00, eflags=2)
    pc.run()
    assert pc.console.decode() == (
        "\r\nException 06 (invalid opcode) at 0060:0100, bytes 0f 0b 00 00 00 00: halted.\r\n"
    )


def test_a_device_interrupt_that_nobody_wants_is_acknowledged(pc: RealModePc) -> None:
    pc.pic.write(1, 0xF0)
    pc.pic.set_line(3, True)
    pc.interrupt(0x12)
    pc.pic.set_line(3, False)
    pc.pic.write(0, 0x0B)
    assert pc.pic.read(0) == 0, "nothing in service"
    assert b"Exception" not in pc.console
