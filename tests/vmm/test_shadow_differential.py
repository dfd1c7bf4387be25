"""The same tables and the same instructions on the processor, once over nested and once over shadow tables.

Here the emulator's MMU walks both, with its TLB: the guest sees the same faults, reaches the same memory and
finds the same accessed and dirty bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.isa.paging import Access, PagingMode
from vlab.isa.state import CpuState, Segment
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.machine.svm import write_save_area
from vlab.vmm.exits import ControlRegisterAccess, InvalidatePage, PageFault
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.stop import Stop, StopKind
from vlab.vmm.verdicts import RESUME, End, Inject, Verdict

P, RW, US, A, D, PS, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
RAM = 4 << 20
CODE, ROOT = 0x1000, 0x100000
"""The code is at linear and guest-physical CODE, and for ring 3 at linear CODE + PAGE, so that SMEP can be
on. All tables lie from ROOT on, and are seen at TABLES_AT."""
TABLES_AT = 0x10000
TABLES = [ROOT + PAGE * n for n in range(16)]
BASE = {PagingMode.LEGACY: 0x40000000, PagingMode.PAE: 0x40000000, PagingMode.LONG: 0xFFFF804000000000}
DATA = 0x200000

READ_CODE = bytes.fromhex("8a08 0f01d9")  # mov cl, [eax]; vmmcall
WRITE_CODE = bytes.fromhex("8808 0f01d9")  # mov [eax], cl; vmmcall
FETCH_CODE = bytes.fromhex("ffe0")  # jmp eax
STORE_CODE = bytes.fromhex("8908 0f01d9")  # mov [eax], ecx; vmmcall
CR3_CODE = bytes.fromhex("0f22d8 0f01d9")  # mov cr3, eax; vmmcall
INVLPG_CODE = bytes.fromhex("0f0138 0f01d9")  # invlpg [eax]; vmmcall
PROGRAMS = [READ_CODE, WRITE_CODE, FETCH_CODE, STORE_CODE, CR3_CODE, INVLPG_CODE]
VMMCALL = bytes.fromhex("0f01d9")
_DONE = ("done",)


class Subject:
    """One guest under one strategy: a monitor that stops at whatever the guest would see."""

    def __init__(self, machine: Machine, strategy: PagingStrategy) -> None:
        self.machine = machine
        self.core = machine.processor.core
        self.memory = GuestMemory(machine, RAM)
        self.strategy = strategy
        self.missed: int | None = None
        strategy.attach(self)
        self.vmcb = machine.frames.allocate(PAGE)
        control = VmcbControl(machine.memory.bytes, self.vmcb)
        control.intercept_exceptions = 0xFFFFFFFF
        control.intercept_misc1 = InterceptMisc1.SHUTDOWN.mask
        control.intercept_misc2 = InterceptMisc2.VMRUN.mask | InterceptMisc2.VMMCALL.mask
        control.asid = 1
        strategy.configure(control)
        for place, program in enumerate(PROGRAMS):
            start = CODE + 16 * place
            self.memory.ram[start : start + len(program)] = program

    def intercepts_changed(self) -> None:
        VmcbControl(self.machine.memory.bytes, self.vmcb).clean_bits = 0

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        self.missed = gpa
        return End(Stop(StopKind.FAILED, "a device"))

    def begin(self, state: CpuState, image: bytes) -> None:
        """Start over with other tables."""
        self.memory.ram[ROOT : ROOT + len(image)] = image
        for page in (DATA, DATA + PAGE, DATA + 2 * PAGE, 0xF0000):
            for offset in OFFSETS:
                self.memory.ram[page + offset : page + offset + 8] = VMMCALL + bytes(5)
        self.machine.svm.forget(self.vmcb)
        self.strategy.rebuild()
        save = VmcbSave(self.machine.memory.bytes, self.vmcb)
        write_save_area(save, self.strategy.initial_state(state))
        self.intercepts_changed()
        self.machine.svm.vmrun(self.vmcb)  # takes the registers over, to the first exit of either kind
        assert self.run(READ_CODE, TABLES_AT)[0] == "done"

    def run(
        self, program: bytes, address: int, value: int = 0x5A, *, user: bool = False
    ) -> tuple[object, ...]:
        """Run one program with an address in RAX and a value in RCX; tell how it ended."""
        self.core.words[0], self.core.words[1] = address, value
        return self.go(CODE + 16 * PROGRAMS.index(program), user=user)

    def go(self, gpa: int, *, user: bool = False) -> tuple[object, ...]:
        """Run the program at ``gpa``, in the page of CODE; tell how it ended."""
        svm, core = self.machine.svm, self.core
        self._enter_ring(3 if user else 0)
        core.rip = gpa + PAGE * user
        core.refresh()
        for _ in range(12):
            code, processor = svm.vmrun(self.vmcb), self.machine.processor
            if code == SvmExit.VMMCALL:
                return (*_DONE, core.words[1] & 0xFF)
            if code == SvmExit.NPF:
                return "missed", processor.info2
            if SvmExit.EXCP_DE <= code < SvmExit.INTR and (answer := self._exception(code)) is not None:
                return answer
            if code < SvmExit.EXCP_DE:
                self.strategy.handle(ControlRegisterAccess(code & 0xF, code >> 4 & 1))
            elif code == SvmExit.INVLPG:
                self.strategy.handle(InvalidatePage(processor.info1))
        raise AssertionError(f"no end: exit {code:#x}, rip {core.rip:#x}")

    def _exception(self, code: int) -> tuple[object, ...] | None:
        processor, vector = self.machine.processor, code - SvmExit.EXCP_DE
        if vector == 14 and isinstance(self.strategy, ShadowPaging):
            verdict = self.strategy.handle(PageFault(processor.info2, processor.info1))
            if verdict is RESUME:
                return None
            if isinstance(verdict, Inject):
                return "fault", verdict.event.vector, verdict.event.error_code, verdict.event.address
            return "missed", self.missed
        return "fault", vector, processor.info1, processor.info2

    def _enter_ring(self, ring: int) -> None:
        core = self.core
        for name in ("cs", "ss"):
            segment = core.segment(name)
            attributes = segment.attributes & ~0x60 | ring << 5
            core.set_segment(name, Segment(segment.selector & ~3 | ring, 0, segment.limit, attributes))
        core.set_cpl(ring)

    @property
    def tables(self) -> bytes:
        return bytes(self.memory.ram[ROOT : ROOT + PAGE * len(TABLES)])

    def close(self) -> None:
        self.strategy.close()
        self.machine.frames.free(self.vmcb)
        self.memory.close()


@pytest.fixture(scope="module")
def subjects() -> Iterator[list[Subject]]:
    machine = Machine(32 << 20)
    made = [
        Subject(machine, strategy)
        for strategy in (NestedPaging(), ShadowPaging(frames=64), ShadowPaging("lazy", frames=64))
    ]
    yield made
    for subject in made:
        subject.close()
    machine.close()


# --- the guests ---------------------------------------------------------------------------------------------


def start(mode: PagingMode, wp: bool, smep: bool) -> CpuState:
    state = CpuState.long64(CODE, ROOT) if mode is PagingMode.LONG else CpuState.flat32(CODE)
    state.cr0 = 0x80000011 | (1 << 16 if wp else 0)
    state.cr3 = ROOT
    state.cr4 = (0x10 if mode is PagingMode.LEGACY else 0x20) | (1 << 20 if smep else 0)
    state.efer = (0x500 if mode is PagingMode.LONG else 0) | (0 if mode is PagingMode.LEGACY else 0x800)
    return state


def shape(mode: PagingMode) -> tuple[int, list[int], list[int]]:
    """Give the bytes of an entry, and for the code and for BASE the directory entries' places."""
    if mode is PagingMode.LEGACY:
        return 4, [ROOT], [ROOT + 4 * (BASE[mode] >> 22) + 4 * n for n in range(4)]
    if mode is PagingMode.PAE:
        return 8, [TABLES[2]], [TABLES[3] + 8 * n for n in range(4)]
    return 8, [TABLES[2]], [TABLES[4] + 8 * n for n in range(4)]


def tables_for(mode: PagingMode, directory: list[int], leaves: list[list[int]]) -> bytes:
    """Lay out tables: the code at CODE for both rings, and four random directory entries at BASE."""
    image = bytearray(PAGE * len(TABLES))
    size, code, random = shape(mode)

    def put(gpa: int, value: int) -> None:
        image[gpa - ROOT : gpa - ROOT + size] = value.to_bytes(size, "little")

    if mode is PagingMode.PAE:
        put(ROOT, TABLES[2] | P)
        put(ROOT + 8, TABLES[3] | P)
    elif mode is PagingMode.LONG:
        put(ROOT, TABLES[1] | P | RW | US)
        put(TABLES[1], TABLES[2] | P | RW | US)
        put(ROOT + 8 * 256, TABLES[3] | P | RW | US)
        put(TABLES[3] + 8 * (BASE[mode] >> 30 & 0x1FF), TABLES[4] | P | RW | US)
    put(code[0], TABLES[5] | P | RW | US)
    put(TABLES[5] + size * (CODE >> 12), CODE | P)
    put(TABLES[5] + size * (CODE + PAGE >> 12), CODE | P | US)
    for number, table in enumerate(TABLES):
        put(TABLES[5] + size * ((TABLES_AT >> 12) + number), table | P | RW)
    for place, entry in zip(random, directory, strict=True):
        put(place, entry)
    for table, entries in zip(TABLES[8:12], leaves, strict=True):
        for index, entry in enumerate(entries):
            put(table + size * index, entry)
    return bytes(image)


def entries(mode: PagingMode, targets: list[int]) -> st.SearchStrategy[int]:
    nx = [0] if mode is PagingMode.LEGACY else [0, 0, NX]
    flags = st.tuples(
        st.sampled_from([0, RW, RW]), st.sampled_from([0, US, US]), st.sampled_from(nx),
        st.sampled_from([0, A, A | D]), st.sampled_from([0, P, P, P, P]),
    ).map(sum)  # fmt: skip
    return st.builds(lambda target, bits: target | bits, st.sampled_from(targets), flags)


OFFSETS = (0, 8, 0x7F8)
PAGES = [DATA, DATA + PAGE, DATA + 2 * PAGE, 0xF0000, 0xA0000, RAM + PAGE]
STEP = {PagingMode.LEGACY: 4 << 20, PagingMode.PAE: 2 << 20, PagingMode.LONG: 2 << 20}
PLACES = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(OFFSETS))
ACCESSES = [
    Access(write, user, fetch)
    for write, user, fetch in (
        (False, False, False), (True, False, False), (False, False, True),
        (False, True, False), (True, True, False), (False, True, True),
    )
]  # fmt: skip


def directories(mode: PagingMode) -> list[int]:
    large = 0x200000 | PS if STEP[mode] == 2 << 20 else PS
    return [*TABLES[8:12], *TABLES[8:12], large]


def guests(mode: PagingMode) -> st.SearchStrategy[tuple[list[int], list[list[int]]]]:
    four = st.lists(entries(mode, PAGES), min_size=4, max_size=4)
    return st.tuples(
        st.lists(entries(mode, directories(mode)), min_size=4, max_size=4),
        st.lists(four, min_size=4, max_size=4),
    )


def steps(mode: PagingMode) -> st.SearchStrategy[list[tuple]]:  # type: ignore[type-arg]
    access = st.tuples(st.just("access"), PLACES, st.sampled_from(ACCESSES))
    edit = st.tuples(st.just("edit"), PLACES, entries(mode, PAGES), st.booleans())
    directory = st.tuples(st.just("directory"), st.integers(0, 3), entries(mode, directories(mode)))
    return st.lists(st.one_of(access, access, access, edit, directory), min_size=1, max_size=16)


def store(subject: Subject, mode: PagingMode, gpa: int, value: int) -> None:
    """Have the guest write a table entry, the half with the present bit last."""
    linear = TABLES_AT + gpa - ROOT
    if mode is not PagingMode.LEGACY:
        assert subject.run(STORE_CODE, linear + 4, value >> 32)[0] == "done"
    assert subject.run(STORE_CODE, linear, value & 0xFFFFFFFF)[0] == "done"


def perform(subject: Subject, mode: PagingMode, step: tuple) -> object:  # type: ignore[type-arg]
    """Do one step and tell what came of it, and what the tables hold afterwards."""
    outcome: object = None
    match step:
        case ("access", (table, index, offset), access):
            linear = BASE[mode] + table * STEP[mode] + index * PAGE + offset
            if access.fetch:
                outcome = subject.run(FETCH_CODE, linear, user=access.user)
            elif access.write:
                outcome = subject.run(WRITE_CODE, linear + 4, user=access.user)
            else:
                outcome = subject.run(READ_CODE, linear, user=access.user)
        case ("edit", (table, index, _), value, reload):
            store(subject, mode, TABLES[8 + table] + index * shape(mode)[0], value)
            if reload:
                subject.run(CR3_CODE, ROOT)
            else:  # the table may be below several entries of the directory
                for other in range(4):
                    subject.run(INVLPG_CODE, BASE[mode] + other * STEP[mode] + index * PAGE)
        case ("directory", number, value):
            store(subject, mode, shape(mode)[2][number], value)
            subject.run(CR3_CODE, ROOT)
    return outcome, subject.tables


@pytest.mark.parametrize("mode", [PagingMode.LEGACY, PagingMode.PAE, PagingMode.LONG])
def test_the_guest_cannot_tell_shadow_tables_from_nested_ones(
    subjects: list[Subject], mode: PagingMode
) -> None:
    seen: set[object] = set()

    @given(guests(mode), st.booleans(), st.booleans(), steps(mode))
    @settings(max_examples=60)
    def run(
        tables: tuple[list[int], list[list[int]]],
        wp: bool,
        smep: bool,
        steps: list[tuple],  # type: ignore[type-arg]
    ) -> None:
        image, state = tables_for(mode, *tables), start(mode, wp, smep)
        outcomes = []
        for subject in subjects:
            subject.begin(state, image)
            outcomes.append([perform(subject, mode, step) for step in steps])
        for number, step in enumerate(steps):
            assert outcomes[1][number] == outcomes[0][number], f"write-protect: step {number}, {step}"
            assert outcomes[2][number] == outcomes[0][number], f"lazy: step {number}, {step}"
        seen.update(outcome[0] and outcome[0][:3] for outcome in outcomes[0])  # type: ignore[index]

    run()
    kinds = {outcome[0] for outcome in seen if isinstance(outcome, tuple)}
    assert kinds == {"done", "fault", "missed"}, "the cases are worth little"
