"""Page tables and TLBs: the student's page walks, and what the student's TLB forgets.

A guest's memory is reached through a TLB that software fills (`FilledPaging`): at each miss the student's
walk says where the page is, or which fault the guest gets; at INVLPG and its like the student's functions say
what the TLB drops. Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
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
    PS,
    RESULTS,
    RW,
    US,
    G,
    P,
    Plan,
    Script,
    Tables,
)
from vlab.guests.programs import image
from vlab.isa.control import CR4
from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Step, Translation, walk
from vlab.isa.vectors import PageFaultError
from vlab.session import VM
from vlab.vmm.paging.shadow.filled import Fill, FilledPaging, Unbacked

_PSE, _PGE = CR4.PSE.mask, CR4.PGE.mask


# --- the student's walk in a machine without one ------------------------------------------------------------


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
        steps, right = _look(linear, controls, access, self.read_guest)
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


def _look(
    linear: int, controls: PagingControls, access: Access, read: Callable[[int, int], int]
) -> tuple[list[Step], Translation | Fault]:
    steps: list[Step] = []
    walking = walk(linear, controls, access, read)
    while True:
        try:
            steps.append(next(walking))
        except StopIteration as stop:
            return steps, stop.value


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


def _run(trial: Trial, plan: Plan, function: str, *, entries: bool = False) -> None:
    """Run the guest on the bare machine and with the student's walk; both must see the same."""
    guest = image(plan.code())
    paging = StudentWalk(trial.student, function, entries=entries)
    yours, ours = (
        trial.vm(guest, paging=paging, memory=MEMORY),
        trial.vm(guest, monitor="none", memory=MEMORY),
    )
    paging.vm = yours
    for vm in (yours, ours):
        plan.tables.write(vm.memory)
        trial.run(vm, exits=3_000)
    for number, each in enumerate(plan.tries):
        mine, other = _result(yours, number), _result(ours, number)
        if mine != other:
            raise Broken(f"{each}: the guest saw {mine}, and on the bare machine {other}", vm=yours)


def _result(vm: VM, number: int) -> str:
    value, address = struct.unpack_from("<II", vm.memory, RESULTS + 8 * number)
    if address == FINE:
        return f"the value {value:#x}"
    return f"a page fault with error code {value:#x} and {address:#010x} in CR2"


# --- 32-bit walks -------------------------------------------------------------------------------------------


def _plan(trial: Trial, mode: PagingMode, *, wp: bool = True) -> Plan:
    return Plan(Tables(trial.rng, mode), wp=wp)


def _small(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    def holds(trial: Trial) -> None:
        plan = _plan(trial, mode)
        for _ in range(3):
            plan.some(plan.tables.pages(ALL, ALL, ALL), "read", "write")
        plan.shuffle()
        _run(trial, plan, function)

    return holds


def _large(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    def holds(trial: Trial) -> None:
        plan = _plan(trial, mode)
        _add_large(plan)
        plan.shuffle()
        _run(trial, plan, function)

    return holds


def _add_large(plan: Plan) -> None:
    tables = plan.tables
    for _ in range(2):
        base = tables.large()
        pages = [base + 0x1000 * tables.rng.randrange(1 << tables.shift - 12) for _ in range(3)]
        plan.some(pages, "read", "write")


def _add_absent(plan: Plan) -> None:
    tables, rng = plan.tables, plan.tables.rng
    hidden = tables.pages(ALL, ALL, upper=rng.choice((RW | US, RW, US, 0x60)))  # the table is fine
    absent = tables.pages(RW | US, RW, 0x20, 0)
    for pages in (hidden, absent, [tables.slot()]):
        plan.some(pages, "read", "write")


def _absent(trial: Trial) -> None:
    plan = _plan(trial, LEGACY)
    _add_absent(plan)
    plan.shuffle()
    _run(trial, plan, "walk")


def _add_rights(plan: Plan) -> None:
    for upper in (ALL, P | RW, P | US, P):
        flags = [ALL, P | RW, P | US, P]
        plan.tables.rng.shuffle(flags)
        plan.some(plan.tables.pages(*flags, upper=upper), "read", "write")


def _rights(mode: PagingMode, function: str) -> Callable[[Trial], None]:
    def holds(trial: Trial) -> None:
        for wp in (True, False):
            plan = _plan(trial, mode, wp=wp)
            _add_rights(plan)
            plan.shuffle()
            _run(trial, plan, function)

    return holds


def _entries(trial: Trial) -> None:
    plan = _plan(trial, LEGACY)
    plan.some(plan.tables.pages(ALL, RW), "read")
    plan.some(plan.tables.pages(ALL, ALL, upper=RW | US), "write")
    plan.shuffle()
    _run(trial, plan, "walk", entries=True)


def _hidden(trial: Trial) -> None:
    for wp in (True, False):
        plan = _plan(trial, LEGACY, wp=wp)
        for add in (_add_large, _add_absent, _add_rights):
            add(plan)
        plan.shuffle()
        _run(trial, plan, "walk")


# --- PAE ----------------------------------------------------------------------------------------------------


def _add_no_execute(plan: Plan) -> None:
    tables = plan.tables
    for upper in (ALL, ALL | NX):
        plan.some(tables.pages(ALL, ALL | NX, ALL, upper=upper), "call", "read")
    plan.some(tables.pages(RW | US), "call")


def _no_execute(trial: Trial) -> None:
    plan = _plan(trial, PAE)
    _add_no_execute(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")


def _add_reserved(plan: Plan) -> None:
    tables, rng = plan.tables, plan.tables.rng
    bits = [1 << each for each in rng.sample(range(40, 63), 4)]
    plan.some(tables.pages(ALL | bits[0], P | bits[1], ALL), "read", "write")
    plan.some(tables.pages(ALL, ALL, upper=ALL | bits[2]), "read", "write")
    plan.some(tables.pages(RW | US | bits[3]), "read")


def _reserved(trial: Trial) -> None:
    plan = _plan(trial, PAE)
    _add_reserved(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")


def _hidden_pae(trial: Trial) -> None:
    plan = _plan(trial, PAE)
    for add in (_add_large, _add_rights, _add_no_execute, _add_reserved):
        add(plan)
    plan.shuffle()
    _run(trial, plan, "walk_pae")


# --- the TLB ------------------------------------------------------------------------------------------------


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


def _run_script(trial: Trial, script: Script, *, budget: bool = False) -> None:
    """Run it over the student's TLB and on the bare machine."""
    guest, paging = script.guest(), StudentTlb(trial.student)
    yours, ours = (
        trial.vm(guest, paging=paging, memory=MEMORY),
        trial.vm(guest, monitor="none", memory=MEMORY),
    )
    for vm in (yours, ours):
        script.tables.write(vm.memory)
        trial.run(vm, exits=2_000)
    seen = zip(script.reads, script.seen(yours.memory), script.seen(ours.memory), strict=True)
    for (address, after), mine, right in seen:
        if mine != right:
            raise Broken(
                f"{after}, the guest read {mine:#x} at {address:#010x} and not {right:#x}: your TLB "
                "still had the old translation",
                hint="compare what tlb.entries() shows with what the guest has asked to be forgotten",
                vm=yours,
            )
    missed = sum(each.reason == "PF" and each.info1 >= HERE for each in yours.exits)
    if budget and missed > script.misses:
        raise Broken(
            f"the guest's reads missed the TLB {missed} times; {script.misses} are enough: your TLB forgot "
            "what it could have kept",
            hint="global pages stay when CR3 is written, and INVLPG is about one page (APM2 5.5)",
            vm=yours,
        )


def _invlpg(trial: Trial) -> None:
    script = Script(trial.rng, _PGE)
    for _ in range(4):
        page, entry = script.page(is_global=trial.rng.random() < 0.5)
        script.read(page, "at first", miss=True)
        script.edit(entry, script.tables.frame() | ALL | trial.rng.choice((0, G)))
        script.invlpg(page + trial.rng.randrange(0x1000))
        script.read(page, "after INVLPG", miss=True)
    page, entry = script.page(is_global=True)
    script.read(page, "at first", miss=True)
    script.edit(entry, script.tables.frame() | ALL | G)
    script.invlpg(page)
    script.read(page, "after INVLPG of a global page", miss=True)
    _run_script(trial, script)


def _invlpg_large(trial: Trial) -> None:
    script = Script(trial.rng, _PGE)
    base = script.tables.large()
    pages = [base + 0x1000 * each for each in trial.rng.sample(range(512, 1024), 4)]
    for page in pages:
        script.read(page, "at first", miss=True)
    script.edit(script.tables.entry(base), ALL | PS)  # onto the lower half of memory
    script.invlpg(pages[0] + trial.rng.randrange(0x1000))
    for page in pages:
        script.read(page, "after INVLPG of another address in the same 4 MB page", miss=True)
    _run_script(trial, script)


def _new_space(trial: Trial) -> None:
    script = Script(trial.rng, trial.rng.choice((0, _PGE)))
    places = [script.page() for _ in range(4)]
    other = script.space()
    for page, _ in places:
        script.read(page, "at first", miss=True)
        table = script.tables.frame()
        for place in range(0, 0x1000, 4):
            script.tables.words[table + place] = (script.tables.frame() | ALL if place == page >> 10 & 0xFFC
                                                  else 0).to_bytes(4, "little")  # fmt: skip
        script.tables.words[other + 4 * (page >> 22)] = (table | ALL).to_bytes(4, "little")
    script.cr3(other)
    for page, _ in places:
        script.read(page, "after MOV to CR3", miss=True)
    script.cr3(script.tables.root)
    for _, entry in places:
        script.edit(entry, script.tables.frame() | ALL)
    script.cr3(script.tables.root)
    for page, _ in places:
        script.read(page, "after MOV to CR3 with the value it had", miss=True)
    _run_script(trial, script)


def _keeps(trial: Trial) -> None:
    script = Script(trial.rng, _PGE)
    shared = [script.page(is_global=True)[0] for _ in range(5)]
    own = [script.page() for _ in range(5)]
    for page in (*shared, *(page for page, _ in own)):
        script.read(page, "at first", miss=True)
    script.cr3(script.tables.root)
    for page in shared:
        script.read(page, "after MOV to CR3", miss=False)
    for page, _ in own:
        script.read(page, "after MOV to CR3", miss=True)
    for page, entry in own[:2]:
        script.edit(entry, script.tables.frame() | ALL)
        script.invlpg(page)
    for number, (page, _) in enumerate(own):
        script.read(page, "after INVLPG", miss=number < 2)
    _run_script(trial, script, budget=True)


def _global_off(trial: Trial) -> None:
    script = Script(trial.rng, _PGE)
    places = [script.page(is_global=True) for _ in range(4)]
    for page, entry in places:
        script.read(page, "at first", miss=True)
        script.edit(entry, script.tables.frame() | ALL | G)
    script.cr4(False)
    script.cr4(True)
    for page, _ in places:
        script.read(page, "after CR4.PGE was cleared and set", miss=True)
    _run_script(trial, script)


def _hidden_tlb(trial: Trial) -> None:
    for part in trial.rng.sample((_invlpg, _invlpg_large, _new_space, _global_off), 4):
        part(trial)


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "walk",
        "A 32-bit page walk",
        defines=("walk",),
        invariants=(
            Invariant(
                "small",
                2,
                "reads and writes through 4 KiB pages arrive where the processor's do",
                _small(LEGACY, "walk"),
            ),
            Invariant("large", 1, "so do those through 4 MiB pages", _large(LEGACY, "walk")),
            Invariant(
                "absent", 2, "what is not present faults with the right error code, at both levels", _absent
            ),
            Invariant(
                "rights",
                3,
                "R/W and U/S of both entries count, and CR0.WP, with the right error code",
                _rights(LEGACY, "walk"),
            ),
            Invariant(
                "entries", 1, "the walk reads the entries that the processor reads, and no others", _entries
            ),
            Invariant("hidden", 2, "all of that on page tables that you have not seen", _hidden, hidden=True),
        ),
        hints=(
            "Bits 31:22 of the address choose the directory entry, bits 21:12 the table entry, of 4 bytes.",
            "Look at P first, then at PS. Collect the rights with &: pde & pte has those that both grant.",
            "A refused access: 1, plus 2 for a write, plus 4 in ring 3. Not present: the same without 1.",
            "Ring 3 needs U/S, and R/W for a write. Ring 0 needs R/W for a write only while mmu.wp is 1.",
        ),
    ),
    Exercise(
        "walk_pae",
        "A PAE walk: three levels, NX, reserved bits",
        defines=("walk_pae",),
        invariants=(
            Invariant(
                "small",
                2,
                "reads and writes through three levels arrive where the processor's do",
                _small(PAE, "walk_pae"),
            ),
            Invariant("large", 1, "so do those through 2 MiB pages", _large(PAE, "walk_pae")),
            Invariant(
                "rights",
                2,
                "R/W, U/S and CR0.WP count as before; the four pointers have no rights",
                _rights(PAE, "walk_pae"),
            ),
            Invariant(
                "no_execute", 2, "NX in either entry forbids fetches, and the error code says so", _no_execute
            ),
            Invariant(
                "reserved", 2, "reserved bits that are set fault with RSVD, whatever the rights", _reserved
            ),
            Invariant(
                "hidden", 2, "all of that on page tables that you have not seen", _hidden_pae, hidden=True
            ),
        ),
        hints=(
            "CR3 holds the address of four pointers of 8 bytes: bits 31:30 of the linear address choose.",
            "A frame is in bits 39:12 of an entry: mask both ends off, for NX is bit 63.",
            "Every fault of a fetch has I (0x10) in its error code, one for an absent page too.",
            "The order: present, reserved bits, then on to the next level; rights and NX at the very end.",
        ),
    ),
    Exercise(
        "tlb",
        "What a TLB has to forget",
        defines=("invlpg", "write_cr3", "write_cr4"),
        invariants=(
            Invariant(
                "invlpg", 2, "after INVLPG the guest sees the page's new translation, global or not", _invlpg
            ),
            Invariant(
                "large", 1, "INVLPG of any address in a large page is about the whole page", _invlpg_large
            ),
            Invariant(
                "space", 2, "after MOV to CR3 the guest sees the translations of the new tables", _new_space
            ),
            Invariant(
                "keeps", 2, "the TLB keeps what it may: the guest has no more misses than it must", _keeps
            ),
            Invariant(
                "global_off", 1, "a change of CR4.PGE forgets global translations as well", _global_off
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", _hidden_tlb, hidden=True),
        ),
        hints=(
            "Go through tlb.entries() and drop those that the guest has asked to be forgotten.",
            "An entry covers entry['page'] <= address < entry['page'] + entry['size'].",
            "MOV to CR3 leaves entries alone whose 'global' is true. INVLPG does not ask, nor does CR4.PGE.",
        ),
    ),
)
