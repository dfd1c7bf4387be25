"""Near transfers of control: JMP, CALL and RET near, Jcc, LOOPcc, JrCXZ.

They are not sensitive, and no monitor need see them; but a translated program is not where the guest has it,
so a translator carries out itself what it cannot translate. Sections are those of AMD APM vol. 3, rev. 3.36
(APM3), by instruction. Where the processor underneath is not that of the manual, the manual is followed: it
does not check targets, lets Jcc in 32-bit code leave 32 bits behind, and takes RET's count for signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.paging import canonical
from vlab.isa.sensitive import Sensitive
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import MASK32, MASK64
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.mmio_decode import Immediate, Register

_GP: Final = int(Vector.GP)
_CF, _PF, _ZF, _SF, _OF = (flag.mask for flag in (EFlags.CF, EFlags.PF, EFlags.ZF, EFlags.SF, EFlags.OF))


def jump(operands: Operands) -> None:
    """JMP near."""
    operands.cpu.rip = _checked(operands, _target(operands))


def call(operands: Operands) -> None:
    """CALL near: the return address goes on the stack."""
    cpu = operands.cpu
    target = _checked(operands, _target(operands))
    stack = operands.stack()
    stack.push(cpu.rip + operands.instruction.length)
    stack.commit()
    cpu.rip = target


def return_near(operands: Operands) -> None:
    """RET near; a constant is a count of bytes, without a sign, that leave the stack too."""
    cpu, instruction = operands.cpu, operands.instruction
    released = operands.load(instruction.operands[0], 2) if instruction.operands else 0
    stack = operands.stack()
    target = _checked(operands, stack.peek(0))
    stack.drop(instruction.item + released)
    stack.commit()
    cpu.rip = target


def branch(operands: Operands) -> None:
    """Jcc, LOOPcc and JrCXZ."""
    name = operands.instruction.name
    if name in _CONDITIONS:
        holds, wanted = _CONDITIONS[name]
        operands.cpu.rip = _next(operands, taken=holds(operands.cpu.read_flags()) == wanted)
    else:
        _count(operands, name)


def _count(operands: Operands, name: str) -> None:
    """LOOP, LOOPE and LOOPNE, which count rCX down, and JCXZ, JECXZ and JRCXZ, which look at it."""
    cpu, counter = operands.cpu, operands.instruction.operands[1]
    assert isinstance(counter, Register)
    before = operands.load(counter, counter.size)
    if name in _ZERO_TESTS:
        cpu.rip = _next(operands, taken=not before)
        return
    again = name == "loop" or (name == "loope") == bool(cpu.read_flags() & _ZF)
    rip = _next(operands, taken=before != 1 and again)
    operands.store(counter, counter.size, before - 1)
    cpu.rip = rip


def _next(operands: Operands, *, taken: bool) -> int:
    """Give RIP after a branch; raises CpuFault #GP for a target where no code can be."""
    if taken:
        return _checked(operands, _target(operands))
    instruction = operands.instruction
    return operands.cpu.rip + instruction.length & (MASK64 if instruction.bits == 64 else MASK32)


def _target(operands: Operands) -> int:
    """Give where a transfer leads, cut to its operand size; raises CpuFault."""
    instruction = operands.instruction
    target, size = instruction.operands[0], instruction.item
    if isinstance(target, Immediate):
        return operands.cpu.rip + target.value & (1 << 8 * size) - 1
    return operands.load(target, size)


def _checked(operands: Operands, offset: int) -> int:
    """Give ``offset`` again; raises CpuFault #GP beyond the limit of CS, in 64-bit code if not canonical."""
    if operands.instruction.bits == 64:
        if not canonical(offset):
            raise CpuFault(_GP, 0, why=f"offset {offset:#x} is not canonical")
    elif offset > (limit := operands.cpu.segment("cs").limit):
        raise CpuFault(_GP, 0, why=f"offset {offset:#x} is beyond the limit {limit:#x}")
    return offset


def _less(flags: int) -> bool:
    return bool(flags & _SF) != bool(flags & _OF)


def _conditions() -> dict[str, tuple[Callable[[int], bool], bool]]:
    """Give for each Jcc what it tests of RFLAGS, and the answer with which it jumps (APM3 "Jcc")."""
    tests: tuple[tuple[str, str, Callable[[int], bool]], ...] = (
        ("jo", "jno", lambda flags: bool(flags & _OF)),
        ("jb", "jae", lambda flags: bool(flags & _CF)),
        ("je", "jne", lambda flags: bool(flags & _ZF)),
        ("jbe", "ja", lambda flags: bool(flags & (_CF | _ZF))),
        ("js", "jns", lambda flags: bool(flags & _SF)),
        ("jp", "jnp", lambda flags: bool(flags & _PF)),
        ("jl", "jge", _less),
        ("jle", "jg", lambda flags: bool(flags & _ZF) or _less(flags)),
    )
    return {name: (test, name == yes) for yes, no, test in tests for name in (yes, no)}


_CONDITIONS: Final = _conditions()
_ZERO_TESTS: Final = ("jcxz", "jecxz", "jrcxz")

ACTIONS: Final[Mapping[Sensitive, Action]] = {
    Sensitive.JMP_NEAR: jump,
    Sensitive.CALL_NEAR: call,
    Sensitive.RET_NEAR: return_near,
    Sensitive.JCC: branch,
}
"""For ``Emulator(more=...)``."""
