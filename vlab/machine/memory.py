"""Physical memory: frames on one anonymous mapping that Python, NumPy and the processor share.

The emulator maps the same bytes (`uc_mem_map_ptr`), so a loader, a page walk, a DMA transfer or a drawing
reads and writes what the guest sees, without a call into the emulator. Pages that nobody has touched cost
nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from typing import Final

from vlab.errors import UnusableInput

PAGE: Final = 4096
LARGE_PAGE: Final = 2 << 20


class PhysicalMemory:
    """The machine's memory: host-physical addresses 0 to ``size`` - 1.

    size: bytes, a positive multiple of 2 MiB. Raises UnusableInput when the host will not give that much.
    """

    def __init__(self, size: int) -> None:
        if size <= 0 or size % LARGE_PAGE:
            raise UnusableInput(f"memory: {size} is not a positive multiple of 2 MiB; round it up")
        try:
            # Private: a shared mapping would count as shared memory, which containers often limit.
            self._map = _anonymous(size)
        except (OSError, OverflowError, ValueError) as refusal:
            raise UnusableInput(
                f"memory: this computer refuses {size >> 20} MiB ({refusal}); ask for less"
            ) from None
        self.size: Final = size
        self.bytes: Final = memoryview(self._map)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.address: Final = ctypes.addressof(self._anchor)

    def read(self, hpa: int, size: int) -> int:
        """Read ``size`` bytes, little-endian; beyond the memory are ones, as on an open bus."""
        chunk = self.bytes[hpa : hpa + size]
        if len(chunk) == size:
            return int.from_bytes(chunk, "little")
        return (1 << 8 * size) - 1

    def write(self, hpa: int, size: int, value: int) -> None:
        """Write ``size`` bytes, little-endian; what lies beyond the memory is dropped."""
        if hpa >= 0 and hpa + size <= self.size:
            self.bytes[hpa : hpa + size] = value.to_bytes(size, "little")

    def read_bytes(self, hpa: int, size: int) -> bytes:
        """Read a run of bytes; what lies beyond the memory reads as ones."""
        return bytes(self.bytes[hpa : hpa + size]).ljust(size, b"\xff")

    def write_bytes(self, hpa: int, data: bytes) -> None:
        """Write a run of bytes; one that reaches beyond the memory is dropped."""
        if hpa >= 0 and hpa + len(data) <= self.size:
            self.bytes[hpa : hpa + len(data)] = data

    def zero(self, hpa: int, size: int) -> None:
        """Clear a run of bytes inside the memory."""
        if size >= LARGE_PAGE and not (hpa | size) % mmap.PAGESIZE and sys.platform == "linux":
            self._map.madvise(mmap.MADV_DONTNEED, hpa, size)  # the host has it back until it is touched
        else:
            self.bytes[hpa : hpa + size] = bytes(size)

    def close(self) -> None:
        """Give the memory back to the host; views that others hold keep it until they go."""
        del self._anchor
        try:
            self.bytes.release()
            self._map.close()
        except BufferError:
            pass  # a view into guest memory lives on: the mapping goes with its last view


def _anonymous(size: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


class FrameAllocator:
    """Hands out page frames between two host-physical addresses, lowest first.

    start, end: bytes, multiples of 4096. Runs that come back are merged with their neighbours.
    """

    def __init__(self, start: int, end: int) -> None:
        self._free: list[tuple[int, int]] = [(start, end)]
        self._taken: dict[int, int] = {}
        self._uses: dict[int, str] = {}
        self._guard = threading.RLock()  # one guest may be loaded while another one runs

    def allocate(self, size: int = PAGE, align: int = PAGE, use: str = "") -> int:
        """Give the address of ``size`` bytes (rounded up to pages) at a multiple of ``align``.

        use: what they are for, as onlookers are told. Raises UnusableInput when no run is long enough.
        """
        size = -(-size // PAGE) * PAGE
        with self._guard:
            for place, (start, end) in enumerate(self._free):
                first = -(-start // align) * align
                if first + size <= end:
                    rest = [(start, first), (first + size, end)]
                    self._free[place : place + 1] = [run for run in rest if run[0] < run[1]]
                    self._taken[first] = size
                    if use:
                        self._uses[first] = use
                    return first
        raise UnusableInput(
            f"memory: the machine has no free run of {size >> 10} KiB (largest: {self.largest >> 10} KiB); "
            f"give vlab.Machine(memory=...) more, or close a VM"
        )

    def free(self, address: int) -> None:
        """Take back what ``allocate`` gave at ``address``. Raises ValueError for anything else."""
        with self._guard:
            if address not in self._taken:
                raise ValueError(f"free({address:#x}): no allocation starts there")
            self._uses.pop(address, None)
            self._free.append((address, address + self._taken.pop(address)))
            self._free.sort()
            merged: list[tuple[int, int]] = []
            for start, end in self._free:
                if merged and merged[-1][1] == start:
                    merged[-1] = (merged[-1][0], end)
                else:
                    merged.append((start, end))
            self._free = merged

    @property
    def largest(self) -> int:
        """Size in bytes of the longest free run."""
        return max((end - start for start, end in self._free), default=0)

    @property
    def allocated(self) -> dict[int, int]:
        """What is handed out: address -> size in bytes."""
        return dict(self._taken)

    @property
    def uses(self) -> dict[int, str]:
        """What that is for, as far as it was said: address -> words."""
        return dict(self._uses)
