"""Which instructions are copied as they are, and which are not, by the decoder's name for them.

Capstone says how long each instruction is and what it is called; operands matter for a few alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from vlab.machine.instructions import LONGEST, prefix_count
from vlab.vmm.mmio_decode import decoder


class How(Enum):
    """How an instruction is translated."""

    COPY = auto()
    RELATIVE = auto()
    """Copied, with an operand relative to RIP that needs another displacement."""
    OUT = auto()
    """Carried out by the monitor."""
    JUMP = auto()
    CALL = auto()
    RETURN = auto()
    BRANCH = auto()
    LOOP = auto()
    CLEAR = auto()
    SET = auto()
    PUSH_FLAGS = auto()
    POP_FLAGS = auto()
    SELECTOR = auto()
    """Copies the selector of CS or SS to a register, whose last bits are not as the guest's."""


class Found(NamedTuple):
    """An instruction of the guest's. operands: as the decoder writes them."""

    rip: int
    code: bytes
    how: How
    name: str
    operands: str


_CONDITIONS: Final = (
    "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja",
    "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg",
)  # fmt: skip
"""By their number in the opcode."""
_LOOPS: Final = ("loop", "loope", "loopne", "jcxz", "jecxz", "jrcxz")
_OUT: Final = (
    "hlt", "clts", "lmsw", "smsw", "lgdt", "lidt", "lldt", "ltr", "sgdt", "sidt", "sldt", "str", "lar", "lsl",
    "verr", "verw", "invlpg", "invd", "wbinvd", "rdmsr", "wrmsr", "rdpmc", "iret", "iretd", "iretq", "ljmp",
    "lcall", "retf", "retfq", "lds", "les", "lss", "lfs", "lgs", "syscall", "sysret", "sysretq", "sysenter",
    "sysexit", "sysexitq", "swapgs",
)  # fmt: skip
_HOW: Final[dict[str, How]] = {
    **dict.fromkeys(_OUT, How.OUT),
    **dict.fromkeys(_CONDITIONS, How.BRANCH),
    **dict.fromkeys(_LOOPS, How.LOOP),
    **dict.fromkeys(("pushf", "pushfd", "pushfq"), How.PUSH_FLAGS),
    **dict.fromkeys(("popf", "popfd", "popfq"), How.POP_FLAGS),
    "jmp": How.JUMP, "call": How.CALL, "ret": How.RETURN, "cli": How.CLEAR, "sti": How.SET,
}  # fmt: skip
_MAYBE_SYSTEM: Final = frozenset(("mov", "push", "pop"))
_KEYS: Final = (b"\x0f\x01\xee", b"\x0f\x01\xef")
"""RDPKRU and WRPKRU, which the guest's processor does not have, and the monitor has for itself."""
_SEGMENTS: Final = frozenset((0x07, 0x0E, 0x16, 0x17, 0x1F, 0x8E))
"""Opcodes that load a segment register, or push CS or SS."""
_STORE: Final = 0x8C
_CODE_STACK: Final = (1, 2)
_SYSTEM_0F: Final = frozenset((0x20, 0x21, 0x22, 0x23, 0xA1, 0xA9))
_GROUP_5: Final = 0xFF


@cache
def _lite(bits: int) -> Any:
    """Make a decoder that gives names and lengths alone."""
    import capstone

    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
    return capstone.Cs(capstone.CS_ARCH_X86, mode)


def decode(code: bytes, rip: int, bits: int, most: int) -> Iterator[Found]:
    """Decode up to ``most`` instructions at the start of ``code``, up to one that cannot be."""
    place = 0
    for _, size, name, operands in _lite(bits).disasm_lite(code, rip, most):
        raw = code[place : place + size]
        name = name.rpartition(" ")[2]  # without "rep", "lock" and the like
        yield Found(rip + place, raw, _how(raw, name, operands, bits), name, operands)
        place += size


def texts(code: bytes, rip: int, bits: int, most: int = 0) -> list[str]:
    """Give up to ``most`` instructions (0: all) at the start of ``code`` as the decoder writes them."""
    found = _lite(bits).disasm_lite(code, rip, most)
    return [f"{name} {operands}".rstrip() for _, _, name, operands in found]


def _how(code: bytes, name: str, operands: str, bits: int) -> How:
    how = _HOW.get(name)
    if how is not None:
        return _far(code, how, bits) if code[-1:] and how in (How.JUMP, How.CALL) else how
    if name in _MAYBE_SYSTEM and (system := _system(code, bits)) is not How.COPY:
        return system
    if "[rip" in operands or "[eip" in operands:
        return How.RELATIVE
    return How.OUT if code[-3:] in _KEYS else How.COPY


def _far(code: bytes, how: How, bits: int) -> How:
    """Tell a far JMP or CALL through memory, which the decoder gives the same name."""
    start = prefix_count(code, long_mode=bits == 64)
    return How.OUT if code[start] == _GROUP_5 and code[start + 1] >> 3 & 7 in (3, 5) else how


def _system(code: bytes, bits: int) -> How:
    """Say how to translate a MOV, PUSH or POP that may move a segment, control or debug register.

    The processor's ES, DS, FS and GS hold the guest's own selectors.
    """
    start = prefix_count(code, long_mode=bits == 64)
    opcode, behind = code[start], code[start + 1 :]
    if opcode == 0x0F:
        return How.OUT if behind[0] in _SYSTEM_0F else How.COPY
    if opcode != _STORE:
        return How.OUT if opcode in _SEGMENTS else How.COPY
    if behind[0] >> 3 & 7 not in _CODE_STACK:
        return How.RELATIVE if _is_relative(behind[0], bits) else How.COPY
    return How.SELECTOR if behind[0] >> 6 == 3 and not behind[1:] else How.OUT


def _is_relative(modrm: int, bits: int) -> bool:
    return bits == 64 and modrm & 0xC7 == 5


def is_too_long(code: bytes, bits: int) -> bool:
    """Say whether code that cannot be decoded begins with an instruction of more than 15 bytes."""
    count = prefix_count(code, long_mode=bits == 64)
    prefixes = bytes(dict.fromkeys(code[:count]))
    found = next(decode(prefixes + code[count:], 0, bits, 1), None)
    size = len(found.code) - len(prefixes) if found else 0
    return count + max(size, 1) > LONGEST


def condition(name: str) -> int:
    """Give the number of a Jcc's condition, as in its opcode."""
    return _CONDITIONS.index(name)


@lru_cache(maxsize=4096)
def displacement_place(code: bytes, bits: int) -> int:
    """Give where in an instruction its 32-bit displacement is."""
    insn = next(decoder(bits).disasm(code, 0, 1))
    place: int = insn.disp_offset
    return place
