"""Single steps, breakpoints, and code of all rings, when the kernel's runs as a translation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.vmm.translation_lab import (
    NEXT,
    PROGRAM,
    Lab,
    open_lab,
    program32,
    to_ring,
    world32,
)

STEPS = {
    "plain": "9c810c24000100009db80100000040909c812424fffeffff9d90",
    "call ret": "9c810c24000100009de802000000eb0240c3909c812424fffeffff9d90",
    "sti cli": "9c810c24000100009dfb90fa90fbfa9c812424fffeffff9d90",
    "pushf": "9c810c24000100009d9c5825fffeffff5068020300009d9090589c812424fffeffff9d90",
    "popf": "9c810c24000100009d68020100009d90fb9068020100009d909c812424fffeffff9d90",
    "mov ss": "9c810c24000100009d8cd08ed090901617fb90fa9c812424fffeffff9d90",
    "in out": "9c810c24000100009db001e680e480900fa29031c031db31c931d29c812424fffeffff9d90",
    "jmp reg": "9c810c24000100009db81a000400ffe090b922000400ffe1909c812424fffeffff9d90",
    "rep": "9c810c24000100009dfcb903000000be00310000bf00320000f3a4909c812424fffeffff9d90",
    "loop": "9c810c24000100009db903000000e2fe909c812424fffeffff9d90",
    "int": "9c810c24000100009dc705044000001f000400cd3090909c812424fffeffff9d90",
    "mov cr": "9c810c24000100009d0f20c00f22c00f20d80f22d80f013d00300000909c812424fffeffff9d90",
    "ud2": "9c810c24000100009dc705044000001f0004000f0b90909c812424fffeffff9d90",
    "lea": "9c810c24000100009d9a1a00040008005858909c812424fffeffff9d90",
    "dr": "9c810c24000100009d0f21f80f23f8900f21f0a3003000009c812424fffeffff9d90",
    "ss cli": "9c810c24000100009db8100000008ed0fa90909c812424fffeffff9d90",
}
"""With RFLAGS.TF set all the while: the handler of #DB notes each EIP, the flags and DR6."""
BREAKPOINTS = {
    "plain": "b81c0004000f23c0b8020300000f23f831c09040",
    "plain, set when the code has run": "bd0200000031c090404d7414b8110004000f23c0b8020300000f23f831c0ebe5",
    "middle": "b81e0004000f23c0b8020300000f23f831c090904090",
    "middle, set when the code has run": (
        "bd0200000031c0909040904d7414b8130004000f23c0b8020300000f23f831c0ebe3"
    ),
    "loop": "b8220004000f23c0b8020300000f23f831c0b9060000009090e2fc",
    "loop, set when the code has run": (
        "bd0200000031c0b9060000009090e2fc4d7414b8170004000f23c0b8020300000f23f831c0ebde"
    ),
    "call": "b82a0004000f23c0b8020300000f23f831c0b905000000e804000000e2f9eb01c3",
    "call, set when the code has run": (
        "bd0200000031c0b905000000e804000000e2f9eb01c34d7414b81f0004000f23c0b8020300000f23f831c0ebd8"
    ),
    "cli": "b81d0004000f23c0b8020300000f23f831c0fbfa90",
    "cli, set when the code has run": "bd0200000031c0fbfa904d7414b8120004000f23c0b8020300000f23f831c0ebe4",
    "jmp reg": "b8290004000f23c0b8020300000f23f831c0b906000000b829000400ffe0904975f5",
    "jmp reg, set when the code has run": (
        "bd0200000031c0b906000000b81e000400ffe0904975f54d7414b81e0004000f23c0b8020300000f23f831c0ebd7"
    ),
    "sti": "b81d0004000f23c0b8020300000f23f831c0fafb90fa",
    "sti, set when the code has run": (
        "bd0200000031c0fafb90fa4d7414b8120004000f23c0b8020300000f23f831c0ebe3"
    ),
    "ret target": "b8260004000f23c0b8020300000f23f831c0b904000000e804000000e2f9eb01c3",
    "ret target, set when the code has run": (
        "bd0200000031c0b904000000e804000000e2f9eb01c34d7414b81b0004000f23c0b8020300000f23f831c0ebd8"
    ),
    "on jcc": "b8220004000f23c0b8020300000f23f831c0b9040000004975fd",
    "on jcc, set when the code has run": (
        "bd0200000031c0b9040000004975fd4d7414b8170004000f23c0b8020300000f23f831c0ebdf"
    ),
    "jmpret": "b82d0004000f23c0b8020300000f23f831c0b905000000e804000000e2f9eb04eb0190c3",
    "jmpret, set when the code has run": (
        "bd0200000031c0b905000000e804000000e2f9eb04eb0190c34d7414b8220004000f23c0b8020300000f23f831c0ebd5"
    ),
    "on popf": "b81d0004000f23c0b8020300000f23f831c09c9d90",
    "on popf, set when the code has run": (
        "bd0200000031c09c9d904d7414b8120004000f23c0b8020300000f23f831c0ebe4"
    ),
    "on out": "b81c0004000f23c0b8020300000f23f831c0e68090",
    "on out, set when the code has run": (
        "bd0200000031c0e680904d7414b8110004000f23c0b8020300000f23f831c0ebe4"
    ),
    "on cr": "b81c0004000f23c0b8020300000f23f831c00f20c09031c0",
    "on cr, set when the code has run": (
        "bd0200000031c00f20c09031c04d7414b8110004000f23c0b8020300000f23f831c0ebe1"
    ),
    "behind ss": "b8200004000f23c0b8020300000f23f831c08cd08ed09090",
    "behind ss, set when the code has run": (
        "bd0200000031c08cd08ed090904d7414b8150004000f23c0b8020300000f23f831c0ebe1"
    ),
    "data": (
        "b8003100000f23c8b80c03d0000f23f8890d0031000090a1003100006a0190a20231000090bf00310000fcb902000000"
        "f3aa90"
    ),
}
"""DR0 is the linear address of an instruction, as the name says; in one, DR1 that of data."""
INNER = {
    "mov eax, cs; mov [OUT], eax; mov eax, ss; mov [OUT+4], eax; push cs; pop eax": (
        "8cc8a3003000008cd0a3043000000e58"
    ),
    "pushfd; pop eax": "9c58",
    "cli; pushfd; pop eax": "fa9c58",
    "sti; nop; pushfd; pop eax": "fb909c58",
    "push 0x3202; popfd; pushfd; pop eax": "68023200009d9c58",
    "push 2; popfd; pushfd; pop eax": "6a029d9c58",
    "call 3f; jmp 4f; 3: ret; 4: mov eax, offset 5f; jmp eax; 5:": "e802000000eb01c3b833000400ffe0",
    "in al, 0x80": "e480",
    "mov eax, cr0": "0f20c0",
    "hlt": "f4",
    "mov eax, [0xff000000]": "a1000000ff",
    "mov eax, [E8+0x1000]": "a100108000",
    "int 0x30": "cd30",
    "sgdt [OUT]; str eax": "0f0105003000000f00c8",
    "loop .+2": "e200",
    "mov esp, E8+0x1000; ret": "bc00108000c3",
    "mov esp, E8+0x1000; popfd": "bc001080009d",
    "xor ecx, ecx; div ecx": "31c9f7f1",
}
"""Code for rings 1 and 2."""
V86 = {
    "pushf, int": "9c58cd30",
    "cli, sti, pushf": "fafb9c58cd30",
    "segments": "b834128ed88cdbcc",
    "in": "e460",
    "a byte, sti": "a10010fb90cd31",
    "popf, pushf": "9d9c",
    "iret": "cf",
    "hlt": "f4",
}
"""16-bit code in virtual-8086 mode."""
FLAGS = (2, 0x202, 0x3202)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("name", STEPS)
def test_a_kernel_that_steps_through_itself_stops_behind_each_instruction(lab: Lab, name: str) -> None:
    outcome = lab.twins(program32(STEPS[name]), world32(steps=True))
    assert len(outcome.log) >= 6


@pytest.mark.parametrize("name", BREAKPOINTS)
def test_a_breakpoint_is_met_each_time_before_its_instruction(lab: Lab, name: str) -> None:
    outcome = lab.twins(program32(BREAKPOINTS[name]), world32(steps=True))
    assert outcome.log


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("flags", FLAGS, ids=hex)
@pytest.mark.parametrize("ring", [1, 2])
def test_code_of_an_inner_ring_sees_its_ring_and_its_rights(
    lab: Lab, ring: int, flags: int, name: str
) -> None:
    lab.twins(program32(INNER[name], to_ring(ring, flags)), world32())


@pytest.mark.parametrize("name", [name for name in INNER if "offset" not in name])
@pytest.mark.parametrize("flags", [*FLAGS, 0x3002], ids=hex)
def test_a_program_with_any_iopl_and_interrupt_flag_sees_them(lab: Lab, flags: int, name: str) -> None:
    lab.twins(program32(INNER[name], to_ring(3, flags)), world32())


@pytest.mark.parametrize("name", V86)
@pytest.mark.parametrize("flags", [0x20002, 0x20202, 0x23202], ids=hex)
def test_a_virtual_8086_task_under_a_translated_kernel(lab: Lab, flags: int, name: str) -> None:
    """A frame of nine words, IRET; the task runs at 4000:0100 and its faults end the guest."""
    frame = (0, 0, 0, 0, 0, 0xFFF0, flags, PROGRAM >> 4, 0x100)
    enter = b"".join(b"\x68" + struct.pack("<I", word) for word in frame) + b"\xcf"
    stop = b"\xc7\x05" + struct.pack("<II", NEXT, 0)
    task = {PROGRAM + 0x100: bytes.fromhex(V86[name]) + b"\xf4"}
    outcome = lab.twins(stop + enter, world32() | task)
    assert outcome.events()[0].flags & 0x20000


def test_a_breakpoint_on_the_instruction_behind_sti_is_met(lab: Lab) -> None:
    """mov dr0, brk; mov dr7, 302h; cli; sti; brk: nop; cli."""
    outcome = lab.twins(program32("b81c0004000f23c0b8020300000f23f8fafb90fa"), world32(steps=True))
    assert len(outcome.log) == 3


def test_a_single_step_over_a_write_to_code_traps(lab: Lab) -> None:
    """push TF; popf; mov byte ptr [3f + 1], 7; nop; 3: mov al, 1; nop."""
    body = "9c810c24000100009dc6051c0004000790b001909c812424fffeffff9d90"
    lab.twins(program32(body), world32(steps=True))


def test_icebp_is_a_debug_exception(lab: Lab) -> None:
    lab.twins(program32("f1"), world32())


@pytest.mark.parametrize("name", BREAKPOINTS)
def test_a_breakpoint_is_met_once_however_often_the_monitor_stops_the_guest(
    lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlab.vmm.monitor.CHUNK_BLOCKS", 1)
    lab.twins(program32(BREAKPOINTS[name]), world32(steps=True))
