"""What a page walk is made of, ready to draw and to tell: references in order, their bits, what comes of it.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2). Facts of bits come from vlab.isa's declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vlab.isa.fields import Register
from vlab.isa.paging import Fault, PagingMode, Step, Translation
from vlab.isa.paging_modes import LEVELS
from vlab.isa.svm_exits import NptFaultInfo
from vlab.isa.vectors import PageFaultError
from vlab.vmm.walks import GuestWalk
from vlab.widgets.units import size_text
from vlab.widgets.walk_differences import differences

GUEST, NESTED, SHADOW = "guest", "nested", "shadow"
_PAGE: Final = 4096
_FULL: Final = {PagingMode.NONE: 32, PagingMode.LEGACY: 32, PagingMode.PAE: 32, PagingMode.LONG: 64}


@dataclass(frozen=True, slots=True)
class Part:
    """Bits ``hi`` to ``lo`` of an address: the index of a level's table, or the offset. ``level``: 0 for the
    offset, None for bits that choose nothing.
    """

    lo: int
    hi: int
    value: int
    name: str
    level: int | None

    @property
    def bits(self) -> str:
        """As the manuals write it."""
        return f"{self.hi}:{self.lo}"


@dataclass(frozen=True, slots=True)
class Shown:
    """One reference to memory.

    ``label``: its number in the order in which the hardware makes them, or a letter for one that is the
    monitor's. ``row``: of the walk that it belongs to, from 0. ``of``: the address that is being walked.
    ``part``: the bits of it that chose the entry.
    """

    label: str
    kind: str
    row: int
    column: int
    step: Step
    of: int
    part: Part

    @property
    def name(self) -> str:
        """The entry's kind as the manual writes it, with an n in front for a nested table's."""
        return ("n" if self.kind == NESTED else "") + entry_name(self.step)


def entry_name(step: Step) -> str:
    """Name an entry as the manual does: PML4E, PDPE, PDE, PTE."""
    return _entry_name(step.kind.__name__.removesuffix("Large"))


def is_leaf(step: Step) -> bool:
    """Say whether the entry maps a page by itself."""
    return step.level == 1 or step.kind.__name__.endswith("Large")


def split(address: int, mode: PagingMode, steps: tuple[Step, ...]) -> list[Part]:
    """Divide an address into the indexes that its walk used, and the offset in the page."""
    rows = LEVELS[mode]
    last = next((step.level for step in steps if is_leaf(step)), 1)
    parts: list[Part] = []
    below = _FULL[mode]
    for row in rows:
        if row.level < last:
            break
        hi = row.shift + row.index_mask.bit_length() - 1
        if hi < below - 1:
            parts.append(Part(hi + 1, below - 1, address >> hi + 1 & (1 << below - hi - 1) - 1, "sign", None))
        index = address >> row.shift & row.index_mask
        parts.append(Part(row.shift, hi, index, _entry_name(row.kind.__name__) + " index", row.level))
        below = row.shift
    parts.append(Part(0, below - 1, address & (1 << below) - 1, "offset", 0))
    return parts


def _entry_name(kind: str) -> str:
    """Shorten the name of an entry's class."""
    return kind.removeprefix("Legacy").removeprefix("Pae").upper()


class WalkFacts:
    """All that a view tells of ``walk``.

    ``references``: in order. ``kind``: "direct", "nested" or "shadow". ``stopped``: the label of the
    reference where it came to a stop, None for one that arrived.
    """

    def __init__(self, walk: GuestWalk) -> None:
        self.walk = walk
        nested = walk.last_result is not None or any(each.nested_result for each in walk.references)
        self.kind = SHADOW if walk.shadow is not None else NESTED if nested else "direct"
        self.rows = self._rows()
        self.references = [shown for row in self.rows for shown in row]
        self.stopped = self._stopped()

    # --- references -------------------------------------------------------------------------------------

    def _rows(self) -> list[list[Shown]]:
        walk = self.walk
        guest = [reference.step for reference in walk.references]
        if walk.shadow is not None:
            letters = [chr(ord("a") + number) for number in range(len(guest))]
            numbers = [str(number) for number in range(1, len(walk.shadow.steps) + 1)]
            return [
                self._row(walk.shadow.steps, SHADOW, 0, walk.linear, walk.shadow.mode, numbers),
                self._row(tuple(guest), GUEST, 1, walk.linear, walk.mode, letters),
            ]
        if self.kind != NESTED:
            numbers = [str(number) for number in range(1, len(guest) + 1)]
            return [self._row(tuple(guest), GUEST, 0, walk.linear, walk.mode, numbers)]
        return self._grid()

    def _grid(self) -> list[list[Shown]]:
        """Rows of the two-dimensional walk, up to the nested walk that fails."""
        walk, rows, number = self.walk, [], 0
        parts = split(walk.linear, walk.mode, tuple(each.step for each in walk.references))
        for place, reference in enumerate(walk.references):
            count = len(reference.nested)
            numbers = [str(number + n) for n in range(1, count + 1)]
            address = reference.step.entry_address
            row = self._row(reference.nested, NESTED, place, address, PagingMode.LONG, numbers)
            number += count
            rows.append(row)
            if isinstance(reference.nested_result, Fault):
                return rows
            number += 1
            part = next(part for part in parts if part.level == reference.step.level)
            row.append(Shown(str(number), GUEST, place, 4, reference.step, walk.linear, part))
        if isinstance(walk.result, Translation):
            numbers = [str(number + n) for n in range(1, len(walk.last) + 1)]
            place = len(walk.references)
            rows.append(self._row(walk.last, NESTED, place, walk.result.physical, PagingMode.LONG, numbers))
        return rows

    def _row(
        self, steps: tuple[Step, ...], kind: str, row: int, of: int, mode: PagingMode, labels: list[str]
    ) -> list[Shown]:
        parts = {part.level: part for part in split(of, mode, steps)}
        return [
            Shown(label, kind, row, column, step, of, parts[step.level])
            for column, (step, label) in enumerate(zip(steps, labels, strict=True))
        ]

    @property
    def nested_failure(self) -> tuple[Fault, int, bool] | None:
        """The nested walk that failed: the fault, the guest-physical address, and whether it is the last."""
        for reference in self.walk.references:
            if isinstance(reference.nested_result, Fault):
                return reference.nested_result, reference.step.entry_address, False
        if isinstance(self.walk.last_result, Fault):
            assert self.walk.physical is not None
            return self.walk.last_result, self.walk.physical, True
        return None

    def _stopped(self) -> str | None:
        walk = self.walk
        if walk.shadow is not None:
            failed = isinstance(walk.shadow.result, Fault)
            return self.rows[0][-1].label if failed and self.rows[0] else None
        if self.nested_failure is not None or isinstance(walk.result, Fault):
            return self.references[-1].label if self.references else None
        return None

    # --- what comes of it ---------------------------------------------------------------------------------

    def outcome(self) -> list[str]:
        """Tell what the processor has in the end: a translation, or why it has none."""
        walk = self.walk
        if walk.shadow is not None:
            return self._shadow_outcome()
        failure = self.nested_failure
        if failure is not None:
            fault, gpa, final = failure
            where = NptFaultInfo.FINAL.mask if final else NptFaultInfo.TABLE.mask
            return [
                f"Stopped at reference {self.stopped}: {fault.why}.",
                (
                    f"#VMEXIT(NPF), EXITINFO2 = {gpa:#x}, EXITINFO1 = "
                    f"{coded(NptFaultInfo(fault.error_code | where))} (APM2 15.25.6)."
                ),
            ]
        if isinstance(walk.result, Fault):
            return guest_fault(walk.result, self.stopped)
        return self._tlb(walk.result)

    def _shadow_outcome(self) -> list[str]:
        walk = self.walk
        assert walk.shadow is not None
        found = walk.shadow.result
        if isinstance(found, Translation):
            return [*_tlb_lines(walk.linear, walk.shadow.host, found.page_size, found), *differences(walk)]
        return [
            f"Stopped at reference {self.stopped}: {found.why}.",
            f"#PF, error code {coded(PageFaultError(found.error_code))}; the monitor takes it.",
            *differences(walk),
        ]

    def _tlb(self, found: Translation) -> list[str]:
        walk = self.walk
        if walk.mode is PagingMode.NONE and self.kind == "direct":
            return ["Paging is off: linear addresses are physical ones, and no table is read (APM2 5.1)."]
        size, lower = found.page_size, walk.last_result
        rights = found
        lines: list[str] = []
        if isinstance(lower, Translation):
            rights = found._replace(
                writable=found.writable and lower.writable, executable=found.executable and lower.executable
            )
            if walk.mode is PagingMode.NONE:
                size = lower.page_size
            elif size != lower.page_size:
                lines = [
                    (
                        f"The page size is the smaller of guest's {size_text(size)} and nested "
                        f"{size_text(lower.page_size)} (APM2 15.25, page splintering)."
                    )
                ]
                size = min(size, lower.page_size)
            if not lower.writable:
                lines.append("The nested tables make it read-only, whatever the guest's say.")
        if walk.backing and walk.backing != "RAM":
            lines.append(f"Guest-physical {found.physical:#x} is no RAM: {walk.backing}.")
        if walk.host is None:
            lines.append(f"Nothing is at guest-physical {found.physical:#x}: nobody answers there.")
        return [*_tlb_lines(walk.linear, walk.host, size, rights), *lines]

    # --- for the browser ----------------------------------------------------------------------------------

    def detail(self, shown: Shown) -> dict[str, Any]:
        """Give all about one reference, for a view that shows it."""
        step = shown.step
        entry = step.kind(step.entry)
        return {
            "label": shown.label,
            "kind": shown.kind,
            "row": shown.row,
            "column": shown.column,
            "level": step.level,
            "title": self.title(shown),
            "meaning": (step.kind.__doc__ or "").partition("\n")[0],
            "reference": step.kind.REFERENCE,
            "where": f"table at {step.table:#x} + {step.entry_size} x index {step.index:#x} "
            f"(bits {shown.part.bits} of {shown.of:#x}) = {step.entry_address:#x}",
            "entry": f"{step.entry:#0{2 + 2 * step.entry_size}x}",
            "fields": fields_of(entry),
        }

    def title(self, shown: Shown) -> str:
        """Name a reference in full."""
        total = self.walk.memory_references
        if shown.kind == GUEST and self.kind == SHADOW:
            return f"{shown.label}: the guest's {shown.name}, read by the monitor when it fills"
        whose = {GUEST: "the guest's ", SHADOW: "the shadow's ", NESTED: ""}[shown.kind]
        if shown.kind == NESTED:
            guest = self.walk.references
            of = f"for the guest's {entry_name(guest[shown.row].step)}" if shown.row < len(guest) else "final"
            return f"reference {shown.label} of {total}: {shown.name}, nested walk {of}"
        return f"reference {shown.label} of {total}: {whose}{shown.name}"


def fields_of(entry: Register) -> list[dict[str, str]]:
    """Give a register's fields for a view, highest bit first, reserved bits last."""
    found = [
        {"name": each.name, "bits": each.bits, "value": f"{each.value:#x}" if each.value > 1 else
         str(each.value), "meaning": each.meaning + (f": {each.label}" if each.label else "")}
        for each in entry.describe()
    ]  # fmt: skip
    reserved = int(entry) & entry.reserved_mask()
    if reserved:
        found.append({"name": "reserved", "bits": "", "value": f"{reserved:#x}", "meaning": "must be zero"})
    return found


def flags_of(step: Step) -> str:
    """Give the names of the single bits that are set, highest first."""
    described = step.kind(step.entry).describe()
    return " ".join(each.name for each in described if ":" not in each.bits and each.value) or "nothing set"


def coded(code: Register) -> str:
    """Give an error code with the meaning of each bit."""
    told = [f"{each.name} = {each.value}: {each.meaning}" for each in code.describe() if each.value]
    return f"{int(code):#x} ({'; '.join(told) or 'a read by the supervisor of a page that is not present'})"


def guest_fault(fault: Fault, stopped: str | None) -> list[str]:
    """Tell a fault of the guest's own."""
    if fault.step is None:
        return [f"{fault.why}: no table is read, and the processor raises {fault.vector!s} (APM2 5.3.1)."]
    return [
        f"Stopped at reference {stopped}: {fault.why}.",
        f"{fault.vector!s}, error code {coded(PageFaultError(fault.error_code))} (APM2 8.4.2).",
    ]


def rights_text(found: Translation) -> str:
    """Write what a translation allows."""
    may = ["read", *(["write"] if found.writable else []), *(["execute"] if found.executable else [])]
    cannot = [*([] if found.writable else ["read-only"]), *([] if found.executable else ["NX"])]
    who = "CPL 3 too" if found.user else "supervisor alone"
    return ", ".join(may) + (f" ({', '.join(cannot)})" if cannot else "") + f"; {who}"


def _tlb_lines(linear: int, host: int | None, size: int, rights: Translation) -> list[str]:
    if host is None:
        return []
    return [
        (
            f"The TLB would hold: linear {linear & -size:#x} -> host-physical {host & -size:#x}, "
            f"{size_text(size)} page; {rights_text(rights)}{'; global' if rights.global_ else ''}."
        ),
        f"Linear {linear:#x} is at host-physical {host:#x}.",
    ]
