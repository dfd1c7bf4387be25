"""Trap-and-emulate: the guest's ring 0 at CPL 1, what traps carried out, and what does not trap told."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests.programs import CODE, STI_HALT, TICKS, UD2, guest, image64, leave, timer
from vlab.vmm.paging.nested import NestedPaging

RESULTS, TABLES, STACK = 0x8000, 0x8400, 0x9000
GDT, LDT, TSS, IDT, POINTERS = TABLES, TABLES + 0x80, TABLES + 0x100, TABLES + 0x200, TABLES + 0x300
FRAME = RESULTS + 0x200
HANDLER = 0x8800
"""Code that every vector leads to: it keeps the error code or what else is on the stack, and ends the run."""

_FLAT_CODE, _FLAT_DATA = 0x00CF9B000000FFFF, 0x00CF93000000FFFF
_USER = 0x6000_0000_0000  # DPL 3


def tables() -> dict[int, bytes]:
    """A GDT (code 8, data 10h, user code 1Bh, data 23h, TSS 28h, LDT 30h, based data 38h), and the rest."""
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
    "rdpmc": "B9 03 00 00 00 0F 33",
    "rdpmc of a counter that there is not": "B9 04 00 00 00 0F 33",
    "rdpmc in user mode": "user 31 C9 0F 33",
    "rdtsc with CR4.TSD": "0F 20 E0 83 C8 04 0F 22 E0 0F 31 31 C0 31 D2 0F 01 F9 31 C0 31 D2",
    "cr8, which 32-bit code has not": "44 0F 20 C0 B8 01 00 00 00",
    "mov dr7 with dr4 and dr5": "B8 00 00 00 00 0F 23 F8 0F 21 E3 0F 21 E9",
    "mov cr1": "0F 20 C8",
    "lgdt with 16-bit operands": "66 0F 01 15 00 87 00 00 66 B8 10 00 8E D8",
    "syscall": "B9 80 00 00 C0 B8 01 00 00 00 31 D2 0F 30"  # EFER.SCE; STAR
    "B9 81 00 00 C0 B8 EE EE EE EE BA 08 00 18 00 0F 30 0F 05",
    "syscall without EFER.SCE": "0F 05",
    "sysret": (
        "B9 80 00 00 C0 B8 01 00 00 00 31 D2 0F 30 B9 81 00 00 C0 BA 08 00 18 00 0F 30 B9 EE EE EE EE 0F 07"
    ),
    "sysret without EFER.SCE": "0F 07",
    "sysenter": "31 D2 B9 74 01 00 00 B8 08 00 00 00 0F 30 41 B8 00 8F 00 00 0F 30"
    "41 B8 EE EE EE EE 0F 30 0F 34",
    "sysenter without a target": "0F 34",
    "sysexit": "31 D2 B9 74 01 00 00 B8 08 00 00 00 0F 30 B9 00 94 00 00 BA EE EE EE EE 0F 35",
    "sysexit without a target": "0F 35",
    "retf to ring 3, releasing parameters on both stacks": (
        "6A 23 68 00 94 00 00 6A 01 6A 02 6A 1B 68 EE EE EE EE CA 08 00"
    ),
    "retf to an inner ring in user mode": "user 6A 08 68 EE EE EE EE CB",
    "iret that sets TF: a step behind the next instruction": "68 02 01 00 00 6A 08 68 EE EE EE EE CF",
    "a single step over CLI": "68 02 01 00 00 6A 08 E8 00 00 00 00 83 04 24 05 CF FA 90 90",
    "a single step waits behind MOV SS": "66 B8 10 00 68 02 01 00 00 6A 08 E8 00 00 00 00 83 04 24 05 CF"
    "8E D0 90 90",
    "a single step over POP SS and CLI": "6A 10 68 02 01 00 00 6A 08 E8 00 00 00 00 83 04 24 05 CF 17 FA 90",
    "iret keeps RF for the next instruction": "68 02 00 01 00 6A 08 68 EE EE EE EE CF",
    "iret with data segments of the inner ring": "66 B8 10 00 8E E0 8E E8 6A 23 68 00 94 00 00 6A 02 6A 1B"
    "68 EE EE EE EE CF 64 A1 00 00 00 00",
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
    code = code.replace(b"\xee" * 4, struct.pack("<I", place + len(code)))  # what follows
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


SNIPPETS_64 = {
    "swapgs": "B9 02 01 00 C0 B8 00 50 00 00 31 D2 0F 30 0F 01 F8 B9 01 01 00 C0 0F 32 89 C3 41 0F 32",
    "mov cr8": "B8 05 00 00 00 44 0F 22 C0 44 0F 20 C3",
    "mov dr8": "44 0F 23 C0",
    "lidt": "48 83 EC 10 66 C7 04 24 FF 0F 48 C7 44 24 02 00 50 00 00 0F 01 1C 24",
    "wrmsr of FS.base": "B9 00 01 00 C0 B8 00 60 00 00 31 D2 0F 30 0F 32 89 C3",
    "sysexit": "0F 35",
    "sti, cli": "FB 90 FA",
}


@pytest.mark.parametrize("snippet", SNIPPETS_64, ids=str)
def test_64_bit_code_too_is_carried_out_as_the_processor_does(tmp_path: Path, snippet: str) -> None:
    path = tmp_path / "guest.elf"
    path.write_bytes(image64(bytes.fromhex("BC 00 90 00 00" + SNIPPETS_64[snippet]) + leave(3)))
    ends = []
    for monitor in ("none", "trap-emulate"):
        with vlab.VM(path, memory="4M", monitor=monitor) as vm:
            stop, state = vm.run(timeout=20), vm.registers()
        ends.append((stop.kind, stop.exit_code, state))
    assert ends[0] == ends[1]


def test_a_task_gate_takes_the_guest_to_the_address_space_of_its_task_and_back(tmp_path: Path) -> None:
    """Each of two address spaces has another page behind the linear address 0x7000 (APM2 12.3)."""
    old, new, pages = 0x20000, 0x21000, (0x30000, 0x31000)
    tss, stack = 0x9800, 0x9F00
    handler = bytes.fromhex("A1 00 70 00 00 A3 00 80 00 00 0F 20 C0 A3 04 80 00 00 CF")  # notes, and iret
    set_up = bytes.fromhex(
        "B8 00 00 02 00 0F 22 D8 0F 20 C0 0D 00 00 00 80 0F 22 C0 CD 06"
    )  # CR3, CR0.PG, int 6
    back = bytes.fromhex("A1 00 70 00 00 A3 08 80 00 00")
    task = struct.pack("<7I", 0, 0, 0, 0, 0, 0, 0) + struct.pack("<3I", new, 0x8900, 2) + bytes(16)
    task += struct.pack("<4I", stack, 0, 0, 0) + struct.pack("<7I", 0x10, 8, 0x10, 0x10, 0, 0, 0) + bytes(4)
    seen = []
    for monitor in ("none", "trap-emulate"):
        with vlab.VM(guest(tmp_path, START + set_up + back + leave(3)), memory="4M", monitor=monitor) as vm:
            content = dict(tables())
            gdt = bytearray(content[GDT])
            gdt[0x38:0x40] = struct.pack("<Q", 0x890000000067 | tss << 16)
            idt = bytearray(content[IDT])
            idt[48:56] = struct.pack("<HHHH", 0, 0x38, 0xE500, 0)
            content |= {GDT: bytes(gdt), IDT: bytes(idt), tss: task, 0x8900: handler}
            content[TSS + 0x1C] = struct.pack("<I", old)  # a switch loads CR3, but does not save it
            for number, directory in enumerate((old, new)):
                table = directory + 0x2000
                entries = [page << 12 | 3 for page in range(1024)]
                entries[7] = pages[number] | 3
                content[table] = struct.pack("<1024I", *entries)
                content[directory] = struct.pack("<I", table | 3) + bytes(4092)
                content[pages[number]] = struct.pack("<I", 0xAA00 + number)
            for address, data in content.items():
                vm.memory[address : address + len(data)] = data
            stop = vm.run(timeout=20)
            assert stop.exit_code == 3, stop.story
            seen.append(struct.unpack("<3I", vm.memory[RESULTS : RESULTS + 12]))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][1] & 8, seen[0][2]) == (0xAA01, 8, 0xAA00)


def test_the_processor_is_left_so_that_the_next_guest_is_checked_by_its_own_privilege(tmp_path: Path) -> None:
    """A guest whose TSS allows no port, on the machine of one that is gone."""
    machine = vlab.Machine("16M")
    code = program("user E4 60")
    endings = []
    for monitor in ("none", "trap-emulate", "none"):
        with vlab.VM(guest(tmp_path, code), memory="4M", monitor=monitor, machine=machine) as vm:
            for address, content in tables().items():
                vm.memory[address : address + len(content)] = content
            vm.memory[TSS + 0x66 : TSS + 0x68] = b"\x68\0"
            endings.append(vm.run(timeout=20).exit_code)
    assert endings == [7, 7, 7]
    machine.close()


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

FIRST_SILENT = (
    "x86 cannot be virtualized by traps alone. The first sensitive instruction that went by in silence:"
)
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
            FIRST_SILENT,
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


def test_a_record_of_a_trap_shows_the_guests_own_ring_and_what_trapped(tmp_path: Path) -> None:
    code = guest(tmp_path, b"\xfa\xe6\x80" + leave(0))  # cli; out 80h, al
    with vlab.VM(code, memory="4M", monitor="trap-emulate", trace="full") as vm:
        vm.run(timeout=20)
        cli = next(exit_ for exit_ in vm.exits if exit_.reason == "TRAP")
        port = next(exit_ for exit_ in vm.exits if exit_.reason == "IOIO")
        assert (cli.rip, cli.ring, cli.mode.value, cli.handler) == (CODE, 0, "protected 32-bit", "emulation")
        assert (port.rip, port.ring, port.handler) == (CODE + 1, 0, "ports")


def test_a_trapped_instruction_that_the_guest_changes_is_another_the_next_time(tmp_path: Path) -> None:
    """CLTS becomes a MOV to CR2 in its place; the loop comes by twice."""
    head = bytes.fromhex("0F 20 C0 83 C8 08 0F 22 C0 B8 78 56 34 12 31 C9")  # CR0.TS = 1; eax; ecx = 0
    site = CODE + len(head)
    body = bytes.fromhex("0F 06 90")  # site: clts; nop
    change = b"\x66\xc7\x05" + struct.pack("<IH", site + 1, 0xD022)  # mov word [site + 1], 0D022h
    code = head + body + change + bytes.fromhex("41 83 F9 02 75") + bytes((0x100 - 3 - 9 - 6,)) + leave(0)
    with vlab.VM(guest(tmp_path, code), memory="4M", monitor="trap-emulate") as vm:
        stop, state = vm.run(timeout=20), vm.registers()
    assert stop.exit_code == 0, stop.story
    assert (state.cr0 & 8, state.cr2) == (0, 0x12345678)


def test_a_trapped_instruction_in_a_page_that_is_mapped_anew_is_another(tmp_path: Path) -> None:
    """One linear page, two frames: CLI and RET in the first, MOV from CR2 and RET in the second."""
    directory, table, frames = 0x20000, 0x21000, (0x30000, 0x31000)
    set_up = bytes.fromhex("B8 00 00 02 00 0F 22 D8 0F 20 C0 0D 00 00 00 80 0F 22 C0 B8 44 33 22 11 0F 22 D0")
    call = b"\xb8" + struct.pack("<I", 0x7000) + b"\xff\xd0"  # mov eax, 7000h; call eax
    remap = b"\xc7\x05" + struct.pack("<II", table + 4 * 7, frames[1] | 3)
    remap += b"\x0f\x01\x3d" + struct.pack("<I", 0x7000)  # invlpg
    entries = [page << 12 | 3 for page in range(1024)]
    entries[7] = frames[0] | 3
    content = {
        directory: struct.pack("<I", table | 3) + bytes(4092), table: struct.pack("<1024I", *entries),
        frames[0]: b"\xfa\x90\x90\xc3", frames[1]: b"\x0f\x20\xd3\xc3",
    }  # fmt: skip
    code = guest(tmp_path, set_up + call + call + remap + call + leave(0))
    with vlab.VM(code, memory="4M", monitor="trap-emulate") as vm:
        for address, data in content.items():
            vm.memory[address : address + len(data)] = data
        stop = vm.run(timeout=20)
        assert (stop.exit_code, vm.registers().rbx) == (0, 0x11223344), stop.story
