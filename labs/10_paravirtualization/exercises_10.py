"""Paravirtualization: the student's hypercalls, in vlab's own monitor, and the student's batching of them.

The hypercalls serve real guests: the kernel `wren-paravirt`, and tiny ones that lie. What they let through is
compared, entry by entry, with vlab's own validation before it is written, so that no lie gets into tables
that the processor walks. The batching is made into a guest's code, which then runs. The rules of the
interface are those of ``vlab/guests/sources/wren/hypercall.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.isa.page_entries import LegacyPte
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.session import VM
from vlab.vmm.paravirtual.direct import DirectTables
from vlab.vmm.paravirtual.frames import Use
from vlab.vmm.paravirtual.hypercalls import TABLE, Hypercall
from vlab.vmm.paravirtual.interface import HEADER_MAGIC, KERNEL_BASE, MONITOR_BASE, Call, Error
from vlab.vmm.paravirtual.layout import Layout
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor

if TYPE_CHECKING:
    from collections.abc import Mapping

P, RW, US, PWT, PCD, PAT, G = 1, 2, 4, 1 << 3, 1 << 4, 1 << 7, 1 << 8
FRAME: Final = LegacyPte.FRAME.mask
IMAGE, CODE, RESULTS, STACK, DATA, PAGES, END = (
    0x100000, 0x200000, 0x300000, 0x310000, 0x310000, 0x340000, 0x400000
)  # fmt: skip
"""Guest-physical addresses in the tiny guests; PAGES is where frames to play with begin."""
MEMORY: Final = "4M"
UPDATE: Final = struct.Struct("<II")
MOST_UPDATES: Final = 1 << 16
_32: Final = 0xFFFFFFFF
EINVAL, EFAULT = int(Error.EINVAL), int(Error.EFAULT)

# --- tiny paravirtual guests --------------------------------------------------------------------------------


def elf() -> bytes:
    """An ELF file with the header of a paravirtual kernel; its code is put into memory afterwards."""
    words = (HEADER_MAGIC, 1, KERNEL_BASE, KERNEL_BASE + CODE)
    header = struct.pack("<5I", *words, -sum(words) & _32)
    place = 52 + 32
    program = struct.pack("<8I", 1, place, IMAGE, IMAGE, len(header), len(header), 5, 4)
    start = b"\x7fELF\x01\x01\x01" + bytes(9)
    start += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, IMAGE, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return start + program + header


@dataclass(frozen=True, slots=True)
class Place:
    """Where a guest is: the machine address of its memory, and the monitor's additions to it."""

    base: int
    layout: Layout

    def entry(self, gpa: int) -> int:
        """The machine address of the entry that maps a page in the kernel's part."""
        return self.base + self.layout.tables + gpa // PAGE * 4

    def slot(self, index: int) -> int:
        """The machine address of an entry of the first directory."""
        return self.base + self.layout.directory + 4 * index


def linear(gpa: int) -> int:
    """Where the kernel has a guest-physical address."""
    return KERNEL_BASE + gpa


def hypercall(number: int, first: int, second: int) -> bytes:
    """Make ``mov eax, number; mov ebx, first; mov ecx, second; int 82h``."""
    values = (number, first & _32, second & _32)
    return b"\xb8%b\xbb%b\xb9%b\xcd\x82" % tuple(struct.pack("<I", each) for each in values)


def keep(number: int) -> bytes:
    """Make ``mov [RESULTS + 4 * number], eax``."""
    return b"\xa3" + struct.pack("<I", linear(RESULTS) + 4 * number)


def fetch(address: int) -> bytes:
    """Make ``mov eax, [address]``."""
    return b"\xa1" + struct.pack("<I", address)


@dataclass(slots=True)
class Program:
    """A guest's code as it grows, with the arguments of its hypercalls."""

    code: bytes = field(default_factory=lambda: b"\xbc" + struct.pack("<I", linear(STACK)))  # mov esp, STACK
    data: bytes = b""
    results: int = 0

    def call(self, number: int, first: int, second: int = 0) -> None:
        """Make a hypercall and keep what it gives."""
        self.code += hypercall(number, first, second) + keep(self.results)
        self.results += 1

    def update(self, *updates: tuple[int, int]) -> None:
        """Make HV_MMU_UPDATE with these (entry address, value)."""
        at = linear(DATA) + len(self.data)
        self.data += b"".join(UPDATE.pack(place & _32, value & _32) for place, value in updates)
        if DATA + len(self.data) > PAGES:
            raise Broken("the updates of your calls are more than the guest has room for")
        self.call(Call.MMU_UPDATE, at, len(updates))

    def read(self, address: int) -> None:
        """Read a word of memory and keep it."""
        self.code += fetch(address) + keep(self.results)
        self.results += 1

    def parts(self) -> dict[int, bytes]:
        """Give what has to be in memory."""
        return {CODE: self.code + hypercall(Call.SHUTDOWN, 0, 0), DATA: self.data}


def place_of(vm: VM) -> Place:
    """Give where a paravirtual guest is."""
    monitor = vm._monitor
    assert isinstance(monitor, ParavirtualMonitor)
    return Place(monitor.tables.base, Layout.of(vm.loaded.start, monitor.memory))


def open_guest(trial: Trial, monitor: type[ParavirtualMonitor] | str) -> tuple[VM, Place]:
    """Make a tiny guest without any code yet, behind somebody else's frame."""
    if trial.machine is not None and not trial.vms:
        taken = trial.machine.frames.allocate()
        try:
            vm = trial.vm(elf(), monitor=monitor, memory=MEMORY)
        finally:
            trial.machine.frames.free(taken)
    else:
        vm = trial.vm(elf(), monitor=monitor, memory=MEMORY)
    return vm, place_of(vm)


def run_program(trial: Trial, vm: VM, program: Program, hint: str = "") -> list[int]:
    """Run it and give what was kept, as signed numbers."""
    for gpa, data in program.parts().items():
        vm.memory[gpa : gpa + len(data)] = data
    stop = trial.run(vm, hint=hint)
    if stop.exit_code != 0:
        raise Broken(f"the guest ended with '{stop.story.splitlines()[0]}'", hint=hint, vm=vm)
    return list(struct.unpack(f"<{program.results}i", vm.memory[RESULTS : RESULTS + 4 * program.results]))


# --- what the student's hypercalls are given ----------------------------------------------------------------


class Hypervisor(Facade):
    """What the monitor knows of the guest that has called it. ``mmu``: the updates, when there are any."""

    offers = ("read", "print", "owns", "use", "is_kernel_table", "write")

    def __init__(self, monitor: ParavirtualMonitor) -> None:
        assert isinstance(monitor.tables, DirectTables)
        self.monitor, self.tables = monitor, monitor.tables
        self.asked: Sequence[tuple[int, int]] = ()
        self.done, self.refused = 0, False
        self.printed = b""

    def read(self, address: int, size: int) -> bytes | None:
        """Read an argument in the kernel's part; None where the guest has no such memory."""
        if _word("address", address) + _word("size", size) > 1 << 32 or size > 1 << 20:
            return None
        return self.monitor.space.read_argument(address, size)

    def print(self, text: bytes) -> None:
        """Write to the console."""
        if not isinstance(text, bytes):
            raise ValueError(f"text: {text!r} is not bytes")
        self.printed += text

    def owns(self, address: int) -> bool:
        """Whether a machine address is in the guest's own memory."""
        return self.tables.owns(_word("address", address))

    def use(self, address: int) -> str:
        """Give the use of the guest's frame at a machine address: "plain", "table" or "directory"."""
        if not self.owns(address):
            raise ValueError(f"address: {address:#x} is not in the guest's memory; ask owns() first")
        return self.tables.frames.use(address).name.lower()

    def is_kernel_table(self, address: int) -> bool:
        """Whether a machine address is in a table of the kernel's part."""
        return self.owns(address) and _is_kernel_table(self.monitor, address)

    def write(self, address: int, value: int) -> bool:
        """Write an entry; False where the frame that it refers to is not fit to be a table."""
        update = _word("address", address), _word("value", value)
        if self.refused or self.done >= len(self.asked) or self.asked[self.done] != update:
            wanted = "nothing is to be written any more"
            if not self.refused and self.done < len(self.asked):
                wanted = "next is {:#x} into {:#x}".format(*reversed(self.asked[self.done]))
            raise Broken(
                f"you write {value:#x} into {address:#x}; {wanted}",
                hint="one update after the other, up to the first that is refused",
            )
        why = lie(self.monitor, *update)
        if why:
            raise Broken(
                f"the guest asks for {value:#x} in {address:#x}, and you write it: {why}", hint=_RULES
            )
        self.refused = not self.tables.update(*update)
        self.done += not self.refused
        return not self.refused


_RULES: Final = "go through the rules in the lesson for this entry, one by one"


def _word(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _32:
        raise ValueError(f"{name}: {value!r} is no number of 32 bits")
    return value


def _is_kernel_table(monitor: ParavirtualMonitor, address: int) -> bool:
    layout, base = Layout.of(monitor._start, monitor.memory), monitor.tables.base
    return layout.tables <= address - base < layout.free_start


def lie(monitor: ParavirtualMonitor, address: int, value: int) -> str:
    """Say what is not in order about an entry, by all rules but a table's fitness; "" for nothing."""
    tables = monitor.tables
    assert isinstance(tables, DirectTables)
    if address & 3 or not tables.owns(address):
        return "there is no entry of the guest's"
    use = tables.frames.use(address)
    if use is Use.PLAIN:
        return "that frame is no table"
    if use is Use.DIRECTORY and (address & 0xFFF) >> 2 >= KERNEL_BASE >> 22:
        return "that entry of the directory is for all address spaces"
    if not value & P:
        return ""
    if not tables.owns(value):
        return f"the frame at {value & FRAME:#x} is not the guest's"
    if value & (PWT | PCD | PAT) or (use is Use.TABLE and value & G):
        return "it has a flag that no guest may set"
    if use is Use.TABLE and value & US and _is_kernel_table(monitor, address):
        return "with it a program of the guest's reaches its kernel"
    if use is Use.TABLE and value & RW and tables.frames.use(value) is not Use.PLAIN:
        return f"with it the guest can write to its {tables.frames.use(value).name.lower()}"
    return ""


class WithStudent(ParavirtualMonitor):
    """vlab's monitor, in which ``student`` serves some of the hypercalls."""

    student: Student


def console_write(monitor: ParavirtualMonitor, address: int, length: int) -> int:
    """Have the student write to the console, and compare."""
    assert isinstance(monitor, WithStudent)
    hv = Hypervisor(monitor)
    given = _answer("console_write", monitor.student.call("console_write", hv, address, length))
    raw = hv.read(address, length)
    right = EFAULT if raw is None else 0
    if given != right or hv.printed != (raw or b""):
        raise Broken(
            f"the guest writes {length} bytes from {address:#x} to its console, "
            f"{'which it does not have' if raw is None else f'which are {raw[:24]!r}'}: you print "
            f"{hv.printed[:24]!r} and return {given}; expected is {right}",
            hint="where hv.read gives None nothing is printed, and EFAULT is the answer",
        )
    for byte in hv.printed:
        monitor.board.events.output(byte)
    return given


def mmu_update(monitor: ParavirtualMonitor, address: int, count: int) -> int:
    """Have the student change page tables, and compare each entry, and what is returned."""
    assert isinstance(monitor, WithStudent)
    hv = Hypervisor(monitor)
    raw = None
    if count <= MOST_UPDATES:
        raw = hv.read(address, count * UPDATE.size)
        hv.asked = [] if raw is None else [(place, value) for place, value in UPDATE.iter_unpack(raw)]
    given = _answer("mmu_update", monitor.student.call("mmu_update", hv, address, count))
    if not hv.refused and hv.done < len(hv.asked):
        place, value = hv.asked[hv.done]
        if not lie(monitor, place, value) and hv.tables.update(place, value):
            raise Broken(
                f"update {hv.done + 1} of {count} is in order, {value:#x} into {place:#x}, and you refuse it",
                hint=_RULES,
            )
    right = hv.done or (EINVAL if count else 0)
    if raw is None:
        right = EINVAL if count > MOST_UPDATES else EFAULT
    if given != right:
        raise Broken(
            f"{hv.done} of {count} updates from {address:#x} were done; you return {given} and not {right}",
            hint="what HV_MMU_UPDATE gives back: how many were done, or why not even the first was",
        )
    hv.tables.updated()
    return given


def _answer(name: str, value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 31) <= value < 1 << 31:
        raise Broken(f"{name} returned {value!r}; the guest finds it in EAX, so it has to be a number")
    return value


def yours(trial: Trial, *names: Call) -> type[ParavirtualMonitor]:
    """Make the monitor with the student's functions for these hypercalls in it."""
    ours: Mapping[int, Hypercall] = {Call.CONSOLE_WRITE: console_write, Call.MMU_UPDATE: mmu_update}
    served = dict(TABLE)
    served.update({name: ours[name] for name in names})
    return type("Yours", (WithStudent,), {"student": trial.student, "hypercalls": served})


# --- guests that ask, and guests that lie -------------------------------------------------------------------


def _console(trial: Trial) -> None:
    rng = trial.rng
    vm, _ = open_guest(trial, yours(trial, Call.CONSOLE_WRITE))
    program = Program()
    text = "".join(rng.choice("abcdefgh \n") for _ in range(rng.randrange(20, 60))).encode()
    program.data = text
    start = rng.randrange(8)
    calls = [
        (linear(DATA) + start, len(text) - start),
        (linear(END) - rng.randrange(1, 9), rng.randrange(9, 30)),  # it ends where there is no memory
        (rng.randrange(1, 0x1000), 8),
        (MONITOR_BASE + 4 * rng.randrange(64), 4),
        (linear(DATA), rng.randrange(1, len(text))),
    ]
    rng.shuffle(calls)
    for address, length in calls:
        program.call(Call.CONSOLE_WRITE, address, length)
    run_program(trial, vm, program)


Updates = list[tuple[int, int]]
Make = Callable[[Random, Place], Updates]


def _served(trial: Trial, make: Make) -> None:
    """Run a guest that asks for each of these updates, one by one, in this order."""
    vm, place = open_guest(trial, yours(trial, Call.MMU_UPDATE))
    program = Program()
    for update in make(trial.rng, place):
        program.update(update)
    run_program(trial, vm, program)


def _page(rng: Random) -> int:
    return rng.randrange(PAGES, END, PAGE)


def _honest(rng: Random, place: Place) -> tuple[int, int]:
    return place.entry(_page(rng)), place.base + _page(rng) | P | rng.choice((0, RW)) | rng.choice((0, 0xE60))


def _foreign(rng: Random, place: Place) -> Updates:
    frames = [
        rng.choice((0, place.base - PAGE)),
        place.base + END,
        place.base + END + rng.randrange(0, 1 << 24, PAGE),
        0xFFFFF000,
    ]
    found = [(place.entry(_page(rng)), frame | P | rng.choice((0, RW))) for frame in frames]
    found += [(place.entry(_page(rng)), rng.choice(frames) | RW)]  # not present: in order
    found += [(address, P) for address in (place.base - 4, place.base + END, place.entry(_page(rng)) + 2)]
    found += [(place.base + _page(rng) + 4 * rng.randrange(1024), 0)]  # no table
    found += [_honest(rng, place) for _ in range(3)]
    rng.shuffle(found)
    return found


def _tables(rng: Random, place: Place) -> Updates:
    """Map tables, make a frame a table, map it, and make it plain again."""
    table, page, other = rng.sample(range(PAGES, END, PAGE), 3)
    window, slot = place.entry(table), place.slot(rng.randrange(1, 700))
    found = [
        (place.entry(page), place.base + place.layout.directory | P | RW),
        (place.entry(page), place.base + place.layout.tables | P | RW),
        (place.entry(page), place.base + place.layout.tables | P),
    ]
    rng.shuffle(found)
    found += [(slot, place.base + table | P | RW | US)]  # still mapped writable: not fit
    found += [(window, place.base + table | P), (slot, place.base + table | P | RW | US)]
    found += [(window, place.base + table | P | RW)]  # a table now
    found += [(place.base + table + 4 * rng.randrange(1024), place.base + other | P | RW | US)]
    found += [(place.base + table + 4 * rng.randrange(1024), place.base + table | P | RW | US)]  # itself
    found += [(place.slot(768 + rng.randrange(256)), 0)]
    found += [(slot, 0), (window, place.base + table | P | RW)]  # plain again
    return found


def _flags(rng: Random, place: Place) -> Updates:
    entry = place.entry(_page(rng))
    found = [(entry, place.base + _page(rng) | P | flag) for flag in (PWT, PCD, PAT, G, US, RW | US)]
    found += [
        (place.slot(rng.randrange(700)), place.base + _page(rng) | P | flag) for flag in (PWT, PCD, PAT)
    ]
    found += [(entry, place.base + _page(rng) | US | PAT), _honest(rng, place), _honest(rng, place)]
    rng.shuffle(found)
    return found


def _in_order(trial: Trial) -> None:
    """Batches with one lie somewhere, or none, and arguments that are nowhere."""
    rng = trial.rng
    vm, place = open_guest(trial, yours(trial, Call.MMU_UPDATE))
    program = Program()
    for where in (0, rng.randrange(1, 9), None):
        updates = [_honest(rng, place) for _ in range(10)]
        if where is not None:
            updates[where] = updates[where][0], place.base + END | P
        program.update(*updates)
    program.update()
    for address, count in (
        (linear(END) - 8 * rng.randrange(1, 5), rng.randrange(5, 9)),
        (MONITOR_BASE + 8 * rng.randrange(99), 1),
        (linear(DATA), MOST_UPDATES + rng.randrange(1, 99)),
        (8 * rng.randrange(99), 2),
    ):
        program.call(Call.MMU_UPDATE, address, count)
    run_program(trial, vm, program)


def _kernel(trial: Trial) -> None:
    """The kernel `wren-paravirt` forks under the student's monitor and under ours."""
    options = {"append": f"forkwait={trial.rng.randrange(1, 4)}", "memory": "8M"}
    vm = trial.vm("wren-paravirt", monitor=yours(trial, Call.MMU_UPDATE, Call.CONSOLE_WRITE), **options)
    ours = trial.vm("wren-paravirt", monitor="paravirtual", **options)
    stop, expected = trial.run(vm), trial.run(ours)
    if (stop.exit_code, vm.console.data) != (expected.exit_code, ours.console.data):
        raise Broken(
            f"wren-paravirt wrote {vm.console.text[-60:]!r} and ended with {stop.exit_code}; "
            f"on the reference monitor {ours.console.text[-60:]!r} and {expected.exit_code}",
            vm=vm,
        )


def _hidden_calls(trial: Trial) -> None:
    def make(rng: Random, place: Place) -> Updates:
        return [*_foreign(rng, place), *_flags(rng, place), *_tables(rng, place)]

    _served(trial, make)


# --- batching -----------------------------------------------------------------------------------------------

MOST_IN_ONE: Final = 64
_WORKED_ON: Final = range(PAGES, PAGES + 80 * PAGE, PAGE)
_FRAMES: Final = range(PAGES + 96 * PAGE, END, PAGE)


class Kernel(Facade):
    """A guest's kernel that is being written: each call of a hypercall becomes one in its code."""

    offers = ("mmu_update", "flush_page", "flush_all")

    def __init__(self, program: Program) -> None:
        self._program = program
        self.calls = 0

    def mmu_update(self, updates: Sequence[Sequence[int]]) -> None:
        """Change entries: pairs of entry address and value, from 1 to 64."""
        if not isinstance(updates, list | tuple) or not 0 < len(updates) <= MOST_IN_ONE:
            size = len(updates) if isinstance(updates, list | tuple) else updates
            raise Broken(
                f"the kernel's buffer holds from 1 to {MOST_IN_ONE} updates; you give it {size!r}",
                hint=f"cut what waits into pieces of {MOST_IN_ONE}",
            )
        pairs = []
        for each in updates:
            if not isinstance(each, list | tuple) or len(each) != 2:
                raise ValueError(f"updates: {each!r} is no pair of entry address and value")
            pairs.append((_word("entry", each[0]), _word("value", each[1])))
        self._program.update(*pairs)
        self.calls += 1

    def flush_page(self, address: int) -> None:
        """Have the processor forget one address."""
        self._program.call(Call.FLUSH_PAGE, _word("address", address))
        self.calls += 1

    def flush_all(self) -> None:
        """Have the processor forget all addresses."""
        self._program.call(Call.FLUSH_ALL, 0)
        self.calls += 1


@dataclass(frozen=True, slots=True)
class Step:
    """What the kernel does next: map ``page`` to ``frame``, or touch ``page`` where frame is 0."""

    page: int
    frame: int = 0


def script(rng: Random, rounds: int, most: int) -> list[Step]:
    """Make a kernel's work: in each round two lots of up to ``most`` changes, with touches of other pages
    behind either, and of changed ones at the end.
    """
    steps = []
    for _ in range(rounds):
        pages = rng.sample(_WORKED_ON, 2 * most + 8)
        changed, others = pages[: 2 * most], pages[2 * most :]
        for lot in (changed[:most], changed[most:]):
            lot = rng.sample(lot, rng.randrange(most // 2, most))
            steps += [Step(page, rng.choice(_FRAMES)) for page in lot]
            steps += [Step(page, rng.choice(_FRAMES)) for page in rng.sample(lot, 2)]  # once more
            steps += [Step(page) for page in rng.sample(others, 3)]
        steps += [Step(page) for page in rng.sample(lot, 3)]
    return steps


def budgets(steps: Sequence[Step]) -> tuple[int, int]:
    """Give the hypercalls of two policies: to send what waits at any touch, or where it is touched."""
    found = []
    for lazy in (False, True):
        calls, waiting, pages = 0, 0, set[int]()
        for step in [*steps, None]:
            if step is not None and step.frame:
                waiting += 1
                pages.add(step.page)
            elif waiting and (step is None or not lazy or step.page in pages):
                calls += -(-waiting // MOST_IN_ONE) + 1
                waiting = 0
                pages.clear()
        found.append(calls)
    return found[0], found[1]


def _batched(trial: Trial, steps: Sequence[Step]) -> int:
    """Run a kernel with the student's batching; give its hypercalls for page tables."""
    vm, place = open_guest(trial, "paravirtual")
    marks = {gpa: trial.rng.getrandbits(30) for gpa in range(PAGES, END, PAGE)}
    for gpa, mark in marks.items():
        vm.memory[gpa : gpa + 4] = struct.pack("<I", mark)
    program, batching = Program(), trial.student.make("Batching")
    kernel = Kernel(program)
    for page in {step.page for step in steps}:
        program.read(linear(page))  # so that the TLB has it
    mapped: dict[int, int] = {}
    touches: list[tuple[int, int, int]] = []
    for number, step in enumerate([*steps, None]):
        if step is None:
            batching.call("finish", kernel)
        elif step.frame:
            mapped[step.page] = step.frame
            value = place.base + step.frame | P | RW
            batching.call("change", kernel, linear(step.page), place.entry(step.page), value)
        else:
            batching.call("use", kernel, linear(step.page))
        for page in mapped if step is None else () if step.frame else (step.page,):
            touches.append((number, page, program.results))
            program.read(linear(page))
    results = run_program(trial, vm, program)
    frames: dict[int, int] = {}
    for number, page, place_of_result in touches:
        for step in steps[:number]:
            if step.frame:
                frames[step.page] = step.frame
        wanted, seen = frames.get(page, page), results[place_of_result]
        if seen != marks[wanted]:
            real = next((f"{gpa:#x}" for gpa, mark in marks.items() if mark == seen), "somewhere else")
            raise Broken(
                f"after step {number + 1} of {len(steps)} the kernel touches {linear(page):#x}, which is to "
                f"be the frame {wanted:#x}, and sees {real}",
                hint="before a touch: the entries that wait have to be written, and old translations flushed",
                vm=vm,
            )
    return kernel.calls


def _right(trial: Trial) -> None:
    _batched(trial, script(trial.rng, 3, 6))


def _long(trial: Trial) -> None:
    rng = trial.rng
    pages = rng.sample(_WORKED_ON, rng.randrange(MOST_IN_ONE + 2, len(_WORKED_ON)))
    _batched(trial, [*(Step(page, rng.choice(_FRAMES)) for page in pages), Step(pages[0])])


def _within(trial: Trial, which: int, hint: str) -> None:
    steps = script(trial.rng, 4, 16)
    budget = budgets(steps)[which]
    calls = _batched(trial, steps)
    changes = sum(bool(step.frame) for step in steps)
    if calls > budget:
        raise Broken(
            f"your kernel makes {calls} hypercalls for {changes} changes and {len(steps) - changes} touches; "
            f"{budget} are enough",
            hint=hint,
        )


def _budget(trial: Trial) -> None:
    _within(trial, 0, "let changes wait until something is touched, and send them in one call")


def _lazy(trial: Trial) -> None:
    _within(trial, 1, "a page that did not change can be touched while the others wait")


# --- the exercises ------------------------------------------------------------------------------------------


def _updates(make: Make) -> Callable[[Trial], None]:
    return lambda trial: _served(trial, make)


EXERCISES: Final = (
    Exercise(
        "hypercalls",
        "Hypercalls for a guest that may lie",
        defines=("console_write", "mmu_update"),
        invariants=(
            Invariant(
                "console", 1, "what the guest writes is printed; what it does not have is not", _console
            ),
            Invariant("foreign", 3, "no frame is mapped that is not the guest's own", _updates(_foreign)),
            Invariant(
                "tables", 2, "no page table becomes writable, and only tables change", _updates(_tables)
            ),
            Invariant("flags", 2, "no forbidden flag gets into a table", _updates(_flags)),
            Invariant("order", 2, "updates are done in order, up to the first that is refused", _in_order),
            Invariant("kernel", 2, "the kernel `wren-paravirt` forks as on vlab's own monitor", _kernel),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", _hidden_calls, hidden=True
            ),
        ),
        hints=(
            "Write in_order(hv, address, value) as a list of reasons to say no, in the order of the rules.",
            (
                "First the place: address % 4, hv.owns(address), hv.use(address). Then, if P is set, the "
                "value: hv.owns(value), flags, and hv.use(value) where W is set."
            ),
            (
                "mmu_update: struct.iter_unpack('<II', raw), stop at the first that is not in order or that "
                "hv.write refuses; return how many were done, or EINVAL for none of them."
            ),
        ),
    ),
    Exercise(
        "batching",
        "Page-table updates in batches",
        defines=("Batching",),
        invariants=(
            Invariant("right", 3, "whatever the kernel touches is what it mapped there last", _right),
            Invariant("long", 1, f"more than {MOST_IN_ONE} changes at once work, too", _long),
            Invariant("budget", 2, "changes wait until something is touched, and go together", _budget),
            Invariant("lazy", 2, "they wait while only other pages are touched", _lazy),
            Invariant("hidden", 1, "all of that on kernels that you have not seen", _lazy, hidden=True),
        ),
        hints=(
            "Keep a list of [entry, value] that wait, and a set of the linear addresses they concern.",
            "A change is in force when it is written and the old translation is flushed: two hypercalls.",
            "In use: if the address is in your set, send all that waits, 64 at a time, then flush_all once.",
        ),
    ),
)


def lying_guest(vm: VM, machine: Machine, victim: int) -> Program:
    """Make the guest of the lesson: it maps the machine's frame ``victim`` in place of a page, and reads it.

    vm: a guest made of ``elf()``, without its code. machine: to see that the frame is not the guest's.
    """
    place, program = place_of(vm), Program()
    if place.base <= victim < place.base + END or victim >= machine.memory.size:
        raise ValueError(f"victim: {victim:#x} is not a frame of somebody else's")
    vm.memory[PAGES : PAGES + 24] = b"the liar's own memory..."
    program.update((place.entry(PAGES), victim | P))
    program.call(Call.FLUSH_ALL, 0)
    copy = linear(DATA) + 0x1000
    for offset in range(0, 24, 4):
        program.code += fetch(linear(PAGES) + offset)
        program.code += b"\xa3" + struct.pack("<I", copy + offset)  # mov [copy], eax
    program.call(Call.CONSOLE_WRITE, copy, 24)
    for gpa, data in program.parts().items():
        vm.memory[gpa : gpa + len(data)] = data
    return program
