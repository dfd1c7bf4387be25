"""Who has which addresses: guest-virtual ranges, guest-physical regions and host frames, and what joins them.

A view shows boxes in three columns; a band joins a part of one box to a part of a box in the next column.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from vlab.machine.layout import RESERVED, WINDOWS
from vlab.machine.machine import Machine
from vlab.vmm.address_space import AddressSpace, MappedRange
from vlab.vmm.board import IO_APIC_BASE, LOCAL_APIC_BASE
from vlab.vmm.guest_memory import ROM_ALIAS, ROM_BASE, Backing, Region
from vlab.widgets.units import size_text

VIRTUAL, PHYSICAL, HOST = 0, 1, 2
_MOST_BANDS: Final = 8
_NAMES: Final = {
    LOCAL_APIC_BASE: "local APIC", IO_APIC_BASE: "I/O APIC", ROM_BASE: "firmware ROM",
    ROM_ALIAS: "firmware ROM again", 0xB8000: "VGA text memory", 0xC0000: "no expansion ROM",
    0xE0000: "RAM for firmware's tables",
}  # fmt: skip
_NAMES_A20: Final = "again, for A20 is low"


@dataclass(slots=True)
class Box:
    """Addresses ``start`` to ``end`` - 1 of one column. ``owner``: number of the VM, -1 for nobody's.

    ``kind`` is a word for what it is: "user", "kernel", "mixed", "RAM", "ROM", "window", "monitor", "machine"
    or "free". ``marks``: what is to be known of it, in letters. ``facts``: more, as name and words. ``zoom``:
    whether there is more to see inside.
    """

    key: str
    column: int
    owner: int
    start: int
    end: int
    kind: str
    label: str
    marks: tuple[str, ...] = ()
    facts: list[tuple[str, str]] = field(default_factory=list)
    zoom: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Band:
    """Addresses ``first`` to ``last`` - 1 of box ``source`` are those from ``to_first`` on of ``target``."""

    source: str
    target: str
    first: int
    last: int
    to_first: int
    to_last: int


@dataclass(frozen=True, slots=True)
class Zoom:
    """What alone is to be seen: addresses of one VM, in column VIRTUAL or PHYSICAL."""

    owner: int
    column: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Look:
    """One VM at one moment. ``tables``: host-physical addresses of some of its shadow tables."""

    name: str
    machine: Machine
    space: AddressSpace
    tables: tuple[int, ...]


class MapFacts:
    """The boxes and bands for ``looks``, of which ``zoom`` alone if given. most: boxes of one VM's ranges."""

    def __init__(self, looks: list[Look], zoom: Zoom | None = None, most: int = 16) -> None:
        self.looks = looks
        self.zoom = zoom
        self.boxes: dict[str, Box] = {}
        self.bands: list[Band] = []
        self._most = most if zoom is not None else max(4, most // len(looks))
        self._pending: list[tuple[str, int, int, int, Machine]] = []
        for owner, look in enumerate(looks):
            if zoom is None or zoom.owner == owner:
                self._add_guest(owner, look)
        for machine in dict.fromkeys(look.machine for look in looks):
            self._add_frames(machine)
        self._join_frames()

    def column(self, number: int) -> list[Box]:
        """Give the boxes of a column, from the top."""
        return [box for box in self.boxes.values() if box.column == number]

    # --- the guest's addresses ----------------------------------------------------------------------------

    def _add_guest(self, owner: int, look: Look) -> None:
        ranges = [each for each in map(self._clip, look.space.ranges) if each is not None]
        shared = _shared(look.space.ranges)
        for number, run in enumerate(_clusters(ranges, self._most)):
            self._add(_virtual_box(f"v{owner}.{number}", owner, run, shared))
            self._join_regions(owner, look, f"v{owner}.{number}", run)
        for number, region in enumerate(look.space.regions):
            self._add_region(f"p{owner}.{number}", owner, look, region)

    def _clip(self, run: MappedRange) -> MappedRange | None:
        """Cut a range down to what is zoomed into."""
        zoom = self.zoom
        if zoom is None:
            return run
        base = run.linear if zoom.column == VIRTUAL else run.physical
        first, last = max(base, zoom.start), min(base + run.size, zoom.end)
        if first >= last:
            return None
        away = first - base
        return run._replace(linear=run.linear + away, physical=run.physical + away, size=last - first)

    def _join_regions(self, owner: int, look: Look, key: str, run: list[MappedRange]) -> None:
        for number, region in enumerate(look.space.regions):
            pieces = _merged(
                (max(each.physical, region.gpa), min(each.physical + each.size, region.gpa + region.size))
                for each in run
            )
            box = self.boxes[key]
            for first, last in pieces:
                whole = len(run) > 1 or len(pieces) > 1
                away = box.start - run[0].physical
                source = (box.start, box.end) if whole else (first + away, last + away)
                self.bands.append(Band(key, f"p{owner}.{number}", *source, first, last))
                if not whole:
                    hpa = region.hpa + first - region.gpa
                    box.facts.append(("host-physical", f"{hpa:#x}, {_region_name(region)}"))

    def _add_region(self, key: str, owner: int, look: Look, region: Region) -> None:
        touched = [band for band in self.bands if band.target == key]
        start, end = region.gpa, region.gpa + region.size
        if self.zoom is not None:
            zoom = self.zoom
            if zoom.column == PHYSICAL:
                start, end = max(start, zoom.start), min(end, zoom.end)
            elif touched:
                start, end = min(band.to_first for band in touched), max(band.to_last for band in touched)
            else:
                return
            if start >= end:
                return
        twice = [
            other for other in look.space.regions
            if other is not region and other.hpa < region.hpa + region.size
            and region.hpa < other.hpa + other.size
        ]  # fmt: skip
        kind = "window" if region.backing is Backing.WINDOW else region.backing.value
        box = Box(key, PHYSICAL, owner, start, end, kind, _region_name(region))
        box.marks = ("RW" if region.writable else "RO", *(("×2",) if twice else ()))
        box.facts = [
            ("is", box.label), ("of", f"VM {owner + 1} ({look.name})"),
            ("writes", "go through" if region.writable else "exit, or are dropped: read-only"),
            ("host-physical", f"{region.hpa + start - region.gpa:#x}"),
            ("mapped by the guest", "yes" if touched else "no range of its tables leads here"),
        ]  # fmt: skip
        if twice:
            where = ", ".join(f"{other.gpa:#x}" for other in twice)
            box.facts.append(("shared", f"the same frames are also at {where}"))
        box.zoom = region.size > 4096 and self.zoom is None
        self._add(box)
        hpa = region.hpa + start - region.gpa
        self._pending.append((key, start, end, hpa, look.machine))

    # --- the machine's frames -----------------------------------------------------------------------------

    def _add_frames(self, machine: Machine) -> None:
        owners = {look.space.ram: number for number, look in enumerate(self.looks) if look.machine is machine}
        number = list(dict.fromkeys(look.machine for look in self.looks)).index(machine)
        for place, (start, end, use, owner) in enumerate(self._frames(machine, owners)):
            kind = "RAM" if use == "RAM" else "free" if use == "free" else "monitor"
            kind = "machine" if use.startswith("machine's") else "window" if "windows" in use else kind
            label = use
            if use == "RAM":
                label = f"RAM of VM {owner + 1}" if owner >= 0 else "RAM of a VM that is not shown"
            box = Box(f"h{number}.{place}", HOST, owner, start, end, kind, label)
            box.facts = [("used for", label), ("size", size_text(end - start))]
            if kind == "monitor":
                box.facts.append(("owner", self._whose(machine)))
            self._add(box)

    def _whose(self, machine: Machine) -> str:
        mine = [number for number, look in enumerate(self.looks) if look.machine is machine]
        if len(mine) == 1 and machine.users == 1:
            return f"the monitor of VM {mine[0] + 1}"
        return "one of the monitors on this machine"

    def _frames(self, machine: Machine, owners: dict[int, int]) -> Iterator[tuple[int, int, str, int]]:
        """Give runs of frames with one use, lowest first, and what is free between them."""
        uses, windows = machine.frames.uses, self._windows(machine)
        tables = [table for look in self.looks if look.machine is machine for table in look.tables]
        end = machine.memory.size - RESERVED
        runs: list[tuple[int, int, str, int]] = []
        at = 0
        for start, size in [*sorted(machine.frames.allocated.items()), (end, 0)]:
            if start > at:
                runs.append((at, start, "free", -1))
            use = uses.get(start, "")
            if not use:
                shadow = any(start <= table < start + size for table in tables)
                use = "shadow tables" if shadow else "monitor's tables"
            if size and runs and runs[-1][1:3] == (start, use) and use != "RAM":
                runs[-1] = (runs[-1][0], start + size, use, -1)
            elif size:
                runs.append((start, start + size, use, owners.get(start, -1)))
            at = start + size
        runs.append((end, machine.memory.size, "machine's own microcode", -1))
        if windows:
            runs.append((WINDOWS, WINDOWS + 4096 * windows, "device windows", -1))
        yield from runs

    def _windows(self, machine: Machine) -> int:
        """How many pages of device windows the VMs that are shown have in use."""
        last = [
            region.hpa
            for look in self.looks
            if look.machine is machine
            for region in look.space.regions
            if region.backing is Backing.WINDOW
        ]
        return (max(last) - WINDOWS) // 4096 + 1 if last else 0

    def _join_frames(self) -> None:
        machines = list(dict.fromkeys(look.machine for look in self.looks))
        touched: dict[str, list[tuple[int, int]]] = {}
        for key, start, end, hpa, machine in self._pending:
            prefix = f"h{machines.index(machine)}."
            for box in self.column(HOST):
                if box.key.startswith(prefix) and box.start <= hpa < box.end:
                    last = min(hpa + end - start, box.end)
                    self.bands.append(Band(key, box.key, start, start + last - hpa, hpa, last))
                    touched.setdefault(box.key, []).append((hpa, last))
        if self.zoom is None:
            return
        for box in self.column(HOST):  # only what the rest leads to
            if box.key not in touched:
                del self.boxes[box.key]
            else:
                box.start = min(first for first, _ in touched[box.key])
                box.end = max(last for _, last in touched[box.key])

    def _add(self, box: Box) -> None:
        self.boxes[box.key] = box


def _region_name(region: Region) -> str:
    if region.backing is Backing.RAM and region.gpa not in _NAMES:
        return "RAM"
    return _NAMES.get(region.gpa, region.backing.value + (f" {_NAMES_A20}" if region.gpa >> 20 == 1 else ""))


def _virtual_box(key: str, owner: int, run: list[MappedRange], shared: set[int]) -> Box:
    first, last = run[0], run[-1]
    mapped = sum(each.size for each in run)
    who = {each.user for each in run}
    kind = "mixed" if len(who) == 2 else "user" if who == {True} else "kernel"
    end = last.linear + last.size
    label = size_text(mapped) + (f" in {len(run)} ranges" if len(run) > 1 else "")
    box = Box(key, VIRTUAL, owner, first.linear, end, kind, label)
    twice = any(each.linear in shared for each in run)
    marks = (
        _mark({each.writable for each in run}, "RW", "RO"),
        _mark({each.executable for each in run}, "X", "NX"),
        _mark(who, "U", "S"),
        *(("D",) if any(each.dirty for each in run) else ()),
        *(("×2",) if twice else ()),
    )
    box.marks = marks
    pages = sorted({each.page_size for each in run})
    box.facts = [
        ("mapped", label), ("pages of", ", ".join(map(size_text, pages))),
        ("guest-physical", f"{first.physical:#x}" if len(run) == 1 else "several places"),
        ("writable", _words({each.writable for each in run}, "yes", "no: read-only")),
        ("executable", _words({each.executable for each in run}, "yes", "no: NX")),
        ("accessible at", _words(who, "CPL 3 too", "CPL 0 to 2 alone")),
        ("dirty", _words({each.dirty for each in run}, "written to", "no, or not all pages")),
    ]  # fmt: skip
    if twice:
        box.facts.append(("shared", "other linear addresses lead to the same frames"))
    box.zoom = len(run) > 1
    return box


def _mark(found: set[bool], yes: str, no: str) -> str:
    return f"{yes}/{no}" if len(found) == 2 else yes if True in found else no


def _words(found: set[bool], yes: str, no: str) -> str:
    return "some" if len(found) == 2 else yes if True in found else no


def _shared(ranges: Iterable[MappedRange]) -> set[int]:
    """Give the linear addresses of ranges whose frames another range has too."""
    found: set[int] = set()
    reach, reacher = -1, -1
    for run in sorted(ranges, key=lambda each: each.physical):
        if run.physical < reach:
            found |= {run.linear, reacher}
        if run.physical + run.size > reach:
            reach, reacher = run.physical + run.size, run.linear
    return found


def _clusters(ranges: list[MappedRange], most: int) -> list[list[MappedRange]]:
    """Gather neighbours until at most so many groups are left: cut at the widest gaps, else evenly."""
    if len(ranges) <= most:
        return [[run] for run in ranges]
    gaps = [
        (after.linear - before.linear - before.size, number)
        for number, (before, after) in enumerate(itertools.pairwise(ranges), 1)
    ]
    wide = sorted((gap for gap in gaps if gap[0]), reverse=True)[: most - 1]
    cuts = {number for _, number in wide}
    step = len(ranges) / (most - len(cuts))
    cuts |= {int(step * number) for number in range(1, most - len(cuts))}
    edges = [0, *sorted(cuts - {0}), len(ranges)]
    return [ranges[first:last] for first, last in itertools.pairwise(edges) if first < last]


def _merged(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge intervals that touch, and the closest ones while there are too many; empty ones go."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(piece for piece in pieces if piece[0] < piece[1]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    while len(merged) > _MOST_BANDS:
        place = min(range(1, len(merged)), key=lambda n: merged[n][0] - merged[n - 1][1])
        merged[place - 1 : place + 1] = [(merged[place - 1][0], merged[place][1])]
    return merged
