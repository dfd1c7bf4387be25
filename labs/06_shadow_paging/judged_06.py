"""Shadow paging by a student's rules: the walk of the guest's own tables, and misses that never end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlab.grading.exercise import Broken
from vlab.grading.student import Student
from vlab.guests.probes import A
from vlab.isa.page_entries import PaePdpe
from vlab.isa.paging import Access, Fault, Step, Translation, walk_whole
from vlab.session import VM
from vlab.vmm.exits import Exit, PageFault
from vlab.vmm.paging.shadow.filled import FilledPaging
from vlab.vmm.verdicts import Verdict

_PATIENCE: Final = 4
"""How often in a row the same access may miss: twice is in order, when an entry was dropped meanwhile."""


@dataclass(slots=True)
class Found:
    """The walk of the guest's own tables for one access."""

    steps: tuple[Step, ...]
    result: Translation | Fault


class Judged(FilledPaging):
    """Shadow paging by the student's rules, with what all exercises here need."""

    def __init__(self, student: Student) -> None:
        super().__init__(frames=128)
        self.student = student
        self.vm: VM | None = None
        self._last: tuple[int, int, int] = 0, 0, 0
        self._again = 0

    def broken(self, why: str, hint: str = "") -> Broken:
        """Give the exception to raise: the guest shows it."""
        return Broken(why, hint=hint, vm=self.vm)

    def handle(self, exit_: Exit) -> Verdict | None:
        """Notice an access that misses again and again: its entry does not allow it."""
        if isinstance(exit_, PageFault):
            place = self._host.core.rip, exit_.address, exit_.code & ~1
            self._again = self._again + 1 if place == self._last else 0
            self._last = place
            if self._again >= _PATIENCE:
                access = Access(bool(exit_.code & 2), bool(exit_.code & 4), bool(exit_.code & 16))
                raise self.broken(
                    f"{told(exit_.address, access)} misses the shadow again and again: your entry does not "
                    "allow it",
                    "an entry has to allow at least the access that asked for it",
                )
        return super().handle(exit_)

    def look(self, linear: int, access: Access) -> Found:
        """Walk the guest's tables, and set accessed in the entries above the last, as the processor does."""
        steps, result = walk_whole(linear, self.registers.controls(), access, self.read_guest)
        for step in steps[:-1]:
            self.mark(step, A)
        return Found(steps, result)

    def mark(self, step: Step, bits: int) -> None:
        """Set bits in an entry of the guest's."""
        if step.kind is PaePdpe:
            return
        entry = self.read_guest(step.entry_address, step.entry_size)
        if entry & bits != bits:
            self.write_guest(step.entry_address, step.entry_size, entry | bits)


def told(linear: int, access: Access) -> str:
    """Say what an access was, and where."""
    what = "fetch" if access.fetch else "write" if access.write else "read"
    return f"a {what} at {linear:#010x} {'in ring 3' if access.user else 'in ring 0'}"
