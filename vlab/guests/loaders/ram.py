"""Guest memory as a loader sees it: each write is checked against the RAM there is and against the others."""

from __future__ import annotations

from vlab.errors import UnusableImage, UnusableInput
from vlab.guests.loaders import layout

_ZEROS = bytes(1 << 20)


def size_text(size: int) -> str:
    """Write a size in bytes as the command line takes it, rounded up: ``80M``, ``4K``."""
    return f"{-(-size // 1024)}K" if size < 1 << 20 else f"{-(-size // (1 << 20))}M"


class GuestRam:
    """RAM from guest-physical address 0, and which parts of it are taken.

    `memory` is a writable view of bytes as long as the RAM; `name` is what messages call the image.
    Raises UnusableInput when the size is outside `layout.MEMORY_MINIMUM` to `layout.MEMORY_MAXIMUM`.
    """

    def __init__(self, memory: memoryview, name: str) -> None:
        if not layout.MEMORY_MINIMUM <= len(memory) <= layout.MEMORY_MAXIMUM:
            raise UnusableInput(
                f"memory: {size_text(len(memory))} is not possible; a guest can have from 2M to 3072M"
                " (the addresses above belong to devices)"
            )
        self._memory = memory
        self._taken: list[tuple[int, int, str]] = []
        self.name = name

    @property
    def size(self) -> int:
        """Bytes of RAM, the hole below 1 MiB included."""
        return len(self._memory)

    def claim(self, gpa: int, size: int, what: str) -> None:
        """Take the bytes from `gpa` for `what`; claims under the same `what` may overlap.

        Raises UnusableImage when they are not RAM, or taken by something else.
        """
        end = gpa + size
        in_low = gpa >= layout.LOW_START and end <= layout.EBDA
        if not in_low and (gpa < layout.HIGH_MEMORY or end > self.size):
            raise UnusableImage(f"{self.name}: {what} at {gpa:#x}-{end:#x} {self._why_not(gpa, end)}")
        for start, stop, owner in self._taken:
            if gpa < stop and start < end and owner != what:
                raise UnusableImage(
                    f"{self.name}: {what} at {gpa:#x}-{end:#x} and {owner} at {start:#x}-{stop:#x} overlap"
                )
        self._taken.append((gpa, end, what))

    def _why_not(self, gpa: int, end: int) -> str:
        if gpa >= layout.HIGH_MEMORY and end <= layout.MEMORY_MAXIMUM:
            needed = size_text(end)
            return f"does not fit into {size_text(self.size)} of memory; give the guest at least {needed}"
        return (
            f"is not in memory that a guest is loaded to: {layout.LOW_START:#x}-{layout.EBDA:#x}"
            f" and from {layout.HIGH_MEMORY:#x}"
        )

    def require(self, end: int, what: str) -> None:
        """Raise UnusableImage, with the size needed and the size given, unless RAM reaches up to `end`."""
        if end > self.size:
            raise UnusableImage(
                f"{self.name}: {what} needs {size_text(end)} of memory and the guest has"
                f" {size_text(self.size)}; give it more"
            )

    def write(self, gpa: int, data: bytes | memoryview, what: str) -> None:
        """Claim as many bytes as `data` has and copy it there."""
        self.claim(gpa, len(data), what)
        self.fill(gpa, data)

    def fill(self, gpa: int, data: bytes | memoryview) -> None:
        """Copy `data` into memory that was claimed before."""
        self._memory[gpa : gpa + len(data)] = data

    def zero(self, gpa: int, size: int) -> None:
        """Clear memory that was claimed before."""
        end = gpa + size
        for start in range(gpa, end, len(_ZEROS)):
            stop = min(start + len(_ZEROS), end)
            self._memory[start:stop] = _ZEROS[: stop - start]

    def view(self, gpa: int, size: int) -> memoryview:
        """Give a writable view of memory that was claimed before."""
        return self._memory[gpa : gpa + size]

    def place_high(self, size: int, limit: int, what: str) -> int:
        """Claim `size` bytes at the highest free page below `limit` and above 1 MiB; return their address.

        Raises UnusableImage when there is no such room.
        """
        top = min(limit, self.size)
        owners = sorted(self._taken, reverse=True)
        while True:
            gpa = (top - size) & -layout.PAGE
            clash = next((start for start, stop, _ in owners if start < gpa + size and gpa < stop), None)
            if clash is None or gpa < layout.HIGH_MEMORY:
                break
            top = clash
        if gpa < layout.HIGH_MEMORY:
            raise UnusableImage(
                f"{self.name}: {what} of {size_text(size)} has no room beside the rest in"
                f" {size_text(self.size)} of memory; give the guest more"
            )
        self.claim(gpa, size, what)
        return gpa
