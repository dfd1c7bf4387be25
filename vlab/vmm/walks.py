"""The whole way of an address: through the guest's tables, and for each of their entries through ours.

Under nested paging every reference to a guest table is itself walked through the nested tables; with four
levels on four that makes 24 references (AMD APM vol. 2, rev. 3.42, 15.25). Under shadow paging the processor
walks tables of the monitor's alone, and the guest's are walked by the monitor, when it fills those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Step, Translation, walk_whole

Reader = Callable[[int, int], int]
Behind = Callable[[int], int | None]
_LOOK = Access()
_NESTED_LOOK = Access(user=True)


@dataclass(frozen=True, slots=True)
class Reference:
    """One guest table entry. ``nested``: the nested walk of its own address, empty without nested paging.

    ``nested_result``: what that walk came to, None without nested paging.
    """

    step: Step
    nested: tuple[Step, ...]
    nested_result: Translation | Fault | None = None


@dataclass(frozen=True, slots=True)
class ShadowWalk:
    """The walk of the same linear address through the shadow tables: the one that the processor makes.

    ``steps`` give the tables at their host-physical addresses. ``fenced``: the processor reaches them, and
    what their entries name, through tables of the monitor's that keep the guest in, so the raw entries hold
    other addresses. ``host``: host-physical address, or None. ``foreign``: it is no memory of the guest's.
    """

    mode: PagingMode
    steps: tuple[Step, ...]
    result: Translation | Fault
    host: int | None
    fenced: bool
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class GuestWalk:
    """The walk of one linear address.

    ``references``: the guest's entries in order. ``result``: guest-physical translation, or the guest's
    fault. ``last``: the nested walk of the final guest-physical address, and ``last_result`` what it came to.
    ``host``: host-physical address, or None. ``backing``: what is at the guest-physical address: "RAM",
    "ROM", "device window", or "" for nothing. ``shadow``: the walk that the processor makes under shadow
    paging, None without.
    """

    linear: int
    mode: PagingMode
    references: tuple[Reference, ...]
    result: Translation | Fault
    last: tuple[Step, ...]
    host: int | None
    last_result: Translation | Fault | None = None
    backing: str = ""
    shadow: ShadowWalk | None = None

    @property
    def physical(self) -> int | None:
        """The guest-physical address, None for a fault."""
        return self.result.physical if isinstance(self.result, Translation) else None

    @property
    def memory_references(self) -> int:
        """How many memory accesses the hardware needs for this walk."""
        if self.shadow is not None:
            return len(self.shadow.steps)
        return sum(1 + len(reference.nested) for reference in self.references) + len(self.last)

    def __str__(self) -> str:
        lines = [f"walk of {self.linear:#x}, {self.mode.value} translation"]
        for number, reference in enumerate(self.references, 1):
            lines.append(f"  {number}. {_told(reference.step)}")
            if reference.nested:
                lines.append(f"     read after {len(reference.nested)} references to nested tables")
        if isinstance(self.result, Translation):
            host = "nothing" if self.host is None else f"host-physical {self.host:#x}"
            size = self.result.page_size >> 10
            rights = _rights(self.result)
            lines.append(f"  = guest-physical {self.result.physical:#x} ({size} KiB page, {rights}), {host}")
        else:
            lines.append(f"  = {self.result.why}: page fault with error code {self.result.error_code:#x}")
        if self.shadow is not None:
            lines += _shadow_lines(self.shadow)
        lines.append(f"  {self.memory_references} memory references")
        return "\n".join(lines)


def _told(step: Step) -> str:
    return (
        f"level {step.level}: entry {step.index:#5x} of the table at {step.table:#x} "
        f"= {step.kind(step.entry)!r}"
    )


def _rights(found: Translation) -> str:
    shown = (("w", found.writable), ("x", found.executable), ("u", found.user))
    return "".join(letter if allowed else "-" for letter, allowed in shown)


def _shadow_lines(shadow: ShadowWalk) -> list[str]:
    lines = [f"  the processor walks shadow tables, {shadow.mode.value} translation"]
    lines += [f"  {number}. {_told(step)}" for number, step in enumerate(shadow.steps, 1)]
    if isinstance(shadow.result, Translation):
        host = "nothing" if shadow.host is None else f"host-physical {shadow.host:#x}"
        size = shadow.result.page_size >> 10
        lines.append(f"  = {host} ({size} KiB page, {_rights(shadow.result)})")
    else:
        lines.append(f"  = {shadow.result.why}: an exit, which the monitor answers")
    return lines


def walk_guest(
    linear: int,
    controls: PagingControls,
    read_guest: Reader,
    nested: PagingControls | None,
    read_host: Reader,
    behind: Behind = lambda gpa: gpa,
) -> GuestWalk:
    """Walk ``linear`` as the hardware would, looking only.

    controls: the guest's. read_guest: its physical memory. nested: the nested tables' controls, None without.
    read_host: host-physical memory. behind: gives the host-physical address of a guest-physical one where no
    nested tables say it.
    """

    def through_nested(gpa: int) -> tuple[tuple[Step, ...], Translation | Fault | None]:
        return ((), None) if nested is None else walk_whole(gpa, nested, _NESTED_LOOK, read_host)

    steps, result = walk_whole(linear, controls, _LOOK, read_guest)
    references = tuple(Reference(step, *through_nested(step.entry_address)) for step in steps)
    last: tuple[Step, ...] = ()
    arrival: Translation | Fault | None = None
    host: int | None = None
    if isinstance(result, Translation):
        last, arrival = through_nested(result.physical)
        host = behind(result.physical) if arrival is None else _physical(arrival)
    return GuestWalk(linear, controls.mode, references, result, last, host, arrival)


def walk_shadow(linear: int, real: PagingControls, fence: PagingControls | None, read: Reader) -> ShadowWalk:
    """Walk ``linear`` through the tables that CR3 really points to.

    real: the processor's own controls. fence: the nested tables around the shadow, None without. read:
    host-physical memory.
    """

    def place(address: int) -> int | None:
        if fence is None:
            return address
        return _physical(walk_whole(address, fence, _NESTED_LOOK, read)[1])

    def read_entry(address: int, size: int) -> int:
        hpa = place(address)
        return 0 if hpa is None else read(hpa, size)

    steps, result = walk_whole(linear, real, _LOOK, read_entry)
    placed = tuple(_moved(step, place(step.entry_address)) for step in steps)
    host = place(result.physical) if isinstance(result, Translation) else None
    if isinstance(result, Fault) and placed:  # the last step is to blame
        why = result.why.replace(f"{steps[-1].entry_address:#x}", f"{placed[-1].entry_address:#x}")
        result = replace(result, step=placed[-1], why=why)
    return ShadowWalk(real.mode, placed, result, host, fence is not None)


def _moved(step: Step, hpa: int | None) -> Step:
    if hpa is None:
        return step
    return replace(step, table=hpa - step.index * step.entry_size, entry_address=hpa)


def _physical(result: Translation | Fault) -> int | None:
    return result.physical if isinstance(result, Translation) else None
