"""Random instructions with a memory operand at DEVICE, encoded here, and random processors to run them on."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.vmm.mmio_lab import CODE, DEVICE, HIGH, OTHER, MmioLab
from vlab.isa.state import GENERAL_REGISTERS, CpuState

CF, PF, AF, ZF, SF, OF, DF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 11, 1 << 10
STATUS = CF | PF | AF | ZF | SF | OF
_KEPT = 1 << 21 | 1 << 18 | 1 << 14  # ID, AC, NT: neither matters here, and both must survive
RCX, RSP, RBP, RSI, RDI = 1, 4, 5, 6, 7
BITS = (16, 32, 64)
_SIZES = {16: (1, 2, 4), 32: (1, 2, 4), 64: (1, 2, 4, 8)}
_EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 63,
    (1 << 64) - 1,
)
_PREFIX = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}
_PAIRS_16 = (
    (3, 6),
    (3, 7),
    (5, 6),
    (5, 7),
    (6, None),
    (7, None),
    (5, None),
    (3, None),
)  # ModRM.rm in 16 bits

ARITHMETIC = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
LOGICAL = ("or", "and", "xor", "test")
STRINGS = {"movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE}


@dataclass
class Case:
    """An instruction, the processor that it runs on, and which flags it leaves undefined."""

    code: bytes
    state: CpuState
    undefined: int = 0


@dataclass
class Form:
    """An encoding: opcode, ModRM.reg (None: a register operand is drawn), constant, undefined flags.

    size: bytes of the memory operand; operation: of the operation, which REX.W and 66h choose.
    """

    opcode: bytes
    size: int
    reg: int | None = None
    constant: bytes = b""
    undefined: int = 0
    lockable: bool = False
    operation: int = 0
    bits_from_register: bool = False


def number(random: Random) -> int:
    """Draw 64 bits, often at an edge."""
    return random.choice(_EDGES) if random.random() < 0.4 else random.getrandbits(64)


def sizes(bits: int) -> tuple[int, ...]:
    return _SIZES[bits]


def processor(lab: MmioLab, bits: int, random: Random) -> CpuState:
    """Draw registers and flags; the stack and the segments stay where they are."""
    state = lab.state(bits)
    for name in GENERAL_REGISTERS:
        if name != "rsp" and (bits == 64 or not name[1:].isdigit()):
            setattr(state, name, number(random) & (2**64 - 1 if bits == 64 else 2**32 - 1))
    if bits == 16:
        state.rsp |= random.getrandbits(16) << 16  # above SP
    state.rflags = 2 | random.getrandbits(22) & (STATUS | DF | _KEPT)
    return state


class Encoder:
    """Puts one instruction together."""

    def __init__(self, lab: MmioLab, bits: int, random: Random) -> None:
        self.bits = bits
        self.random = random
        self.state = processor(lab, bits, random)
        self.width = random.choice({16: (2, 2, 4), 32: (4, 4, 2), 64: (8, 8, 4)}[bits])
        self.rex = 0

    # --- prefixes ---------------------------------------------------------------------------------------

    def prefixes(self, operation: int, segment: str | None, lock: bool = False) -> bytes:
        """Give legacy prefixes in any order."""
        out = []
        if segment is not None:
            out.append(_PREFIX[segment])
        if self.width * 8 != self.bits:
            out.append(0x67)
        if operation == (4 if self.bits == 16 else 2):
            out.append(0x66)
        if lock:
            out.append(0xF0)
        self.random.shuffle(out)
        return bytes(out)

    # --- operands ---------------------------------------------------------------------------------------

    def target(self, size: int) -> tuple[str | None, int, int]:
        """Choose a segment prefix and a place in the device; give prefix, segment base and linear address."""
        random = self.random
        place = DEVICE + random.randrange(0, 4096 - size + 1)
        if self.bits == 16:
            segment = random.choice((None, "ds", "es", "ss", "fs", "gs"))
            return segment, getattr(self.state, segment or "ds").base, place
        if self.width == 2:
            return "fs", self.state.fs.base, max(place, self.state.fs.base)
        if self.bits == 32:
            segment = random.choice((None, None, "ds", "es", "fs", "gs"))
            return segment, getattr(self.state, segment or "ds").base, place
        segment = random.choice((None, None, "ds", "cs", "fs"))
        high = HIGH if segment == "fs" or self.width == 8 else 0
        return segment, self.state.fs.base if segment == "fs" else 0, high + place

    def address(self, segment: str | None, offset: int, reg: int, taken: int | None) -> tuple[int, bytes]:
        """Encode ``offset`` as an address; give REX.XB and ModRM, SIB and displacement.

        taken: a register whose value must stay.
        """
        if self.width == 2:
            return 0, self._address_16(segment, offset, reg, taken)
        random, limit = self.random, 16 if self.bits == 64 else 8
        # A base of RSP or RBP would choose SS, whose base differs only in 16-bit code.
        free = [n for n in range(limit) if n not in (RSP, taken) and (self.bits != 16 or n != RBP)]
        base, index, shift = random.choice(free), random.choice(free), random.randrange(4)
        displacement = random.choice((random.getrandbits(32), random.getrandbits(7)))
        signed = displacement - (displacement >> 31 << 32)
        kind = random.choice(("base", "base", "index", "sib", "none"))
        if kind == "none" and (self.bits != 64 or (segment == "fs" and taken is None)):
            return 0, self._absolute(offset, reg)
        if index == base or kind != "index":
            self._set(base, offset - signed)
            body = displacement.to_bytes(4, "little")
            if kind == "sib" or base & 7 == RSP:
                return base >> 3, bytes((0x84 | (reg & 7) << 3, 0x20 | base & 7)) + body
            return base >> 3, bytes((0x80 | (reg & 7) << 3 | base & 7,)) + body
        scaled = self._get(index) << shift
        self._set(base, offset - signed - scaled)
        body = displacement.to_bytes(4, "little")
        sib = shift << 6 | (index & 7) << 3 | base & 7
        return index >> 3 << 1 | base >> 3, bytes((0x84 | (reg & 7) << 3, sib)) + body

    def _absolute(self, offset: int, reg: int) -> bytes:
        """An address that is a displacement alone; outside 64-bit mode also without a SIB byte."""
        body = (offset & 0xFFFFFFFF).to_bytes(4, "little")
        if self.bits != 64 and self.random.random() < 0.5:
            return bytes((reg << 3 | 5,)) + body
        return bytes(((reg & 7) << 3 | 4, 0x25)) + body

    def _address_16(self, segment: str | None, offset: int, reg: int, taken: int | None) -> bytes:
        random = self.random
        if random.random() < 0.2:
            return bytes((reg << 3 | 6,)) + (offset & 0xFFFF).to_bytes(2, "little")
        # BP chooses SS unless a prefix says otherwise.
        usable = [
            rm
            for rm, pair in enumerate(_PAIRS_16)
            if taken not in pair and (segment is not None or pair[0] != RBP)
        ]
        rm = random.choice(usable)
        base, index = _PAIRS_16[rm]
        displacement = random.getrandbits(16)
        rest = offset - displacement - (self._get(index) if index is not None else 0)
        self._set(base, rest)
        return bytes((0x80 | reg << 3 | rm,)) + displacement.to_bytes(2, "little")

    def _get(self, register: int) -> int:
        value: int = getattr(self.state, GENERAL_REGISTERS[register])
        return value

    def _set(self, register: int, value: int) -> None:
        """Set the part of a register that an address uses; what is above it is noise."""
        mask = (1 << 8 * self.width) - 1
        setattr(self.state, GENERAL_REGISTERS[register], self._get(register) & ~mask | value & mask)

    # --- instructions -----------------------------------------------------------------------------------

    def instruction(self, form: Form) -> Case:
        """Encode one instruction with ModRM."""
        random = self.random
        operation = form.operation or form.size
        reg, rex = form.reg, 0
        if reg is None:
            reg = random.randrange(16 if self.bits == 64 else 8)
            if self.bits == 64 and random.random() < 0.3:
                rex |= 0x40  # SPL and its like instead of AH and its like
        lock = form.lockable and random.random() < 0.3
        segment, base, linear = self.target(form.size)
        offset, taken = linear - base, None
        if form.bits_from_register:
            if reg == RSP:
                reg = 0
            taken = reg
            value = self._get(reg) & (1 << 8 * form.size) - 1
            value -= value >> 8 * form.size - 1 << 8 * form.size
            offset -= value // (8 * form.size) * form.size
        extra, body = self.address(segment, offset, reg, taken)
        if self.bits == 64:
            rex |= extra | reg >> 3 << 2 | (8 if operation == 8 else 0)
        encoded = bytes((0x40 | rex,)) if rex else b""
        code = self.prefixes(operation, segment, lock) + encoded + form.opcode + body + form.constant
        return Case(code, self.state, form.undefined)

    def absolute_move(self, size: int) -> Case:
        """Encode MOV between the accumulator and a full-width address."""
        segment, base, linear = self.target(size)
        opcode = self.random.choice((0xA0, 0xA2)) | (size > 1)
        rex = b"\x48" if size == 8 else b""
        address = ((linear - base) & (1 << 8 * self.width) - 1).to_bytes(self.width, "little")
        return Case(self.prefixes(size, segment) + rex + bytes((opcode,)) + address, self.state)

    def relative_move(self, size: int) -> Case:
        """Encode MOV of a constant or a register to an address relative to RIP."""
        self.width = 8
        place = HIGH + DEVICE + self.random.randrange(0, 4096 - size + 1)
        start = self.prefixes(size, None) + (b"\x48" if size == 8 else b"")
        if self.random.random() < 0.5:
            constant = self.random.randbytes(min(size, 4))
            start += bytes((0xC6 | (size > 1), 0x05))
        else:
            constant = b""
            start += bytes((self.random.choice((0x88, 0x8A)) | (size > 1), 0x05))
        displacement = place - (HIGH + CODE + len(start) + 4 + len(constant))
        return Case(start + displacement.to_bytes(4, "little") + constant, self.state)

    def string(self, name: str, size: int) -> Case:
        """Encode a string instruction; of the two operands of MOVS and CMPS at least one is the device."""
        random, state = self.random, self.state
        if self.bits == 32:
            self.width = 4
        elements = random.randrange(0, 6)
        first = random.choice((DEVICE, OTHER)) if name in ("movs", "cmps") else DEVICE
        second = DEVICE if first == OTHER or random.random() < 0.3 else OTHER
        repeat = random.choice((None, 0xF3, 0xF2))
        source_at, target_at = (self._element(page, size) for page in (first, second))
        if name in ("stos", "scas"):
            target_at = self._element(DEVICE, size)
        segment = (
            random.choice((None, "ss", "gs", "ds")) if self.bits != 64 else random.choice((None, "ds", "fs"))
        )
        source_base = getattr(state, segment or "ds").base
        if self.bits == 64:
            source_base = state.fs.base if segment == "fs" else 0
        if segment == "fs" and self.width == 4:
            segment, source_base = None, 0
        if self.bits == 16 and first == OTHER and source_base == 0xB8000:
            segment, source_base = "ss", state.ss.base
        high = HIGH if self.bits == 64 and self.width == 8 else 0
        source_high = HIGH if self.bits == 64 and (self.width == 8 or segment == "fs") else 0
        self._set(RSI, source_high + source_at - source_base)
        self._set(RDI, high + target_at - (state.es.base if self.bits != 64 else 0))
        if repeat is not None:
            self._set(RCX, elements)
        out = self.prefixes(size, segment)
        if repeat is not None:
            out = bytes((repeat,)) + out if random.random() < 0.5 else out + bytes((repeat,))
        rex = b"\x48" if size == 8 else b""
        return Case(out + rex + bytes((STRINGS[name] | (size > 1),)), state)

    def _element(self, page: int, size: int) -> int:
        """Give a place from which six elements in either direction stay in the device, or in the RAM."""
        low, high = 6 * size, 4096 - 6 * size
        if page == OTHER:
            high += 4096  # over the end of its first page
            low = 4096 - 8 * size if self.random.random() < 0.3 else low
            high = 4096 + size if low > 8 * 6 else high
        return page + self.random.randrange(low, high)

    def stack(self, size: int, *, push: bool) -> Case:
        """Encode PUSH or POP of a memory operand."""
        form = Form(b"\xff" if push else b"\x8f", size, reg=6 if push else 0, operation=size)
        if size == 8:
            form.operation = 4  # 64 bits is what there is without a prefix
        return self.instruction(form)


def constant(random: Random, size: int) -> bytes:
    """Draw an immediate operand for an operation of ``size`` bytes."""
    return (number(random) & (1 << 8 * min(size, 4)) - 1).to_bytes(min(size, 4), "little")
