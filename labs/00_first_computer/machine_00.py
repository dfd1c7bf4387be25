"""The exits and the processor that the student's functions get, and vlab's monitor with their CPUID in it."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Any, Final

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, unsigned
from vlab.grading.student import Student
from vlab.machine.identity import Identity
from vlab.trace.events import ExitEvent
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.verdicts import RESUME, Verdict

_REGISTERS: Final = ("eax", "ecx", "edx", "ebx")  # as in the register file
_LENGTH: Final = 2  # bytes of CPUID
PROCESSOR: Final = Identity()
"""What the processor itself answers, without a monitor."""
_32: Final = 0xFFFFFFFF


class SeenExit(Facade):
    """One exit, with the names that it has in ``vm.exits``."""

    read_only = ("reason", "info1", "info2", "rip", "ring")

    def __init__(self, event: ExitEvent) -> None:
        self.reason, self.rip, self.ring = event.reason, event.rip, event.ring
        self.info1, self.info2 = event.qualification


class CpuidExit(Facade):
    """The guest's processor, standing at a CPUID instruction."""

    fields = (*_REGISTERS, "rip")
    offers = ("processor",)

    def __init__(self, monitor: HardwareMonitor) -> None:
        core = monitor.core
        self._monitor = monitor
        self._values = {name: core.get_gpr(n) & _32 for n, name in enumerate(_REGISTERS)}
        self._values["rip"] = core.rip

    def __getattr__(self, name: str) -> int:
        values: dict[str, int] = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(name)
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.fields:
            super().__setattr__(name, value)
            return
        most = (1 << 64) - 1 if name == "rip" else _32
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            shown = hex(value) if isinstance(value, int) else shorten(value)
            raise ValueError(f"{name} cannot be {shown}: it takes whole numbers from 0 to {most:#x}")
        self._values[name] = value

    def processor(self, leaf: object, subleaf: object) -> list[int]:
        """Give EAX, EBX, ECX and EDX as the processor answers."""
        return list(PROCESSOR.cpuid(unsigned("leaf", leaf, 32), unsigned("subleaf", subleaf, 32)))

    def carry_out(self, before: int) -> None:
        """Do to the real processor what the student has decided. before: RIP of the instruction."""
        rip = self._values["rip"]
        if rip != before + _LENGTH:
            raise Broken(
                f"cpuid left RIP at {rip:#x}; the instruction at {before:#x} has {_LENGTH} bytes, "
                f"so the guest goes on at {before + _LENGTH:#x}",
                hint="The monitor has done the instruction's work, so it has to go past it: cpu.rip += 2.",
            )
        core, processor = self._monitor.core, self._monitor.processor
        for n, name in enumerate(_REGISTERS):
            core.set_gpr(n, self._values[name])
        processor.skip(_LENGTH)


def answering(student: Student, vendor: str, name: str) -> type[HardwareMonitor]:
    """Make a monitor whose CPUID is the student's."""

    class YourMonitor(HardwareMonitor):
        """The hardware-assisted monitor, but for one handler."""

        def handle(self, exit_: HardwareExit) -> Verdict:
            """Have the student's function serve CPUID."""
            if not isinstance(exit_, exits.Cpuid):
                return super().handle(exit_)
            cpu, before = CpuidExit(self), self.core.rip
            student.call("cpuid", cpu, vendor, name)
            cpu.carry_out(before)
            return RESUME

    return YourMonitor
