"""Shadow paging: what the student's entries grant, and how they follow the guest's tables.

Guests run on shadow tables whose every entry the student's function decides on (`FilledPaging`). Beside them
the same guests run on the bare machine, and must see the same: bytes, faults, accessed and dirty bits.
Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.probes import (
    ALL,
    FINE,
    HERE,
    LEGACY,
    MEMORY,
    NX,
    PAE,
    RESULTS,
    RW,
    US,
    A,
    D,
    P,
    Plan,
    Script,
    Tables,
)
from vlab.guests.programs import image
from vlab.isa.page_entries import PaePdpe
from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Step, Translation, walk
from vlab.session import VM
from vlab.vmm.exits import Exit, PageFault
from vlab.vmm.paging.shadow.filled import Fill, FilledPaging, FilledSpace, Unbacked
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.verdicts import Verdict

_PATIENCE: Final = 4
"""How often in a row the same access may miss: twice is in order, when an entry was dropped meanwhile."""


@dataclass(slots=True)
class _Found:
    """The walk of the guest's own tables for one access."""

    steps: list[Step]
    result: Translation | Fault


class _Judged(FilledPaging):
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
                    f"{_told(exit_.address, access)} misses the shadow again and again: your entry does not "
                    "allow it",
                    "an entry has to allow at least the access that asked for it",
                )
        return super().handle(exit_)

    def look(self, linear: int, access: Access) -> _Found:
        """Walk the guest's tables, and set accessed in the entries above the last, as the processor does."""
        steps: list[Step] = []
        walking = walk(linear, self.registers.controls(), access, self.read_guest)
        while True:
            try:
                steps.append(next(walking))
            except StopIteration as stop:
                for step in steps[:-1]:
                    self.mark(step, A)
                return _Found(steps, stop.value)

    def mark(self, step: Step, bits: int) -> None:
        """Set bits in an entry of the guest's."""
        if step.kind is PaePdpe:
            return
        entry = self.read_guest(step.entry_address, step.entry_size)
        if entry & bits != bits:
            self.write_guest(step.entry_address, step.entry_size, entry | bits)


def _told(linear: int, access: Access) -> str:
    what = "fetch" if access.fetch else "write" if access.write else "read"
    return f"a {what} at {linear:#010x} {'in ring 3' if access.user else 'in ring 0'}"


def _truth(name: str, value: Value) -> bool:
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise ValueError(f"{name}: {value!r} is neither True nor False")
    return bool(value)


# --- filling ------------------------------------------------------------------------------------------------


class Miss(Facade):
    """A miss in the shadow, and what the guest's own tables say of the address."""

    read_only = (
        "linear", "write", "user", "fetch", "error_code", "may_write", "may_execute", "for_users", "dirty",
    )  # fmt: skip
    offers = ("reflect", "set_accessed", "set_dirty", "map")

    def __init__(self, paging: StudentFill, linear: int, access: Access, found: _Found) -> None:
        self._paging, self._found = paging, found
        self.linear, self.write, self.user, self.fetch = linear, access.write, access.user, access.fetch
        result = found.result
        self.error_code = result.error_code if isinstance(result, Fault) else None
        grants = None if isinstance(result, Fault) else paging.granted(result, access)
        self.may_write = grants is not None and grants.writable
        self.may_execute = grants is not None and grants.executable
        self.for_users = grants is not None and grants.user
        self.dirty = isinstance(result, Translation) and result.dirty
        self.answer: Fill | Fault | None = None

    def reflect(self, error_code: Value) -> None:
        """Give the guest a page fault with this error code."""
        if not isinstance(error_code, int) or isinstance(error_code, bool) or not 0 <= error_code < 32:
            raise ValueError(f"error_code: {error_code!r} is not the error code of a page fault")
        self.answer = Fault(self.linear, int(error_code), self._found.steps[-1], "by your function")

    def set_accessed(self) -> None:
        """Set A in the guest's last entry."""
        self._mark("set_accessed", A)

    def set_dirty(self) -> None:
        """Set D in the guest's last entry."""
        self._mark("set_dirty", D)

    def _mark(self, name: str, bit: int) -> None:
        if isinstance(self._found.result, Fault):
            raise ValueError(f"{name}: the guest's tables do not map the page, so there is no entry to mark")
        self._paging.mark(self._found.steps[-1], bit)

    def map(self, writable: Value, user: Value, executable: Value) -> None:
        """Have the shadow map the page, where the guest's tables have it, with these rights."""
        result = self._found.result
        if isinstance(result, Fault):
            raise ValueError(
                "map: the guest's tables do not allow the access, so there is no page to map; after "
                "miss.reflect(...) the miss is answered"
            )
        self.answer = Fill(
            result.physical & ~0xFFF, _truth("writable", writable), _truth("user", user),
            _truth("executable", executable),
        )  # fmt: skip


class StudentFill(_Judged):
    """Shadow paging whose misses the student's function answers."""

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Ask the student."""
        if self.registers.controls().mode is PagingMode.NONE:
            return super().fill(linear, access)
        found = self.look(linear, access)
        if not found.steps:
            return super().fill(linear, access)
        miss = Miss(self, linear, access, found)
        self.student.call("page_fault", miss)
        if miss.answer is None:
            raise self.broken(
                f"{_told(linear, access)} missed the shadow, and your function neither mapped the page nor "
                "reflected a fault",
                "each miss ends in one of the two: miss.map(...) or miss.reflect(...)",
            )
        return miss.answer


def _two(trial: Trial, plan: Plan) -> tuple[VM, VM]:
    """Run a guest over the student's shadow and on the bare machine; what it saw must be the same."""
    guest = image(plan.code())
    paging = StudentFill(trial.student)
    yours = trial.vm(guest, paging=paging, memory=MEMORY)
    ours = trial.vm(guest, monitor="none", memory=MEMORY)
    paging.vm = yours
    for vm in (yours, ours):
        plan.tables.write(vm.memory)
        trial.run(vm, exits=3_000)
    for number, each in enumerate(plan.tries):
        mine, right = _result(yours, number), _result(ours, number)
        if mine != right:
            raise Broken(
                f"{each}: the guest saw {mine}, and on the bare machine {right}",
                hint=(
                    "an entry that grants more than the guest's tables hides faults that the guest should get"
                ),
                vm=yours,
            )
    return yours, ours


def _result(vm: VM, number: int) -> str:
    value, address = struct.unpack_from("<II", vm.memory, RESULTS + 8 * number)
    if address == FINE:
        return f"the value {value:#x}"
    return f"a page fault with error code {value:#x} and {address:#010x} in CR2"


def _marks(plan: Plan, yours: VM, ours: VM, bit: int, name: str) -> None:
    """Compare a bit of all last entries under test."""
    tables = plan.tables
    controls = PagingControls(tables.mode, tables.root, pse=True, nxe=True, wp=True)
    for each in plan.tries:
        steps = list(walk(each.address, controls, Access(), _reader(ours)))
        step = steps[-1]
        mine, right = (_reader(vm)(step.entry_address, step.entry_size) & bit != 0 for vm in (yours, ours))
        if mine != right:
            raise Broken(
                f"in the end {name} is {mine:d} in the guest's entry for {each.address & ~0xFFF:#010x}, "
                f"and {right:d} "
                "on the bare machine",
                hint="the processor sets A at the first access, and D at the first write (APM2 5.4.2): "
                "the shadow has to miss once for each",
                vm=yours,
            )


def _reader(vm: VM) -> Callable[[int, int], int]:
    return lambda address, size: int.from_bytes(vm.memory[address : address + size], "little")


def _faults(trial: Trial) -> None:
    plan = Plan(Tables(trial.rng, LEGACY))
    tables = plan.tables
    for pages in (tables.pages(RW | US, 0, upper=ALL), tables.pages(ALL, upper=RW | US)):
        plan.some(pages, "read", "write")
    plan.some(tables.pages(ALL | A | D, P | RW | A | D, P | A | D), "write", users=(True,))
    plan.some(tables.pages(P | US | A | D, P | A | D), "write", users=(False,))
    plan.shuffle()
    _two(trial, plan)


def _granted(trial: Trial) -> None:
    """First an access that is allowed, then one to the same page that is not."""
    plan = Plan(Tables(trial.rng, PAE))
    tables = plan.tables
    plan.some(tables.pages(P | RW | A | D, P | RW | A | D), "read")  # ring 3 must not follow ring 0
    plan.some(tables.pages(P | US | A | D, P | US | A | D), "read", "write")
    for page in tables.pages(ALL | NX | A | D, ALL | NX | A | D):
        plan.some([page], "read", "call", users=(False,))
    plan.some(tables.pages(ALL | A | D), "call", users=(False,))
    plan.tries.sort(key=lambda each: each.user)
    _two(trial, plan)


def _accessed(trial: Trial) -> None:
    plan = Plan(Tables(trial.rng, trial.rng.choice((LEGACY, PAE))))
    pages = plan.tables.pages(ALL, ALL, ALL, ALL, ALL, ALL)
    plan.some(pages[:2], "read", users=(False,))
    plan.some(pages[2:4], "write", users=(True,))
    plan.some([plan.tables.large() + 0x1000 * trial.rng.randrange(512)], "read", users=(False,))
    plan.shuffle()
    yours, ours = _two(trial, plan)
    _marks(plan, yours, ours, A, "A")


def _dirty(trial: Trial) -> None:
    plan = Plan(Tables(trial.rng, trial.rng.choice((LEGACY, PAE))))
    tables = plan.tables
    read, written, both = tables.pages(ALL, ALL | A), tables.pages(ALL, ALL), tables.pages(ALL, ALL, ALL)
    plan.some(read, "read", users=(False,))
    plan.some(written, "write", users=(False,))
    plan.some(both, "read", "write", users=(False,))  # in this order
    yours, ours = _two(trial, plan)
    _marks(plan, yours, ours, D, "D")


def _kernel(trial: Trial) -> None:
    paging = StudentFill(trial.student)
    vm = trial.vm("longmode", paging=paging, memory="2M")
    paging.vm = vm
    trial.run(vm, exits=20_000)
    ours = trial.vm("longmode", memory="2M", trace="counters")
    trial.run(ours)
    pairs = zip(vm.console.text.split("\n"), ours.console.text.split("\n"), strict=False)
    for mine, right in pairs:
        if mine != right:
            raise Broken(f"longmode says {mine.strip()!r}, and on vlab's own tables {right.strip()!r}", vm=vm)
    if vm.last_stop is None or vm.last_stop.exit_code != 0:
        raise Broken("longmode did not come to its end", vm=vm)


def _hidden_fill(trial: Trial) -> None:
    for part in (_faults, _granted, _accessed, _dirty):
        part(trial)


# --- following the guest's tables ---------------------------------------------------------------------------


class Shadow(Facade):
    """The shadow tables, and which frames of the guest are protected."""

    offers = ("protect", "unprotect", "protected", "drop_made_from")

    def __init__(self, paging: StudentProtect) -> None:
        self._paging = paging

    def protect(self, frame: Value) -> None:
        """Have no shadow entry let the guest write to a frame; its next write there is an exit."""
        self._paging.protect(_frame(frame))

    def unprotect(self, frame: Value) -> None:
        """Let the guest write there again."""
        self._paging.protected.discard(_frame(frame))

    def protected(self, frame: Value) -> bool:
        """Whether a frame is protected."""
        return _frame(frame) in self._paging.protected

    def drop_made_from(self, table: Value) -> None:
        """Take all shadow entries away that were made through a page table of the guest's."""
        self._paging.drop_made_from(_frame(table))


def _frame(frame: Value) -> int:
    if not isinstance(frame, int) or isinstance(frame, bool) or frame & 0xFFF or not 0 <= frame < 1 << 40:
        shown = hex(frame) if isinstance(frame, int) else repr(frame)
        raise ValueError(f"frame: {shown} is not the guest-physical address of a frame, a multiple of 1000h")
    return int(frame)


class StudentProtect(_Judged):
    """Shadow paging that keeps a tree for each CR3, and follows the guest's tables as the student says."""

    def __init__(self, student: Student) -> None:
        super().__init__(student)
        self.protected: set[int] = set()
        self._made: dict[int, set[tuple[int, int]]] = {}
        self._writers: dict[int, set[tuple[int, int]]] = {}

    def make_space(self, host: PagingHost) -> FilledSpace:
        """Keep trees by CR3."""
        space = super().make_space(host)
        space.by_root = True
        return space

    def protect(self, frame: int) -> None:
        """Protect a frame: what let the guest write to it goes."""
        self.protected.add(frame)
        for top, linear in self._writers.pop(frame, ()):
            self.space.drop(linear, top)

    def drop_made_from(self, table: int) -> None:
        """Drop the entries of all trees that a walk through a table has led to."""
        for top, linear in self._made.pop(table, ()):
            self.space.drop(linear, top)

    def fill(self, linear: int, access: Access) -> Fill | Fault | Unbacked:
        """Ask the student whether the entry may be writable."""
        if self.registers.controls().mode is PagingMode.NONE:
            return super().fill(linear, access)
        found = self.look(linear, access)
        if isinstance(found.result, Fault):
            return found.result
        grants, frame = self.granted(found.result, access), found.result.physical & ~0xFFF
        if access.write and frame in self.protected:
            self.student.call("table_write", Shadow(self), frame)
            if frame in self.protected:
                raise self.broken(
                    f"the guest writes to the table at {frame:#x}, and your function left it protected",
                    "the write is made when the guest goes on, so it has to be allowed by then",
                )
        tables = [step.table & ~0xFFF for step in found.steps]
        place = self.space.top, linear & ~0xFFF
        for table in tables:
            self._made.setdefault(table, set()).add(place)
        page: dict[str, Value] = {
            "linear": linear, "frame": frame, "tables": list(tables), "write": access.write,
            "may_write": grants.writable,
        }  # fmt: skip
        writable = _answer(self.student.call("fill", Shadow(self), page))
        self.mark(found.steps[-1], A | D if writable and grants.writable else A)
        if writable and grants.writable:
            self._writers.setdefault(frame, set()).add(place)
        return Fill(grants.gpa, writable and grants.writable, grants.user, grants.executable)

    def switch(self, before: PagingControls, after: PagingControls) -> None:
        """Another mode or other rules: nothing is kept."""
        super().switch(before, after)
        self._made.clear()
        self._writers.clear()


def _answer(answer: Value) -> bool:
    if not isinstance(answer, bool):
        raise Broken(f"fill returned {answer!r}; it has to return True or False: may the entry be writable?")
    return answer


def _follow(trial: Trial, script: Script, *, budget: bool = False) -> None:
    guest, paging = script.guest(), StudentProtect(trial.student)
    yours = trial.vm(guest, paging=paging, memory=MEMORY)
    ours = trial.vm(guest, monitor="none", memory=MEMORY)
    paging.vm = yours
    for vm in (yours, ours):
        script.tables.write(vm.memory)
        trial.run(vm, exits=3_000)
    seen = zip(script.reads, script.seen(yours.memory), script.seen(ours.memory), strict=True)
    for (address, after), mine, right in seen:
        if mine != right:
            raise Broken(
                f"{after}, the guest read {mine:#x} at {address:#010x} and not {right:#x}: the shadow "
                f"still had what "
                "the guest's tables said before",
                hint="at table_write, what was made from the table has to go; an entry is made from every "
                "table on the way to the page, the directory too",
                vm=yours,
            )
    missed = sum(each.reason == "PF" and each.info1 >= HERE for each in yours.exits)
    if budget and missed > script.misses:
        raise Broken(
            f"the guest's reads missed the shadow {missed} times, and {script.misses} are enough",
            hint="a tree that nothing was changed for is complete when its CR3 comes back",
            vm=yours,
        )


@dataclass(slots=True)
class _Window:
    """A page at one linear address in two spaces. entries: its last entries, one for each space."""

    page: int
    entries: tuple[int, int]


def _spaces(script: Script, count: int) -> tuple[int, list[_Window]]:
    """Make a second space in which some pages are other ones."""
    places = [script.page() for _ in range(count)]
    other, tables = script.space(), script.tables
    windows = []
    for page, entry in places:
        table = tables.frame()
        place = table + 4 * (page >> 12 & 1023)
        tables.put(place, tables.frame() | ALL)
        tables.put(other + 4 * (page >> 22), table | ALL)
        windows.append(_Window(page, (entry, place)))
    return other, windows


def _read_all(script: Script, windows: list[_Window], after: str, *, miss: bool) -> None:
    for window in windows:
        script.read(window.page, after, miss=miss)


def _visit(script: Script, other: int, windows: list[_Window]) -> None:
    """Read in both spaces, and end in the first one."""
    _read_all(script, windows, "at first", miss=True)
    script.cr3(other)
    _read_all(script, windows, "in the second space", miss=True)
    script.cr3(script.tables.root)


def _edits(trial: Trial) -> None:
    script = Script(trial.rng)
    other, windows = _spaces(script, 3)
    for _ in range(2):
        _visit(script, other, windows)
        for window in windows:
            script.edit(window.entries[1], script.tables.frame() | ALL)
        script.cr3(other)
        _read_all(script, windows, "after an edit of the other space's table and MOV to CR3", miss=True)
        script.cr3(script.tables.root)
    _follow(trial, script)


def _upper(trial: Trial) -> None:
    script = Script(trial.rng)
    other, windows = _spaces(script, 3)
    _visit(script, other, windows)
    tables = script.tables
    for window in windows:
        table = tables.frame()
        tables.put(table + 4 * (window.page >> 12 & 1023), tables.frame() | ALL)
        script.edit(other + 4 * (window.page >> 22), table | ALL)
    script.cr3(other)
    _read_all(script, windows, "after an edit of the other space's directory and MOV to CR3", miss=True)
    _follow(trial, script)


def _shared(trial: Trial) -> None:
    """One table that both spaces use, at two places in the second."""
    script = Script(trial.rng)
    places = [script.page() for _ in range(3)]
    other, tables = script.space(), script.tables
    second = []
    for page, entry in places:
        again = tables.slot()
        tables.put(other + 4 * (again >> 22), entry & ~0xFFF | ALL)
        second.append(again | page & 0x3FF000)
    for page, _ in places:
        script.read(page, "at first", miss=True)
    script.cr3(other)
    for page, (same, _) in zip(second, places, strict=True):
        script.read(page, "in the second space", miss=True)
        script.read(same, "in the second space", miss=True)
    for _, entry in places:
        script.edit(entry, tables.frame() | ALL)
    script.cr3(tables.root)
    for page, _ in places:
        script.read(page, "after an edit of a table that two spaces share", miss=True)
    script.cr3(other)
    for page in second:
        script.read(page, "after an edit of a table that is there twice", miss=True)
    _follow(trial, script)


def _keeps(trial: Trial) -> None:
    script = Script(trial.rng)
    other, windows = _spaces(script, 4)
    _visit(script, other, windows)
    for _ in range(4):
        _read_all(script, windows, "after MOV to CR3", miss=False)
        script.cr3(other)
        _read_all(script, windows, "after MOV to CR3", miss=False)
        script.cr3(script.tables.root)
    _follow(trial, script, budget=True)


def _sweeps(trial: Trial) -> None:
    line = f"pages={trial.rng.choice((32, 64))} rounds=3 touches=32 updates=4 large=0"
    paging = StudentProtect(trial.student)
    yours = trial.vm("sweep", paging=paging, memory="16M", append=line)
    ours = trial.vm("sweep", memory="16M", append=line, trace="counters")
    paging.vm = yours
    for vm in (yours, ours):
        trial.run(vm, exits=5_000)
    if yours.console.text != ours.console.text:
        mine, right = (vm.console.text.strip()[-70:] for vm in (yours, ours))
        raise Broken(f"sweep says {mine!r}, not {right!r}", vm=yours)


def _hidden_protect(trial: Trial) -> None:
    for part in (_edits, _upper, _shared):
        part(trial)


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "fill",
        "Answering a miss",
        defines=("page_fault",),
        invariants=(
            Invariant("faults", 2, "what the guest's tables forbid is the guest's page fault", _faults),
            Invariant("granted", 2, "an entry grants what the guest's tables grant, and no more", _granted),
            Invariant("accessed", 1, "A is set in the guest's entries as the processor sets it", _accessed),
            Invariant("dirty", 3, "so is D: at the first write, and not before", _dirty),
            Invariant(
                "kernel", 2, "the kernel longmode, which looks at its own A and D, notices nothing", _kernel
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", _hidden_fill, hidden=True),
        ),
        hints=(
            (
                "Where miss.error_code is not None, the guest's own tables forbid the access: that is its "
                "own fault."
            ),
            (
                "After a write the guest expects D. How will you hear of the first write to a page that was "
                "read before?"
            ),
            "Map a page writable if the guest may write to it AND it is dirty, or is just being written to.",
        ),
    ),
    Exercise(
        "protect",
        "Following the guest's tables",
        defines=("fill", "table_write"),
        invariants=(
            Invariant(
                "edits", 3, "an edit of another space's page table is seen when its CR3 is loaded", _edits
            ),
            Invariant("upper", 2, "so is an edit of a directory", _upper),
            Invariant(
                "shared", 2, "an edit of a table with several uses is seen through all of them", _shared
            ),
            Invariant(
                "keeps", 2, "a space that was not changed is found as it was left, without a miss", _keeps
            ),
            Invariant("sweep", 1, "sweep, which moves its pages, comes to the same contents", _sweeps),
            Invariant(
                "hidden", 2, "all of that on guests that you have not seen", _hidden_protect, hidden=True
            ),
        ),
        hints=(
            (
                "Which frames must the guest not write to unnoticed? Those that the entry was made from: "
                "page['tables']."
            ),
            "An entry for a frame that is protected must not be writable, whatever the guest's tables grant.",
            (
                "At table_write: what was made from the table may be wrong from now on. Drop it, then let "
                "the guest write."
            ),
        ),
    ),
)
