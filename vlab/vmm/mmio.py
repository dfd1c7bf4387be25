"""Memory-mapped devices: the instruction that touched one, carried out by the monitor.

A nested page fault says which guest-physical address the instruction at RIP touched (APM2 15.25.6), not with
which value nor what for. So the monitor does what the processor would have done, with the device in the place
of memory, and the guest goes on behind the instruction. Sections are those of AMD APM vol. 2, rev. 3.42; what
an instruction does is in vol. 3, rev. 3.36, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from vlab.isa.state import GENERAL_REGISTERS
from vlab.machine.core import LiveCore
from vlab.machine.faults import CpuFault
from vlab.machine.mmu import NestedFault
from vlab.vmm import mmio_alu as alu
from vlab.vmm.mmio_decode import NotUnderstood, Register, decode
from vlab.vmm.mmio_operands import DeviceAccess, DeviceSpace, Execution, Refused, Translate

__all__ = ["DeviceAccess", "Done", "Faulted", "Missed", "NotUnderstood", "Outcome", "Translate", "emulate"]

_RAX, _RSP = GENERAL_REGISTERS.index("rax"), GENERAL_REGISTERS.index("rsp")
_BIG: Final = 1 << 10  # D/B in segment attributes
_LONG64: Final = 5  # LiveCore.mode_code


@dataclass(frozen=True, slots=True)
class Done:
    """The instruction is carried out. length: its bytes. accesses: what it asked of devices, in order.

    A repeated string instruction does one element at a time; until the last, RIP stays at it.
    """

    length: int
    accesses: tuple[DeviceAccess, ...]


@dataclass(frozen=True, slots=True)
class Faulted:
    """The other memory operand (the RAM side of MOVS, the stack of PUSH) faults: for the guest, at RIP."""

    fault: CpuFault


@dataclass(frozen=True, slots=True)
class Missed:
    """The nested tables do not map the other memory operand, and no device is there.

    An exit of its own (gpa; code as in EXITINFO1): resolve it, then let the instruction start again.
    """

    gpa: int
    code: int


Outcome: TypeAlias = Done | NotUnderstood | Faulted | Missed


def emulate(
    core: LiveCore, code: bytes, gpa: int, bus: DeviceSpace, translate: Translate | None = None
) -> Outcome:
    """Carry out the instruction at RIP, whose access to guest-physical ``gpa`` left the guest.

    code: up to 15 bytes from RIP. bus: the devices by guest-physical address. translate: the way to the other
    memory operand, by default the guest's page tables under the processor's nested ones; a monitor that keeps
    shadow tables gives one that walks the guest's own.

    Unless the outcome is Done nothing has changed, neither registers nor devices; what a device raises comes
    out with the registers as they were. An access that crosses a page is not understood, and a REP does one
    element. The #DB that RFLAGS.TF asks for is left to the caller.
    """
    instruction = decode(bytes(code), code_bits(core))
    if isinstance(instruction, NotUnderstood):
        return instruction
    action = _ACTIONS.get(instruction.name)
    if action is None:
        return NotUnderstood(instruction.text)
    execution = Execution(core, instruction, gpa, bus, translate or _guest_walk(core))
    again = False
    try:
        if not execution.over:
            execution.find_operands()
            action(execution)
            again = instruction.string and execution.step()
    except Refused:
        return NotUnderstood(instruction.text)
    except CpuFault as fault:
        return Faulted(fault)
    except NestedFault as miss:
        return Missed(miss.gpa, miss.code)
    execution.finish(again=again)
    return Done(instruction.length, tuple(execution.accesses))


def code_bits(core: LiveCore) -> int:
    if core.mode_code == _LONG64:
        return 64
    return 32 if core.segment("cs").attributes & _BIG else 16


def _guest_walk(core: LiveCore) -> Translate:
    paging, user = core.paging, core.cpl == 3
    return lambda linear, write: core.mmu.translate(linear, paging, write=write, user=user)


# --- what instructions do: devices first, then registers and flags --------------------------------------


def _move(x: Execution) -> None:
    x.store(x.operands[0], x.load(x.operands[1]))


def _move_with_sign(x: Execution) -> None:
    target, source = x.operands
    x.store(target, alu.sign_extend(x.load(source), source.size, target.size))


def _binary(x: Execution) -> None:
    target, source = x.operands
    name = x.instruction.name
    calculate = alu.bit_test if name in alu.BIT_TESTS else alu.binary
    result, flags = calculate(name, x.load(target), x.load(source), target.size, x.flags)
    if name not in alu.FLAGS_ONLY:
        x.store(target, result)
    x.flags = flags


def _unary(x: Execution) -> None:
    (target,) = x.operands
    result, flags = alu.unary(x.instruction.name, x.load(target), target.size, x.flags)
    x.store(target, result)
    x.flags = flags


def _exchange(x: Execution) -> None:
    target, source = x.operands
    old = x.load(target)
    x.store(target, x.load(source))
    x.store(source, old)


def _exchange_and_add(x: Execution) -> None:
    target, source = x.operands
    old = x.load(target)
    result, flags = alu.binary("add", old, x.load(source), target.size, x.flags)
    x.store(target, result)
    x.store(source, old)
    x.flags = flags


def _compare_and_exchange(x: Execution) -> None:
    """CMPXCHG writes in any case; what was there, when the accumulator differs from it."""
    target, source = x.operands
    accumulator = Register(_RAX, target.size)
    old = x.load(target)
    difference, flags = alu.binary("cmp", x.load(accumulator), old, target.size, x.flags)
    x.store(target, old if difference else x.load(source))
    if difference:
        x.store(accumulator, old)
    x.flags = flags


def _push(x: Execution) -> None:
    (source,) = x.operands
    pointer = _stack_pointer(x)
    top = x.load(pointer) - source.size & alu.mask(pointer.size)
    stack = x.find(x.in_segment("ss", top), source.size, write=True)
    x.write(stack, source.size, x.load(source))
    x.store(pointer, top)


def _pop(x: Execution) -> None:
    (target,) = x.operands
    pointer = _stack_pointer(x)
    top = x.load(pointer)
    stack = x.find(x.in_segment("ss", top), target.size, write=False)
    x.store(target, x.read(stack, target.size))
    x.store(pointer, top + target.size & alu.mask(pointer.size))


def _stack_pointer(x: Execution) -> Register:
    """Give RSP, ESP or SP, whichever SS says (APM2 4.7.3)."""
    if x.instruction.bits == 64:
        return Register(_RSP, 8)
    return Register(_RSP, 4 if x.core.segment("ss").attributes & _BIG else 2)


_ACTIONS: Final[dict[str, Callable[[Execution], None]]] = {
    "mov": _move,
    "movzx": _move,
    "movsx": _move_with_sign,
    "xchg": _exchange,
    "xadd": _exchange_and_add,
    "cmpxchg": _compare_and_exchange,
    "push": _push,
    "pop": _pop,
    **dict.fromkeys(alu.BINARY | alu.BIT_TESTS, _binary),
    **dict.fromkeys(alu.UNARY, _unary),
}
