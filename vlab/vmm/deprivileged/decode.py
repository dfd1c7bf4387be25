"""The sensitive instruction at which a guest trapped, in the terms that carrying it out needs.

Capstone decodes; a kernel traps at the same few places again and again, so decoded ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from vlab.isa.sensitive import Sensitive
from vlab.isa.state import SEGMENT_REGISTERS
from vlab.vmm.mmio_decode import LONGEST, Immediate, Memory, Register, decoder, operand_of


@dataclass(frozen=True, slots=True)
class System:
    """A register that is none of the general ones: ``cr3``, ``dr7``, ``ds``."""

    name: str


Operand: TypeAlias = Register | Immediate | Memory | System


@dataclass(frozen=True, slots=True)
class Instruction:
    """One sensitive instruction.

    name: the decoder's mnemonic. operands: target first. length: bytes. bits: 16, 32 or 64, the kind of code.
    size: of the operation in bytes, 2, 4 or 8. text: for people.
    """

    family: Sensitive
    name: str
    operands: tuple[Operand, ...]
    length: int
    bits: int
    size: int
    text: str

    @property
    def item(self) -> int:
        """Bytes that POP, PUSHF and POPF move: never 4 in 64-bit code (AMD APM vol. 3, rev. 3.36, 1.2.2)."""
        return 8 if self.bits == 64 and self.size == 4 else self.size


_FAMILIES: Final = {
    "cli": Sensitive.CLI, "sti": Sensitive.STI, "hlt": Sensitive.HLT, "clts": Sensitive.CLTS,
    "pushf": Sensitive.PUSHF, "pushfd": Sensitive.PUSHF, "pushfq": Sensitive.PUSHF,
    "popf": Sensitive.POPF, "popfd": Sensitive.POPF, "popfq": Sensitive.POPF,
    "lmsw": Sensitive.LMSW, "smsw": Sensitive.SMSW, "lgdt": Sensitive.LGDT, "lidt": Sensitive.LIDT,
    "lldt": Sensitive.LLDT, "ltr": Sensitive.LTR, "sgdt": Sensitive.SGDT, "sidt": Sensitive.SIDT,
    "sldt": Sensitive.SLDT, "str": Sensitive.STR, "lar": Sensitive.LAR, "lsl": Sensitive.LSL,
    "verr": Sensitive.VERR, "verw": Sensitive.VERW, "invlpg": Sensitive.INVLPG, "invd": Sensitive.INVD,
    "wbinvd": Sensitive.WBINVD, "rdmsr": Sensitive.RDMSR, "wrmsr": Sensitive.WRMSR,
    "rdpmc": Sensitive.RDPMC, "rdtsc": Sensitive.RDTSC, "rdtscp": Sensitive.RDTSC,
    "iret": Sensitive.IRET, "iretd": Sensitive.IRET, "iretq": Sensitive.IRET, "int": Sensitive.INT,
    "int3": Sensitive.INT, "into": Sensitive.INT, "ljmp": Sensitive.JMP_FAR, "lcall": Sensitive.CALL_FAR,
    "retf": Sensitive.RET_FAR, "retfq": Sensitive.RET_FAR, "lds": Sensitive.LOAD_SEGMENT,
    "les": Sensitive.LOAD_SEGMENT, "lss": Sensitive.LOAD_SEGMENT, "lfs": Sensitive.LOAD_SEGMENT,
    "lgs": Sensitive.LOAD_SEGMENT, "syscall": Sensitive.SYSCALL, "sysret": Sensitive.SYSRET,
    "sysretq": Sensitive.SYSRET, "sysenter": Sensitive.SYSENTER, "sysexit": Sensitive.SYSEXIT,
    "sysexitq": Sensitive.SYSEXIT, "swapgs": Sensitive.SWAPGS,
}  # fmt: skip
_GROUP_5: Final = 0xFF
_FAR: Final = {3: Sensitive.CALL_FAR, 5: Sensitive.JMP_FAR}
"""By the reg field of ModRM."""
_OPERAND_SIZE: Final = 0x66
_REX_W: Final = 8


@lru_cache(maxsize=1024)
def decode(code: bytes, bits: int) -> Instruction | None:
    """Decode the instruction at the start of ``code``; None for one that is not sensitive.

    code: 1 to 15 bytes, of which the instruction may use fewer. bits: 16, 32 or 64.
    """
    insn = next(decoder(bits).disasm(code[:LONGEST], 0, 1), None)
    if insn is None:
        return None
    operands: list[Operand] = []
    for raw in insn.operands:
        operand = _operand(insn, raw)
        if operand is None:
            return None
        operands.append(operand)
    family = _family(insn, operands)
    if family is None:
        return None
    text = f"{insn.mnemonic} {insn.op_str}".rstrip()
    return Instruction(family, insn.mnemonic, tuple(operands), insn.size, bits, _size(insn, bits), text)


def _family(insn: Any, operands: list[Operand]) -> Sensitive | None:
    name = insn.mnemonic
    family = _FAMILIES.get(name)
    if family is not None:
        return family
    if insn.opcode[0] == _GROUP_5:  # the decoder calls some of its far members jmp and call
        return _FAR.get(insn.modrm >> 3 & 7)
    systems = [place for place, operand in enumerate(operands) if isinstance(operand, System)]
    if name not in ("mov", "push", "pop") or not systems:
        return None
    operand = operands[systems[0]]
    assert isinstance(operand, System)
    if operand.name in SEGMENT_REGISTERS:
        loads = name == "pop" or (name == "mov" and systems[0] == 0)
        return Sensitive.LOAD_SEGMENT if loads else Sensitive.STORE_SEGMENT
    return Sensitive.MOV_CR if operand.name.startswith("cr") else Sensitive.MOV_DR


def _operand(insn: Any, raw: Any) -> Operand | None:
    """Translate one of the decoder's operands; None for one that no sensitive instruction has."""
    from capstone import x86

    if raw.type == x86.X86_OP_REG:
        name = insn.reg_name(raw.reg)
        if name in SEGMENT_REGISTERS or name[:2] in ("cr", "dr"):
            return System(name)
    return operand_of(insn, raw, raw.size)


def _size(insn: Any, bits: int) -> int:
    """Give the operand size in bytes (AMD APM vol. 3, rev. 3.36, 1.2.2)."""
    if insn.rex & _REX_W:
        return 8
    swapped = insn.prefix[2] == _OPERAND_SIZE
    return 4 if (bits != 16) != swapped else 2
