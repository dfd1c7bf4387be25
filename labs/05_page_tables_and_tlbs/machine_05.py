"""The student's page walk, and the student's TLB, in a machine that has neither.

A guest's memory is reached through a TLB that software fills (`FilledPaging`): at each miss the student's
walk says where the page is, or which fault the guest gets; at INVLPG and its like the student's functions say
what the TLB drops. Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.guests.probes import HERE, LEGACY, PAE
from vlab.isa.control import CR4
from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Translation, walk_whole
from vlab.isa.vectors import PageFaultError
from vlab.session import VM
from vlab.vmm.paging.shadow.filled import Fill, FilledPaging, Unbacked

_PSE, _PGE = CR4.PSE.mask, CR4.PGE.mask


class Mmu(Facade):
    """What a walk has to work with."""

    read_only = ("cr3", "wp")
    offers = ("read", "page_fault")

    def __init__(self, paging: StudentWalk) -> None:
        controls = paging.registers.controls()
        self.cr3, self.wp = controls.root, controls.wp
        self._paging, self._size = paging, 4 if controls.mode is LEGACY else 8
        self.reads: list[int] = []
        self.code: int | None = None

    def read(self, address: Value) -> int:
        """Read the entry at a physical address: 4 bytes, or 8 with PAE."""
        size, memory = self._size, self._paging.bytes
        if not isinstance(address, int) or not 0 <= address <= memory - size or address % size:
            shown = hex(address) if isinstance(address, int) else repr(address)
            raise ValueError(
                f"address: no entry of {size} bytes can be at {shown}; the address in an entry or in CR3 is "
                "what is left when its flags are masked off"
            )
        self.reads.append(address)
        return self._paging.read_guest(address, size)

    def page_fault(self, error_code: Value) -> None:
        """End the walk with a page fault."""
        if not isinstance(error_code, int) or not 0 <= error_code < 32:
            raise ValueError(f"error_code: {error_code!r} is not the error code of a page fault")
        self.code = int(error_code)


class StudentWalk(FilledPaging):
    """A TLB that the student's walk fills, and the processor's own walk judges.

    ``entries``: whether the walk has to read the entries that the processor reads, and no others.
    """

    def __init__(self, student: Student, function: str, *, entries: bool = False) -> None:
        super().__init__(frames=96)
        self.student, self.function, self.entries = student, function, entries
        self.vm: VM | None = None
        self.asked = 0

    @property
    def bytes(self) -> int:
        """How much memory the guest has."""
        return self._host.memory.size

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Ask the student, and hold the answer against the walk of the processor."""
        controls = self.registers.controls()
        if controls.mode is PagingMode.NONE:
            return super().fill(linear, access)
        mmu = Mmu(self)
        given: list[Value] = [mmu, linear, access.write, access.user]
        if controls.mode is PAE:
            given.append(access.fetch)
        answer = self.student.call(self.function, *given)
        self.asked += 1
        steps, right = walk_whole(linear, controls, access, self.read_guest)
        self._judge(linear, access, _answer(answer, mmu), right)
        if self.entries and mmu.reads != [step.entry_address for step in steps]:
            raise Broken(
                f"{_told(linear, access)}: your walk read the entries at {_listed(mmu.reads)}, "
                f"and the processor reads those at {_listed([step.entry_address for step in steps])}",
                hint="an entry that is not present ends the walk: nothing behind it may be looked at",
                vm=self.vm,
            )
        if isinstance(right, Fault):
            return right
        if linear < HERE:
            return Fill(right.physical & ~0xFFF, right.writable, right.user, right.executable)
        return Fill(right.physical & ~0xFFF, access.write, access.user, access.fetch)

    def _judge(self, linear: int, access: Access, yours: int | Fault, right: Translation | Fault) -> None:
        mine = _say(yours)
        expected = _say(right if isinstance(right, Fault) else right.physical)
        if mine == expected:
            return
        why = f": {right.why}" if isinstance(right, Fault) else ""
        raise Broken(
            f"{_told(linear, access)}: your walk gives {mine}, and the processor's {expected}{why}",
            hint=_hint(yours, right, access),
            vm=self.vm,
        )


def _answer(answer: Value, mmu: Mmu) -> int | Fault:
    if mmu.code is not None:
        return Fault(0, mmu.code, None, "")
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise Broken(
            f"your walk returned {answer!r}; it has to return the physical address, a number, or to call "
            "mmu.page_fault(...)"
        )
    return int(answer)


def _told(linear: int, access: Access) -> str:
    what = "fetch" if access.fetch else "write" if access.write else "read"
    return f"a {what} at {linear:#010x} {'in ring 3' if access.user else 'in ring 0'}"


def _say(found: int | Fault) -> str:
    if not isinstance(found, Fault):
        return f"physical address {found:#x}"
    code = PageFaultError(found.error_code)
    bits = " ".join(f"{name}={value}" for name, value in code.decode().items() if name in "PWU" or value)
    return f"a page fault with error code {found.error_code:#x} ({bits})"


def _listed(addresses: Sequence[int]) -> str:
    return ", ".join(map(hex, addresses)) or "none"


def _hint(yours: int | Fault, right: Translation | Fault, access: Access) -> str:
    if isinstance(right, Fault) and right.error_code & PageFaultError.RSVD.mask:
        return "reserved bits are looked at before rights, and their fault has RSVD and P (APM2 8.4.2)"
    if isinstance(right, Fault) and isinstance(yours, Fault):
        return "P is 1 where an entry was present and forbade it; W, U and I tell of the access (APM2 8.4.2)"
    if isinstance(right, Fault) and not right.error_code & 1:
        return "bit 0 of every entry on the way has to be 1"
    if access.fetch and isinstance(right, Fault):
        return "NX in any entry of the way forbids the fetch (APM2 5.6)"
    if isinstance(right, Fault) or isinstance(yours, Fault):
        return "a right is there if every entry on the way grants it; CR0.WP binds ring 0 (APM2 5.6)"
    return "which bits of the entry are the frame, and which bits of the address are the offset"


class Tlb(Facade):
    """The translations that the guest uses now."""

    offers = ("entries", "drop")

    def __init__(self, paging: StudentTlb) -> None:
        self._paging = paging

    def entries(self) -> Value:
        """Give all of them, each a dict: page (its first address), size in bytes, whether it is global."""
        kept = self._paging.kept
        return [{"page": page, "size": size, "global": each} for page, (size, each) in kept.items()]

    def drop(self, page: Value) -> None:
        """Forget the translation whose first address this is; nothing happens if there is none."""
        if not isinstance(page, int):
            raise ValueError(f"page: {page!r} is no address")
        self._paging.forget(page)


class StudentTlb(FilledPaging):
    """A TLB that drops what the student's functions say. ``kept``: size and global bit of what it has."""

    def __init__(self, student: Student) -> None:
        super().__init__(frames=96)
        self.student = student
        self.kept: dict[int, tuple[int, bool]] = {}
        self._pieces: dict[int, set[int]] = {}

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Walk, and note what the TLB has from now on."""
        controls = self.registers.controls()
        found = self.walk_tables(linear, access)
        if isinstance(found, Translation) and controls.mode is not PagingMode.NONE:
            page = linear & -found.page_size
            self.kept[page] = found.page_size, found.global_ and controls.pge
            self._pieces.setdefault(page, set()).add(linear & ~0xFFF)
        return super().fill(linear, access)

    def forget(self, page: int) -> None:
        """Drop one translation."""
        if page in self.kept:
            del self.kept[page]
            for piece in self._pieces.pop(page):
                self.space.drop(piece)

    def invalidate(self, linear: int) -> None:
        """INVLPG: the student's function drops what has to go."""
        self.student.call("invlpg", Tlb(self), linear)

    def switch(self, before: PagingControls, after: PagingControls) -> None:
        """CR3 or CR4 was written: the student's function drops what has to go."""
        if after.mode is PagingMode.NONE:
            super().switch(before, after)
            return
        if (before.pge, before.pse) != (after.pge, after.pse):
            new = self.registers.cr4
            old = new & ~(_PGE | _PSE) | (_PGE if before.pge else 0) | (_PSE if before.pse else 0)
            self.student.call("write_cr4", Tlb(self), old, new)
        else:
            self.student.call("write_cr3", Tlb(self))
