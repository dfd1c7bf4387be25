"""The guest's linear memory, as its monitor reaches it for the arguments of hypercalls and for trap frames.

Every access goes by the tables of the directory that is loaded, so the guest cannot have the monitor write
where the guest could not.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.machine.memory import PAGE, PhysicalMemory
from vlab.vmm.paravirtual.interface import KERNEL_BASE, MONITOR_BASE
from vlab.vmm.paravirtual.tables import GuestTables


class GuestSpace:
    """The address space that is loaded, by ``tables``."""

    def __init__(self, memory: PhysicalMemory, tables: GuestTables) -> None:
        self._memory = memory
        self._tables = tables

    def read(self, linear: int, size: int) -> bytes | None:
        """Read as the guest's kernel would; None where that faults."""
        runs = self._runs(linear, size, write=False)
        if runs is None:
            return None
        return b"".join(self._memory.read_bytes(place, length) for place, length in runs)

    def write(self, linear: int, data: bytes) -> bool:
        """Write as the guest's kernel would; False, with nothing written, where that faults."""
        runs = self._runs(linear, len(data), write=True)
        if runs is None:
            return False
        done = 0
        for place, length in runs:
            self._memory.write_bytes(place, data[done : done + length])
            done += length
        return True

    def read_argument(self, linear: int, size: int) -> bytes | None:
        """Read an argument of a hypercall, which must be in the kernel's part."""
        return self.read(linear, size) if self.is_kernels(linear, size) else None

    @staticmethod
    def is_kernels(linear: int, size: int) -> bool:
        """Whether all these addresses are in the kernel's part."""
        return linear >= KERNEL_BASE and linear + size <= MONITOR_BASE

    def _runs(self, linear: int, size: int, *, write: bool) -> list[tuple[int, int]] | None:
        """Give host-physical address and length of the pieces in each page."""
        runs = []
        for start, length in _pieces(linear, size):
            place = self._tables.host_address(start, write=write)
            if place is None:
                return None
            runs.append((place, length))
        return runs


def _pieces(linear: int, size: int) -> Iterator[tuple[int, int]]:
    while size > 0:
        length = min(size, PAGE - linear % PAGE)
        yield linear & 0xFFFFFFFF, length
        linear, size = linear + length, size - length
