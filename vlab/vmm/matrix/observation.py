"""What there is to see of an instruction: registers, flags, memory, ports, and where it led."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Segment, TableRegister
from vlab.vmm.matrix.worlds import LANDINGS, STACK_PAGES

_SYSTEM: Final = tuple(
    part.name
    for part in fields(CpuState)
    if part.name not in (*GENERAL_REGISTERS, *SEGMENT_REGISTERS, "rip", "rflags")
)
_SYSTEM_FLAGS: Final = frozenset(("IF", "IOPL", "NT", "VM", "VIF", "VIP"))
_RPL: Final = 3
_LONG: Final = 8  # bytes in a word of 64-bit mode


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one execution.

    trap: the fault or exit with which the processor refused the instruction, "" when it executed. seen: what
    it did, by name; ``at`` is where it led, unless to the next instruction. system: those names in it that
    stand for the machine and not for the program.
    """

    trap: str
    seen: Mapping[str, str] = field(default_factory=dict)
    system: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The outcome in a few words."""
        return self.trap or ", ".join(f"{name}={value}" for name, value in self.seen.items()) or "done"


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine before or after: registers, DR0, the data page and the stack."""

    state: CpuState
    dr0: int
    data: bytes
    stack: bytes


def observe(
    before: Moment, after: Moment, touched: Iterable[tuple[str, str]], following: int, ring: int, width: int
) -> Run:
    """Compare two moments.

    touched: the ports and chips that the instruction reached. following: the address behind it. ring: where
    the program runs, which it believes to be ring 0. width: of a word on the stack, in bytes.
    """
    seen, system = dict(_registers(before.state, after.state, width)), dict(touched)
    if after.state.rip != following and "processor" not in system:
        seen["at"] = LANDINGS.get(after.state.rip, f"{after.state.rip:#x}")
    if after.state.cpl not in (0, ring):
        system["ring"] = str(after.state.cpl)
    for name, value in _flags(before.state.rflags, after.state.rflags):
        (system if name in _SYSTEM_FLAGS else seen)[name] = value
    system |= dict(_system_registers(before, after))
    seen |= dict(_memory(before, after, width))
    return Run("", seen | system, frozenset(system))


def _registers(before: CpuState, after: CpuState, width: int) -> Iterator[tuple[str, str]]:
    for name in GENERAL_REGISTERS:
        if getattr(after, name) != getattr(before, name):
            yield name if width == _LONG else f"e{name[1:]}", f"{getattr(after, name):#x}"
    for name in SEGMENT_REGISTERS:
        old, new = getattr(before, name), getattr(after, name)
        # The RPL of CS and SS is the ring, which the program does not choose.
        ignored = _RPL if name in ("cs", "ss") else 0
        if (old.selector | ignored) != (new.selector | ignored):
            yield name, f"{new.selector & ~ignored:#x}"
        if old.base != new.base:
            yield f"{name}.base", f"{new.base:#x}"


def _flags(before: int, after: int) -> Iterator[tuple[str, str]]:
    for flag in EFlags.fields():
        if flag.name != "RF" and flag.extract(before) != flag.extract(after):
            yield flag.name, str(flag.extract(after))


def _system_registers(before: Moment, after: Moment) -> Iterator[tuple[str, str]]:
    for name in _SYSTEM:
        old, new = getattr(before.state, name), getattr(after.state, name)
        if isinstance(new, Segment):
            old, new = old.selector, new.selector
        elif isinstance(new, TableRegister):
            old, new = old.base, new.base
        if old != new:
            yield name, f"{new:#x}"
    if after.dr0 != before.dr0:
        yield "dr0", f"{after.dr0:#x}"


def _memory(before: Moment, after: Moment, width: int) -> Iterator[tuple[str, str]]:
    bytes_of = zip(before.data, after.data, strict=True)
    changed = [place for place, (old, new) in enumerate(bytes_of) if old != new]
    if changed:
        yield "[mem]", f"{int.from_bytes(after.data[: changed[-1] + 1], 'little'):#x}"
    if before.stack == after.stack:
        return
    for place in range(0, len(after.stack), width):
        word = after.stack[place : place + width]
        if word != before.stack[place : place + width]:
            distance = STACK_PAGES[0] + place - after.state.rsp
            yield f"[sp+{distance}]" if distance else "[sp]", f"{int.from_bytes(word, 'little'):#x}"
