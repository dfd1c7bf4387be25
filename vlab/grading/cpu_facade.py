"""The virtual CPU's CPUID and MSRs, for student code that serves exits of AMD-V."""

from __future__ import annotations

from typing import ClassVar

from vlab.grading.facade import Facade, Value, unsigned
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.virtual_cpu import REFUSED_MSRS


class CpuFacade(Facade):
    """What a handler asks of the virtual CPU of a monitor."""

    offers: ClassVar[tuple[str, ...]] = ("cpuid", "read_msr", "write_msr")
    _monitor: HardwareMonitor

    def cpuid(self, leaf: int, subleaf: int) -> list[Value]:
        """Give EAX, EBX, ECX and EDX of the virtual CPU."""
        return [*self._monitor.identity.cpuid(unsigned("leaf", leaf, 32), unsigned("subleaf", subleaf, 32))]

    def read_msr(self, number: int) -> int | None:
        """Give the virtual CPU's MSR; None where it has none of that number."""
        number = unsigned("number", number, 32)
        return None if number in REFUSED_MSRS else self._monitor.msrs.read(number)

    def write_msr(self, number: int, value: int) -> bool:
        """Set the virtual CPU's MSR; False where it has none, or takes no such value."""
        number, value = unsigned("number", number, 32), unsigned("value", value)
        return number not in REFUSED_MSRS and self._monitor.msrs.write(number, value)
