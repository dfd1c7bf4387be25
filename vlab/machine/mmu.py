"""The microcode's own view of memory: translation for delivery, descriptor loads and instruction fetches.

The engine walks page tables for the guest's instructions in C. What the microcode touches itself goes through
here, over the same tables in the same memory, with the one walker of ``vlab.isa.paging``; accessed and dirty
bits are set as the hardware sets them (APM2 5.4.2; sections of AMD APM vol. 2, rev. 3.42).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, translate
from vlab.machine.faults import CpuFault
from vlab.machine.memory import PhysicalMemory

_A, _D, _RW = 1 << 5, 1 << 6, 1 << 1
_OFFSET: Final = 0xFFF

_ACCESS: Final = {
    (write, user, fetch): Access(write, user, fetch)
    for write in (False, True)
    for user in (False, True)
    for fetch in (False, True)
}
_GPA_SIGN, _GPA_WRAP = 1 << 47, 1 << 48  # the engine's walk of nested tables looks at 48 bits of an address


class NestedFault(Exception):
    """The microcode met a guest-physical address that the nested tables do not allow (APM2 15.25.6).

    gpa: bytes. code: as in EXITINFO1.
    """

    def __init__(self, gpa: int, code: int) -> None:
        super().__init__(gpa, code)
        self.gpa = gpa
        self.code = code


class Mmu:
    """Translates for the microcode of one processor, nested once ``set_nested`` gave it tables."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._words = memory.bytes.cast("Q")
        self._nested: PagingControls | None = None
        self._frames: dict[int, int] = {}
        self._read_only: set[int] = set()

    def set_nested(self, root: int | None) -> None:
        """Follow other nested tables at host-physical ``root``, or the same ones after a change; None: none.

        NX is a reserved bit in them, as for the engine (see ``power_on``).
        """
        self.forget_nested()
        self._nested = None
        if root is not None:
            self._nested = PagingControls(PagingMode.LONG, root, nxe=False, wp=True)

    def forget_nested(self) -> None:
        """Drop cached nested translations: a monitor must flush after it changed its tables."""
        self._frames.clear()
        self._read_only.clear()

    def host_address(self, gpa: int, *, write: bool = False) -> int:
        """Give the host-physical address of ``gpa``; raises NestedFault."""
        page = gpa >> 12
        frame = self._frames.get(page)
        if frame is None or (write and page in self._read_only):
            frame = self._walk_nested(gpa, write)
        return frame | gpa & _OFFSET

    def _walk_nested(self, gpa: int, write: bool) -> int:
        if self._nested is None:
            return gpa & ~_OFFSET
        place = gpa % _GPA_WRAP
        if place & _GPA_SIGN:
            place |= -_GPA_WRAP & (1 << 64) - 1  # canonical, for the walker: four levels cover 48 bits
        # Nested tables see every guest access as a user access (APM2 15.25.5).
        result = translate(place, self._nested, _ACCESS[write, True, False], self._memory.read)
        if isinstance(result, Fault):
            raise NestedFault(gpa, result.error_code)
        page, frame = gpa >> 12, result.physical & ~_OFFSET
        if len(self._frames) >= 1 << 14:
            self._frames.clear()
        self._frames[page] = frame
        if result.writable:
            self._read_only.discard(page)
        else:
            self._read_only.add(page)
        return frame

    def read_physical(self, gpa: int, size: int) -> int:
        """Read guest-physical memory, ``size`` bytes inside one page; raises NestedFault."""
        hpa = self.host_address(gpa)
        if size == 8 and not hpa & 7 and hpa < self._memory.size:
            return self._words[hpa >> 3]
        return self._memory.read(hpa, size)

    def translate(
        self,
        linear: int,
        controls: PagingControls,
        *,
        write: bool = False,
        user: bool = False,
        fetch: bool = False,
    ) -> int:
        """Give the host-physical address of ``linear`` for one access, and set accessed and dirty bits.

        Raises CpuFault (#PF, or #GP for an address that is not canonical) and NestedFault.
        """
        path: list[tuple[int, int, int]] = []

        def read(address: int, size: int) -> int:
            entry = self.read_physical(address, size)
            path.append((address, size, entry))
            return entry

        result = translate(linear, controls, _ACCESS[write, user, fetch], read)
        if isinstance(result, Fault):
            if result.step is None:
                raise CpuFault(int(result.vector), 0, why=result.why)
            raise CpuFault(int(result.vector), result.error_code, linear)
        self._mark(path, controls.mode, write)
        return self.host_address(result.physical, write=write)

    def _mark(self, path: list[tuple[int, int, int]], mode: PagingMode, write: bool) -> None:
        first = 1 if mode is PagingMode.PAE else 0  # the four PAE pointers have no accessed bit
        last = len(path) - 1
        for place in range(first, len(path)):
            address, size, entry = path[place]
            wanted = entry | _A | (_D if write and place == last else 0)
            if wanted != entry:
                self._memory.write(self.host_address(address, write=True), size, wanted)

    def look(self, linear: int, controls: PagingControls) -> Translation | Fault:
        """Translate for an onlooker: no bits are set, supervisor read."""
        return translate(linear, controls, _ACCESS[False, False, False], self.read_physical)
