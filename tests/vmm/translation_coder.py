"""Random instructions for ``translation_blocks``: all forms of operands, at addresses that are good to use.

Addresses are held by registers that a slot loads first and that nothing else in it writes to.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from tests.vmm import translation_driver as driver
from tests.vmm import translation_random_lab as lab
from tests.vmm.translation_driver import BIAS, SLOT
from tests.vmm.translation_random_lab import Fix, Unit, World

AX, CX, DX, BX, SP, BP, SI, DI = range(8)

# An opcode, then: b for bytes, m memory alone, R a register alone, a digit the middle field of ModRM, i1 and
# iz an immediate of one byte and of the operand's size, w for a target that is no byte, L for one that may
# have LOCK with memory. What is not asked for, since the emulator is not the processor of the manuals there:
# CMPXCHG8B, which leaves operands of the instruction before in RFLAGS, and RCL, RCR and SETcc of memory,
# which spoil the flags when their store faults; a monitor has it fault where the guest does not know.
_ALU = """
00 b L;01 L;02 b;03;08 b L;11 L;13;19 L;1b;21 L;23;29 L;2b;31 L;33;38 b;39;3b;80 0 b i1 L;80 5 b i1 L;81
0 iz L;81 2 iz;81 4 iz L;83 1 i1;83 3 i1 L;83 7 i1;f6 0 b i1;f6 3 b L;f7 2 L;f7 3;f7 4;f7 5;f7 0 iz;f6 4
b;f6 5 b;fe 0 b L;fe 1 b;ff 0 L;ff 1;86 b;87;88 b;89;8a b;8b;8d m;8d m;c6 0 b i1;c7 0 iz;c0 0 b i1;c1 1
i1;d1 2 R;d3 3 R;d1 1;d3 4;d2 5 b;c1 7 i1;d3 1;d0 4 b;69 iz;6b i1;0faf;0fbc;0fbd;0fa4 i1;0fa5;0fac
i1;0fad;0fb0 b L;0fb1 L;0fc0 b L;0fc1 L;0fb6 b w;0fb7;0fbe b w;0fbf;0f44;0f4c;0f95 0 b R;0f92 0 b R;f6 2
b L;f7 2
"""
_MEDIA = """
0f10;0f11;660f6f;660f7f;f30f6f;f30f7f;660fef;660ffe;660fd4;0f57;0f14;660f70 i1;660f6e;660f7e;660fd6;0f28
R;0fe7 m;0fc3 m;d9 0 m;d9 2 m;d9 3 m;dd 0 m;dd 3 m;db 0 m;df 5 m;df 7 m;d8 0 m;de 1 m;d9 7 m;d9 5 m;0fae
3 m;d9 0 R;d9 1 R;d8 1 R;dd 7 m
"""


def _table(text: str) -> list[tuple[bytes, tuple[str, ...]]]:
    rows = (row.split() for row in text.split(";"))
    return [(bytes.fromhex(row[0]), tuple(row[1:])) for row in rows]


BITS: Final = _table("0fa3 R;0fab R;0fb3 R;0fbb R;0fba 4 i1 R;0fba 5 i1 R;0fba 6 i1 R;0fba 7 i1 R")
ALU: Final = _table(_ALU)
MEDIA: Final = _table(_MEDIA)
MEDIA16: Final = [row for row in MEDIA if row[0][:1] not in (b"\x66", b"\xf3")]
"""Without those that the decoder of 16-bit code does not know: see docs/TRANSLATION.md."""


def little(value: int, size: int) -> bytes:
    """Give the low bytes of a number."""
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


class Place:
    """Where a program is: its room, segments and stack."""

    def __init__(self, random: Random, world: World, number: int) -> None:
        r, mask = random, (1 << 64) - 1 if world.bits == 64 else 0xFFFFFFFF
        self.world, self.number, self.mask = world, number, mask
        self.room = lab.ROOM + number * lab.ROOM_SIZE
        far = driver.FIX - r.choice((0, 0x10))
        if world.bits == 64:
            self.bases = (0, r.choice((0, 0x20)), 0, far)  # of CS; GS; SS; FS
        elif world.bits == 16:
            self.bases = (self.room - r.choice((0, 0x10, 0x123)), self.room - 16 * r.randrange(256),
                          self.room - r.choice((0, 0x1000)), far)  # fmt: skip
        elif world.based:
            low = (self.room - r.randrange(0x1000), r.randrange(self.room), 0)
            self.bases = (r.choice(low), r.choice((*low, r.getrandbits(32))),
                          r.choice((*low, r.getrandbits(32))), far)  # fmt: skip
        else:
            self.bases = (0, 0, 0, far)
        self.ds = 0 if world.bits == 64 else self.bases[1]
        code = self.room + r.choice((0x800, 0x800, 0xC00)) + world.alias
        self.first = ((code - self.bases[0] & mask) & -SLOT) + SLOT - BIAS
        self.data = self.room + r.choice((0x100, 0x1600, 0x2000, 0x2000))
        self.wide_stack = world.bits == 32 or r.random() < 0.3
        self.stack = self.room + r.choice((0x1F00, 0x2F00, 0x2F00)) + self.alias(r) - self.bases[2] & mask

    @property
    def selector(self) -> int:
        """The first selector that is the program's own."""
        return lab.OWN + 32 * self.number

    @property
    def near(self) -> int:
        """Give what is added to the address of data that instructions reach relative to RIP."""
        return 0 if self.world.window else self.world.alias

    def alias(self, random: Random) -> int:
        """Give what may be added to the address of data."""
        return self.world.alias if random.random() < 0.4 and not self.world.window else 0

    def offset(self, linear: int) -> int:
        """Give the offset in DS of an address."""
        return linear - self.ds & self.mask

    def slot(self, number: int) -> int:
        """Give the offset in CS of a slot."""
        return self.first + number * SLOT


class Operand(NamedTuple):
    """What a ModRM byte says, but for its middle field. rex: bits X and B. target: of one relative to RIP."""

    prefix: bytes
    rex: int
    modrm: int
    tail: bytes = b""
    target: int | None = None


class Coder:
    """Writes instructions for one program.

    pointer, index, far: registers with an address in DS, a small number, and an offset in the far segment;
    ``free`` are the others. reload: what sets the three. above: bytes on the stack to leave alone.
    """

    def __init__(self, random: Random, place: Place) -> None:
        self.random, self.place, self.bits = random, place, place.world.bits
        self.word = {16: 2, 32: 4, 64: 8}[self.bits]
        self.above = 0
        self.choose()

    def choose(self) -> None:
        """Give the registers other tasks."""
        r, place = self.random, self.place
        names = [BX, BP, SI, DI, *(range(8, 16) if self.bits == 64 else ())]
        if self.bits == 16:
            self.pointer, self.index = r.choice((BX, BP)), r.choice((SI, DI))
            self.far = r.choice([n for n in (BX, SI, DI) if n not in (self.pointer, self.index)])
        else:
            self.pointer, self.index, self.far = r.sample(names, 3)
        self.free = [n for n in range(16 if self.bits == 64 else 8)
                     if n not in (self.pointer, self.index, self.far, SP)]  # fmt: skip
        self.address = place.offset(place.data + place.alias(r) + 0x100 + r.randrange(0x200))
        self.small, self.far_at = (
            r.randrange(16),
            r.choice((0xFF0, 0x3FF8, 0x8F00, 0x9F00, r.randrange(0x9F00))),
        )
        self.reload = b"".join(
            self.load(register, value)
            for register, value in (
                (self.pointer, self.address),
                (self.index, self.small),
                (self.far, self.far_at),
            )
        )

    # --- pieces -------------------------------------------------------------------------------------------

    def load(self, register: int, value: int) -> bytes:
        """MOV register, value: all 32 bits, or 64 of which the high ones are signs."""
        if self.bits == 64 and value >> 32:
            return bytes((0x48 | register >> 3, 0xC7, 0xC0 | register & 7)) + little(value, 4)
        head = b"\x66" if self.bits == 16 else b"\x41" if register > 7 else b""
        return head + bytes((0xB8 | register & 7,)) + little(value, 4)

    def push(self, value: int) -> bytes:
        """PUSH value, as wide as the code."""
        return b"\x68" + little(value, 2 if self.bits == 16 else 4)

    def register(self, *, byte: bool = False) -> int:
        """Give a register that may be written to, as an opcode has it."""
        if not byte or self.bits == 64:
            return self.random.choice(self.free)
        low = [n for n in self.free if n < 4]
        return self.random.choice([*low, *(n + 4 for n in low)])

    def memory(self) -> Operand:
        """Give an operand in memory of any form."""
        r, chance = self.random, self.random.random()
        if self.bits == 16 and r.random() < 0.8:
            return self._memory16(chance)
        head = (
            b"\x67"
            if self.bits == 16 or (self.bits == 64 and not self.address >> 31 and r.random() < 0.1)
            else b""
        )
        if chance < 0.12:
            return self._fields(b"\x64" + head, self.far, None, r.choice((0, 8, -8, 0x100)))
        if chance < 0.2 and not (self.bits == 64 and head):
            return self._fields(head, SP, None, self.above + r.randrange(0x60), safe=True)
        if chance < 0.35 and self.bits == 64:
            target = self.place.data + self.place.near + 0x80 + r.randrange(0x300)
            return Operand(b"", 0, 5, bytes(4), target)
        segment = b""
        if chance < 0.45:
            segment = b"\x65" if self.bits == 64 else r.choice((b"\x26", b"\x65"))
        elif (self.pointer == BP and self.bits < 64) or chance < 0.5:
            segment = b"\x3e"
        form = r.randrange(6)
        if form < 2:
            return self._fields(segment + head, self.pointer, None, r.choice((0, r.randrange(-128, 128))))
        if form < 4:
            return self._fields(
                segment + head, self.pointer, self.index, r.choice((0, r.randrange(-128, 300)))
            )
        if head:
            segment = segment or b"\x3e"
        if form == 4:
            return self._fields(segment + head, None, self.index, self.address)
        return self._fields(segment + head, None, None, self.address)

    def _memory16(self, chance: float) -> Operand:
        """The same with 16-bit registers."""
        r = self.random
        if chance < 0.2:
            forms = {BX: 7, SI: 4, DI: 5}
            return Operand(b"\x64", 0, 0x40 | forms[self.far], little(r.choice((0, 8, -8)), 1))
        head = r.choice((b"\x26", b"\x65", b"\x3e")) if chance < 0.4 else b""
        plain = {BX: 7, BP: 6}[self.pointer]
        both = {(BX, SI): 0, (BX, DI): 1, (BP, SI): 2, (BP, DI): 3}[self.pointer, self.index]
        if self.pointer == BP:
            head = head or b"\x3e"
        form = r.randrange(5)
        if form == 0:
            return Operand(head or b"\x3e", 0, 6, little(self.address, 2))
        if form == 1:
            return Operand(head or b"\x3e", 0, 0x80 | {SI: 4, DI: 5}[self.index], little(self.address, 2))
        rm = plain if form == 2 else both
        if rm != 6 and r.random() < 0.3:
            return Operand(head, 0, rm)
        if form == 3:
            return Operand(head, 0, 0x80 | rm, little(r.randrange(-128, 300), 2))
        return Operand(head, 0, 0x40 | rm, little(r.randrange(-128, 128), 1))

    def _fields(
        self, prefix: bytes, base: int | None, index: int | None, displacement: int, *, safe: bool = False
    ) -> Operand:
        """Encode an address with 32-bit or 64-bit registers. safe: SS is where it should be."""
        r = self.random
        rex = (base or 0) >> 3 | ((index or 0) >> 3) << 1
        size = 4
        if base is not None:
            size = 0 if not displacement and base & 7 != BP and r.random() < 0.8 else 4
            if size and -128 <= displacement < 128 and r.random() < 0.8:
                size = 1
        mod = {0: 0, 1: 0x40, 4: 0x80}[size] if base is not None else 0
        if base == SP and not safe:
            raise ValueError("base: RSP is of another segment")
        if base is not None and index is None and base & 7 != SP:
            return Operand(prefix, rex, mod | base & 7, little(displacement, size))
        if base is None and index is None and self.bits != 64 and r.random() < 0.8:
            return Operand(prefix, 0, 5, little(displacement, 4))
        scale = r.randrange(4) << 6 if index is not None else 0
        sib = scale | (index if index is not None else SP) % 8 << 3 | (base if base is not None else BP) & 7
        return Operand(prefix, rex, mod | 4, bytes((sib,)) + little(displacement, size))

    def instruction(
        self, opcode: bytes, middle: int, operand: Operand, immediate: bytes = b"", *, wide: bool = False,
        rex: int = 0,
    ) -> Unit:  # fmt: skip
        """Put one together. wide: REX.W. rex: bits of a REX prefix that must be there."""
        heads = 0
        while opcode[heads] in (0x66, 0xF0, 0xF2, 0xF3):
            heads += 1
        extension = rex | operand.rex | middle >> 3 << 2 | (8 if wide else 0)
        code = opcode[:heads] + operand.prefix + (bytes((0x40 | extension,)) if extension else b"")
        code += opcode[heads:] + bytes((operand.modrm | (middle & 7) << 3,)) + operand.tail
        end = len(code) + len(immediate)
        fixes = () if operand.target is None else (Fix(len(code) - 4, 4, operand.target, end),)
        return Unit(code + immediate, fixes)

    def plain(self, rows: list[tuple[bytes, tuple[str, ...]]], *, media: bool = False) -> Unit:
        """One instruction of a table."""
        r = self.random
        opcode, what = r.choice(rows)
        byte = "b" in what
        size = 1 if byte else r.choice({16: (2, 2, 2, 4), 32: (4, 4, 4, 2), 64: (4, 8, 8, 2)}[self.bits])
        if media:
            size = 4
        in_memory = "m" in what or ("R" not in what and r.random() < 0.55)
        if in_memory:
            operand = self.memory()
        else:
            register = (
                r.randrange(8) if media and opcode[-1] not in (0x6E, 0x7E) else self.register(byte=byte)
            )
            operand = Operand(b"", register >> 3, 0xC0 | register & 7)
        middle = [int(word) for word in what if word.isdigit()]
        number = (
            middle[0] if middle else r.randrange(8) if media else self.register(byte=byte and "w" not in what)
        )
        if media and opcode[:1] >= b"\xd8" and opcode[:1] <= b"\xdf" and not in_memory:
            operand = Operand(b"", 0, 0xC0 | r.randrange(8))
        immediate = b""
        if "i1" in what:
            immediate = r.randbytes(1)
        elif "iz" in what:
            immediate = r.randbytes(min(size, 4))
        if not media and not byte and size == (2 if self.bits != 16 else 4):
            opcode = b"\x66" + opcode
        if "L" in what and in_memory and r.random() < 0.1:
            opcode = b"\xf0" + opcode
        rex = 0x40 if byte and self.bits == 64 else 0
        return self.instruction(opcode, number, operand, immediate, wide=size == 8, rex=rex)

    def wide(self, code: bytes) -> bytes:
        """Give an instruction its full width in 64-bit code, or in 16-bit code 32 bits."""
        return {16: b"\x66", 32: b"", 64: b"\x48"}[self.bits] + code

    def filler(self) -> bytes:
        """Give an instruction or two without addresses to fix, which leave RCX alone."""
        out = b""
        for _ in range(self.random.randrange(1, 3)):
            unit = self.plain(ALU)
            while unit.fixes or unit.code[:1] == b"\xf0":
                unit = self.plain(ALU)
            out += unit.code
        return out
