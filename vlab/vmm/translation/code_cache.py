"""The translation cache's memory: frames of the machine that belong to no guest.

It is filled from the lowest address up, and emptied as a whole when it is full; what is translated anew
meanwhile leaves its old bytes behind. Links that turn interrupts on lead through a part of their own, the
gates, so that the monitor can hear of the next one by taking those pages away (see ``window``).
"""

from __future__ import annotations

from typing import Final

from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.translation import encode

CODE_SIZE: Final = 4 << 20
GATES: Final = CODE_SIZE
"""Offset of the gates."""
GATE_PAGES: Final = 64
SIZE: Final = GATES + GATE_PAGES * PAGE


class CacheFull(Exception):
    """There is no room for another block: the cache must be emptied."""


class CodeCache:
    """The cache of one virtual machine. ``hpa``: where it is. ``used``, ``gates_used``: bytes taken.

    ``changed``: runs (offset, size) that were written over since somebody last made the processor forget
    them.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.hpa: Final = machine.frames.allocate(SIZE, use="translation cache")
        self._bytes = machine.memory.bytes[self.hpa : self.hpa + SIZE]
        self.used = 0
        self.gates_used = 0
        self.changed: list[tuple[int, int]] = []

    def append(self, code: bytes | bytearray) -> int:
        """Put new code in; give its offset. Raises CacheFull."""
        start = self.used
        if start + len(code) > CODE_SIZE:
            raise CacheFull
        self._bytes[start : start + len(code)] = code
        self.used = start + len(code)
        return start

    def append_gate(self, code: bytes) -> int:
        """Put a gate in; give its offset. Raises CacheFull."""
        start = GATES + self.gates_used
        if start + len(code) > SIZE:
            raise CacheFull
        self._bytes[start : start + len(code)] = code
        self.gates_used += len(code)
        return start

    def patch(self, offset: int, code: bytes) -> None:
        """Write over code that may have been executed."""
        self._bytes[offset : offset + len(code)] = code
        self.changed.append((offset, len(code)))

    def read(self, offset: int, size: int) -> bytes:
        """Give what is there."""
        return bytes(self._bytes[offset : offset + size])

    def clear(self) -> None:
        """Take everything out; whoever does so has the processor forget all code."""
        self._bytes[: self.used] = bytes((encode.CALL_OUT,)) * self.used
        self.used = self.gates_used = 0
        self.changed.clear()

    def close(self) -> None:
        """Give the frames back, cleared."""
        self._bytes[:] = bytes(SIZE)
        self._bytes.release()
        self._machine.frames.free(self.hpa)
