"""Decode assists: what the processor tells a monitor about an intercepted system instruction.

The emulator stops at MOV CRn, MOV DRn, CLTS, LMSW, SMSW, LTR and INVLPG without a word on their operands. AMD
processors put some of them into EXITINFO1 (AMD APM vol. 2, rev. 3.42, 15.33); this module decodes the
instruction for that, and for a monitor or microcode that carries one out. Encodings are those of AMD APM vol.
3, rev. 3.36, 1.2 to 1.4 and chapter 4.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.svm_exits import SvmExit
from vlab.machine.core import LiveCore

MOV: Final = 1 << 63
"""EXITINFO1 of a control register access: set for MOV, whose general register is in bits 3:0."""

CLTS, INVD, GROUP_6, GROUP_7 = 0x06, 0x08, 0x00, 0x01
WRITE_CR: Final = 0x22
"""Opcode bytes behind 0Fh. Group 6 has SLDT STR LLDT LTR, group 7 SMSW LMSW INVLPG RDTSCP."""

_SEGMENT_PREFIXES: Final = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
_OTHER_PREFIXES: Final = frozenset((0xF0, 0xF2, 0xF3))
_OPERAND_SIZE, _ADDRESS_SIZE, _ESCAPE = 0x66, 0x67, 0x0F
_MOVES: Final = frozenset((0x20, 0x21, 0x22, 0x23))  # MOV from CR, from DR, to CR, to DR
_BARE: Final = frozenset((CLTS, INVD, 0x09, 0x31))  # no ModRM byte; the others are WBINVD and RDTSC
_RSP, _RBP, _RIP_RELATIVE, _SIB = 4, 5, 5, 4
_LONG64: Final = 5  # LiveCore.mode_code
_BIG: Final = 1 << 10  # D in segment attributes
_PAIRS: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6,), (7,), (5,), (3,))
"""Registers that 16-bit ModRM forms add up: BX+SI BX+DI BP+SI BP+DI SI DI BP BX (vol. 3, table 1-14)."""


class SystemInstruction(NamedTuple):
    """One decoded instruction. opcode: the byte behind 0Fh. length: bytes, prefixes included.

    number: ModRM.reg, with its REX bit: a control or debug register, or which instruction of a group it is.
    register: the general register in ModRM.rm, None for memory. linear: the address of a memory operand, None
    for a register. operand_size: 2, 4 or 8 bytes.
    """

    opcode: int
    length: int
    number: int
    register: int | None
    linear: int | None
    operand_size: int

    @property
    def is_mov(self) -> bool:
        """Whether this is MOV to or from a control or debug register."""
        return self.opcode in _MOVES

    @property
    def is_clts(self) -> bool:
        """Whether this is CLTS."""
        return self.opcode == CLTS


def exit_info(code: int, instruction: SystemInstruction | None) -> int:
    """Give EXITINFO1 for an exit with SVM exit code ``code`` at ``instruction`` (APM2 15.33.1, 15.33.2).

    0 for exits without a decode assist, and for bytes that are no such instruction.
    """
    if instruction is None:
        return 0
    if code == SvmExit.INVLPG:
        return instruction.linear or 0
    if not instruction.is_mov or code > SvmExit.WRITE_DR15:
        return 0
    return (instruction.register or 0) | (MOV if code <= SvmExit.WRITE_CR15 else 0)


def decode(core: LiveCore, code: bytes) -> SystemInstruction | None:
    """Decode the instruction at RIP, whose bytes are ``code``; None for any other, and for one cut short."""
    try:
        return _decode(core, code)
    except IndexError:
        return None


def _decode(core: LiveCore, code: bytes) -> SystemInstruction | None:
    long64 = core.mode_code == _LONG64
    wide = not long64 and bool(core.segment("cs").attributes & _BIG)
    place, rex, segment, swapped, short = 0, 0, None, False, False
    while True:
        byte = code[place]
        if byte in _SEGMENT_PREFIXES:
            segment = _SEGMENT_PREFIXES[byte]
        elif byte == _OPERAND_SIZE:
            swapped = True
        elif byte == _ADDRESS_SIZE:
            short = True
        elif byte not in _OTHER_PREFIXES:
            break
        place += 1
    if long64 and byte & 0xF0 == 0x40:
        rex, place = byte, place + 1
    if code[place] != _ESCAPE:
        return None
    opcode, place = code[place + 1], place + 2
    size = 8 if long64 and rex & 8 else 4 if (long64 or wide) != swapped else 2
    if opcode in _BARE:
        return SystemInstruction(opcode, place, 0, None, None, size)
    modrm, place = code[place], place + 1
    number, rm = modrm >> 3 & 7 | rex << 1 & 8, modrm & 7 | rex << 3 & 8
    if opcode in _MOVES:  # the mod field is ignored: always a register
        return SystemInstruction(opcode, place, number, rm, None, 8 if long64 else 4)
    if opcode not in (GROUP_6, GROUP_7):
        return None
    if modrm >> 6 == 3:
        return SystemInstruction(opcode, place, number & 7, rm, None, size)
    bits = (32 if short else 64) if long64 else 32 if wide != short else 16
    offset, place, base = (_address_16 if bits == 16 else _address)(core, code, place, modrm, rex, long64)
    if segment is None or (long64 and segment not in ("fs", "gs")):
        segment = "ss" if base in (_RSP, _RBP) else "ds"
    linear = _linear(core, segment, offset & (1 << bits) - 1, long64)
    return SystemInstruction(opcode, place, number & 7, None, linear, size)


def _linear(core: LiveCore, segment: str, offset: int, long64: bool) -> int:
    """Add the segment's base; in 64-bit mode only FS and GS have one (APM2 4.5.3)."""
    if not long64:
        return core.segment(segment).base + offset & 0xFFFFFFFF
    base = core.segment(segment).base if segment in ("fs", "gs") else 0
    return base + offset & 0xFFFFFFFFFFFFFFFF


def _address_16(
    core: LiveCore, code: bytes, place: int, modrm: int, _rex: int, _long64: bool
) -> tuple[int, int, int | None]:
    """Work out a 16-bit effective address; give it, the place behind it, and a base that means SS."""
    mod, rm = modrm >> 6, modrm & 7
    if mod == 0 and rm == 6:
        return _signed(code, place, 2), place + 2, None
    total = sum(core.words[number] for number in _PAIRS[rm])
    width = (0, 1, 2)[mod]
    return total + _signed(code, place, width), place + width, _RBP if _RBP in _PAIRS[rm] else None


def _address(
    core: LiveCore, code: bytes, place: int, modrm: int, rex: int, long64: bool
) -> tuple[int, int, int | None]:
    """Work out a 32- or 64-bit effective address, likewise; it may have more bits than the address size."""
    mod, rm, total = modrm >> 6, modrm & 7, 0
    base: int | None = rm | rex << 3 & 8
    if rm == _SIB:
        sib, place = code[place], place + 1
        index = sib >> 3 & 7 | rex << 2 & 8
        if index != _RSP:
            total += core.words[index] << (sib >> 6)
        base = sib & 7 | rex << 3 & 8
    width = (0, 1, 4)[mod]
    if mod == 0 and base is not None and base & 7 == _RIP_RELATIVE:
        relative = rm != _SIB and long64
        width, base = 4, None
        if relative:
            total += core.rip + place + width
    if base is not None:
        total += core.words[base]
    return total + _signed(code, place, width), place + width, base


def _signed(code: bytes, place: int, size: int) -> int:
    """Read a signed displacement of ``size`` bytes."""
    if size and place + size > len(code):
        raise IndexError(place)
    return int.from_bytes(code[place : place + size], "little", signed=True)
