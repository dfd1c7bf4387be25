"""The hardware-assisted monitor: its VMCB is real bytes, each exit has its handler, the CPU is virtual."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import get_args

import pytest

import vlab
from vlab.guests.programs import CODE, CPUID, CS, SCRATCH, SPIN, STACK, guest, leave, out, say, timer
from vlab.isa.msr import Msr
from vlab.isa.vmcb import InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.session import StopKind
from vlab.vmm import exits
from vlab.vmm.exits import Cpuid, Exit, Halt
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.stop import Stop
from vlab.vmm.verdicts import RESUME, End, Verdict
from vlab.vmm.virtual_cpu import BRAND, REFUSED_MSRS


def control(vm: vlab.VM) -> VmcbControl:
    return VmcbControl(vm.machine.memory.bytes, vm.vmm.vmcb)  # type: ignore[attr-defined]


def words_at(vm: vlab.VM, address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", vm.memory[address : address + 4 * count])


def trapping(code: bytes, vector: int) -> bytes:
    """Run `code` with a handler for `vector` that stores the error code or 0, EIP and ESP, and ends with
    status 0x77.
    """
    handler = b"\x58\xa3\x00\x80\x00\x00\x58\xa3\x04\x80\x00\x00" + leave(
        0x77
    )  # pop eax; mov [8000h], eax; ...
    start = 14 + len(code) + 2
    gdt_at = CODE + start + len(handler)
    idt_at = gdt_at + 16
    gdt = struct.pack("<QQ", 0, 0x00CF9B000000FFFF)
    gate = struct.pack("<HHHH", CODE + start & 0xFFFF, CS, 0x8E00, CODE + start >> 16)
    idt = bytes(8 * vector) + gate
    registers = struct.pack("<HIHI", len(gdt) - 1, gdt_at, len(idt) - 1, idt_at)
    at = idt_at + len(idt)
    load = b"\x0f\x01\x15" + struct.pack("<I", at) + b"\x0f\x01\x1d" + struct.pack("<I", at + 6)
    return load + code + SPIN + handler + gdt + idt + registers


# --- the VMCB ---------------------------------------------------------------------------------------------


def test_the_control_area_says_what_the_monitor_intercepts(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, SPIN), memory="4M") as vm:
        area = control(vm)
        for field in (InterceptMisc1.CPUID, InterceptMisc1.HLT, InterceptMisc1.IOIO, InterceptMisc1.SHUTDOWN):
            assert area.intercept_misc1 & field.mask
        for field in (InterceptMisc2.VMRUN, InterceptMisc2.VMMCALL, InterceptMisc2.STGI):
            assert area.intercept_misc2 & field.mask
        assert (area.asid, area.nested_ctl & 1) == (1, 1)
        assert area.intercept_exceptions == 0  # nested paging leaves the guest its faults
        nested = vm.vmm.nested_paging()
        assert nested is not None
        assert nested.root == area.nested_cr3


def test_after_an_exit_the_vmcb_tells_what_it_was(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID + SPIN), memory="4M") as vm:
        vm.run(exits=1)
        assert control(vm).exitcode == 0x72
        assert words_at(vm, 0, 1)[0] == 0


def test_the_save_area_is_written_when_another_guest_takes_the_processor(tmp_path: Path) -> None:
    machine = vlab.Machine("16M")
    one, other = (vlab.VM(guest(tmp_path, SPIN), memory="4M", machine=machine) for _ in range(2))
    one.run(timeout=0.02)
    other.run(timeout=0.02)
    save = VmcbSave(machine.memory.bytes, one.vmm.vmcb)  # type: ignore[attr-defined]
    assert (save.rip, save.rsp, save.cr0 & 1, save.cpl) == (CODE, STACK, 1, 0)
    one.close()
    other.close()
    machine.close()


# --- handlers ---------------------------------------------------------------------------------------------


def test_a_subclass_may_serve_an_exit_in_its_own_way(tmp_path: Path) -> None:
    class Mine(HardwareMonitor):
        def handle(self, exit_: Exit) -> Verdict:
            if isinstance(exit_, Cpuid) and exit_.leaf == 0x12345678:
                self.core.words[0] = 0xC0FFEE
                self.processor.skip(2)
                return RESUME
            if isinstance(exit_, Halt):
                return End(Stop(StopKind.EXIT, "my own ending", 5))
            return super().handle(exit_)

    code = (
        b"\xb8\x78\x56\x34\x12" + CPUID + b"\xa3\x00\x80\x00\x00\xf4"
    )  # mov eax, 12345678h; cpuid; ...; hlt
    with vlab.VM(guest(tmp_path, code), monitor=Mine, memory="4M") as vm:
        assert vm.run(timeout=20) == Stop(StopKind.EXIT, "my own ending", 5)
        assert words_at(vm, SCRATCH, 1) == (0xC0FFEE,)


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        (b"\xcc", 3),
        (b"\x66\xcc", 3),
        (b"\x66\xb8\xff\x7f\x66\x83\xc0\x01\xce", 4),  # mov ax, 7FFFh; add ax, 1; into
    ],
    ids=["INT3", "INT3 with a prefix", "INTO"],
)
def test_a_trap_that_the_monitor_intercepts_and_gives_back_is_the_same_to_the_guest(
    tmp_path: Path, code: bytes, vector: int
) -> None:
    frames, traps = [], []
    for intercepted in (False, True):
        with vlab.VM(guest(tmp_path, trapping(code, vector)), memory="4M", trace="full") as vm:
            if intercepted:
                control(vm).intercept_exceptions |= 1 << vector
                vm.vmm.intercepts_changed()  # type: ignore[attr-defined]
            assert vm.run(timeout=20).exit_code == 0x77
            frames.append(words_at(vm, SCRATCH, 2))
            traps.append([each.rip for each in vm.exits if each.reason == "EXCEPTION"])
    assert frames[0] == frames[1] == (CODE + 14 + len(code), CS)
    length = 2 if code[0] == 0x66 and vector == 3 else 1
    assert traps == [[], [CODE + 14 + len(code) - length]]


def test_each_recorded_exit_names_reason_place_ring_and_handler(tmp_path: Path) -> None:
    with vlab.VM(guest(tmp_path, CPUID + out(0x80, 7) + leave(0)), memory="4M", trace="full") as vm:
        vm.run(timeout=20)
        first, second, third = vm.exits
        assert (first.reason, first.rip, first.ring, first.mode.value) == (
            "CPUID",
            CODE,
            0,
            "protected 32-bit",
        )
        assert (first.handler, second.handler) == ("virtual CPU", "ports")
        assert (second.reason, second.rip, second.qualification) == (
            "IOIO",
            CODE + 4,
            (0x80 | 1 << 16 | 1 << 24, 7),
        )
        assert third.qualification[0] & 0xFFFF == 0xF4
        assert first.time <= second.time <= third.time


def test_the_virtual_cpu_says_who_it_is(tmp_path: Path) -> None:
    code = b""
    for number, leaf in enumerate((0, 0x80000002, 0x80000003, 0x40000000)):
        code += b"\xb8" + struct.pack("<I", leaf) + CPUID
        for register, opcode in enumerate(
            (b"\xa3", b"\x89\x1d", b"\x89\x0d", b"\x89\x15")
        ):  # eax ebx ecx edx
            code += opcode + struct.pack("<I", SCRATCH + 16 * number + 4 * register)
    with vlab.VM(guest(tmp_path, code + leave(0)), memory="4M") as vm:
        vm.run(timeout=20)
        words = words_at(vm, SCRATCH, 16)
    assert struct.pack("<3I", words[1], words[3], words[2]) == b"AuthenticAMD"
    assert struct.pack("<8I", *words[4:12]).rstrip(b"\0").decode() == BRAND
    assert struct.pack("<3I", *words[13:16]) == b"vlabvlabvlab"


@pytest.mark.parametrize(
    ("code", "vector", "error"),
    [
        (b"\x0f\x01\xd9", 6, None),  # vmmcall
        (b"\x0f\x01\xd8", 6, None),  # vmrun
        (b"\x0f\x01\xdc", 6, None),  # stgi
        (b"\x0f\x01\xc8", 6, None),  # monitor
        (b"\xb9\x17\x01\x01\xc0\x0f\x32", 13, 0),  # mov ecx, VM_HSAVE_PA; rdmsr
        (b"\xb9\x78\x56\x34\x12\x0f\x32", 13, 0),  # rdmsr of a register that does not exist
        (b"\xb9\x80\x00\x00\xc0\x31\xd2\xb8\x02\x00\x00\x00\x0f\x30", 13, 0),  # wrmsr EFER, a reserved bit
    ],
    ids=["vmmcall", "vmrun", "stgi", "monitor", "rdmsr of the host's", "rdmsr of none", "wrmsr reserved"],
)
def test_what_the_virtual_cpu_does_not_have_faults_at_the_instruction(
    tmp_path: Path, code: bytes, vector: int, error: int | None
) -> None:
    with vlab.VM(guest(tmp_path, trapping(code, vector)), memory="4M") as vm:
        stop = vm.run(timeout=20)
        assert stop.exit_code == 0x77, stop.story
        first, second = words_at(vm, SCRATCH, 2)
    faulting = len(code) - (3 if vector == 6 else 2)
    place = CODE + 14 + faulting
    assert (first, second) == ((place, CS) if error is None else (error, place))


def test_the_hosts_registers_are_among_the_refused() -> None:
    assert {Msr.VM_HSAVE_PA, Msr.VM_CR} <= REFUSED_MSRS


def test_an_interrupt_that_finds_interrupts_off_waits_for_the_window(tmp_path: Path) -> None:
    """CLI for a few milliseconds, then STI: the VINTR exit comes between, the handler runs once it may."""
    wait = b"\xfa\xb9\x40\x42\x0f\x00\x49\x75\xfd"  # cli; mov ecx, 1000000; again: dec ecx; jnz again
    look = b"\xa1\x00\x80\x00\x00\xa3\x10\x80\x00\x00\xfb\x90\x90"  # mov eax, [ticks]; mov [8010h], eax; sti
    look += b"\xa1\x00\x80\x00\x00\xa3\x14\x80\x00\x00"  # mov eax, [ticks]; mov [8014h], eax
    with vlab.VM(guest(tmp_path, timer(then=wait + look + leave(0), hertz=500)), memory="4M") as vm:
        assert vm.run(timeout=30).exit_code == 0
        before, after = words_at(vm, SCRATCH + 0x10, 2)
        assert (before, after) == (0, 1)
        assert dict(vm.exits.by_reason())["VINTR"] == 1


def test_an_exit_to_a_place_without_memory_that_cannot_be_emulated_is_told(tmp_path: Path) -> None:
    code = b"\xdb\x1d\x00\x00\x0f\x00"  # fistp dword ptr [F0000h], which is firmware
    with vlab.VM(guest(tmp_path, code + SPIN), memory="4M") as vm:
        stop = vm.run(timeout=20)
    assert stop.kind == StopKind.FAILED
    assert "the instruction 'fistp dword ptr [0xf0000]' reaches 0xf0000, which is firmware" in stop.story


def test_closing_gives_vmcb_permission_maps_and_tables_back(tmp_path: Path) -> None:
    machine = vlab.Machine("16M")
    before = machine.frames.allocated
    vm = vlab.VM(guest(tmp_path, say("x") + leave(0)), memory="4M", machine=machine)
    vm.run(timeout=20)
    vm.close()
    assert machine.frames.allocated == before
    assert (machine.occupant, machine.svm.current) == (None, None)
    machine.close()


def test_every_kind_of_exit_has_a_handler_with_a_name() -> None:
    from vlab.vmm.hardware import _HANDLER_NAMES

    assert set(_HANDLER_NAMES) == set(get_args(exits.HardwareExit))
