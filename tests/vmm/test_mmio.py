"""Instructions that touch a device: sizes and order of the accesses, what can go wrong, what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.vmm.mmio_cases import AF, CF, DF, PF, SF, STATUS, ZF
from tests.vmm.mmio_lab import CODE, DEVICE, HIGH, OTHER, MmioLab
from vlab.isa.state import CpuState, Mode
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine.bus import Bus
from vlab.machine.mmu import NestedFault
from vlab.vmm.mmio import DeviceAccess, Done, Faulted, Missed, NotUnderstood, Outcome, emulate

READ, WRITE = False, True
RF = 1 << 16
HOLE = 0x300000  # guest-physical: no RAM, no device
UNMAPPED = 0x40000000  # linear, in 64-bit mode


@pytest.fixture(scope="module")
def shared() -> Iterator[MmioLab]:
    lab = MmioLab()
    yield lab
    lab.close()


@pytest.fixture
def lab(shared: MmioLab) -> MmioLab:
    shared.fill(bytes(range(256)) * 16, bytes(8192))
    return shared


def long_mode(lab: MmioLab, **registers: int) -> CpuState:
    """64-bit mode with RBX at the device."""
    state = lab.state(64)
    state.rbx = HIGH + DEVICE
    for name, value in registers.items():
        setattr(state, name, value)
    return state


def run(lab: MmioLab, code: str, gpa: int = DEVICE, **registers: int) -> Outcome:
    """Emulate one 64-bit instruction, given in hexadecimal."""
    lab.load(long_mode(lab, **registers), bytes.fromhex(code))
    return emulate(lab.core, bytes.fromhex(code), gpa, lab.bus)


# --- accesses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "size"), [("8a03", 1), ("668b03", 2), ("8b03", 4), ("488b03", 8), ("0fb603", 1), ("480fbf03", 2)]
)
def test_a_read_reaches_the_device_once_and_with_its_own_size(lab: MmioLab, code: str, size: int) -> None:
    value = int.from_bytes(bytes(range(size)), "little")
    assert run(lab, code) == Done(len(code) // 2, (DeviceAccess(READ, DEVICE, size, value),))


def test_a_byte_store_takes_ah_or_with_a_rex_prefix_spl(lab: MmioLab) -> None:
    registers = {"rax": 0x1122, "rsp": 0x3344}
    assert run(lab, "8823", **registers) == Done(2, (DeviceAccess(WRITE, DEVICE, 1, 0x11),))
    assert run(lab, "408823", **registers) == Done(3, (DeviceAccess(WRITE, DEVICE, 1, 0x44),))


def test_a_constant_is_extended_with_its_sign_to_64_bits(lab: MmioLab) -> None:
    outcome = run(lab, "48c70300000080")
    assert outcome == Done(7, (DeviceAccess(WRITE, DEVICE, 8, 0xFFFFFFFF80000000),))


def test_an_or_into_a_device_reads_it_and_then_writes_it(lab: MmioLab) -> None:
    outcome = run(lab, "800bf0", DEVICE + 5, rbx=HIGH + DEVICE + 5)
    assert outcome == Done(
        3, (DeviceAccess(READ, DEVICE + 5, 1, 5), DeviceAccess(WRITE, DEVICE + 5, 1, 0xF5))
    )
    assert lab.device[5] == 0xF5


@pytest.mark.parametrize("code", ["3803", "8403", "0fba2303"])
def test_cmp_test_and_bt_do_not_write(lab: MmioLab, code: str) -> None:
    outcome = run(lab, code)
    assert isinstance(outcome, Done)
    assert [access.write for access in outcome.accesses] == [READ]


def test_where_no_device_answers_the_bus_reads_as_ones(lab: MmioLab) -> None:
    assert run(lab, "8b03", HOLE, rbx=HOLE) == Done(2, (DeviceAccess(READ, HOLE, 4, 0xFFFFFFFF),))
    assert lab.core.words[0] == 0xFFFFFFFF


def test_an_address_from_bp_is_in_the_stack_segment(lab: MmioLab) -> None:
    state = lab.state(16)
    state.ss.base, state.rbp = DEVICE - 0x123, 0x123
    code = bytes.fromhex("8a4600")  # MOV AL,[BP+0]
    assert lab.on_device(state, code).accesses == [DeviceAccess(READ, DEVICE, 1, 0)]
    state.ss.base, state.ds.base = state.ds.base, state.ss.base
    assert lab.on_device(state, b"\x3e" + code).accesses == [DeviceAccess(READ, DEVICE, 1, 0)]


def test_a_bit_number_in_a_register_picks_another_word_of_the_device(lab: MmioLab) -> None:
    # BTS [rbx], ecx: bit -1 is the last of the doubleword before the one at RBX.
    outcome = run(lab, "0fab0b", DEVICE + 4, rbx=HIGH + DEVICE + 8, rcx=0xFFFFFFFF)
    before = 0x07060504
    accesses = (
        DeviceAccess(READ, DEVICE + 4, 4, before),
        DeviceAccess(WRITE, DEVICE + 4, 4, before | 1 << 31),
    )
    assert outcome == Done(3, accesses)
    assert not lab.core.rflags & CF


# --- registers and flags ----------------------------------------------------------------------------------


def test_a_32_bit_read_clears_the_upper_half_and_a_16_bit_read_keeps_the_rest(lab: MmioLab) -> None:
    run(lab, "8b03", rax=0xAAAAAAAAAAAAAAAA)
    assert lab.core.words[0] == 0x03020100
    run(lab, "668b03", rax=0xAAAAAAAAAAAAAAAA)
    assert lab.core.words[0] == 0xAAAAAAAAAAAA0100


def test_lock_neg_sets_the_flags_of_neg(lab: MmioLab) -> None:
    # The engine itself gives LOCK NEG flags of its own, so the differential test leaves the prefix out.
    for code in ("f61b", "f0f61b"):
        run(lab, code, DEVICE + 1, rbx=HIGH + DEVICE + 1, rflags=2)
        assert lab.device[1] == 0xFF
        assert lab.core.rflags & STATUS == CF | PF | AF | SF
        lab.device[1] = 1


def test_cmpxchg_that_finds_its_value_leaves_all_of_rax(lab: MmioLab) -> None:
    run(lab, "0fb10b", rax=0xAAAAAAAA03020100, rcx=0x55)
    assert lab.core.words[0] == 0xAAAAAAAA03020100
    assert lab.core.rflags & ZF
    assert lab.device[:4] == b"\x55\0\0\0"


def test_cmpxchg_that_does_not_loads_eax_and_writes_back_what_was_there(lab: MmioLab) -> None:
    outcome = run(lab, "0fb10b", rax=0xAAAAAAAA00000000, rcx=0x55)
    assert outcome == Done(
        3, (DeviceAccess(READ, DEVICE, 4, 0x03020100), DeviceAccess(WRITE, DEVICE, 4, 0x03020100))
    )
    assert lab.core.words[0] == 0x03020100


@pytest.mark.parametrize(
    ("bits", "rip", "code", "rdi"),
    [
        (16, 0xFFFF, "8a05", 0),
        (32, 0xFFFFFFFF, "8a07", DEVICE),
        (64, 0xFFFFFFFFFFFFFFFF, "8a07", HIGH + DEVICE),
    ],
)
def test_rip_wraps_at_the_width_of_the_code(lab: MmioLab, bits: int, rip: int, code: str, rdi: int) -> None:
    state = lab.state(bits)
    state.rip, state.rdi = rip, rdi
    lab.load(state, b"")
    assert isinstance(emulate(lab.core, bytes.fromhex(code), DEVICE, lab.bus), Done)
    assert lab.core.rip == 1


def test_the_instruction_ends_the_interrupt_shadow(lab: MmioLab) -> None:
    lab.load(long_mode(lab), bytes.fromhex("fb8b03"))  # STI; MOV EAX,[RBX]
    assert lab.processor.run() == SvmExit.NPF
    assert lab.core.interrupt_shadow
    assert isinstance(lab.emulate(), Done)
    assert not lab.core.interrupt_shadow
    assert lab.core.interrupts_enabled


def test_rf_is_cleared_once_the_instruction_is_over(lab: MmioLab) -> None:
    run(lab, "8b03", rflags=2 | RF)
    assert not lab.core.rflags & RF
    run(lab, "f3aa", rflags=2 | RF, rdi=HIGH + DEVICE, rcx=2)
    assert lab.core.rflags & RF


@pytest.mark.parametrize(("attributes", "size"), [(0xC9B, 4), (0x09B, 2)])
def test_compatibility_mode_follows_the_code_segment(lab: MmioLab, attributes: int, size: int) -> None:
    state = long_mode(lab, rbx=DEVICE, rsi=0, rdi=DEVICE)
    state.cs.attributes = attributes
    lab.load(state, b"")
    assert lab.core.mode is Mode.COMPAT
    state.ds.base = 0 if size == 4 else DEVICE
    state.rdi = DEVICE if size == 4 else 0
    lab.load(state, b"")
    code = bytes.fromhex("8b07" if size == 4 else "8b05")  # [EDI], [DI]
    outcome = emulate(lab.core, code, DEVICE, lab.bus)
    assert isinstance(outcome, Done)
    assert outcome.accesses[0].size == size


# --- string instructions ----------------------------------------------------------------------------------


def test_a_repeated_store_does_one_element_and_stays_at_the_instruction(lab: MmioLab) -> None:
    registers = {"rdi": HIGH + DEVICE + 8, "rcx": 2, "rax": 0x41, "rflags": 2 | DF}
    assert run(lab, "f366ab", DEVICE + 8, **registers) == Done(3, (DeviceAccess(WRITE, DEVICE + 8, 2, 0x41),))
    core = lab.core
    assert (core.rip, core.words[1], core.words[7]) == (HIGH + CODE, 1, HIGH + DEVICE + 6)
    again = emulate(core, bytes.fromhex("f366ab"), DEVICE + 6, lab.bus)
    assert again == Done(3, (DeviceAccess(WRITE, DEVICE + 6, 2, 0x41),))
    assert (core.rip, core.words[1], core.words[7]) == (HIGH + CODE + 3, 0, HIGH + DEVICE + 4)


def test_a_repeated_instruction_with_count_zero_is_over_at_once(lab: MmioLab) -> None:
    assert run(lab, "f3aa", rcx=0, rdi=HIGH + DEVICE) == Done(2, ())
    assert lab.core.rip == HIGH + CODE + 2


def test_a_32_bit_address_counts_in_ecx_and_clears_the_upper_halves(lab: MmioLab) -> None:
    run(lab, "67f3aa", rdi=0x1234567800000000 | DEVICE, rcx=0x1234567800000001)
    assert lab.core.words[7] == DEVICE + 1
    assert lab.core.words[1] == 0
    assert lab.core.rip == HIGH + CODE + 3


def test_movs_goes_from_device_to_device(lab: MmioLab) -> None:
    outcome = run(lab, "48a5", rsi=HIGH + DEVICE, rdi=HIGH + DEVICE + 0x80)
    value = 0x0706050403020100
    assert outcome == Done(
        2, (DeviceAccess(READ, DEVICE, 8, value), DeviceAccess(WRITE, DEVICE + 0x80, 8, value))
    )


def test_the_ram_side_of_movs_may_cross_a_page(lab: MmioLab) -> None:
    assert isinstance(run(lab, "48a5", rsi=HIGH + DEVICE, rdi=HIGH + OTHER + 0xFFD), Done)
    assert lab.ram[OTHER + 0xFFD : OTHER + 0x1005] == bytes(range(8))


@pytest.mark.parametrize("target", [HIGH + DEVICE - 4, HIGH + DEVICE + 0xFFC])
def test_the_device_side_of_movs_may_not(lab: MmioLab, target: int) -> None:
    outcome = run(lab, "48a5", rsi=HIGH + OTHER, rdi=target)
    assert outcome == NotUnderstood("movsq qword ptr [rdi], qword ptr [rsi]")
    assert lab.core.words[7] == target


# --- the other operand ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpl", "code"), [(0, 0), (3, 4)])
def test_a_page_fault_on_the_ram_side_is_the_guests_and_nothing_has_happened(
    lab: MmioLab, cpl: int, code: int
) -> None:
    state = long_mode(lab, rsi=UNMAPPED, rdi=HIGH + DEVICE, rcx=3)
    state.ss.attributes |= cpl << 5
    lab.load(state, b"")
    outcome = emulate(lab.core, bytes.fromhex("f3a4"), DEVICE, lab.bus)
    assert isinstance(outcome, Faulted)
    event = outcome.fault.event()
    assert (event.vector, event.error_code, event.address) == (Vector.PF, code, UNMAPPED)
    assert lab.core.state() == state


def test_a_device_is_not_read_when_what_it_gives_has_nowhere_to_go(lab: MmioLab) -> None:
    reads: list[int] = []

    def read(offset: int, _size: int) -> int:
        reads.append(offset)
        return 0

    bus = Bus("memory")
    bus.add(DEVICE, 4096, "queue", read, lambda _offset, _value, _size: None)
    lab.load(long_mode(lab, rsi=HIGH + DEVICE, rdi=UNMAPPED), b"")
    outcome = emulate(lab.core, b"\xa4", DEVICE, bus)
    assert isinstance(outcome, Faulted)
    assert outcome.fault.error_code == 2
    assert reads == []


def test_a_non_canonical_other_operand_is_a_general_protection_fault(lab: MmioLab) -> None:
    outcome = run(lab, "a4", rsi=HIGH + DEVICE, rdi=1 << 62)
    assert isinstance(outcome, Faulted)
    assert (outcome.fault.vector, outcome.fault.error_code) == (Vector.GP, 0)


def test_a_push_to_a_stack_that_is_not_there_is_the_guests_page_fault(lab: MmioLab) -> None:
    outcome = run(lab, "ff33", rsp=UNMAPPED + 8)
    assert isinstance(outcome, Faulted)
    assert outcome.fault.address == UNMAPPED
    assert lab.core.rsp == UNMAPPED + 8


def test_memory_that_the_nested_tables_lack_is_an_exit_of_its_own(lab: MmioLab) -> None:
    state = lab.state(32)
    state.rsi, state.rdi = HOLE, DEVICE
    lab.load(state, b"")
    outcome = emulate(lab.core, b"\xa4", DEVICE, lab.bus)
    assert outcome == Missed(HOLE, 4)
    assert lab.core.state() == state


def test_a_monitor_with_shadow_tables_says_where_the_other_operand_is(lab: MmioLab) -> None:
    asked = []

    def translate(linear: int, write: bool) -> int:
        asked.append((linear, write))
        if linear >> 12 == DEVICE >> 12:
            raise NestedFault(linear, 4)
        return lab.base + OTHER + (linear & 0xFFF)

    lab.load(long_mode(lab, rsi=UNMAPPED, rdi=DEVICE), b"")
    lab.ram[OTHER] = 0x5A
    outcome = emulate(lab.core, b"\xa4", DEVICE, lab.bus, translate)
    assert outcome == Done(1, (DeviceAccess(WRITE, DEVICE, 1, 0x5A),))
    assert asked == [(DEVICE, True), (UNMAPPED, False)]


def test_an_operand_on_a_device_window_of_the_machine_is_refused(lab: MmioLab) -> None:
    lab.load(long_mode(lab, rsi=HIGH + DEVICE, rdi=0), b"")
    outcome = emulate(lab.core, b"\xa4", DEVICE, lab.bus, lambda _linear, _write: 1 << 38)
    assert outcome == NotUnderstood("movsb byte ptr [rdi], byte ptr [rsi]")


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("0f1003", "movups xmm0, xmmword ptr [rbx]"),
        ("660f7f03", "movdqa xmmword ptr [rbx], xmm0"),
        ("f20f1003", "movsd xmm0, qword ptr [rbx]"),
        ("d903", "fld dword ptr [rbx]"),
        ("8c1b", "mov word ptr [rbx], ds"),
        ("0fc70b", "cmpxchg8b qword ptr [rbx]"),
        ("ff13", "call qword ptr [rbx]"),
        ("d123", "shl dword ptr [rbx], 1"),
        ("c4e26990041b", "vpgatherdd xmm0, xmmword ptr [rbx + xmm3], xmm2"),
        ("62f27d49a0041b", "vpscatterdd zmmword ptr [rbx + zmm3] {k1}, zmm0"),
        ("f4", "hlt"),
        ("01c8", "add eax, ecx"),
    ],
)
def test_what_is_not_carried_out_comes_back_as_its_disassembly(lab: MmioLab, code: str, text: str) -> None:
    state = long_mode(lab)
    lab.load(state, b"")
    assert emulate(lab.core, bytes.fromhex(code), DEVICE, lab.bus) == NotUnderstood(text)
    assert lab.core.state() == state


@pytest.mark.parametrize(
    ("code", "text"), [("", "(no code)"), ("48", "(undecodable) 48"), ("c703ff", "(undecodable) c7 03 ff")]
)
def test_code_that_ends_too_early_is_shown_as_bytes(lab: MmioLab, code: str, text: str) -> None:
    assert emulate(lab.core, bytes.fromhex(code), DEVICE, lab.bus) == NotUnderstood(text)


@pytest.mark.parametrize(
    ("first", "why"),
    [(DEVICE + 0xFFE, "it begins in the device"), (DEVICE - 2, "it begins in RAM before the device")],
)
def test_an_access_over_the_end_of_a_page_is_refused(lab: MmioLab, first: int, why: str) -> None:
    lab.load(long_mode(lab, rbx=HIGH + first), bytes.fromhex("8b03"))
    assert lab.processor.run() == SvmExit.NPF
    assert lab.emulate() == NotUnderstood("mov eax, dword ptr [rbx]"), why


def test_a_device_that_raises_leaves_the_registers_for_another_try(lab: MmioLab) -> None:
    def broken(_offset: int, _value: int, _size: int) -> None:
        raise RuntimeError("a student's device")

    bus = Bus("memory")
    bus.add(DEVICE, 4096, "broken", lambda _offset, _size: 7, broken)
    for code in ("8703", "0fc103", "fe03", "ab", "f3ab", "8f03"):
        state = long_mode(lab, rdi=HIGH + DEVICE, rcx=2, rax=0x33)
        lab.load(state, b"")
        with pytest.raises(RuntimeError, match="a student's device"):
            emulate(lab.core, bytes.fromhex(code), DEVICE, bus)
        assert lab.core.state() == state, code


def test_the_decoder_is_not_loaded_before_it_is_needed() -> None:
    script = "import sys, vlab.vmm.mmio; sys.exit('capstone' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
