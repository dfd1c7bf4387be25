"""The sensitive instruction at which a guest trapped, in the terms that carrying it out needs.

Near transfers of control are understood as well, for monitors that translate. Capstone decodes; a kernel
traps at the same few places again and again, so decoded ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from vlab.isa.sensitive import NEAR, Sensitive
from vlab.isa.state import SEGMENT_REGISTERS
from vlab.vmm.mmio_decode import LONGEST, RCX, Immediate, Memory, Register, decoder, operand_of


@dataclass(frozen=True, slots=True)
class System:
    """A register that is none of the general ones: ``cr3``, ``dr7``, ``ds``."""

    name: str


Operand: TypeAlias = Register | Immediate | Memory | System


@dataclass(frozen=True, slots=True)
class Instruction:
    """One sensitive instruction, or a near transfer of control.

    name: the decoder's mnemonic, for a near transfer without prefixes. operands: target first; a relative one
    counts from the start of the instruction, and what LOOPcc and JrCXZ look at comes second. length: bytes.
    bits: 16, 32 or 64, the kind of code. size: of the operation in bytes, 2, 4 or 8. text: for people.
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
        """Bytes that PUSH, POP, PUSHF and POPF move, and of a near transfer's target.

        Never 4 in 64-bit code (AMD APM vol. 3, rev. 3.36, 1.2.2).
        """
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
_COUNTING: Final = ("loop", "loope", "loopne", "jcxz", "jecxz", "jrcxz")
_NEAR: Final = {
    "jmp": Sensitive.JMP_NEAR, "call": Sensitive.CALL_NEAR, "ret": Sensitive.RET_NEAR,
    **dict.fromkeys(
        (
            "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns", "jp", "jnp", "jl", "jge", "jle",
            "jg", *_COUNTING,
        ),
        Sensitive.JCC,
    ),
}  # fmt: skip
_GROUP_5: Final = 0xFF
_INDIRECT: Final = {
    2: Sensitive.CALL_NEAR, 3: Sensitive.CALL_FAR, 4: Sensitive.JMP_NEAR, 5: Sensitive.JMP_FAR,
}  # fmt: skip
"""By the reg field of ModRM."""
_OPERAND_SIZE: Final = 0x66
_REX_W: Final = 8
_MASK64: Final = (1 << 64) - 1


@lru_cache(maxsize=1024)
def decode(code: bytes, bits: int) -> Instruction | None:
    """Decode the instruction at the start of ``code``; None for one that is neither sensitive nor a transfer.

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
    text, size = f"{insn.mnemonic} {insn.op_str}".rstrip(), _size(insn, bits)
    if family in NEAR:
        return _near(family, insn, code, operands, bits, size, text)
    return Instruction(family, insn.mnemonic, tuple(operands), insn.size, bits, size, text)


def _near(
    family: Sensitive, insn: Any, code: bytes, operands: list[Operand], bits: int, size: int, text: str
) -> Instruction:
    """Give a near transfer. The displacement is read again, because two of the decoder's habits do not suit.

    It takes 66h in 64-bit code for ignored, as Intel's processors do, where AMD's have 16-bit operands and a
    displacement as wide (AMD APM vol. 1, rev. 3.15, 3.7.9); and it cuts targets to 32 bits behind REX.W.
    """
    name, length = insn.insn_name(), insn.size
    if family is not Sensitive.RET_NEAR and insn.imm_size:
        begin = insn.imm_offset
        length = begin + (1 if insn.imm_size == 1 else min(size, 4))
        displacement = int.from_bytes(code[begin:length], "little", signed=True)
        operands = [Immediate(length + displacement & _MASK64, 8)]
    if name in _COUNTING:
        operands = [*operands, Register(RCX, insn.addr_size)]
    return Instruction(family, name, tuple(operands), length, bits, size, text)


def _family(insn: Any, operands: list[Operand]) -> Sensitive | None:
    name = insn.mnemonic
    family = _FAMILIES.get(name)
    if family is not None:
        return family
    if insn.opcode[0] == _GROUP_5:  # the decoder calls some of its far members jmp and call
        return _INDIRECT.get(insn.modrm >> 3 & 7)
    near = _NEAR.get(insn.insn_name())  # the mnemonic can have a prefix: "bnd jmp", "repz ret"
    if near is not None:
        return near
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
