"""The hardware task switch, with 16- and 32-bit task-state segments: by a task gate, CALL, JMP and IRET.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), Intel SDM vol. 3A, order 253668-083 (SDM3), and SDM
vol. 2A, order 325383-083 (SDM2, "INT n", TASK-GATE).

SDM3 8.3, "Task Switching", puts a commit point in the middle of a switch; a fault before it belongs to the
old task. Here every access to memory is made before it, so that a page fault never leaves a half-done switch
and the event can be delivered again. The checks of the new task's segments belong to the new task, as on
hardware: the switch completes, then their fault is raised, and without one the debug trap of the TSS's T bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from vlab.isa.blocks import BlockField
from vlab.isa.descriptors import TSS_16_AVAILABLE, TSS_32_AVAILABLE, unpack_segment
from vlab.isa.state import Segment
from vlab.isa.tss import Tss16, Tss32
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import CR0_PG, CR0_TS, MASK32, NT, VM, Core, read_table, write_table
from vlab.machine.delivery.frame import pack, push
from vlab.machine.delivery.segments import GP, NP, TS, load_stack, read_descriptor
from vlab.machine.delivery.task_segments import load_code, load_data, load_ldt
from vlab.machine.faults import CpuFault

_RSP = 4
_BUSY, _WIDE = 2, 8  # in the type of a TSS
_DR7_LOCAL = 0x155  # L0..L3 and LE
_DR6_TASK = 1 << 15
_FLAGS = 0x003F_7FD5  # the defined bits of EFLAGS


@dataclass(frozen=True, slots=True)
class _Format:
    """Where a TSS keeps the saved task: IP, FLAGS and eight registers in a row, then the selectors."""

    size: int
    width: int
    ip: BlockField[int]
    segments: tuple[BlockField[int], ...]
    ldt: BlockField[int]
    cr3: BlockField[int] | None
    trap: BlockField[int] | None


_FORMAT16 = _Format(Tss16.SIZE, 2, Tss16.ip, (Tss16.es, Tss16.cs, Tss16.ss, Tss16.ds), Tss16.ldt, None, None)
_FORMAT32 = _Format(
    Tss32.SIZE,
    4,
    Tss32.eip,
    (Tss32.es, Tss32.cs, Tss32.ss, Tss32.ds, Tss32.fs, Tss32.gs),
    Tss32.ldt,
    Tss32.cr3,
    Tss32.debug_trap,
)


@dataclass(slots=True)
class _Task:
    """The new task as its TSS describes it; ``fault`` is what its segments are found to be wrong with."""

    width: int
    rip: int
    rflags: int
    registers: list[int]
    selectors: dict[str, int]
    ldt: int
    cr3: int
    trap: bool
    segments: dict[str, Segment] = field(default_factory=dict)
    fault: CpuFault | None = None

    @property
    def cpl(self) -> int:
        return 3 if self.rflags & VM else self.selectors["cs"] & 3


class Cause(Enum):
    """What switches tasks. It decides on nesting, and on whose a page fault is on the way (APM2 12.3.4)."""

    EVENT = auto()
    CALL = auto()
    JMP = auto()
    IRET = auto()

    @property
    def nests(self) -> bool:
        """Whether the new task can return to the old one, which stays busy."""
        return self in (Cause.EVENT, Cause.CALL)

    @property
    def commits(self) -> bool:
        """Whether a page fault behind the saving of the old task is the new task's.

        An event has to be delivered again, and IRET can be.
        """
        return self in (Cause.CALL, Cause.JMP)


def switch_task(
    core: Core,
    selector: int,
    *,
    ext: int,
    next_rip: int,
    flags: int,
    error_code: int | None,
    cause: Cause = Cause.EVENT,
    named_by: str = "the task gate",
) -> None:
    """Save the running task in its TSS and enter the one of TSS ``selector`` (APM2 12.3; SDM3 8.3).

    ``next_rip`` and ``flags`` are what the old task resumes with; ``error_code`` goes on the new stack.
    ``named_by``: where the selector comes from, for the text of a fault. Raises CpuFault: with nothing
    changed, or for the new task when the switch is done.
    """
    segment, address = _available_tss(core, selector, ext, named_by)
    segment.attributes |= _BUSY
    _switch(core, cause, segment, address, (next_rip, flags), ext=ext, error_code=error_code)


def return_to_task(core: Core, *, next_rip: int) -> None:
    """Go back to the task that the running one is nested in, as IRET does with NT set (SDM2 "IRET",
    TASK-RETURN).

    ``next_rip`` is behind the IRET, where the task that is left would go on. Raises CpuFault.
    """
    selector = read_table(core, core.segment("tr").base, 2, "the back link of the TSS")
    code = selector & 0xFFFC
    if not code or selector & 4:
        raise CpuFault(TS, code, why=f"the back link {selector:#06x} is null or in the LDT")
    descriptor, address = read_descriptor(
        core, selector, MASK32, vector=TS, ext=0, what="the back link's TSS"
    )
    if descriptor >> 40 & 0x1F not in (TSS_16_AVAILABLE | _BUSY, TSS_32_AVAILABLE | _BUSY):
        raise CpuFault(TS, code, why=f"the back link {selector:#06x} names no busy TSS")
    segment = _usable(descriptor, selector, 0)
    _switch(core, Cause.IRET, segment, address, (next_rip, core.rflags & ~NT))


def _switch(
    core: Core,
    cause: Cause,
    tr: Segment,
    address: int,
    saved: tuple[int, int],
    *,
    ext: int = 0,
    error_code: int | None = None,
) -> None:
    """Switch to the task of ``tr``, whose descriptor is at ``address`` (APM2 12.3.2, 12.3.4).

    saved: EIP and EFLAGS of the task that is left.
    """
    old, new = core.segment("tr"), _format(tr)
    _save(core, *saved, ext)
    task = _read(core, tr.base, new, nested=NT if cause.nests else 0)
    if cause.nests:
        write_table(core, tr.base, 2, old.selector, "the back link of the new TSS")
    if new.cr3 is None or not core.cr0 & CR0_PG:
        task.cr3 = core.cr3
    _prepare(core, task, ext, error_code, committed=cause.commits)
    if not cause.nests:
        place = (core.gdtr.base + (old.selector & 0xFFF8)) & MASK32
        _mark(core, place, 0, "the TSS descriptor of the task that is left")
    if cause is not Cause.IRET:
        _mark(core, address, _BUSY, "the busy bit of the new TSS")
    _commit(core, task, tr)
    if task.fault is not None:
        raise task.fault
    if task.trap:
        core.dr6 |= _DR6_TASK
        raise CpuFault(int(Vector.DB), why=f"the T bit of the TSS {tr.selector:#06x} is set")


def _mark(core: Core, descriptor: int, busy: int, what: str) -> None:
    """Say in a TSS descriptor whether its task is busy."""
    place = (descriptor + 5) & MASK32
    write_table(core, place, 1, read_table(core, place, 1, what) & ~_BUSY | busy, what)


def finish_task_switch(core: Core) -> None:
    """Load the task whose TSS is in TR already: the second half of a switch (SDM3 8.3, from step 11 on).

    The old task is saved, TR, CR0.TS, EFLAGS.NT and the busy bits are right; the rest is loaded here. Raises
    CpuFault, with the switch done, for what is wrong with the new task's segments or address space.
    """
    tr = core.segment("tr")
    new = _format(tr)
    task = _read(core, tr.base, new, nested=core.rflags & NT)
    if new.cr3 is None or not core.cr0 & CR0_PG:
        task.cr3 = core.cr3
    _prepare(core, task, 0, None, committed=True)
    _commit(core, task, tr)
    if task.fault is not None:
        raise task.fault


def _available_tss(core: Core, selector: int, ext: int, named_by: str) -> tuple[Segment, int]:
    """Check the TSS that is to be entered (SDM2); give TR for it, and where its descriptor is."""
    code = selector & 0xFFFC | ext
    if not selector & 0xFFFC or selector & 4:
        raise CpuFault(GP, code, why=f"{named_by}'s selector {selector:#06x} is null or in the LDT")
    what = f"{named_by}'s TSS"
    descriptor, address = read_descriptor(core, selector, MASK32, vector=GP, ext=ext, what=what)
    if descriptor >> 40 & 0x1F not in (TSS_16_AVAILABLE, TSS_32_AVAILABLE):
        raise CpuFault(GP, code, why=f"{named_by}'s selector {selector:#06x} names no available TSS")
    return _usable(descriptor, selector, ext), address


def _usable(descriptor: int, selector: int, ext: int) -> Segment:
    """Give TR for a TSS; raises CpuFault for one that is not present or too small."""
    code, segment = selector & 0xFFFC | ext, unpack_segment(descriptor, selector)
    if not descriptor >> 47 & 1:
        raise CpuFault(NP, code, why=f"the TSS {selector:#06x} is not present")
    if segment.limit < _format(segment).size - 1:
        raise CpuFault(TS, code, why=f"the TSS {selector:#06x} has a limit of {segment.limit:#x}, too small")
    return segment


def _format(tr: Segment) -> _Format:
    return _FORMAT32 if tr.attributes & _WIDE else _FORMAT16


def _save(core: Core, next_rip: int, flags: int, ext: int) -> None:
    """Write the dynamic fields of the running task into its TSS; it stays busy (SDM3 table 8-2)."""
    task = core.segment("tr")
    kind = task.attributes & 0x9D
    old = _FORMAT32 if kind == 0x89 else _FORMAT16
    if kind not in (0x81, 0x89) or task.limit < old.size - 1:
        raise CpuFault(
            TS,
            task.selector & 0xFFFC | ext,
            why=f"TR ({task.selector:#06x}) holds no TSS to save the task in",
        )
    items = [next_rip, flags, *(core.rsp if i == _RSP else core.get_gpr(i) for i in range(8))]
    what = "the TSS of the running task"
    write_table(
        core, (task.base + old.ip.offset) & MASK32, len(items) * old.width, pack(items, old.width), what
    )
    for place in old.segments:
        selector = core.segment(place.name).selector
        write_table(core, (task.base + place.offset) & MASK32, 2, selector, what)


def _read(core: Core, base: int, new: _Format, nested: int) -> _Task:
    try:
        image = int.from_bytes(core.read_bytes(base, new.size), "little")
    except CpuFault as fault:
        fault.met("the TSS of the new task", base)
        raise

    def number(offset: int, width: int) -> int:
        return image >> 8 * offset & ((1 << 8 * width) - 1)

    start, width = new.ip.offset, new.width
    return _Task(
        width=width,
        rip=number(start, width),
        rflags=number(start + width, width) & _FLAGS | 2 | nested,
        registers=[number(start + width * (2 + index), width) for index in range(8)],
        selectors={place.name: number(place.offset, 2) for place in new.segments},
        ldt=number(new.ldt.offset, 2),
        cr3=0 if new.cr3 is None else number(new.cr3.offset, 4),
        trap=new.trap is not None and bool(number(new.trap.offset, 1) & 1),
    )


def _prepare(core: Core, task: _Task, ext: int, error_code: int | None, *, committed: bool = False) -> None:
    """Load the new task's segments and push the error code, in the new task's address space.

    A page fault is raised with nothing changed, unless the switch is ``committed``; any other fault is kept
    in ``task`` until after the switch.
    """
    old_cr3, old_ldtr = core.cr3, core.segment("ldtr")
    try:
        core.cr3 = task.cr3
        _load_segments(core, task, ext)
        if error_code is not None:
            _push_error_code(core, task, ext, error_code)
        if task.rip > task.segments["cs"].limit:
            raise CpuFault(GP, ext, why=f"the new task's EIP {task.rip:#x} is beyond its CS limit")
    except CpuFault as fault:
        if fault.vector == Vector.PF and not committed:
            raise
        task.fault = fault
    finally:
        core.cr3 = old_cr3
        core.set_segment("ldtr", old_ldtr)


def _load_segments(core: Core, task: _Task, ext: int) -> None:
    """Load LDTR, CS, SS and the data segments in this order, up to the first that is bad (SDM3 table 8-1)."""
    task.segments = {name: Segment(selector, 0, 0, 0) for name, selector in task.selectors.items()}
    task.segments["ldtr"] = Segment(task.ldt, 0, 0, 0)
    for name in ("fs", "gs"):
        task.segments.setdefault(name, Segment(0, 0, 0, 0))  # a 16-bit TSS has none
    if task.rflags & VM:
        for name, selector in task.selectors.items():
            task.segments[name] = Segment(selector, selector << 4, 0xFFFF, 0xF3)
    task.segments["ldtr"] = load_ldt(core, task.ldt, ext)
    if task.rflags & VM:
        return
    core.set_segment("ldtr", task.segments["ldtr"])
    task.segments["cs"] = load_code(core, task.selectors["cs"], ext)
    task.segments["ss"] = load_stack(core, task.selectors["ss"], task.cpl, ext)
    for name in ("ds", "es", "fs", "gs"):
        task.segments[name] = load_data(core, name, task.segments[name].selector, task.cpl, ext)


def _push_error_code(core: Core, task: _Task, ext: int, error_code: int) -> None:
    task.registers[_RSP] = push(
        core,
        task.segments["ss"],
        task.registers[_RSP],
        error_code & ((1 << 8 * task.width) - 1),
        1,
        task.width,
        code=ext,
        user=task.cpl == 3,
    )


def _commit(core: Core, task: _Task, tr: Segment) -> None:
    core.cr3 = task.cr3
    core.cr0 |= CR0_TS  # APM2 12.3: the x87 state still belongs to the old task
    core.dr7 &= ~_DR7_LOCAL
    core.rflags = task.rflags
    core.set_segment("tr", tr)
    for name, segment in task.segments.items():
        core.set_segment(name, segment)
    core.set_cpl(task.cpl)
    for index, value in enumerate(task.registers):
        if index != _RSP:
            core.set_gpr(index, value)
    core.rsp = task.registers[_RSP]
    core.rip = task.rip
