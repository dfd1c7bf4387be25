"""Nested paging: the student's walk in two dimensions, and the student's nested tables.

The walk is judged beside a guest that reads through the same tables. The nested tables are those that the
guest runs on, under vlab's own monitor; what they say is looked at before the processor sees it. Sections are
those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

from vlab.compare.walk_counts import SmallNestedPaging
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import SPIN, image64, leave
from vlab.isa.paging import Access, Fault, translate, walk
from vlab.isa.vectors import PageFaultError
from vlab.machine.machine import Machine
from vlab.machine.memory import LARGE_PAGE, PAGE
from vlab.session import VM
from vlab.vmm.exits import Exit, NestedPageFault
from vlab.vmm.guest_memory import Backing, GuestMemory, Region
from vlab.vmm.paging.nested import NestedPaging, NestedTables
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paging.tables import TableTree
from vlab.vmm.verdicts import Verdict

P, RW, US, PS, NX = 1, 2, 4, 1 << 7, 1 << 63
FRAME: Final = 0xFF_FFFF_F000
IGNORED: Final = 1 << 5 | 1 << 6
"""Accessed and dirty: the processor sets them itself."""
SHIFTS: Final = {4: 39, 3: 30, 2: 21, 1: 12}
ROOM: Final = range(0x200000, 0x600000, PAGE)
"""Guest-physical frames for the guest's tables and pages, above what nested tables map in small pages."""
RESULTS: Final = 0x20000
MEMORY: Final = "8M"
DECOY: Final = b"somebody else's memory. "


@contextmanager
def _neighbour(trial: Trial) -> Iterator[None]:
    """Let somebody have the machine's first frames, so that no guest's addresses are the host's."""
    machine = trial.machine
    if machine is None:
        yield
        return
    taken = machine.frames.allocate(LARGE_PAGE, LARGE_PAGE, use="somebody else")
    content = DECOY * (PAGE // len(DECOY))
    machine.memory.bytes[taken : taken + len(content)] = content
    try:
        yield
        if bytes(machine.memory.bytes[taken : taken + len(content)]) != content:
            raise Broken("your guest has written to memory that is somebody else's")
    finally:
        machine.memory.zero(taken, PAGE)
        machine.frames.free(taken)


# --- a guest with page tables that were laid out by chance --------------------------------------------------


@dataclass(slots=True)
class Layout:
    """A guest's page tables. ``words``: what is to be written, by guest-physical address."""

    rng: Random
    words: dict[int, int] = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)
    _frames: list[int] = field(default_factory=list)
    _tables: dict[tuple[int, int], int] = field(default_factory=dict)
    root: int = 0

    def __post_init__(self) -> None:
        self._frames = list(ROOM)
        self.rng.shuffle(self._frames)
        self.root = self.frame()
        self.large(0, 0)  # the guest's program, one to one

    def frame(self) -> int:
        """Take a frame that nothing else uses."""
        return self._frames.pop()

    def entry(self, linear: int, level: int) -> int:
        """Give the address of the entry for ``linear`` at a level; tables on the way are made."""
        table = self.root
        for each in range(4, level, -1):
            place = table + 8 * (linear >> SHIFTS[each] & 511)
            if not self.words.get(place, 0) & P:
                self.words[place] = self.frame() | P | RW | US
            table = self.words[place] & FRAME
        return table + 8 * (linear >> SHIFTS[level] & 511)

    def somewhere(self) -> int:
        """Give an address that nothing is mapped at, in the lower half."""
        while True:
            linear = self.rng.randrange(1 << 27, 1 << 35) << 12
            if not any(self.words.get(self.entry_if_there(linear, level), 0) for level in (2, 1)):
                return linear

    def entry_if_there(self, linear: int, level: int) -> int:
        """Give the address of an entry as `entry` does, -1 where its table is not there."""
        table = self.root
        for each in range(4, level, -1):
            entry = self.words.get(table + 8 * (linear >> SHIFTS[each] & 511), 0)
            if not entry & P or entry & PS:
                return -1
            table = entry & FRAME
        return table + 8 * (linear >> SHIFTS[level] & 511)

    def small(self) -> int:
        """Map a page of 4 KiB; give an address in it, which the guest will read."""
        linear = self.somewhere()
        self.words[self.entry(linear, 1)] = self.frame() | P | RW | US
        return self.read(linear + 8 * self.rng.randrange(511))

    def large(self, linear: int | None = None, frame: int = LARGE_PAGE) -> int:
        """Map a page of 2 MiB; give its address."""
        linear = self.somewhere() & -LARGE_PAGE if linear is None else linear
        self.words[self.entry(linear, 2)] = frame | P | RW | US | PS
        return linear

    def read(self, linear: int) -> int:
        """Have the guest read 8 bytes there."""
        self.reads.append(linear)
        return linear

    def guest(self) -> bytes:
        """Give a guest that loads CR3 and keeps what it reads at RESULTS."""
        code = b"\x48\xc7\xc0" + struct.pack("<I", self.root) + b"\x0f\x22\xd8"  # mov rax, root; mov cr3, rax
        code += b"\x48\xc7\xc7" + struct.pack("<I", RESULTS)  # mov rdi, RESULTS
        for linear in self.reads:
            code += b"\x48\xa1" + struct.pack("<Q", linear)  # mov rax, [linear]
            code += b"\x48\x89\x07\x48\x83\xc7\x08"  # mov [rdi], rax; add rdi, 8
        return image64(code + leave(0))

    def write(self, ram: memoryview) -> None:
        """Fill pages with noise and tables with their entries."""
        noise = self.rng.randbytes(ROOM.stop - ROOM.start)
        ram[ROOM.start : ROOM.stop] = noise
        for start in {address & -PAGE for address in self.words}:
            ram[start : start + PAGE] = bytes(PAGE)
        for address, entry in self.words.items():
            struct.pack_into("<Q", ram, address, entry)


# --- the walk in two dimensions -----------------------------------------------------------------------------


class Host(Facade):
    """What the processor has for a walk: CR3, the nested CR3, and host-physical memory."""

    read_only = ("guest_cr3", "nested_cr3")
    offers = ("read", "guest_fault", "nested_fault")

    def __init__(self, vm: VM) -> None:
        guest, nested = vm._monitor.guest_paging(), vm._monitor.nested_paging()
        assert nested is not None
        self.guest, self.nested = guest, nested
        self.guest_cr3, self.nested_cr3 = guest.root, nested.root
        self._memory = vm.machine.memory
        self.reads: list[int] = []
        self.ending: tuple[str, int] | None = None

    def read(self, address: Value) -> int:
        """Read the 8 bytes of an entry at a host-physical address."""
        if not isinstance(address, int) or not 0 <= address <= self._memory.size - 8 or address % 8:
            shown = hex(address) if isinstance(address, int) else repr(address)
            raise ValueError(f"address: no entry can be at the host-physical address {shown}")
        self.reads.append(address)
        return self._memory.read(address, 8)

    def guest_fault(self) -> None:
        """End the walk with a page fault of the guest's."""
        self.ending = "guest", 0

    def nested_fault(self, gpa: Value) -> None:
        """End the walk with a nested page fault: an exit to the monitor, for a guest-physical address."""
        if not isinstance(gpa, int):
            raise ValueError(f"gpa: {gpa!r} is no address")
        self.ending = "nested", gpa


class _Missing(Exception):
    def __init__(self, gpa: int) -> None:
        super().__init__(gpa)
        self.gpa = gpa


def _right_walk(host: Host, linear: int) -> tuple[list[int], tuple[str, int]]:
    """Walk as the processor does: the host-physical addresses that it reads, and what it comes to."""
    reads: list[int] = []
    memory = host._memory

    def nested(gpa: int) -> int:
        walking = walk(gpa, host.nested, Access(user=True), memory.read)
        while True:
            try:
                reads.append(next(walking).entry_address)
            except StopIteration as stop:
                if isinstance(stop.value, Fault):
                    raise _Missing(gpa) from None
                return int(stop.value.physical)

    def read(gpa: int, size: int) -> int:
        hpa = nested(gpa)
        reads.append(hpa)
        return memory.read(hpa, size)

    try:
        found = translate(linear, host.guest, Access(), read)
        if isinstance(found, Fault):
            return reads, ("guest", 0)
        return reads, ("host", nested(found.physical))
    except _Missing as missing:
        return reads, ("nested", missing.gpa)


def _walks(trial: Trial, small: bool, lay_out: Callable[[Layout], list[int]], *, order: bool = False) -> None:
    """Run the guest, and have the student walk for the addresses that ``lay_out`` gives.

    small: nested tables of 4 KiB pages. order: the entries have to be read in the processor's order.
    """
    layout = Layout(trial.rng)
    tried = lay_out(layout)
    with _neighbour(trial):
        paging = SmallNestedPaging() if small else NestedPaging()
        vm = trial.vm(layout.guest(), memory=MEMORY, paging=paging)
        layout.write(vm.memory)
        trial.run(vm, exits=100)
        for linear in tried:
            _judge(trial, vm, layout, linear, order=order)


def _judge(trial: Trial, vm: VM, layout: Layout, linear: int, *, order: bool) -> None:
    host = Host(vm)
    answer = trial.student.call("walk", host, linear)
    mine, (reads, right) = _ending(answer, host), _right_walk(host, linear)
    if mine != right:
        raise Broken(
            f"the walk of {linear:#x}: yours ended with {_told(mine)}, and the processor's with "
            f"{_told(right)}",
            hint=_hint(mine, right),
            vm=vm,
        )
    if linear in layout.reads:
        place = RESULTS + 8 * layout.reads.index(linear)
        value, seen = (int.from_bytes(each, "little") for each in (
            vm.machine.memory.bytes[right[1] : right[1] + 8], vm.memory[place : place + 8]
        ))  # fmt: skip
        assert value == seen, "the guest reads what the walk leads to"
    if order and host.reads != reads:
        first = next((n for n, pair in enumerate(zip(host.reads, reads, strict=False)) if pair[0] != pair[1]),
                     min(len(host.reads), len(reads)))  # fmt: skip
        yours, theirs = (each[first] if first < len(each) else None for each in (host.reads, reads))
        raise Broken(
            f"the walk of {linear:#x} takes {len(reads)} references, and yours took {len(host.reads)}; "
            f"reference "
            f"{first + 1} is {_address(theirs)}, and yours {_address(yours)}",
            hint=(
                "each address that the guest's tables hold is walked anew: nothing is remembered (APM2 15.25)"
            ),
            vm=vm,
        )


def _address(address: int | None) -> str:
    return "none" if address is None else f"at {address:#x}"


def _ending(answer: Value, host: Host) -> tuple[str, int]:
    if host.ending is not None:
        return host.ending
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise Broken(
            f"your walk returned {answer!r}; it has to return the host-physical address, a number, or to "
            f"call "
            "host.guest_fault() or host.nested_fault(gpa)"
        )
    return "host", int(answer)


def _told(ending: tuple[str, int]) -> str:
    kind, value = ending
    if kind == "guest":
        return "a page fault of the guest's"
    return f"a nested page fault at {value:#x}" if kind == "nested" else f"host-physical address {value:#x}"


def _hint(mine: tuple[str, int], right: tuple[str, int]) -> str:
    if right[0] == "nested":
        return "a nested entry without P is the monitor's affair: it gets the address (APM2 15.25.6)"
    if right[0] == "guest":
        return "an entry of the guest's tables without P is the guest's affair, as without a monitor"
    if mine[0] == "host":
        return (
            "what the guest's last entry says is a guest-physical address; and a large page has more offset"
        )
    return (
        "every entry of the guest's is at a guest-physical address: walk the nested tables before you read it"
    )


def _smalls(layout: Layout) -> list[int]:
    return [layout.small() for _ in range(5)]


def _larges(layout: Layout) -> list[int]:
    pages = [layout.large() for _ in range(3)]
    return [layout.read(page + 8 * layout.rng.randrange(LARGE_PAGE // 8)) for page in pages]


def _absents(layout: Layout) -> list[int]:
    """Take P out of an entry at each level; the rest of the entry stays."""
    found = []
    for level in (4, 3, 2, 1):
        linear = layout.small()
        while level == 4 and linear >> 39 == 0:  # the guest's own program is there
            linear = (linear + (1 << 39)) & (1 << 46) - 1
            layout.words[layout.entry(linear, 1)] = layout.frame() | P | RW | US
        layout.reads.clear()
        place = layout.entry(linear, level)
        layout.words[place] &= ~P
        found.append(linear)
    return found


def _nowheres(layout: Layout) -> list[int]:
    """Let the guest's entries lead to where it has no memory: a page, then a table."""
    found = []
    for level in (1, 2, 3):
        linear = layout.somewhere()
        nowhere = layout.rng.randrange(0x1_0000, 0x8_0000) << 12
        layout.words[layout.entry(linear, level)] = nowhere | P | RW | US
        found.append(linear)
    return found


def _arrives(trial: Trial) -> None:
    _walks(trial, True, _smalls)


def _references(trial: Trial) -> None:
    _walks(trial, True, _smalls, order=True)


def _large(trial: Trial) -> None:
    _walks(trial, True, _larges, order=True)
    _walks(trial, False, lambda layout: _smalls(layout) + _larges(layout), order=True)


def _guest_faults(trial: Trial) -> None:
    _walks(trial, True, _absents)


def _nested_faults(trial: Trial) -> None:
    _walks(trial, True, _nowheres)


def _hidden_walk(trial: Trial) -> None:
    for small in (True, False):
        _walks(trial, small, lambda layout: _smalls(layout) + _larges(layout) + _nowheres(layout), order=True)
    _walks(trial, True, _absents)


# --- the student's nested tables ----------------------------------------------------------------------------


class Tables(Facade):
    """The monitor's frames for nested tables."""

    read_only = ("root",)
    offers = ("new", "write")

    def __init__(self, tree: TableTree, memory: memoryview) -> None:
        self.root = tree.root
        self._tree, self._words = tree, memory.cast("Q")
        self.made = {tree.root}

    def new(self) -> int:
        """Take a frame for a table, all zero; give its host-physical address."""
        table = self._tree.new_table()
        self.made.add(table)
        return table

    def write(self, table: Value, index: Value, entry: Value) -> None:
        """Write one entry of a table."""
        if not isinstance(table, int) or table not in self.made:
            raise ValueError(f"table: {table!r} is neither tables.root nor of tables.new()")
        if not isinstance(index, int) or not 0 <= index < 512:
            raise ValueError(f"index: {index!r} is not from 0 to 511")
        if not isinstance(entry, int) or not 0 <= entry < 1 << 64:
            raise ValueError(f"entry: {entry!r} is no number of 64 bits")
        self._words[(table >> 3) + index] = entry


class StudentTables(NestedTables):
    """Nested tables that the student's function writes, looked at before the processor may."""

    def __init__(self, tree: TableTree, memory: GuestMemory, machine: Machine, student: Student) -> None:
        self._machine, self._student = machine, student
        self.frames = 0
        super().__init__(tree, memory)

    def build(self) -> None:
        """Have the student write the tables anew."""
        tree, memory = self._tree, self._memory
        tree.clear()
        self.open_pages.clear()
        tables = Tables(tree, self._machine.memory.bytes)
        regions = list(memory.regions())
        self._student.call("build", tables, [_described(each) for each in regions])
        _Audit(self._machine, regions, tables.made).table(tree.root, 4, 0)
        self.frames = tree.table_count


def _described(region: Region) -> Value:
    return {"gpa": region.gpa, "hpa": region.hpa, "size": region.size, "writable": region.writable}


class _Audit:
    """A look at all that nested tables can lead to. Raises Broken for what no guest may have."""

    def __init__(self, machine: Machine, regions: list[Region], tables: set[int]) -> None:
        self._words = machine.memory.bytes.cast("Q")
        self._regions, self._tables = regions, tables
        self._seen: set[tuple[int, int]] = set()

    def table(self, table: int, level: int, base: int) -> None:
        """Look at a table of a level and at all below it. base: the guest-physical address of entry 0."""
        if (table, level) in self._seen:
            return
        self._seen.add((table, level))
        for index in range(512):
            entry = self._words[(table >> 3) + index] & ~IGNORED
            if entry & P:
                self._entry(entry, level, base + (index << SHIFTS[level]))

    def _entry(self, entry: int, level: int, gpa: int) -> None:
        where = f"the level {level} entry for guest-physical {gpa:#x} is {entry:#x}"
        if entry & NX or entry & ~(FRAME | P | RW | US | PS | 0xE18) or (level > 2 and entry & PS):
            raise Broken(f"{where}: only P, R/W, U/S, at level 2 PS, and the frame may be set in it here")
        if level > 1 and not entry & PS:
            if entry & FRAME not in self._tables:
                raise Broken(f"{where}, and there is no table of yours", hint="tables.new() gives addresses")
            self.table(entry & FRAME, level - 1, gpa)
            return
        size, frame = 1 << SHIFTS[level], entry & FRAME
        if level == 1 and entry & PS:
            raise Broken(f"{where}: bit 7 is PS at level 2 alone")
        if frame % size:
            raise Broken(
                f"{where}: a page of 2 MiB begins at a multiple of 2 MiB", hint="where may PS be set?"
            )
        if not any(each.hpa <= frame and frame + size <= each.hpa + each.size for each in self._regions):
            raise Broken(
                f"{where}: it gives the guest {size >> 10} KiB of host memory from {frame:#x} on that are "
                f"not its own",
                hint=(
                    "hpa - gpa is another distance in each region, and a page must not reach beyond its "
                    "region"
                ),
            )


class StudentNested(NestedPaging):
    """vlab's nested paging on the student's tables."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self.vm: VM | None = None

    def attach(self, host: PagingHost) -> None:
        """Have the student write the tables for the whole guest."""
        super().attach(host)
        self._tables.close()
        tree = TableTree(host.machine)
        try:
            self._tables = StudentTables(tree, host.memory, host.machine, self._student)
        except BaseException:
            tree.close()
            host.machine.give_back_window(self._nothing)
            raise

    @property
    def frames(self) -> int:
        """How many frames the tables take."""
        assert isinstance(self._tables, StudentTables)
        return self._tables.frames

    def handle(self, exit_: Exit) -> Verdict | None:
        """Serve what the tables leave out on purpose: ROM that is written, devices, nothing at all."""
        if isinstance(exit_, NestedPageFault):
            region = self._host.memory.find(exit_.gpa)
            write = exit_.code & RW != 0
            if region is not None and not (write and region.backing is Backing.ROM):
                what = "write to" if write else "use"
                raise Broken(
                    f"the guest wanted to {what} guest-physical {exit_.gpa:#x}, which is "
                    f"{region.backing.value}, and your "
                    f"tables did not let it: the error code is {PageFaultError(exit_.code & 0x1F)!r}",
                    hint=(
                        "every nested access counts as one of ring 3 (APM2 15.25.5), and every page has "
                        "to be there. With P in the error code an entry on the way forbids it; without, "
                        "one is missing"
                    ),
                    vm=self.vm,
                )
        return super().handle(exit_)


def _runs_alike(trial: Trial, guest: str | bytes, memory: str, *, frames: bool = False) -> None:
    """Run a guest on the student's tables and on vlab's."""
    with _neighbour(trial):
        paging = StudentNested(trial.student)
        yours = trial.vm(guest, memory=memory, paging=paging)
        paging.vm = yours
        ours = trial.vm(guest, memory=memory)
        stops = [trial.run(vm, exits=20_000) for vm in (yours, ours)]
        if stops[0].kind != stops[1].kind:
            raise Broken(f"the guest stopped with '{stops[0].story.splitlines()[0]}'", vm=yours)
        mine, right = (vm.exits.by_reason().to_dict() for vm in (yours, ours))
        if mine != right:
            raise Broken(
                f"the guest's exits were {mine}, and {right} are right",
                hint="NPF is an exit of nested paging: here, a write to a page without R/W, such as firmware",
                vm=yours,
            )
        if yours.console.data != ours.console.data:
            raise Broken(f"the guest wrote {yours.console.text[-60:]!r} to its console", vm=yours)
        if yours.state_hash() != ours.state_hash():
            raise Broken(
                "registers or memory of the guest are not what they are on vlab's tables",
                hint="two addresses may have got one frame, or an address the wrong one",
                vm=yours,
            )
        if frames:
            _frugal(paging, ours)


def _frugal(paging: StudentNested, ours: VM) -> None:
    reference = getattr(ours._monitor, "paging", None)
    assert isinstance(reference, NestedPaging)
    needed = reference._tables._tree.table_count
    if paging.frames > needed:
        raise Broken(
            f"your nested tables take {paging.frames} frames, and {needed} are enough",
            hint=(
                "where gpa, hpa and what is left of the region allow 2 MiB at once, level 2 can map "
                "them with PS"
            ),
            vm=paging.vm,
        )


def _boots(trial: Trial) -> None:
    _runs_alike(trial, "hello", "2M")


def _everywhere(rng: Random, size: int, *, rom: bool = False) -> bytes:
    """A 64-bit guest that stores and loads all over its memory."""
    code = b""
    pages = rng.sample(range(0x120, size >> 12), 24) + rng.sample(range(0x30, 0x90), 8)
    pages += [(size >> 12) - 1, 0x9F]
    for page in pages:
        place = page << 12 | 8 * rng.randrange(512)
        code += b"\x48\xb8" + rng.randbytes(8)  # mov rax, value
        code += b"\x48\xa3" + struct.pack("<Q", place)  # mov [place], rax
        code += b"\x48\xa1" + struct.pack("<Q", rng.choice(pages) << 12)  # mov rax, [...]
        code += b"\x48\x01\xc3"  # add rbx, rax
    if rom:
        for _ in range(3):
            place = rng.randrange(0xF0000, 0xFFFF8)
            code += b"\x48\xa3" + struct.pack("<Q", place) + b"\x48\xa1" + struct.pack("<Q", place)
            code += b"\x48\x01\xc3"
        code += b"\x48\xa1" + struct.pack("<Q", 0xFFFFFFF0) + b"\x48\x01\xc3"  # its second address
    return image64(code + leave(0) + SPIN)


def _everything(trial: Trial) -> None:
    _runs_alike(trial, _everywhere(trial.rng, 4 << 20), "4M")


def _read_only(trial: Trial) -> None:
    _runs_alike(trial, _everywhere(trial.rng, 2 << 20, rom=True), "2M")


def _in_large_pages(trial: Trial) -> None:
    megabytes = trial.rng.choice((6, 8))
    _runs_alike(trial, _everywhere(trial.rng, megabytes << 20), f"{megabytes}M", frames=True)


def _hidden_tables(trial: Trial) -> None:
    megabytes = trial.rng.choice((3, 4, 5, 7))
    _runs_alike(trial, _everywhere(trial.rng, megabytes << 20, rom=True), f"{megabytes}M")


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "walk",
        "A walk in two dimensions",
        defines=("walk",),
        invariants=(
            Invariant("arrives", 2, "the walk comes to the bytes that the guest reads there", _arrives),
            Invariant(
                "references", 2, "it reads what the processor reads, in its order: 24 references", _references
            ),
            Invariant("large", 2, "so it does with 2 MiB pages in guest, host or both: 19 and 15", _large),
            Invariant(
                "guest_fault",
                1,
                "what is not present in the guest's tables is the guest's fault",
                _guest_faults,
            ),
            Invariant(
                "nested_fault",
                2,
                "what is not in the nested tables is an exit, with its address",
                _nested_faults,
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", _hidden_walk, hidden=True),
        ),
        hints=(
            "Write a function for the nested walk first: from a guest-physical to a host-physical address.",
            "Before you read an entry of the guest's, walk its address. At the end walk the page's, too.",
            (
                "PS (bit 7) at level 2 ends a walk early, in either dimension: 21 bits of the address are "
                "the offset."
            ),
            (
                "The nested walk can fail in the middle: have it say so, and hand nested_fault the "
                "guest-physical address."
            ),
        ),
    ),
    Exercise(
        "tables",
        "Nested tables for a guest",
        defines=("build",),
        invariants=(
            Invariant("boots", 2, "the guest `hello` boots and ends as on vlab's tables", _boots),
            Invariant(
                "memory",
                3,
                "all of the guest's memory is there, each address with its own frame",
                _everything,
            ),
            Invariant("read_only", 2, "writes to firmware are exits and change nothing", _read_only),
            Invariant("large", 2, "where 2 MiB pages fit, the tables use them", _in_large_pages),
            Invariant(
                "hidden", 2, "all of that on guests that you have not seen", _hidden_tables, hidden=True
            ),
        ),
        hints=(
            "Keep a dict of the tables that you made, by level and by the part of the address above it.",
            (
                "An entry that points to a table is its address | 7. One that maps a page is hpa | 5, or | 7 "
                "if writable."
            ),
            "Why 5 and not 1: the processor takes every access of the guest for one of ring 3.",
            (
                "A 2 MiB page needs gpa and hpa at multiples of 2 MiB, and 2 MiB left: hpa | 7 | 0x80 at "
                "level 2."
            ),
        ),
    ),
)
