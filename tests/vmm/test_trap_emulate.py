"""Trap-and-emulate: the guest's ring 0 at CPL 1, what traps carried out, and what does not trap told."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import vlab
from tests.programs import STI_HALT, TICKS, UD2, guest, leave, timer
from vlab.errors import UnusableInput
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.stop import StopKind

RESULTS, TABLES, STACK = 0x8000, 0x8400, 0x9000
GDT, LDT, TSS, IDT, POINTERS = TABLES, TABLES + 0x80, TABLES + 0x100, TABLES + 0x200, TABLES + 0x300
FRAME = RESULTS + 0x200
HANDLER = 0x8800
"""Code that every vector leads to: it keeps the error code or what else is on the stack, and ends the run."""

_FLAT_CODE, _FLAT_DATA = 0x00CF9B000000FFFF, 0x00CF93000000FFFF
_USER = 0x6000_0000_0000  # DPL 3


def tables() -> dict[int, bytes]:
    """A GDT (code 8, data 10h, user code 1Bh, user data 23h, TSS 28h, LDT 30h, based data 38h), and the rest."""
    tss = 0x0000890000000067 | (TSS & 0xFFFF) << 16
    ldt = 0x000082000000000F | (LDT & 0xFFFF) << 16
    based = 0x0040930000000FFF | 0x1234 << 16
    gdt = struct.pack(
        "<8Q", 0, _FLAT_CODE, _FLAT_DATA, _FLAT_CODE | _USER, _FLAT_DATA | _USER, tss, ldt, based
    )
    gate = struct.pack("<HHBBH", HANDLER, 8, 0, 0xEE, 0)
    store_frame = b"\x58\xa3" + struct.pack("<I", FRAME)  # pop eax; mov [FRAME], eax
    store_frame += b"\x58\xa3" + struct.pack("<I", FRAME + 4)
    store_frame += b"\x58\xa3" + struct.pack("<I", FRAME + 8)
    return {
        GDT: gdt,
        LDT: struct.pack("<2Q", 0, _FLAT_DATA),
        TSS + 4: struct.pack("<II", STACK + 0x800, 0x10),
        IDT: gate * 32,
        POINTERS: struct.pack("<HI2xHI", len(gdt) - 1, GDT, 255, IDT),
        HANDLER: store_frame + leave(7),
    }


START = b"".join(
    (
        b"\x0f\x01\x15" + struct.pack("<I", POINTERS),  # lgdt
        b"\x0f\x01\x1d" + struct.pack("<I", POINTERS + 8),  # lidt
        bytes.fromhex("66 B8 10 00 8E D0 8E D8 8E C0"),  # mov ax, 10h; mov ss, ax; mov ds, ax; mov es, ax
        bytes.fromhex("66 B8 28 00 0F 00 D8"),  # mov ax, 28h; ltr ax
    )
)
TO_USER = bytes.fromhex("6A 23 68 00 94 00 00 6A 02 6A 1B E8 00 00 00 00 83 04 24 05 CF")
"""push 23h; push 9400h; push 2; push 1Bh; call next; next: add dword [esp], 5; iret"""

SNIPPETS = {
    "mov eax, cr0": "0F 20 C0",
    "mov cr0 with TS, then CLTS": "0F 20 C0 83 C8 08 0F 22 C0 0F 20 C3 0F 06 0F 20 C1",
    "mov cr4 with PSE": "0F 20 E0 83 C8 10 0F 22 E0 0F 20 E3",
    "mov cr4 with a reserved bit": "B8 00 00 00 40 0F 22 E0",
    "mov cr2 and back": "B8 78 56 34 12 0F 22 D0 0F 20 D3",
    "lmsw sets TS": "B8 09 00 00 00 0F 01 F0 0F 20 C3",
    "mov dr0 and back": "B8 00 30 00 00 0F 23 C0 0F 21 C3 0F 21 F9",
    "mov ds from a descriptor with a base": "66 B8 38 00 8E D8 A1 00 00 00 00 66 BB 10 00 8E DB",
    "pop es": "6A 38 07 8C C0",
    "lds": "68 38 00 00 00 68 44 33 22 11 C5 04 24 66 BA 10 00 8E DA",
    "lss": "6A 10 68 F0 8F 00 00 0F B2 24 24 89 E0",
    "mov fs with a selector beyond the GDT": "66 B8 00 01 8E E0",
    "mov ss with a null selector": "31 C0 8E D0",
    "mov ds with a code segment, readable": "66 B8 08 00 8E D8 66 B8 10 00 8E D8",
    "mov ss with a code segment": "66 B8 08 00 8E D0",
    "lldt and a selector of the LDT": "66 B8 30 00 0F 00 D0 66 B8 0C 00 8E E0",
    "lldt with a data segment": "66 B8 10 00 0F 00 D0",
    "ltr of a busy TSS": "66 B8 28 00 0F 00 D8",
    "far jmp": "EA 00 00 00 00 08 00",
    "far call and return": "9A 00 00 00 00 08 00 B8 01 00 00 00",
    "far jmp to data": "EA 00 00 00 00 10 00",
    "int 5": "CD 05",
    "int3": "CC",
    "division by zero": "31 C9 F7 F1",
    "ud2": "0F 0B",
    "invlpg": "0F 01 3D 00 00 00 00 B8 05 00 00 00",
    "wbinvd, invd": "0F 09 0F 08 B8 06 00 00 00",
    "rdmsr of EFER": "B9 80 00 00 C0 0F 32",
    "wrmsr of STAR and back": "B9 81 00 00 C0 B8 11 22 33 44 BA 55 66 77 08 0F 30 31 C0 31 D2 0F 32",
    "rdmsr of a number that there is not": "B9 EF BE AD DE 0F 32",
    "sti, nop, cli": "FB 90 FA B8 07 00 00 00",
    "cli in user mode": "user FA",
    "hlt in user mode": "user F4",
    "mov eax, cr0 in user mode": "user 0F 20 C0",
    "mov ds, 10h in user mode": "user 66 B8 10 00 8E D8",
    "mov ds, 23h in user mode": "user 66 B8 23 00 8E D8 0F 0B",
    "in from a port in user mode": "user E4 60",
    "int 6 in user mode": "user CD 06",
    "iret to itself in user mode": "user 6A 02 6A 1B E8 00 00 00 00 83 04 24 05 CF 0F 0B",
}


def run(tmp_path: Path, code: bytes, monitor: str) -> tuple[vlab.Stop, bytes, int]:
    """Run a program; give how it ended, what it left in memory, and its EBX."""
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor) as vm:
        for address, content in tables().items():
            vm.memory[address : address + len(content)] = content
        stop = vm.run(timeout=20)
        memory = bytes(vm.memory[RESULTS : RESULTS + 0x210]) + bytes(vm.memory[GDT : GDT + 0x100])
        return stop, memory, vm.registers().rbx


def program(snippet: str) -> bytes:
    """The snippet behind the set-up, then its registers in memory."""
    user = snippet.startswith("user ")
    code = bytes.fromhex(snippet.removeprefix("user "))
    place = 0x100000 + 37 + len(START) + (len(TO_USER) if user else 0)
    if code[:1] in (b"\xea", b"\x9a"):  # to what follows the instruction
        code = code[:1] + struct.pack("<I", place + 7) + code[5:]
    save = b"\xa3" + struct.pack("<I", RESULTS)  # mov [RESULTS], eax
    for number, modrm in enumerate((0x1D, 0x0D, 0x15, 0x25, 0x35), 1):  # ebx ecx edx esp esi
        save += b"\x89" + bytes((modrm,)) + struct.pack("<I", RESULTS + 4 * number)
    return START + (TO_USER if user else b"") + code + save + leave(3)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_what_traps_is_carried_out_as_the_processor_does(tmp_path: Path, snippet: str) -> None:
    code = program(SNIPPETS[snippet])
    bare, memory, ebx = run(tmp_path, code, "none")
    stop, ours, our_ebx = run(tmp_path, code, "trap-emulate")
    assert (stop.kind, stop.exit_code) == (bare.kind, bare.exit_code), stop.story
    assert stop.exit_code in (3, 7)
    assert our_ebx == ebx
    assert ours == memory, [n for n in range(len(memory)) if memory[n] != ours[n]]


@pytest.mark.parametrize("name", ["hello", "rings", "longmode", "tripfault"])
def test_a_bundled_guest_that_needs_only_traps_behaves_as_on_the_bare_machine(name: str) -> None:
    with vlab.VM(name, monitor="none") as bare, vlab.VM(name, monitor="trap-emulate") as vm:
        expected, stop = bare.run(timeout=30), vm.run(timeout=30)
        assert stop.kind is expected.kind
        assert str(vm.console) == str(bare.console)


def test_a_timer_interrupts_a_halted_guest(tmp_path: Path) -> None:
    path = guest(tmp_path, timer(STI_HALT))
    with vlab.VM(path, memory="4M", monitor="trap-emulate") as vm:
        vm.run(lambda vm: int.from_bytes(vm.memory[TICKS : TICKS + 4], "little") >= 5, timeout=20)
        assert vm.exits.by_reason()["TRAP"] >= 15  # HLT, IRET and the loads of its handler
        assert 40_000_000 <= vm.virtual_time_ns <= 80_000_000


# --- what does not trap -------------------------------------------------------------------------------------

SILENT = {
    "pushfd": ("9C 58", "it showed IF=1 IOPL=0", "the guest has IF=0 IOPL=0"),
    "popfd": ("68 02 02 00 00 9D", "it left IF=0 IOPL=0", "the guest sets IF=1 IOPL=0"),
    "sgdt [0x8000]": (
        "0F 01 05 00 80 00 00",
        "it showed base 0x0, limit 0x0",
        "the guest loaded 0x8400, 0x3f",
    ),
    "sidt [0x8000]": (
        "0F 01 0D 00 80 00 00",
        "it showed base 0x0, limit 0x0",
        "the guest loaded 0x8600, 0xff",
    ),
    "str eax": ("0F 00 C8", "it showed 0x0", "the guest has 0x28"),
}


@pytest.mark.parametrize("text", SILENT)
def test_a_sensitive_instruction_that_does_not_trap_is_told_when_the_guest_goes_wrong(
    tmp_path: Path, text: str
) -> None:
    code, saw, should = SILENT[text]
    with vlab.VM(
        guest(tmp_path, START + bytes.fromhex(code) + leave(1)), memory="4M", monitor="trap-emulate"
    ) as vm:
        for address, content in tables().items():
            vm.memory[address : address + len(content)] = content
        stop = vm.run(timeout=20)
        at = 0x100000 + 37 + len(START) + (5 if text == "popfd" else 0)
        assert stop.story.splitlines()[-2:] == [
            "x86 cannot be virtualized by traps alone. "
            "The first sensitive instruction that went by in silence:",
            f"  {at:#x}: {text} did not trap: {saw}, where {should}",
        ]


def test_a_guest_that_ends_well_is_not_lectured(tmp_path: Path) -> None:
    code = START + bytes.fromhex("9C 58") + leave(0)
    stop, _, _ = run(tmp_path, code, "trap-emulate")
    assert stop.story == "the guest ended with status 0 (success)"


def test_what_popf_leaves_undone_is_what_the_processor_leaves_undone(tmp_path: Path) -> None:
    """POPF with IF set at IOPL 0: the bare machine's guest then has IF, the deprivileged one has not."""
    code = START + bytes.fromhex("68 03 02 00 00 9D 0F 92 C3 0F B6 DB") + UD2  # push 203h; popf; setc bl
    _, _, bare = run(tmp_path, code, "none")
    _, _, ours = run(tmp_path, code, "trap-emulate")
    assert bare == ours == 1
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor="trap-emulate") as vm:
        for address, content in tables().items():
            vm.memory[address : address + len(content)] = content
        vm.run(timeout=20)
        assert [note.text for note in vm.silent] == ["popfd"]


def test_another_paging_strategy_than_shadow_paging_is_refused() -> None:
    with pytest.raises(UnusableInput) as refused:
        vlab.VM("hello", monitor="trap-emulate", paging=NestedPaging())
    assert str(refused.value) == (
        "paging: 'nested' cannot serve the monitor trap-emulate; derive it from ShadowPaging"
    )


def test_a_far_call_through_a_gate_ends_in_a_story(tmp_path: Path) -> None:
    code = START + b"\x9a" + struct.pack("<IH", 0, 0x28)
    stop, _, _ = run(tmp_path, code, "trap-emulate")
    assert stop.kind is StopKind.FAILED
    assert stop.story.startswith("the guest cannot go on: a far CALL or JMP to a task, or through a 64-bit gate, is not emulated")
