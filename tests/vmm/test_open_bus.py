"""Where nobody answers: one open bus on the bare machine and under nested paging; and code there."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import vlab
from vlab.guests.programs import CODE, TICKS, count_down, guest, increment, leave, store, timer
from vlab.session import Stop, StopKind
from vlab.vmm.paging.nested import MOST_OPEN

NOWHERE = 0xE0000000
TOP = struct.pack("<I", NOWHERE + 0x1000)
HERE = struct.pack("<I", NOWHERE)
WAYS = [("none", "direct"), ("hardware", "nested"), ("hardware", "shadow"), ("trap-emulate", "shadow")]
every_way = pytest.mark.parametrize(("monitor", "paging"), WAYS, ids=["-".join(way) for way in WAYS])


def run(directory: Path, code: bytes, monitor: str, paging: str) -> tuple[Stop, int, str]:
    """Give how a program ended, at which virtual time and in which state."""
    with vlab.VM(guest(directory, code), memory="4M", monitor=monitor, paging=paging) as vm:
        return vm.run(timeout=20), vm.virtual_time_ns, vm.state_hash()


@pytest.mark.parametrize(
    "code",
    [
        b"\xbc" + TOP + b"\x60",  # mov esp, TOP; pusha
        b"\xbc" + TOP + b"\x60\x61",  # and popa
        b"\xdf\x2d" + HERE + b"\xdf\x3d" + HERE,  # fild qword; fistp qword
        b"\xd9\x35" + HERE,  # fnstenv
        b"\x0f\xc7\x0d" + HERE,  # cmpxchg8b
        b"\x0f\x92\x05" + HERE + b"\x0f\x92\xc0",  # setc byte; setc al
        b"\x0f\x00\x0d" + HERE,  # str
        b"\x0f\x01\x05" + HERE,  # sgdt
        b"\xf0\x0f\xba\x2d" + HERE + b"\x03",  # lock bts dword, 3
        b"\xa1" + struct.pack("<I", NOWHERE - 2),  # mov eax, from the end of a page on
        b"\xa1\xfe\xff\x3f\x00",  # mov eax from the end of RAM and what is behind it
        b"\xbf" + HERE + b"\xb9\x00\x01\x00\x00\xf3\xab",  # mov edi; mov ecx, 256; rep stosd
        b"\xbe" + HERE + b"\xbf\x00\x80\x00\x00\xb9\x00\x01\x00\x00\xf3\xa4",  # rep movsb into RAM
    ],
    ids=[
        "pusha", "popa", "fild", "fnstenv", "cmpxchg8b", "setc", "str", "sgdt", "lock-bts", "across",
        "end of RAM", "stos", "movs",
    ],
)  # fmt: skip
def test_any_instruction_meets_the_same_open_bus_on_hardware_and_under_nested_paging(
    tmp_path: Path, code: bytes
) -> None:
    bare, nested = (run(tmp_path, code + leave(0), *way) for way in WAYS[:2])
    assert bare[0].exit_code == 0
    assert nested == bare


def test_a_page_of_open_bus_takes_one_exit_even_behind_a_snapshot(tmp_path: Path) -> None:
    again = count_down(10, b"\xa1" + HERE)
    with vlab.VM(guest(tmp_path, again + b"\xe6\x80" + again + leave(0)), memory="4M") as vm:
        vm.run(exits=2)
        assert dict(vm.exits.by_reason()) == {"NPF": 1, "IOIO": 1}
        moment = vm.snapshot()
        for _ in range(2):
            assert vm.run(timeout=20).exit_code == 0
            assert dict(vm.exits.by_reason()) == {"NPF": 1, "IOIO": 2}
            vm.restore(moment)
        vm.save(tmp_path / "moment")
    with vlab.VM.load(tmp_path / "moment") as vm:
        assert vm.run(timeout=20).exit_code == 0
        assert dict(vm.exits.by_reason()) == {"NPF": 1, "IOIO": 2}


@pytest.mark.parametrize("monitor", ["none", "hardware"])
def test_a_guest_that_looks_for_memory_everywhere_does_not_use_up_the_tables(
    tmp_path: Path, monitor: str
) -> None:
    turns = MOST_OPEN + 20
    body = bytes.fromhex("8B 06 81 C6 00 00 40 00")  # mov eax, [esi]; add esi, 400000h
    code = b"\xbe\x00\x00\x40\x00" + count_down(turns, body) + leave(0)
    machine = vlab.Machine("16M")
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor, machine=machine) as vm:
        before = sum(machine.frames.allocated.values())
        assert vm.run(timeout=20).exit_code == 0
        assert sum(machine.frames.allocated.values()) - before < MOST_OPEN * 4096
        assert vm.registers().rsi == 0x400000 * (turns + 1) & 0xFFFFFFFF
    machine.close()


def test_an_interrupt_whose_stack_is_nowhere_ends_alike(tmp_path: Path) -> None:
    lost = b"\xbc" + TOP + count_down(1_000_000)
    bare, nested = (run(tmp_path, timer(then=lost + leave(0), hertz=500), *way) for way in WAYS[:2])
    assert bare[0].kind == nested[0].kind != StopKind.TIMEOUT
    assert bare[1:] == nested[1:]


# --- code where no memory is ------------------------------------------------------------------------------

JUMP = b"\xb8" + HERE + b"\xff\xe0"  # mov eax, NOWHERE; jmp eax
CALL = b"\xb8\x10\x00\x00\xe0\xff\xd0"  # call eax
RETURN = b"\x68\x10\x00\x00\xe0\xc3"  # push; ret


@every_way
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (JUMP, "the guest jumped to 0xe0000000, where no memory is"),
        (CALL, f"0xe0000010, where no memory is: 'call eax' at {CODE + 5:#x} called it"),
        (
            RETURN,
            "0xe0000010, where no memory is: a RET, perhaps, for this address lay on the stack at 0x8ffc",
        ),
    ],
    ids=["jmp", "call", "ret"],
)
def test_a_guest_that_jumped_to_nowhere_is_told_so_with_the_way_there(
    tmp_path: Path, code: bytes, sentence: str, monitor: str, paging: str
) -> None:
    story = run(tmp_path, code, monitor, paging)[0].story
    assert sentence in story
    assert "(no code)" not in story
    assert "rip=e00000" in story


@pytest.mark.parametrize("monitor", ["hardware", "trap-emulate"])
def test_the_guest_physical_address_is_told_where_it_is_another(tmp_path: Path, monitor: str) -> None:
    """Linear 1000000h is mapped to guest-physical 90000000h, in a 4 MiB page."""
    code = store(0x2000, 0x87) + store(0x2010, 0x90000087)
    code += bytes.fromhex("B8 00 20 00 00 0F 22 D8 B8 10 00 00 00 0F 22 E0")  # CR3 = 2000h; CR4.PSE
    code += bytes.fromhex("B8 11 00 00 80 0F 22 C0 B8 10 00 00 01 FF E0")  # CR0.PG; jmp 1000010h
    story = run(tmp_path, code, monitor, "shadow")[0].story
    assert "the guest jumped to 0x1000010 (guest-physical 0x90000010), where no memory is" in story


@pytest.mark.parametrize("monitor", ["hardware", "trap-emulate"])
def test_a_guest_that_ran_over_the_end_of_its_memory_is_told_so(tmp_path: Path, monitor: str) -> None:
    code = b"\xb8\xfe\xff\x3f\x00\x66\xc7\x00\x90\x90\xff\xe0"  # two NOPs at the end of RAM, and a jump there
    story = run(tmp_path, code, monitor, "shadow")[0].story
    assert "the guest ran on to 0x400000, where no memory is" in story


def test_counting_ticks_goes_on_around_an_open_bus(tmp_path: Path) -> None:
    """Time: what is mapped in an exit costs the guest no block."""
    body = increment(TICKS + 8) + b"\xa1" + HERE
    bare, nested = (run(tmp_path, timer(then=count_down(2000, body) + leave(0)), *way) for way in WAYS[:2])
    assert bare == nested
