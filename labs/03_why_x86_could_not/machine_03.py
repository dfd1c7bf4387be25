"""The monitor on a processor whose PUSHF and POPF trap, with the student's emulation of both.

APM3 is the AMD64 Architecture Programmer's Manual, vol. 3, rev. 3.36; its sections are cited by instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from registers_03 import GENERAL, MASK_32

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, unsigned
from vlab.grading.student import Student
from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.tenant import Parts
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Verdict

_FIELDS: Final = ("esp", "eip", "eflags")
POPPED: Final = 0x247FD5
"""What POPF can change: CF PF AF ZF SF TF IF DF OF IOPL NT AC ID (APM3 "POPF")."""
_ESP: Final = GENERAL.index("esp")
_RF: Final = 1 << 16
_REPAIRED: Final = frozenset((SvmExit.PUSHF, SvmExit.POPF))


class GuestCpu(Facade):
    """The guest's virtual processor at a PUSHF or POPF."""

    fields = _FIELDS
    read_only = ("cpl", "iopl")
    offers = ("read", "write")

    def __init__(self, operands: Operands) -> None:
        self._cpu = cpu = operands.cpu
        self._values = {"esp": cpu.words[_ESP] & MASK_32, "eip": cpu.rip, "eflags": cpu.rflags}
        self.cpl, self.iopl = cpu.cpl, cpu.iopl

    def __getattr__(self, name: str) -> int:
        values: dict[str, int] = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(name)
        return values[name]

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FIELDS:
            self._values[name] = unsigned(name, value, 32)
        else:
            super().__setattr__(name, value)

    def read(self, address: int) -> int:
        """Read 4 bytes at a linear address."""
        return self._cpu.read(unsigned("address", address, 32), 4)

    def write(self, address: int, value: int) -> None:
        """Write 4 bytes at a linear address."""
        self._cpu.write(unsigned("address", address, 32), 4, unsigned("value", value, 32))

    def carry_out(self) -> None:
        """Give the virtual processor what was decided. Raises Broken for what it cannot have."""
        rip = self._cpu.rip
        if self._values["eip"] != rip + 1:
            raise Broken(
                f"EIP is {self._values['eip']:#x} afterwards; the instruction at {rip:#x} has 1 byte",
                hint="The monitor has done the instruction's work, so it has to go past it: cpu.eip += 1.",
            )
        fixed = (self._values["eflags"] ^ self._cpu.rflags) & ~POPPED
        if fixed & ~_RF:
            raise Broken(
                f"EFLAGS was {self._cpu.rflags:#x} and is {self._values['eflags']:#x} afterwards; "
                f"bits {fixed:#x} are not for POPF to change",
                hint="Take the bits in FLAGS from the stack, and all others from cpu.eflags.",
            )
        self._cpu.words[_ESP] = self._values["esp"]
        self._cpu.rip = self._values["eip"]
        self._cpu.rflags = self._values["eflags"]


class Repaired(TrapAndEmulate):
    """The monitor on a processor whose PUSHF and POPF trap, with vlab's own emulation of them."""

    repaired: ClassVar[frozenset[int]] = _REPAIRED


def with_student(student: Student) -> type[Repaired]:
    """Make the same monitor with the student's emulation."""

    def asking(name: str) -> Action:
        def act(operands: Operands) -> Verdict:
            cpu = GuestCpu(operands)
            student.call(name, cpu)
            cpu.carry_out()
            return RESUME

        return act

    table = MappingProxyType({Sensitive.PUSHF: asking("pushf"), Sensitive.POPF: asking("popf")})

    class Yours(Repaired):
        """With the student's PUSHF and POPF."""

        actions: Mapping[Sensitive, Action] = table

        def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
            super().__init__(parts, paging)

    return Yours
