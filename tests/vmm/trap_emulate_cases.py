"""Random rows of privileged and segment instructions, as guests that log what each of them did.

A case is a row of *slots*, in one of three worlds. A slot prepares operands, executes one instruction in some
ring, and ends with INT 30h; that or its fault leads to a handler which logs the frame and all registers, and
goes to the next slot. No slot has an instruction that goes by in silence at CPL 1, or one where the emulator
is not the processor of the manuals: far transfers beyond a limit, PUSHFD in virtual-8086 mode.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

from vlab.guests.programs import leave

SLOTS = 14

RESULTS, GDT, LDT, TSS, IDT = 0x8000, 0x9000, 0x9400, 0x9600, 0x9800
STACK, USER_STACK, DATA, HANDLER, DIRECTORY = 0x7F00, 0x6F00, 0x7800, 0xA000, 0xC000
STUBS = HANDLER + 0x100
LANDING = HANDLER + 0x80
"""Where SYSCALL and SYSENTER lead to, and call gates two bytes further."""
LOG_POINTER, NEXT, LOG, RECORD = RESULTS, RESULTS + 4, 0x10000, 80
SLOT_BASE, SLOT_SIZE = 0x20000, 0x80
DONE = 0x30
"""The vector with which a slot ends; 31h and 32h end what SYSCALL and a call gate lead to."""
EMPTY = bytes((0xCD, DONE))

CODE32, DATA32, USER_CODE, USER_DATA, TSS_AT, LDT_AT, CODE16, STACK16 = (8 * n for n in range(1, 9))
FIRST_RANDOM, ENTRIES = 9, 24
_FLAT_CODE, _FLAT_DATA, _USER = 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x6000_0000_0000


def u32(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def handler() -> bytes:
    """What all vectors lead to: log 20 words of the stack, the registers first; go to the next slot."""
    code = bytes.fromhex("60 6A 10 1F 6A 10 07")  # pushad; push 10h; pop ds; push 10h; pop es
    code += bytes.fromhex("8B 3D") + u32(LOG_POINTER) + bytes.fromhex("89 E6 B9 14 00 00 00 FC F3 A5")
    code += bytes.fromhex("89 3D") + u32(LOG_POINTER)  # mov edi, ..; mov esi, esp; rep movsd; mov .., edi
    code += bytes.fromhex("6A 10 17 BC") + u32(STACK)  # push 10h; pop ss; mov esp, STACK
    code += (
        bytes.fromhex("A1")
        + u32(NEXT)
        + bytes.fromhex("05")
        + u32(SLOT_SIZE)
        + bytes.fromhex("A3")
        + u32(NEXT)
    )
    return code + bytes.fromhex("6A 02 6A 08 50 CF")  # push 2; push 8; push eax; iret


def stubs() -> bytes:
    """One for each vector: push its number, go to the handler."""
    out = b""
    for vector in range(64):
        stub = bytes((0x6A, vector)) + b"\xe9" + u32(HANDLER - (STUBS + 16 * vector + 7))
        out += stub.ljust(16, b"\x90")
    return out


@dataclass
class Case:
    """Slots in a world: "flat", "paged" or "16-bit"."""

    world: str
    slots: list[bytes]
    descriptors: list[int]

    def memory(self) -> dict[int, bytes]:
        gates = (
            struct.pack("<HHHH", STUBS + 16 * n, CODE32, 0x8E00 if n == 5 else 0xEE00, 0) for n in range(64)
        )
        fixed = [
            0, _FLAT_CODE, _FLAT_DATA, _FLAT_CODE | _USER, _FLAT_DATA | _USER, 0x890000000067 | TSS << 16,
            0x82000000001F | LDT << 16, 0x00009B000000FFFF | SLOT_BASE << 16, 0x000093000000FFFF,
        ]  # fmt: skip
        ldt = struct.pack("<4Q", _FLAT_DATA, _FLAT_CODE, _FLAT_DATA | _USER, _FLAT_CODE | _USER)
        tss = struct.pack("<IIIIIII", 0, STACK - 0x400, DATA32, STACK - 0x800, DATA32 | 1, 0, 0).ljust(
            0x66, b"\0"
        )
        slots = b"".join(slot.ljust(SLOT_SIZE, b"\x90") for slot in self.slots)
        return {
            RESULTS: struct.pack("<II", LOG, SLOT_BASE), GDT: struct.pack("<24Q", *fixed, *self.descriptors),
            LDT: ldt, TSS: tss + b"\x68\0", IDT: b"".join(gates),
            HANDLER: handler(), LANDING: b"\xcd\x31\xcd\x32", STUBS: stubs(),
            SLOT_BASE: slots + leave(3), DIRECTORY: u32(0x87) + bytes(0xFFC),
            DATA: struct.pack("<HIHI", ENTRIES * 8 - 1, GDT, 64 * 8 - 1, IDT),
        }  # fmt: skip


def start(world: str) -> bytes:
    """Load the tables, go to the first slot."""
    code = bytes.fromhex("0F 01 15") + u32(DATA) + bytes.fromhex("0F 01 1D") + u32(DATA + 6)  # lgdt; lidt
    code += bytes.fromhex("66 B8 10 00 8E D0 8E D8 8E C0 66 B8 28 00 0F 00 D8")  # ss ds es; ltr
    code += bytes.fromhex("66 B8 30 00 0F 00 D0")  # lldt
    code += bytes.fromhex("B9 81 00 00 C0 B8") + u32(LANDING) + bytes.fromhex("BA 08 00 18 00 0F 30")  # STAR
    if world == "paged":
        code += bytes.fromhex("0F 20 E0 83 C8 10 0F 22 E0 B8") + u32(DIRECTORY) + bytes.fromhex("0F 22 D8")
        code += bytes.fromhex("0F 20 C0 0D 00 00 01 80 0F 22 C0")  # CR4.PSE; CR3; CR0.PG and WP
    return (
        code + bytes.fromhex("6A 02 6A 08 68") + u32(SLOT_BASE) + b"\xcf"
    )  # push 2; push 8; push slot; iret


# --- random slots -------------------------------------------------------------------------------------------


class Maker:
    """Makes one case."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = ("flat", "paged", "16-bit")[seed % 3]
        self.place = 0

    def case(self) -> Case:
        descriptors = [self.descriptor() for _ in range(ENTRIES - FIRST_RANDOM)]
        slots = []
        for number in range(SLOTS):
            self.place = SLOT_BASE + number * SLOT_SIZE
            slots.append(self.slot())
        return Case(self.world, slots, descriptors)

    def descriptor(self) -> int:
        """A segment over all memory, a call gate, or something that is neither."""
        r = self.random
        kind, dpl, present = r.randrange(16), r.randrange(4), r.random() < 0.85
        if r.random() < 0.3:
            gate = r.choice((4, 0xC, 0xC, 0xC))
            target = r.choice((CODE32, CODE32, USER_CODE, DATA32, r.randrange(FIRST_RANDOM, ENTRIES) * 8, 0))
            offset = LANDING + 2
            return offset | target << 16 | r.randrange(4) << 32 | (gate | dpl << 5 | present << 7) << 40
        accessed = 1 if kind & 0xA else r.randrange(2)  # loads of CS do not set it in the emulator
        limit, high = (0xFFFF, 0xF) if r.random() < 0.9 or kind & 8 else (0x7FFF, 0)
        attributes = kind | accessed | 0x10 | dpl << 5 | present << 7
        return limit | attributes << 40 | (high | r.choice((0xC, 0xC, 0x8)) << 4) << 48

    def selector(self) -> int:
        r = self.random
        usual = (DATA32, USER_DATA | 3, CODE32, USER_CODE | 3, 4, 0x17, 0, 3, TSS_AT, LDT_AT, STACK16, CODE16)
        if r.random() < 0.5:
            return r.choice(usual)
        return r.randrange(FIRST_RANDOM, ENTRIES + 2) << 3 | r.choice((0, 0, 3, 3, 1, 2, 4))

    def far_selector(self) -> int:
        """One that names no segment that is too short for 32-bit code; a task is the one that is running."""
        while (selector := self.selector()) & ~7 == CODE16:
            pass
        return selector

    def push(self, *values: int) -> bytes:
        """Push 32-bit values, in 32-bit code."""
        return b"".join(b"\x68" + u32(value) for value in values)

    def slot(self) -> bytes:
        """Go to a ring or to virtual-8086 mode, or stay; then do something there."""
        r = self.random
        way = r.choice(("0", "0", "0", "3", "3", "v86"))
        if way == "v86":
            return self.in_virtual_8086_mode()
        if self.world == "16-bit" and way == "0":
            return self.in_16_bit_code()
        if way == "0":
            return self.instruction(0)
        iopl = r.choice((0, 0, 0x3000, 0x200))
        frame = USER_DATA | 3, USER_STACK, 2 | iopl, USER_CODE | 3, self.place + 26
        head = self.push(*frame) + b"\xcf"
        self.place += len(head)
        return head + self.instruction(3)

    def in_16_bit_code(self) -> bytes:
        r, offset = self.random, self.place - SLOT_BASE
        stack = r.choice((STACK16, DATA32))
        head = self.push(stack) + b"\x17" + b"\xea" + struct.pack("<IH", offset + 13, CODE16)  # pop ss; jmp
        assert len(head) == 13
        return head + self.instruction16() + EMPTY

    def in_virtual_8086_mode(self) -> bytes:
        r = self.random
        iopl = r.choice((0, 0x3000, 0x3200, 0x200))
        frame = [r.getrandbits(16) for _ in range(4)] + [0, USER_STACK, 0x20002 | iopl, SLOT_BASE >> 4]
        head = self.push(*frame, self.place - SLOT_BASE + 46) + b"\xcf"
        assert len(head) == 46
        here = self.place - SLOT_BASE + 46
        iret = f"6A 02 68 00 20 68 {struct.pack('<H', here + 9).hex()} CF"
        body = r.choice((
            "FA", "FB", "F4", "9C", "68 02 32 9D", "66 68 02 02 00 00 66 9D", "0F 06", "0F 20 C0",
            "CD 05", "CD 31", "CC", "0F 00 D8", "0F 00 D0", "8E D8", "8E C3 8E DB", "E4 60", "0F 08", "0F 32",
            "0F 01 F0", iret, f"66 6A 02 66 68 00 20 00 00 66 68 {struct.pack('<I', here + 17).hex()} 66 CF",
            "0F 0B", "F7 F1", "0F 01 16 00 00", "0F 23 C0", "0F 34", "0F 05",
        ))  # fmt: skip
        return head + bytes.fromhex(body) + EMPTY

    def instruction16(self) -> bytes:
        r, w = self.random, lambda value: struct.pack("<H", value & 0xFFFF)
        here, sreg = self.place - SLOT_BASE, r.choice((0, 2, 3, 4, 5))
        selector = self.far_selector()
        far = r.choice((CODE16, CODE16, CODE16, DATA32, LDT_AT, 0, 0x17))
        return r.choice((
            lambda: b"\xb8" + w(selector) + bytes((0x8E, 0xC0 | sreg << 3)),
            lambda: b"\x68" + w(selector) + r.choice((b"\x07", b"\x1f", b"\x17", b"\x0f\xa1", b"\x0f\xa9")),
            lambda: b"\x66\x68" + u32(selector) + r.choice((b"\x66\x07", b"\x66\x0f\xa9", b"\x66\x17")),
            lambda: b"\xea" + w(here + 13 + 5) + w(far),
            lambda: b"\x9a" + w(here + 13 + 5) + w(far),
            lambda: b"\x66\x9a" + u32(here + 13 + 8) + w(far),
            lambda: b"\x68" + w(far) + b"\x68" + w(here + 13 + 7) + b"\xcb",
            lambda: b"\x68\x02\x02\x68" + w(far) + b"\x68" + w(here + 13 + 10) + b"\xcf",
            lambda: b"\x0f\x20\xc0", lambda: b"\x0f\x06", lambda: b"\xfa", lambda: b"\xfb\x90",
            lambda: b"\xb8\x09\x00\x0f\x01\xf0", lambda: b"\xbb" + w(DATA) + b"\x0f\x01\x17",
            lambda: b"\xbb" + w(DATA) + b"\x66\x0f\x01\x17", lambda: b"\xb8\x30\x00\x0f\x00\xd0",
            lambda: bytes((0xCD, r.randrange(64))), lambda: b"\x0f\x23\xc0", lambda: b"\x0f\x21\xf8",
        ))()  # fmt: skip

    def instruction(self, ring: int) -> bytes:
        """One instruction of 32-bit code and what prepares it, then INT 30h."""
        r = self.random
        kinds = (
            (self.load, self.far, self.system, self.back)
            if ring == 0
            else (self.load, self.system, self.back)
        )
        body, fixed = r.choice(kinds)(ring)
        end = self.place + len(body)
        if fixed is not None:  # where the address of what follows goes
            body = body[:fixed] + u32(end) + body[fixed + 4 :]
        return body + b"\x90" + EMPTY

    def load(self, _ring: int) -> tuple[bytes, int | None]:
        """Load a segment register, or LDTR or TR."""
        r, selector, sreg = self.random, self.selector(), self.random.choice((0, 2, 3, 4, 5))
        pops = {0: b"\x07", 2: b"\x17", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}
        full = {0: b"\xc4", 3: b"\xc5", 2: b"\x0f\xb2", 4: b"\x0f\xb4", 5: b"\x0f\xb5"}
        low = STACK if sreg == 2 else r.getrandbits(32)
        return r.choice((
            lambda: b"\xb8" + u32(selector) + bytes((0x8E, 0xC0 | sreg << 3)),
            lambda: self.push(selector) + bytes((0x8E, sreg << 3 | 4, 0x24)),
            lambda: self.push(selector) + pops[sreg],
            lambda: b"\x66\x68" + struct.pack("<H", selector) + b"\x66" + pops[sreg],
            lambda: self.push(selector, low) + full[sreg] + (b"\x24\x24" if sreg == 2 else b"\x3c\x24"),
            lambda: b"\xb8" + u32(selector) + b"\x0f\x00\xd0",
            lambda: b"\xb8" + u32(selector) + b"\x0f\x00\xd8",
        ))(), None  # fmt: skip

    def far(self, _ring: int) -> tuple[bytes, int | None]:
        """JMP and CALL far, direct and through memory."""
        r, selector = self.random, struct.pack("<H", self.far_selector())
        form = r.randrange(4)
        if form < 2:
            return (b"\xea", b"\x9a")[form] + bytes(4) + selector, 1
        opcode = (b"\xff\x2c\x24", b"\xff\x1c\x24")[form - 2]
        return b"\x68" + selector + b"\0\0\x68" + bytes(4) + opcode, 6

    def back(self, _ring: int) -> tuple[bytes, int | None]:
        """RET far and IRET, to this ring, an outer or a wrong one."""
        r, code = self.random, self.far_selector()
        outer = [self.selector(), r.choice((USER_STACK, USER_STACK - 0x123))] if r.random() < 0.6 else []
        flags = r.choice((2, 0x202, 0x3202, 0x102, 0x4002, 0x10002, 0x40002, 0x200002, 0xCD7))
        code = r.choice((code, USER_CODE | 3, CODE32))
        outer = r.choice((outer, [USER_DATA | 3, USER_STACK]))
        form = r.randrange(3)
        if form == 0 and not flags & 0x4000:
            head = self.push(*outer, flags, code)
            return head + b"\x68" + bytes(4) + b"\xcf", len(head) + 1
        released = r.choice((0, 4, 8)) if form == 1 else 0
        head = self.push(*outer, *[0x5A5A] * (released // 4), code)
        opcode = b"\xca" + struct.pack("<H", released) if form == 1 else b"\xcb"
        return head + b"\x68" + bytes(4) + opcode, len(head) + 1

    def system(self, ring: int) -> tuple[bytes, int | None]:
        """The rest of the privileged instructions."""
        r, value = self.random, self.random.getrandbits(32)
        msr = r.choice((0x174, 0x175, 0x176, 0x277, 0xC0000080, 0xC0000081, 0xC0000084, 0xDEAD, 0xC0000102))
        written = {0x174: CODE32, 0xC0000080: r.choice((0, 1, 2)), 0x277: 0x00070406, 0x176: LANDING,
                   0xC0000081: LANDING, 0x175: STACK}.get(msr, value)  # fmt: skip
        high = {0xC0000081: 0x180008, 0x277: 0x00070406}.get(msr, 0)
        cr0 = r.choice((0, 8, 2, 0x20, 0xA, 0x40000, 0x10000000, 0x20000000, 0x60000000))
        cr0 = cr0 | (0x80010011 if self.world == "paged" else 0x11)
        cr4 = r.choice((0, 4, 8, 0x80, 0x100, 0x600, 0x200, 0x40000000, 0x2000)) | 0x10
        choices: tuple[bytes, ...] = (
            b"\xfa", b"\xfb", b"\xfb\x90\xfa", b"\x0f\x06", b"\x0f\x08", b"\x0f\x09", b"\x0f\x0b", b"\xcc",
            b"\xf7\xf1", bytes((0xCD, r.randrange(64))), b"\xb8" + u32(cr0) + b"\x0f\x22\xc0",
            b"\xb8" + u32(cr4) + b"\x0f\x22\xe0", b"\xb8" + u32(value) + b"\x0f\x22\xd0",
            bytes((0x0F, 0x20, 0xC0 | r.choice((0, 2, 3, 4, 1, 5)) << 3 | r.choice((0, 1, 2, 3)))),
            b"\xb8" + u32(value) + bytes((0x0F, 0x23, 0xC0 | r.randrange(4) << 3)),
            b"\xb8" + u32(value & 0xFFFF0000) + bytes((0x0F, 0x23, 0xC0 | r.choice((4, 5, 6, 7)) << 3)),
            bytes((0x0F, 0x21, 0xC0 | r.randrange(8) << 3)), b"\xb9" + u32(msr) + b"\x0f\x32",
            b"\xb9" + u32(msr) + b"\xb8" + u32(written) + b"\xba" + u32(high) + b"\x0f\x30",
            b"\xb9" + u32(r.randrange(6)) + b"\x0f\x33", b"\x0f\x01\x3d" + u32(value),
            b"\xb8" + u32(value & 0xE | 1) + b"\x0f\x01\xf0", b"\x0f\x01\x15" + u32(DATA),
            b"\x0f\x01\x1d" + u32(DATA + 6), b"\x66\x0f\x01\x15" + u32(DATA), b"\x0f\x05", b"\x0f\x34",
            b"\xba" + u32(self.place) + b"\xb9" + u32(USER_STACK) + b"\x0f\x35", b"\xb0\x7f\x04\x01\xce",
            b"\x0f\x07", b"\xe4\x60" if ring else b"\xe6\x80",
        )  # fmt: skip
        return r.choice(choices), None
