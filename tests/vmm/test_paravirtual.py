"""The paravirtual monitor: hypercalls one by one, traps, events, and the teaching kernel that knows it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

import vlab
from tests.vmm.paravirtual_lab import (
    BEGIN,
    RESULTS,
    TRAPPED,
    TRAPS,
    Place,
    call,
    computer,
    done,
    dwords,
    elf,
    fetch,
    keep,
    linear,
    open_guest,
    outcome,
    page,
    results,
    run,
    store,
    traps,
)
from tests.vmm.replay_lab import finish, run_for
from tests.vmm.replay_lab import outcome as everything
from vlab.errors import UnusableInput
from vlab.guests.programs import SPIN, guest
from vlab.guests.recipes import SOURCES
from vlab.vmm import exits, monitors
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paravirtual import interface
from vlab.vmm.paravirtual.interface import (
    HEADER_MAGIC,
    KERNEL_BASE,
    MONITOR_BASE,
    USER_CODE,
    USER_DATA,
    Call,
    Error,
)
from vlab.vmm.stop import StopKind

EINVAL, EFAULT, ENOSYS = -1, -2, -4
BAD = {
    "not mapped": 0xD0000000,
    "the monitor's": MONITOR_BASE,
    "a program's": 0x1000,
    "past the end": 0xFFFFFFFC,
}
USER, TABLE = page(0), page(1)
SHARED_ON, SHARED_PENDING, SHARED_TIME = 0, 4, 16


# --- hypercalls -------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_header() -> None:
    text = (SOURCES / "wren" / "hypercall.h").read_text()
    defined = {
        name: int(value.strip("()"), 0)
        for name, value in re.findall(r"#define HV_(\w+) (\(-\d+\)|0x[0-9A-F]+|\d+)", text)
    }
    ours = {call.name: call.value for call in Call} | {error.name: error.value for error in Error}
    names = (
        "VECTOR HEADER_MAGIC VERSION KERNEL_CODE KERNEL_DATA USER_CODE USER_DATA EVENT_VECTOR EVENT_TIMER "
    )
    ours |= {name: getattr(interface, name) for name in (names + "EVENT_CONSOLE").split()}
    assert defined == ours | {"START_MAGIC": 0x6E657258}


def test_the_guest_finds_its_memory_described(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = b"".join(b"\x8b\x46" + bytes((4 * n,)) + keep(n) for n in range(6))  # mov eax, [esi + 4n]
        return code + b"\x8c\xc8" + keep(6) + b"\x8c\xd0" + keep(7) + done()  # mov eax, cs; mov eax, ss

    with open_guest(tmp_path, program, machine=computer()) as vm:
        seen = outcome(vm, vm.run(timeout=20))
        layout, base = vm.vmm.layout, vm.vmm.memory.hpa  # type: ignore[attr-defined]
    assert base
    expected = (HEADER_MAGIC, 4 << 20, base, KERNEL_BASE + layout.directory, layout.free_start)
    assert seen.results[:8] == (*expected, KERNEL_BASE + layout.shared_info, 0x19, 0x21)
    assert seen.shared[0] == 0


@pytest.mark.parametrize("number", [0, 19, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_number_that_is_not_defined(number: int, tmp_path: Path) -> None:
    assert results(tmp_path, lambda _: [call(number)]) == [ENOSYS]


def test_other_registers_and_flags_are_preserved(tmp_path: Path) -> None:
    push = b"\xf9\x9c" + call(99, 0x11111111, 0x22222222)  # stc; pushf
    push += b"\x9c\x58\x33\x04\x24"  # pushf; pop eax; xor eax, [esp]
    pieces = [push, b"\x89\xd8", b"\x89\xc8"]  # mov eax, ebx; mov eax, ecx
    assert results(tmp_path, lambda _: pieces) == [0, 0x11111111, 0x22222222]


@pytest.mark.parametrize("place", BAD)
def test_a_bad_pointer(place: str, tmp_path: Path) -> None:
    pointer = BAD[place]
    calls = [
        call(Call.SET_TRAP_TABLE, pointer),
        call(Call.MMU_UPDATE, pointer, 1),
        call(Call.CONSOLE_WRITE, pointer, 4),
        call(Call.CONSOLE_READ, pointer, 4),
    ]
    assert results(tmp_path, lambda _: calls)[:3] == [EFAULT] * 3
    assert results(tmp_path, lambda _: calls)[3] in ((0, EFAULT) if place == "not mapped" else (EFAULT,))


@pytest.mark.parametrize(
    "row", [(256, 1, 0x19, 1), (3, 0, 0x19, 1), (3, 2, 0x19, 1), (3, 1, 0x2B, 1), (3, 1, 0x18, 1)]
)
def test_a_trap_table_that_is_not_in_order(row: tuple[int, int, int, int], tmp_path: Path) -> None:
    table = struct.pack("<HHII", *row) + bytes(12)
    calls = [call(Call.SET_TRAP_TABLE, linear(page(0)))]
    assert results(tmp_path, lambda _: calls, {page(0): table}) == [EINVAL]


def test_a_kernel_stack_with_another_selector(tmp_path: Path) -> None:
    assert results(tmp_path, lambda _: [call(Call.SET_KERNEL_STACK, 0x33, 0)]) == [EINVAL]


def test_bytes_go_to_the_console_as_they_are(tmp_path: Path) -> None:
    program = BEGIN + call(Call.CONSOLE_WRITE, linear(page(0)), 6) + done(9)
    seen = run(tmp_path, lambda _: program, {page(0): b"a\r\nb\tc"})
    assert (seen.console, seen.stop.exit_code) == ("a\r\nb\tc", 9)


def test_text_may_cross_pages(tmp_path: Path) -> None:
    program = BEGIN + call(Call.CONSOLE_WRITE, linear(page(1)) - 3, 6) + done()
    assert run(tmp_path, lambda _: program, {page(1) - 3: b"abcdef"}).console == "abcdef"


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3, 3), (0x1FF, 0xFF)])
def test_a_shutdown_ends_the_guest_with_its_status(status: int, code: int, tmp_path: Path) -> None:
    assert run(tmp_path, lambda _: BEGIN + done(status)).stop.exit_code == code


# --- traps ------------------------------------------------------------------------------------------------

REFUSED = {
    "cli": ("FA", 13, 0),
    "hlt": ("F4", 13, 0),
    "mov eax, cr0": ("0F 20 C0", 13, 0),
    "mov cr3, eax": ("0F 22 D8", 13, 0),
    "invlpg": ("0F 01 38", 13, 0),
    "in al, 60h": ("E4 60", 13, 0),
    "out 20h, al": ("E6 20", 13, 0),
    "lgdt": ("0F 01 16", 13, 0),
    "lidt": ("0F 01 1E", 13, 0),
    "wrmsr": ("0F 30", 13, 0),
    "clts": ("0F 06", 13, 0),
    "mov ds, 2Fh": ("66 B8 2F 00 8E D8", 13, 0x2C),
    "mov ds, 38h": ("66 B8 38 00 8E D8", 13, 0x38),
    "a far jump into ring 0": ("EA 00 00 00 00 08 00", 13, 8),
    "iret to virtual-8086 mode": ("68 02 00 02 00 6A 19 68 00 00 20 C0 CF", 13, 0),
    "iret to another selector": ("6A 02 6A 1A 68 00 00 20 C0 CF", 13, 0),
    "fld1": ("D9 E8", 7, None),
    "ud2": ("0F 0B", 6, None),
    "int 20h": ("CD 20", 0x20, None),
    "int3": ("CC", 3, None),
    "a division by zero": ("31 C9 F7 F1", 0, None),
    "a store into the monitor's descriptors": ("C7 05 00 00 00 FC 00 00 00 00", 14, 3),
    "a load beyond them": ("A1 00 10 00 FC", 14, 0),
    "vmrun": ("0F 01 D8", 6, None),
    "vmmcall": ("0F 01 D9", 6, None),
    "a step behind popf": ("9C 80 4C 24 01 01 9D 90 90", 1, None),
    "a step behind a hypercall": ("9C 80 4C 24 01 01 9D B8 63 00 00 00 CD 82 90", 1, None),
    "syscall": ("0F 05", 6, None),
    "sysenter": ("0F 34", 13, 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_faults_in_ring_1_comes_back_by_the_trap_table(name: str, tmp_path: Path) -> None:
    code, vector, error = REFUSED[name]
    seen = run(tmp_path, lambda _: BEGIN + b"\xb8" + dwords(linear(page(0))) + bytes.fromhex(code))
    assert (seen.stop.exit_code, seen.frame[0]) == (TRAPPED, vector), seen
    rest = seen.frame[1:] if error is None else seen.frame[2:]
    assert error is None or seen.frame[1] == error
    assert linear(0x200000) <= rest[0] < linear(0x201000)
    assert rest[1] == 0x19
    assert not rest[2] & 1 << 9  # interrupts_on was 0


def test_if_of_the_frame_is_the_shared_flag_which_delivery_clears(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        return BEGIN + store(linear(place.layout.shared_info), 1) + b"\x0f\x0b"

    seen = run(tmp_path, program)
    assert seen.frame[0] == 6
    assert seen.frame[3] & 1 << 9
    assert seen.shared[0] == 0


def test_popf_does_not_touch_the_shared_flag(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        return [b"\x68\x02\x02\x00\x00\x9d" + fetch(linear(place.layout.shared_info))]

    assert results(tmp_path, calls) == [0]


def test_a_trap_without_an_entry_ends_the_guest(tmp_path: Path) -> None:
    seen = run(tmp_path, lambda _: BEGIN + b"\x0f\x0b", {TRAPS: traps(without=(6,))})
    assert seen.stop.kind is StopKind.FAILED
    assert "#UD is not delivered: its trap table has no entry for vector 6" in seen.stop.story


@pytest.mark.parametrize("esp", [0xDEAD0000, 4, MONITOR_BASE + 0x100])
def test_a_stack_that_cannot_be_written_ends_the_guest(esp: int, tmp_path: Path) -> None:
    seen = run(tmp_path, lambda _: BEGIN + b"\xbc" + dwords(esp) + b"\x0f\x0b")
    assert seen.stop.kind is StopKind.FAILED
    assert "cannot be written" in seen.stop.story


def to_ring_3(place: Place, code: bytes) -> bytes:
    """Map a page for a program at 0, and go there by HV_IRET with interrupts on."""
    set_up = store(linear(TABLE), place.base + USER | 7)
    set_up += call(Call.UPDATE_VA_MAPPING, linear(TABLE), place.base + TABLE | 1)
    set_up += store(linear(page(2)), place.slot(place.layout.directory, 0))
    set_up += store(linear(page(2)) + 4, place.base + TABLE | 7) + call(Call.MMU_UPDATE, linear(page(2)), 1)
    for place_of_byte in range(0, len(code), 4):
        set_up += store(linear(USER) + place_of_byte, *struct.unpack("<I", code[place_of_byte:][:4].ljust(4)))
    image = (USER_DATA, 0xF00, 0x202, USER_CODE, 0, 0x12345678)
    return BEGIN + set_up + b"".join(b"\x68" + dwords(word) for word in image) + b"\xb8\x0a\0\0\0\xcd\x82"


PROGRAMS = {
    "int 80h": ("CD 80", (0x80, 2)),
    "a hypercall": ("CD 82", (13, 0x412, 0)),
    "int 20h": ("CD 20", (13, 0x102, 0)),
    "int 0FFh": ("CD FF", (13, 0x7FA, 0)),
    "cli": ("FA", (13, 0, 0)),
    "in al, dx": ("EC", (13, 0, 0)),
    "ud2": ("0F 0B", (6, 0)),
    "a load from the kernel": ("A1 00 00 20 C0", (14, 5, 0)),
    "a load from the monitor": ("A1 00 00 00 FC", (14, 5, 0)),
    "a store to address 8, and a load of nothing": ("A3 08 00 00 00 A1 00 50 00 00", (14, 4, 5)),
    "iret into the kernel": ("68 02 02 00 00 6A 19 68 00 00 20 C0 CF", (13, 0, 12)),
    "iret to itself": ("6A 33 68 00 0F 00 00 68 02 02 00 00 6A 2B 6A 20 CF", (14, 4, 0x20)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_does_reaches_the_kernel_on_its_own_stack(name: str, tmp_path: Path) -> None:
    code, expected = PROGRAMS[name]
    machine_code = bytes.fromhex(code)
    if name == "iret to itself":
        machine_code = machine_code.ljust(32, b"\x90") + bytes.fromhex("A1 00 50 00 00")

    def program(place: Place) -> bytes:
        return to_ring_3(place, machine_code)

    seen = run(tmp_path, program)
    assert seen.stop.exit_code == TRAPPED, seen.stop
    assert seen.frame[: len(expected)] == expected
    cs, flags, esp, ss = seen.frame[len(expected) :][:4]
    assert (cs, ss, flags & 1 << 9) == (USER_CODE, USER_DATA, 1 << 9)
    assert esp <= 0xF00
    assert seen.shared[0] == 0


@pytest.mark.parametrize("selectors", [(0x08, 0x10), (0x18, 0x20), (0x2B, 0x21), (0x2B, 0), (0x33, 0x33)])
def test_a_return_to_other_selectors_ends_the_guest(selectors: tuple[int, int], tmp_path: Path) -> None:
    image = (selectors[1], 0xF00, 2, selectors[0], 0, 0)
    code = b"".join(b"\x68" + dwords(word) for word in image) + b"\xb8\x0a\0\0\0\xcd\x82"
    seen = run(tmp_path, lambda _: BEGIN + code)
    assert seen.stop.kind is StopKind.FAILED
    assert "HV_IRET finds" in seen.stop.story


# --- events -----------------------------------------------------------------------------------------------


def shared(place: Place, offset: int) -> int:
    return linear(place.layout.shared_info) + offset


def wait_for(address: int) -> bytes:
    """again: cmp dword [address], 0; je again."""
    return b"\x83\x3d" + dwords(address) + b"\x00\x74\xf7"


def test_an_event_that_may_be_delivered_is_delivered_at_once(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = BEGIN + store(shared(place, SHARED_ON), 1) + call(Call.SET_TIMER, 2_000_000)
        return code + SPIN

    seen = run(tmp_path, program)
    assert (seen.stop.exit_code, seen.frame[0]) == (TRAPPED, 32)
    assert seen.frame[3] & 1 << 9
    assert seen.shared[:2] == (0, 0)


def test_an_event_waits_while_the_flag_is_off_and_until_it_is_asked_for(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = BEGIN + call(Call.SET_TIMER, 2_000_000) + wait_for(shared(place, SHARED_PENDING))
        code += call(Call.DELIVER_EVENTS) + keep(0) + store(linear(RESULTS) + 4, 7)
        return code + store(shared(place, SHARED_ON), 1) + call(Call.DELIVER_EVENTS) + done()

    seen = run(tmp_path, program)
    assert seen.results[:2] == (0, 7)
    assert (seen.stop.exit_code, seen.frame[0]) == (TRAPPED, 32)


@pytest.mark.parametrize("when", ["in time", "already past"])
def test_a_blocked_guest_sleeps_until_its_alarm(when: str, tmp_path: Path) -> None:
    ns = 3_000_000_000 if when == "in time" else 1

    def program(place: Place) -> bytes:
        return BEGIN + call(Call.SET_TIMER, ns) + call(Call.BLOCK) + done(1)

    with open_guest(tmp_path, program) as vm:
        seen = outcome(vm, vm.run(timeout=20))
        assert (seen.stop.exit_code, seen.frame[0]) == (TRAPPED, 32)
        assert ns <= vm.virtual_time_ns < ns + 1_000_000
        assert vm.interrupts_delivered == 1


def test_a_cancelled_alarm_does_not_ring(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        wait = b"\xb9" + dwords(200_000) + b"\xe2\xfe"  # mov ecx, 200000; loop: 3 ms
        code = call(Call.SET_TIMER, 1_000_000) + call(Call.SET_TIMER) + wait
        return [code + fetch(shared(place, SHARED_PENDING))]

    assert results(tmp_path, calls) == [0]


def test_the_lowest_pending_event_comes_first(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        return BEGIN + store(shared(place, SHARED_PENDING), 0x8000_0110) + call(Call.BLOCK) + done(1)

    seen = run(tmp_path, program)
    assert (seen.frame[0], seen.shared[1]) == (32 + 4, 0x8000_0100)


def test_time_is_that_of_the_last_entry(tmp_path: Path) -> None:
    def calls(place: Place) -> list[bytes]:
        read = fetch(shared(place, SHARED_TIME))
        wait = b"\xb9" + dwords(100_000) + b"\xe2\xfe"
        return [call(99) + read, read, wait + call(99) + read]

    first, same, later = results(tmp_path, calls)
    assert first == same > 0
    assert later - first >= 100_000 * 16


def test_input_raises_an_event_and_is_read(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        code = (
            BEGIN + wait_for(shared(place, SHARED_PENDING)) + fetch(shared(place, SHARED_PENDING)) + keep(0)
        )
        code += store(shared(place, SHARED_PENDING), 0)
        for slot in (1, 2, 3):
            code += call(Call.CONSOLE_READ, linear(RESULTS) + 16 * slot, 2) + keep(slot)
        return code + done()

    with open_guest(tmp_path, program) as vm:
        vm.send("abc")
        seen = outcome(vm, vm.run(timeout=20))
    assert seen.results[:4] == (1 << 4, 2, 1, 0)
    assert [seen.results[4], seen.results[8]] == [0x6261, 0x63]


def test_more_input_raises_the_event_again_though_the_first_was_not_read(tmp_path: Path) -> None:
    def program(place: Place) -> bytes:
        wait = wait_for(shared(place, SHARED_PENDING)) + store(shared(place, SHARED_PENDING), 0)
        return BEGIN + wait + store(linear(RESULTS), 1) + wait + done()

    with open_guest(tmp_path, program) as vm:
        vm.send("a")
        vm.run(lambda vm: vm.memory[RESULTS] == 1, timeout=20)
        vm.send("b")
        assert vm.run(timeout=20).exit_code == 0


def test_yield_comes_back(tmp_path: Path) -> None:
    assert results(tmp_path, lambda _: [call(Call.YIELD), call(Call.YIELD)]) == [0, 0]


# --- the monitor as a whole -------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_machine", [False, True])
def test_the_teaching_kernel_passes_as_on_the_bare_machine(shared_machine: bool) -> None:
    with vlab.VM("wren", monitor="none", append="selftest") as bare:
        bare.run(timeout=120)
    machine = vlab.Machine("64M") if shared_machine else None
    with (
        vlab.VM("hello", machine=machine),
        vlab.VM("wren-paravirt", monitor="paravirtual", append="selftest", machine=machine) as vm,
    ):
        stop = vm.run(timeout=120)
        assert (stop.kind, stop.exit_code) == (StopKind.EXIT, 0)
        assert vm.console.text == bare.console.text
        assert "PASS 68" in vm.console.text
        reasons = vm.exits.by_reason()
        assert set(reasons.index) == {"VMMCALL", "PF", "INT", "INTR", "EXCEPTION"}
        assert reasons.idxmax() == "VMMCALL"


def test_two_runs_are_the_same_and_records_name_the_calls() -> None:
    seen: list[object] = []
    names: set[object] = set()
    for _ in range(2):
        with vlab.VM("wren-paravirt", monitor="paravirtual", append="selftest", trace="full") as vm:
            vm.run("time.sleepers_wake_in_order", timeout=60)
            seen.append((everything(vm), vm.exits.digest()))
            calls = [each for each in vm.exits if each.reason == "VMMCALL"]
            names = {exits.describe(each.reason, *each.qualification)["call"] for each in calls}
    assert seen[0] == seen[1]
    assert {"IRET", "MMU_UPDATE", "PIN", "LOAD_CR3", "BLOCK", "SET_TIMER"} <= names


def test_records_say_what_each_kind_of_exit_costs(tmp_path: Path) -> None:
    program = BEGIN + call(Call.FLUSH_ALL) + call(99) + b"\x0f\x0b"
    with open_guest(tmp_path, lambda _: program, trace="full") as vm:
        vm.run(timeout=20)
        records = [(each.reason, each.info1, each.handler) for each in vm.exits]
        assert all(each.duration > 0 and each.ring == 1 for each in vm.exits)
    numbers = [Call.SET_TRAP_TABLE, Call.SET_KERNEL_STACK, Call.FLUSH_ALL, 99]
    calls = [("VMMCALL", number, "hypercalls") for number in numbers]
    assert records == [*calls, ("EXCEPTION", 6, "reflection"), ("VMMCALL", Call.SHUTDOWN, "hypercalls")]


def test_stepping_back_undoes_hypercalls() -> None:
    with vlab.VM("wren-paravirt", monitor="paravirtual", trace="full") as vm:
        vm.run("wren: hello", timeout=60)
        vm.step(20)
        before = everything(vm)
        vm.step(2)
        vm.step_back()
        vm.step_back()
        assert everything(vm) == before


def test_a_shell_answers() -> None:
    with vlab.VM("wren-paravirt", monitor="paravirtual") as vm:
        vm.run("$ ", timeout=60)
        vm.send("echo hello there\n")
        assert vm.run("hello there\r\n$ ", timeout=60).kind is StopKind.EXPECTED


def test_a_snapshot_goes_on_as_the_guest_did() -> None:
    def kernel() -> vlab.VM:
        return vlab.VM("wren-paravirt", monitor="paravirtual", append="selftest", trace="full")

    with kernel() as vm, kernel() as other:
        vm.run("process.many_children_run_at_once", timeout=60)
        middle = vm.snapshot()
        vm.run("memory.fork_shares_frames", timeout=60)
        later, trace = everything(vm), vm.exits.digest()
        vm.restore(middle)
        vm.run("memory.fork_shares_frames", timeout=60)
        assert (everything(vm), vm.exits.digest()) == (later, trace)
        other.restore(middle)
        other.run("memory.fork_shares_frames", timeout=60)
        assert everything(other) == later
        finish(other)
        assert "PASS 68" in other.console.text


def test_a_snapshot_with_input_and_an_alarm_on_their_way() -> None:
    with vlab.VM("wren-paravirt", monitor="paravirtual", trace="full") as vm:
        vm.run("$ ", timeout=60)
        vm.send("sleep 1\necho done\nexit\n")
        run_for(vm, 400_000)
        middle = vm.snapshot()
        vm.run("done\r\n$ ", timeout=60)
        first = vm.console.text
        vm.restore(middle)
        vm.run("done\r\n$ ", timeout=60)
        assert vm.console.text == first


def test_a_snapshot_does_not_fit_at_another_machine_address() -> None:
    machine = vlab.Machine("64M")
    with (
        vlab.VM("wren-paravirt", monitor="paravirtual", machine=machine) as vm,
        vlab.VM("wren-paravirt", monitor="paravirtual", machine=machine) as other,
        pytest.raises(UnusableInput, match="snapshot: its guest knows its memory at machine address"),
    ):
        other.restore(vm.snapshot())


def test_a_kernel_without_the_header_is_refused_in_a_line(tmp_path: Path) -> None:
    for name in ("hello", guest(tmp_path, SPIN)):
        with pytest.raises(UnusableInput) as problem:
            vlab.VM(name, monitor="paravirtual")
        text = str(problem.value)
        assert "has no paravirtual header (6e657257h and a checksum in the first 8 KiB" in text
        assert text.endswith("wren-paravirt has one")
        assert "\n" not in text


@pytest.mark.parametrize("words", [(2, KERNEL_BASE), (1, 0x80000000)])
def test_a_header_of_another_version_or_base_is_refused(words: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "other.elf"
    path.write_bytes(elf((HEADER_MAGIC, *words, 0)))
    with pytest.raises(UnusableInput, match=f"speaks version {words[0]} of the hypercalls, at {words[1]:#x}"):
        vlab.VM(path, monitor="paravirtual")


def test_memory_that_the_interface_cannot_express() -> None:
    with pytest.raises(UnusableInput, match="memory: 1024M does not suit wren-paravirt"):
        vlab.VM("wren-paravirt", monitor="paravirtual", memory="1024M")


def test_what_a_paravirtual_guest_has_no_use_for_is_refused(tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(512))
    with pytest.raises(UnusableInput, match="initrd: a paravirtual guest has no use for it"):
        vlab.VM("wren-paravirt", monitor="paravirtual", initrd=initrd)
    with pytest.raises(UnusableInput, match="paging: 'nested' cannot serve the monitor paravirtual; derive"):
        vlab.VM("wren-paravirt", monitor="paravirtual", paging=NestedPaging())
    with pytest.raises(UnusableInput, match="paging: 'nested' does not go with the monitor paravirtual"):
        vlab.VM("wren-paravirt", monitor="paravirtual", paging="nested")


def test_under_another_monitor_the_kernel_says_so_itself() -> None:
    with vlab.VM("wren-paravirt", monitor="hardware") as vm:
        assert vm.run(timeout=20).exit_code == 2
        assert "it needs a monitor that knows its hypercalls" in vm.console.text


def test_each_guest_has_its_ways() -> None:
    own = [("paravirtual", "direct"), ("paravirtual", "shadow")]
    assert monitors.ways_for("wren-paravirt") == own
    assert sorted([*monitors.ways_for("wren"), *own]) == sorted(monitors.available())


def test_a_walk_shows_the_guests_own_tables(tmp_path: Path) -> None:
    with open_guest(tmp_path, lambda _: BEGIN + done(), machine=computer()) as vm:
        vm.run(timeout=20)
        walk = vm.walk(linear(page(3)))
        assert walk.host == vm.vmm.memory.hpa + page(3)
        assert walk.memory_references == 2


def test_hypercalls_of_both_kinds_are_described() -> None:
    assert exits.describe("VMMCALL", 6, 0x82) == {"number": "0x6", "call": "MMU_UPDATE"}
    assert exits.describe("VMMCALL", 99, 0x82) == {"number": "0x63", "call": "0x63"}
    assert exits.describe("VMMCALL", 6, 0) == {"number": "0x6"}
