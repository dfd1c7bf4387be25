"""The whole way of an address: through the guest's tables, and for each of their entries through ours.

Under nested paging every reference to a guest table is itself walked through the nested tables; with four
levels on four that makes 24 references (AMD APM vol. 2, rev. 3.42, 15.25).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Step, Translation, walk

Reader = Callable[[int, int], int]
_LOOK = Access()
_NESTED_LOOK = Access(user=True)


@dataclass(frozen=True, slots=True)
class Reference:
    """One guest table entry. ``nested``: the nested walk of its own address, empty without nested paging."""

    step: Step
    nested: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class GuestWalk:
    """The walk of one linear address.

    ``references``: the guest's entries in order. ``result``: guest-physical translation, or the guest's
    fault. ``last``: the nested walk of the final guest-physical address. ``host``: host-physical address, or
    None.
    """

    linear: int
    mode: PagingMode
    references: tuple[Reference, ...]
    result: Translation | Fault
    last: tuple[Step, ...]
    host: int | None

    @property
    def physical(self) -> int | None:
        """The guest-physical address, None for a fault."""
        return self.result.physical if isinstance(self.result, Translation) else None

    @property
    def memory_references(self) -> int:
        """How many memory accesses the hardware needs for this walk."""
        return sum(1 + len(reference.nested) for reference in self.references) + len(self.last)

    def __str__(self) -> str:
        lines = [f"walk of {self.linear:#x}, {self.mode.value} translation"]
        for number, reference in enumerate(self.references, 1):
            step = reference.step
            lines.append(
                f"  {number}. level {step.level}: entry {step.index:#5x} of the table at {step.table:#x} "
                f"= {step.kind(step.entry)!r}"
            )
            if reference.nested:
                lines.append(f"     read after {len(reference.nested)} references to nested tables")
        if isinstance(self.result, Translation):
            rights = "".join(
                letter if allowed else "-"
                for letter, allowed in (
                    ("w", self.result.writable), ("x", self.result.executable), ("u", self.result.user)
                )
            )  # fmt: skip
            host = "nothing" if self.host is None else f"host-physical {self.host:#x}"
            size = self.result.page_size >> 10
            lines.append(f"  = guest-physical {self.result.physical:#x} ({size} KiB page, {rights}), {host}")
        else:
            lines.append(f"  = {self.result.why}: page fault with error code {self.result.error_code:#x}")
        lines.append(f"  {self.memory_references} memory references")
        return "\n".join(lines)


def walk_guest(
    linear: int,
    controls: PagingControls,
    read_guest: Reader,
    nested: PagingControls | None,
    read_host: Reader,
) -> GuestWalk:
    """Walk ``linear`` as the hardware would, looking only.

    controls: the guest's. read_guest: its physical memory. nested: the nested tables' controls, None without.
    read_host: host-physical memory.
    """

    def through_nested(gpa: int) -> tuple[tuple[Step, ...], int | None]:
        if nested is None:
            return (), gpa
        steps, result = _drain(gpa, nested, _NESTED_LOOK, read_host)
        return steps, result.physical if isinstance(result, Translation) else None

    steps, result = _drain(linear, controls, _LOOK, read_guest)
    references = tuple(Reference(step, through_nested(step.entry_address)[0]) for step in steps)
    last: tuple[Step, ...] = ()
    host: int | None = None
    if isinstance(result, Translation):
        last, host = through_nested(result.physical)
    return GuestWalk(linear, controls.mode, references, result, last, host)


def _drain(
    address: int, controls: PagingControls, access: Access, read: Reader
) -> tuple[tuple[Step, ...], Translation | Fault]:
    steps: list[Step] = []
    walking = walk(address, controls, access, read)
    while True:
        try:
            steps.append(next(walking))
        except StopIteration as stop:
            return tuple(steps), stop.value
