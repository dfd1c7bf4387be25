"""Port instructions: the hooks run in the middle of one, see its registers, and can undo it."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, TSS, Bench
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.machine.port_gate import PORT_FAULT

GP = 13


def spy(lab: Bench, answer: int = 0x11223344) -> list[tuple[object, ...]]:
    """Note every access: direction, port, size, value, and the hook's RIP, ECX and arithmetic flags."""
    log: list[tuple[object, ...]] = []

    def note(*what: int | str) -> None:
        core = lab.core
        log.append((*what, core.rip - CODE, core.get_gpr(1), core.rflags & 0x8D5))

    def port_in(port: int, size: int) -> int:
        note("in", port, size)
        return answer & (1 << 8 * size) - 1

    def port_out(port: int, size: int, value: int) -> None:
        note("out", port, size, value)

    lab.processor.on_port_in, lab.processor.on_port_out = port_in, port_out
    return log


@pytest.mark.parametrize(
    ("code", "access"),
    [
        ("e480", ("in", 0x80, 1)), ("e580", ("in", 0x80, 4)),
        ("66e580", ("in", 0x80, 2)), ("ec", ("in", 0x3F8, 1)),
        ("ed", ("in", 0x3F8, 4)), ("e680", ("out", 0x80, 1, 0x99)), ("e780", ("out", 0x80, 4, 0x66778899)),
        ("66ef", ("out", 0x3F8, 2, 0x8899)), ("ee", ("out", 0x3F8, 1, 0x99)),
    ],
)  # fmt: skip
def test_an_access_has_port_size_and_value(lab: Bench, code: str, access: tuple[object, ...]) -> None:
    log = spy(lab)
    state = lab.flat32()
    state.rax, state.rdx = 0x66778899, 0xFFFF03F8
    assert lab.run(state, code + "f4") == SvmExit.HLT
    assert [entry[:-3] for entry in log] == [access]
    if access[0] == "in":
        merged = {1: 0x66778844, 2: 0x66773344, 4: 0x11223344}[access[2]]  # type: ignore[index]
        assert lab.core.get_gpr(0) == merged


def test_the_hook_sees_rip_at_the_instruction_and_flags_worked_out(lab: Bench) -> None:
    """The comparison before it is in the same block, and its flags are lazy."""
    log = spy(lab)
    state = lab.flat32()
    state.rcx = 5
    assert lab.run(state, "b005 3c05 e480 3c06 e680 f4") == SvmExit.HLT
    assert [entry[-3:] for entry in log] == [(4, 5, 0x44), (8, 5, 0x10)]


def test_string_instructions_call_once_for_each_element(lab: Bench) -> None:
    log = spy(lab, 0xAABBCCDD)
    state = lab.flat32()
    state.rcx, state.rdi, state.rdx = 3, DATA, 0x1F0
    assert lab.run(state, "66f36d f4") == SvmExit.HLT
    assert [entry[:-1] for entry in log] == [("in", 0x1F0, 2, 0, count) for count in (3, 2, 1)]
    assert (lab.peek(DATA, 8), lab.core.get_gpr(7)) == (0xCCDD_CCDD_CCDD, DATA + 6)


def test_outs_reads_its_elements(lab: Bench) -> None:
    log = spy(lab)
    lab.poke(DATA, b"abc")
    state = lab.flat32()
    state.rcx, state.rsi, state.rdx = 3, DATA, 0xE9
    assert lab.run(state, "f36e f4") == SvmExit.HLT
    assert bytes(entry[3] for entry in log) == b"abc"  # type: ignore[misc]


def test_a_page_fault_on_the_destination_of_ins_comes_before_the_port_is_read(lab: Bench) -> None:
    log = spy(lab)
    lab.intercept(1 << 14)
    state = lab.long64()
    state.rdi, state.rdx = 0x400000, 0x60
    assert lab.run(state, "6c f4") == SvmExit.EXCP_PF
    assert log == []


# --- who may ----------------------------------------------------------------------------------------------


def user(lab: Bench, iopl: int, *closed: int) -> CpuState:
    """A program at CPL 3 whose TSS opens all ports from 0x80 to 0xFF but the ``closed``."""
    state = lab.flat32(user=True)
    state.rflags = 2 | iopl << 12
    state.tr.limit = 0x68 + 0x21
    lab.poke(TSS + 0x66, (0x68).to_bytes(2, "little"))
    lab.poke(TSS + 0x68, b"\xff" * 16 + bytes(16) + b"\xff")
    for port in closed:
        place = TSS + 0x68 + port // 8
        lab.poke(place, bytes([lab.peek(place, 1) | 1 << port % 8]))
    lab.intercept(1 << GP)
    return state


@pytest.mark.parametrize("code", ["e420", "e620", "6c", "6e", "f36c", "f36e"])
def test_a_closed_port_is_gp_at_the_instruction_and_the_device_never_hears_of_it(
    lab: Bench, code: str
) -> None:
    log = spy(lab)
    state = user(lab, 0)
    state.rdx, state.rsi, state.rdi, state.rcx = 0x20, DATA, DATA + 0x100, 2
    assert lab.run(state, code + "f4") == SvmExit.EXCP_GP
    assert (lab.processor.info1, lab.core.rip, log) == (0, CODE, [])


def test_iopl_opens_all_ports(lab: Bench) -> None:
    log = spy(lab)
    lab.intercept(1 << GP)
    lab.run(user(lab, 3), "e420 0f0b")
    assert [entry[:3] for entry in log] == [("in", 0x20, 1)]


def test_the_bitmap_opens_single_ports(lab: Bench) -> None:
    log = spy(lab)
    state = user(lab, 0, 0x90)
    assert lab.run(state, "e480 e48f e490 f4") == SvmExit.EXCP_GP
    assert lab.core.rip == CODE + 4
    assert [entry[1] for entry in log] == [0x80, 0x8F]


def test_iopl_that_popf_set_counts_at_once_and_no_longer_than_it_is_set(lab: Bench) -> None:
    """POPF at CPL 0 with IOPL 3, IRET to CPL 3: an IN that the bitmap closes; then IOPL 0."""
    log = spy(lab)
    state = user(lab, 0)
    kernel = lab.flat32()
    kernel.tr = state.tr
    frame = "6a2b 6800f00300 68{flags} 6a23 68" + (CODE + 0x100).to_bytes(4, "little").hex() + "cf"
    lab.code("e420 f4", CODE + 0x100)
    lab.code(frame.format(flags="02300000"))
    lab.intercept(1 << GP)
    assert lab.run(kernel) == SvmExit.EXCP_GP  # the HLT
    assert len(log) == 1
    lab.code(frame.format(flags="02000000"))
    assert lab.run(kernel) == SvmExit.EXCP_GP
    assert (len(log), lab.core.rip) == (1, CODE + 0x100)


def test_virtual_8086_mode_asks_the_bitmap_whatever_iopl_says(lab: Bench) -> None:
    log = spy(lab)
    state = user(lab, 3)
    v86 = lab.real()
    v86.cr0, v86.rflags, v86.tr, v86.gdtr = 0x11, 0x23002, state.tr, state.gdtr
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        getattr(v86, name).attributes = 0xF3
    lab.core.load(v86)
    assert lab.run(v86, "e480 e420") == SvmExit.EXCP_GP
    assert (lab.core.rip, len(log)) == (2, 1)


# --- undoing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["e420", "e620", "6c", "6e", "f36c", "f36e", "66ed"])
def test_a_refused_access_and_all_that_followed_it_have_not_happened(lab: Bench, code: str) -> None:
    """The stop comes late: stores, pushes and arithmetic behind the instruction are in the same block."""

    def refuse(*_what: int) -> int:
        lab.engine.refuse(PORT_FAULT)
        return 0x55

    lab.engine.port_in = lab.engine.port_out = refuse  # type: ignore[assignment]
    state = lab.flat32()
    state.rflags, state.rcx, state.rdx, state.rsi, state.rdi = 0x8D7, 2, 0x20, DATA, DATA + 0x40
    lab.poke(DATA + 0x20, b"before..")
    lab.core.load(state)
    lab.code(code + "a320000200 50 6800000000 83c005 0fa2 fd" * 3 + "f4")
    stack = bytes(lab.ram[state.rsp - 64 : state.rsp])
    blocks = lab.engine.blocks
    try:
        assert lab.engine.run() == PORT_FAULT
    finally:
        lab.engine.port_in, lab.engine.port_out = lab.processor._port_in, lab.processor._port_out
    assert lab.core.state() == state
    assert bytes(lab.ram[state.rsp - 64 : state.rsp]) == stack
    assert bytes(lab.ram[DATA + 0x20 : DATA + 0x28]) == b"before.."
    assert lab.engine.blocks == blocks + 1


def test_a_refused_access_in_a_string_keeps_the_elements_before_it(lab: Bench) -> None:
    moved: list[int] = []

    def port_out(_port: int, _size: int, value: int) -> None:
        if len(moved) == 2:
            lab.engine.refuse(PORT_FAULT)
        else:
            moved.append(value)

    lab.engine.port_out = port_out
    state = lab.flat32()
    state.rcx, state.rsi, state.rdx = 5, DATA, 0x20
    lab.poke(DATA, b"abcde")
    lab.core.load(state)
    lab.code("f36e f4")
    try:
        assert lab.engine.run() == PORT_FAULT
    finally:
        lab.engine.port_out = lab.processor._port_out
    assert (lab.core.rip, lab.core.get_gpr(1), lab.core.get_gpr(6)) == (CODE, 3, DATA + 2)
    assert lab.processor.run() == SvmExit.HLT  # it can be tried again
    assert lab.core.get_gpr(1) == 0


def test_a_device_that_raises_undoes_the_instruction_and_the_error_comes_out(lab: Bench) -> None:
    def broken(_port: int, _size: int) -> int:
        raise RuntimeError("a student's mistake")

    lab.processor.on_port_in = broken
    state = lab.flat32()
    state.rax, state.rflags = 0x1234, 0x47
    lab.core.load(state)
    lab.code("e460 a300000200 f4")
    with pytest.raises(RuntimeError, match="a student's mistake"):
        lab.processor.run()
    assert lab.core.state() == state
    lab.processor.on_port_in = lambda _port, _size: 0x77
    lab.be_patient()  # the error came with a request to stop
    assert lab.processor.run() == SvmExit.HLT
    assert lab.peek(DATA, 4) == 0x1277


def test_a_device_window_that_raises_lets_its_instruction_finish(lab: Bench) -> None:
    def broken(_offset: int, _size: int) -> int:
        raise RuntimeError("a student's mistake")

    written: list[tuple[int, int, int]] = []
    lab.map(0x600000, lab.machine.window(broken, lambda *access: written.append(access)))
    lab.core.load(lab.flat32())
    lab.code("c705040060005a000000 a100006000 90 43 ebfe")
    with pytest.raises(RuntimeError):
        lab.processor.run()
    assert written == [(4, 4, 0x5A)]
    assert (lab.core.rip - CODE, lab.core.get_gpr(0)) == (17, 0xFFFFFFFF)


def test_a_refused_access_keeps_a_wish_for_the_interrupt_window(lab: Bench) -> None:
    state = user(lab, 0)
    lab.intercept(0)
    lab.core.load(state)
    lab.gate32(GP, CODE + 0x100)
    lab.code("fb 90 90 f4", CODE + 0x100)
    lab.code("e420")
    lab.engine.request_window(True)
    assert lab.processor.run() == SvmExit.VINTR
    assert lab.core.rip == CODE + 0x102


def test_a_tss_that_cannot_be_reached_is_a_nested_fault_with_nothing_done(lab: Bench) -> None:
    state = user(lab, 0)
    state.tr.base = 0x700000
    assert lab.run(state, "e480 f4") == SvmExit.NPF
    assert (lab.processor.info2, lab.core.rip) == (0x700066, CODE)
