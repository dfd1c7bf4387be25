"""The instruction behind a device access, in the few terms that carrying it out needs.

Capstone does the decoding; here its answer becomes operands of our own, or a plain "not understood". A kernel
polls a device with the same few instructions for ever, so decoded ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS
from vlab.machine.instructions import PREFIXES

RCX: Final = 1
RIP: Final = 16
"""Number of the instruction pointer, as a base register, after the sixteen general ones."""

LONGEST: Final = 15
"""Bytes of the longest x86 instruction (AMD APM vol. 3, rev. 3.36, 1.1)."""

_STRINGS: Final = {"movs": "mov", "stos": "mov", "lods": "mov", "cmps": "cmp", "scas": "cmp"}
_ALIASES: Final = {"movabs": "mov", "movnti": "mov", "movsxd": "movsx"}
_REPEATS: Final = (0xF2, 0xF3)
_STACK_BASES: Final = (4, 5)  # RSP and RBP address the stack segment unless a prefix says otherwise


@dataclass(frozen=True, slots=True)
class Register:
    """A general register or a part of one. ``shift``: 8 for AH, CH, DH and BH, else 0. ``size``: bytes."""

    number: int
    size: int
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant, already cut to the ``size`` (bytes) of the operation."""

    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Memory:
    """``size`` bytes at ``segment``:[base + index * scale + displacement], worked out in ``width`` bytes.

    base, index: register numbers or None. The displacement of an address relative to RIP counts from the
    start of the instruction.
    """

    segment: str
    base: int | None
    index: int | None
    scale: int
    displacement: int
    width: int
    size: int


Operand: TypeAlias = Register | Immediate | Memory


@dataclass(frozen=True, slots=True)
class MmioInstruction:
    """An instruction with a memory operand.

    name: the operation; string instructions are a mov or a cmp with ``string`` set. operands: target first.
    length: bytes. bits: 16, 32 or 64, the kind of code. repeat: F2h or F3h on a string instruction, else 0.
    width: bytes of an address. text: for people.
    """

    name: str
    operands: tuple[Operand, ...]
    length: int
    bits: int
    width: int
    string: bool
    repeat: int
    text: str

    @property
    def memory(self) -> tuple[Memory, ...]:
        """The memory operands: one, or the two of MOVS and CMPS."""
        return tuple(operand for operand in self.operands if isinstance(operand, Memory))


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """An instruction that the monitor does not carry out. ``text``: its disassembly."""

    text: str


@lru_cache(maxsize=1024)
def decode(code: bytes, bits: int) -> MmioInstruction | NotUnderstood:
    """Decode the instruction at the start of ``code``.

    code: 1 to 15 bytes, of which the instruction may use fewer. bits: 16, 32 or 64. What has no memory
    operand, or registers other than the general ones, is not understood.
    """
    code = code[:LONGEST]
    insn = next(decoder(bits).disasm(code, 0, 1), None)
    if insn is None:
        return NotUnderstood(f"(undecodable) {code.hex(' ')}" if code else "(no code)")
    text = f"{insn.mnemonic} {insn.op_str}".rstrip()
    operands: list[Operand] = []
    for raw in insn.operands:
        operand = operand_of(insn, raw, operands[0].size if operands else raw.size)
        if operand is None:
            return NotUnderstood(text)
        operands.append(operand)
    if not any(isinstance(operand, Memory) for operand in operands):
        return NotUnderstood(text)
    full = insn.insn_name()
    string = full[:4] in _STRINGS and full[4:] in ("b", "w", "d", "q")
    repeat = _repeat(code) if string else 0
    name = _STRINGS[full[:4]] if string else _ALIASES.get(full, full)
    return MmioInstruction(name, tuple(operands), insn.size, bits, insn.addr_size, string, repeat, text)


@cache
def decoder(bits: int) -> Any:
    """Give the decoder for 16-, 32- or 64-bit code; it stays loaded."""
    import capstone

    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    decoder = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
    decoder.detail = True
    return decoder


def _repeat(code: bytes) -> int:
    """Give the last REP prefix, or 0; the decoder loses that of F2h MOVSD."""
    repeat = 0
    for byte in code:
        if byte not in PREFIXES:
            break
        repeat = byte if byte in _REPEATS else repeat
    return repeat


def operand_of(insn: Any, raw: Any, size: int) -> Operand | None:
    """Translate one of the decoder's operands; None for what is no business of ours. size: for a constant."""
    from capstone import x86

    if raw.type == x86.X86_OP_REG:
        return _registers().get(insn.reg_name(raw.reg))
    if raw.type == x86.X86_OP_IMM:
        return Immediate(raw.imm & (1 << 8 * size) - 1, size)
    place, numbers = raw.mem, _address_registers()
    names = [insn.reg_name(number) for number in (place.base, place.index)]
    if not numbers.keys() >= set(names):
        return None  # a vector of addresses
    base, index = (numbers[name] for name in names)
    segment = insn.reg_name(place.segment)
    if segment not in SEGMENT_REGISTERS:
        segment = "ss" if base in _STACK_BASES else "ds"
    displacement = place.disp + (insn.size if base == RIP else 0)
    return Memory(segment, base, index, place.scale, displacement, insn.addr_size, raw.size)


@cache
def _address_registers() -> dict[str | None, int | None]:
    """Give the number of every register in an address by name; the decoder has three names for none."""
    numbers: dict[str | None, int | None] = {name: part.number for name, part in _registers().items()}
    return numbers | {None: None, "riz": None, "eiz": None, "rip": RIP, "eip": RIP}


@cache
def _registers() -> dict[str, Register]:
    """Give every general register and every part of one by its assembler name."""
    found: dict[str, Register] = {}
    for number, name in enumerate(GENERAL_REGISTERS):
        if number >= 8:
            parts = (name, f"{name}d", f"{name}w", f"{name}b")
        else:
            word = name[1:]
            parts = (name, f"e{word}", word, f"{word[0]}l" if number < 4 else f"{word}l")
        for part, size in zip(parts, (8, 4, 2, 1), strict=True):
            found[part] = Register(number, size)
        if number < 4:
            found[f"{name[1]}h"] = Register(number, 1, 8)
    return found
