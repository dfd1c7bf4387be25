"""Small kernels, each run twice: by the bare processor, and by binary translation.

A program is machine code at PROGRAM, in 32-bit protected mode with paging, or in 64-bit mode. Whatever vector
it raises leads to a handler that keeps the frame and all registers in a log; the guest then goes on at the
end of the program, with the same registers, once. All of the lower memory but the page tables is compared.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import vlab
from tests.vmm.state_differences import state_differences
from tests.vmm.translation_driver import stubs
from vlab.guests.programs import CODE, guest, image64, leave
from vlab.isa.state import CpuState
from vlab.vmm.translation.monitor import BinaryTranslation

OUT, LOG_POINTER, NEXT, TICKS = 0x3000, 0x4000, 0x4004, 0x4008
GDT, TSS, TASK, IDT, POINTERS = 0x5000, 0x5100, 0x5200, 0x5400, 0x5800
STACK, USER_STACK, STUBS, COMMON, STEPS, LOG = 0x7000, 0x8000, 0x9000, 0x9800, 0xA000, 0x10000
DIRECTORY, TABLE, WINDOW_TABLES, EDGE_TABLE = 0x20000, 0x21000, 0x22000, 0x24000
PROGRAM, FRAMES, EDGE_FRAMES = 0x40000, 0x60000, 0x80000
EDGE = 0x800000
"""Linear address of a page, behind it one that is missing, one that is read-only, and two more."""
LAST = 0x100000
"""End of the memory that is compared."""
RING0, RING3 = 2, 0x202
MONITORS = "none", "binary-translation"

_CODE, _DATA, _USER, _RF = 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x6000_0000_0000, 1 << 16
_NAMES32 = "es ds edi esi ebp esp ebx edx ecx eax vector code ip cs flags user_sp user_ss cr2"
_NAMES64 = "r11 rbp rdi rsi rbx rdx rcx rax vector code ip cs flags sp ss cr2"

_COMMON32 = (
    "601e066a101f6a1007fc89e68b3d00400000b911000000f3a50f20d0ab893d00400000a10440000085c0741589442430c705"
    "0440000000000000071f6183c408cfb007e6f4ebfe0000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000050ff0508400000b020e62058cf00000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000008f050c400000be005100008b3d00400000b91a000000fcf3a5a10c400000ab0f20d0ab893d00"
    "400000a10440000085c00f840bfeffffa320510000c7050440000000000000cfebb8"
)
"""pushad; push ds, es; load them; move 17 words of the stack and CR2 to the log; change EIP; back. At 100h
the timer's: count, end of interrupt, IRET. At 200h that of a task gate, which logs the TSS that was left."""
_STEPS = "50a100400000538b5c240889188b5c24108958040f21f389580831db0f23f38305004000000c814c2410000001005b58cf"
"""Logs EIP, EFLAGS and DR6; clears DR6; sets RF in the frame."""
_COMMON64 = (
    "505152535657554153fc4889e68b3c2500400000b90f000000f348a50f20d048ab893c25004000008b04250440000085c074"
    "1f4889442450c704250440000000000000415b5d5f5e5b5a59584883c41048cfb007e6f4ebfe"
)
_START32 = (
    "0f0115005800000f011d08580000b8100000008ed08ed88ec0bc00700000ea4a0010000800b8280000000f00d8b800000200"
    "0f22d80f20c00d000001800f22c031c031db31c931d231f631ff31ed"
)
"""lgdt; lidt; segments; ltr; CR3; CR0.PG and WP; no register but ESP is set; jmp PROGRAM."""
_START64 = (
    "0f011425005800000f011c2510580000b8100000008ed08ed88ec048c7c400700000b8000002000f22d8b8280000000f00d8"
    "6a0868000004000f20c00d000001000f22c00f20e0480d800600000f22e031c031db31c931d231f631ff31ed48cb"
)
"""The same in 64-bit mode; CR4.PGE, OSFXSR and OSXMMEXCPT."""


class Event(NamedTuple):
    """What one vector found."""

    vector: int
    code: int
    ip: int
    flags: int
    cr2: int


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and what it left."""

    stop: vlab.Stop
    memory: bytes
    state: CpuState
    log: tuple[int, ...]

    def words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}I", self.memory, address)

    def events(self, *, wide: bool = False) -> list[Event]:
        """Give what the log says, of 32-bit or 64-bit code."""
        names = (_NAMES64 if wide else _NAMES32).split()
        values = struct.unpack(f"<{len(self.log) // 2}Q", struct.pack(f"<{len(self.log)}I", *self.log))
        source = values if wide else self.log
        rows = [
            dict(zip(names, source[at : at + len(names)], strict=True))
            for at in range(0, len(source), len(names))
        ]
        return [Event(*(row[name] for name in Event._fields)) for row in rows]

    def differences(self, other: Outcome) -> list[str]:
        """Tell what is not the same in another, this one's first."""
        mine, others = (self.stop.kind, self.stop.exit_code), (other.stop.kind, other.stop.exit_code)
        found = [] if mine == others else [f"end: {mine} {others} {other.stop.story}"]
        if self.log != other.log:
            found.append(f"log: {[hex(n) for n in self.log]} {[hex(n) for n in other.log]}")
        for start, end in ((0, DIRECTORY), (DIRECTORY + 0x10000, LAST)):
            if self.memory[start:end] == other.memory[start:end]:
                continue
            for at in range(start, end, 4):
                one, two = self.memory[at : at + 4], other.memory[at : at + 4]
                if one != two:
                    found.append(f"[{at:#x}]: {one.hex()} {two.hex()}")
        return [*found, *state_differences(self.state, other.state)][:12]


# --- worlds -------------------------------------------------------------------------------------------------


def entries(pages: Mapping[int, int], *, wide: bool = False) -> bytes:
    """Make a page table of its entries by number."""
    count = 512 if wide else 1024
    return struct.pack(f"<{count}{'Q' if wide else 'I'}", *(pages.get(n, 0) for n in range(count)))


def _window_frames() -> dict[int, bytes]:
    """Sixteen frames with a function at the start of each: mov eax, number; ret."""
    return {FRAMES + 0x1000 * n: b"\xb8" + struct.pack("<I", 0x70 + n) + b"\xc3" for n in range(16)}


def world32(*, task_gate: bool = False, steps: bool = False) -> dict[int, bytes]:
    """Tables, handlers and page tables of 32-bit programs.

    The frames from FRAMES on are at 0xFF000000, and one each at 0xFF43F000 and 0xFF440000. task_gate: page
    faults are a task's. steps: #DB goes to STEPS.
    """
    systems = (TSS, TASK)
    gdt = [0, _CODE, _DATA, _CODE | _USER, _DATA | _USER, *(0x890000000067 | at << 16 for at in systems)]
    gdt += [segment | ring << 45 for ring in (1, 2) for segment in (_CODE, _DATA)]
    gdt += [
        0x00009B040000FFFF,
        0x000093000000FFFF,
        0x00CF9B100000FFFF,
        0x00409B0400000FFF,
        0x00AF9B000000FFFF,
    ]
    gates = [_gate32(COMMON + 0x100 if vector == 0x20 else STUBS + 16 * vector) for vector in range(64)]
    if task_gate:
        gates[14] = struct.pack("<HHHH", 0, 0x30, 0xE500, 0)
    if steps:
        gates[1] = _gate32(STEPS)
    stacks = (STACK, 0x10, STACK - 0x400, 0x39 + 8, STACK - 0x800, 0x52)
    tss = struct.pack("<8I", 0, *stacks, DIRECTORY).ljust(0x66, b"\0") + b"\x68\0"
    task = struct.pack("<15I", *[0] * 7, DIRECTORY, COMMON + 0x200, 2, *[0] * 4, STACK - 0xC00)
    task = task.ljust(0x48, b"\0") + struct.pack("<4I", 0x10, 8, 0x10, 0x10)
    window = WINDOW_TABLES | 7, WINDOW_TABLES + 0x1000 | 7
    return _window_frames() | {
        GDT: struct.pack(f"<{len(gdt)}Q", *gdt), TSS: tss, TASK: task.ljust(0x66, b"\0") + b"\x68\0",
        IDT: b"".join(gates), POINTERS: struct.pack("<HI2xHI", 8 * len(gdt) - 1, GDT, 64 * 8 - 1, IDT),
        STUBS: stubs(STUBS, COMMON), COMMON: bytes.fromhex("".join(_COMMON32)),
        STEPS: bytes.fromhex("".join(_STEPS)), LOG_POINTER: struct.pack("<II", LOG, 0),
        DIRECTORY: entries({0: TABLE | 7, 2: EDGE_TABLE | 7, 0x3FC: window[0], 0x3FD: window[1]}),
        TABLE: entries({n: n << 12 | 7 for n in range(1024)}),
        WINDOW_TABLES: entries({n: FRAMES + (n << 12) | 7 for n in range(16)}),
        WINDOW_TABLES + 0x1000: entries({0x3F: FRAMES + 0xE000 | 7, 0x40: FRAMES + 0xF000 | 7}),
        EDGE_TABLE: edge_table(),
    }  # fmt: skip


def _gate32(handler: int) -> bytes:
    return struct.pack("<HHBBH", handler & 0xFFFF, 8, 0, 0xEE, handler >> 16)


def edge_table(**changes: int) -> bytes:
    """The entries behind EDGE; changes: others, as ``page0=...``."""
    frames = {0: EDGE_FRAMES | 7, 2: EDGE_FRAMES + 0x2000 | 5, 3: EDGE_FRAMES + 0x3000 | 7}
    frames |= {4: EDGE_FRAMES + 0x4000 | 7} | {int(name[4:]): value for name, value in changes.items()}
    return entries(frames)


def world64(*, ist: int = 0) -> dict[int, bytes]:
    """The same for 64-bit programs; ist: of every gate.

    The frames from FRAMES on are at 0xFFFFFFFFE0000000, and single ones about it.
    """
    gdt = [0, 0x00AF9B000000FFFF, _DATA, _DATA | _USER, 0x00AFFB000000FFFF, 0x890000000067 | TSS << 16, 0]
    gdt += [_CODE, _CODE | _USER]
    at = (STUBS + 16 * vector for vector in range(64))
    gates = (struct.pack("<HHBBHII", stub & 0xFFFF, 8, ist, 0xEE, 0, 0, 0) for stub in at)
    tss = struct.pack("<I4Q", 0, STACK - 0x800, 0, 0, 0).ljust(0x24, b"\0") + struct.pack("<Q", STACK - 0x400)
    high = {255: 0x29007, 256: 0x25007, 257: 0x27007, 258: 0x28007, 259: 0x2A007}
    tables = {
        0x20000: {0: 0x21007, 511: 0x23007}, 0x21000: {0: 0x22007}, 0x23000: {511: 0x24007}, 0x24000: high,
        0x22000: {0: 0x87, 1: 0x200087, 4: 0x26007}, 0x25000: {0: 0x60007, 1: 0x61007, 0x80: 0x62007},
        0x26000: {0: 0x80007, 2: 0x82005, 3: 0x83007, 4: 0x84007}, 0x27000: {0: 0x63007, 511: 0x64007},
        0x28000: {0: 0x65007, 0x3F: 0x66007, 0x40: 0x67007, 0x50: 0x68007}, 0x29000: {511: 0x69007},
        0x2A000: {0: 0x6A007},
    }  # fmt: skip
    return _window_frames() | {place: entries(table, wide=True) for place, table in tables.items()} | {
        GDT: struct.pack(f"<{len(gdt)}Q", *gdt), TSS: tss.ljust(0x66, b"\0") + b"\x68\0",
        IDT: b"".join(gates), POINTERS: struct.pack("<HQ6xHQ", 8 * len(gdt) - 1, GDT, 64 * 16 - 1, IDT),
        STUBS: stubs(STUBS, COMMON), COMMON: bytes.fromhex("".join(_COMMON64)),
        LOG_POINTER: struct.pack("<II", LOG, 0),
    }  # fmt: skip


# --- programs -----------------------------------------------------------------------------------------------


def program32(body: str | bytes, enter: bytes = b"") -> bytes:
    """Make a program: faults go on at its end, where EAX, ECX, EDX and EBX are kept and the guest ends.

    body: machine code for PROGRAM + 10 + len(enter).
    """
    code = bytes.fromhex(body) if isinstance(body, str) else body
    end = PROGRAM + 10 + len(enter) + len(code)
    keep = b"\xbc" + struct.pack("<I", STACK) if not enter else b""  # mov esp, STACK
    keep += b"\xa3" + struct.pack("<I", OUT + 0x40)
    for number, modrm in enumerate((0x0D, 0x15, 0x1D), 1):
        keep += b"\x89" + bytes((modrm,)) + struct.pack("<I", OUT + 0x40 + 4 * number)
    finish = leave(3) if not enter else b"\xc7\x05" + struct.pack("<II", NEXT, 0) + b"\x0f\x0b"
    return b"\xc7\x05" + struct.pack("<II", NEXT, end) + enter + code + keep + finish


def to_ring(ring: int, flags: int) -> bytes:
    """IRET to ring 1, 2 or 3; in ring 3, with its data segments."""
    code, stack = {1: (0x39, 0x41), 2: (0x4A, 0x52), 3: (0x1B, 0x23)}[ring]
    top = USER_STACK if ring == 3 else STACK - 0x600
    here = PROGRAM + 10 + 26
    frame = b"".join(b"\x68" + struct.pack("<I", word) for word in (stack, top, flags, code, here)) + b"\xcf"
    return frame + (b"\x66\xb8\x23\0\x8e\xd8\x8e\xc0" if ring == 3 else b"")  # mov ax, 23h; mov ds, ax; ..


def program64(body: str) -> bytes:
    """The same in 64-bit mode, for PROGRAM + 11; RAX and R8 are kept."""
    code = bytes.fromhex(body)
    end = PROGRAM + 11 + len(code)
    keep = b"\xbc" + struct.pack("<I", STACK) + b"\x48\x89\x04\x25" + struct.pack("<I", OUT + 0x40)
    keep += b"\x4c\x89\x04\x25" + struct.pack("<I", OUT + 0x48)
    return b"\xc7\x04\x25" + struct.pack("<II", NEXT, end) + code + keep + leave(3)


class Lab:
    """One machine for many guests. ``vm``: the last one that was translated, closed."""

    def __init__(self, directory: Path) -> None:
        self.machine = vlab.Machine("32M")
        start = bytes.fromhex("".join(_START32))
        start += b"\xe9" + struct.pack("<i", PROGRAM - (CODE + len(start) + 5))
        self._image32 = guest(directory, start)
        self._image64 = directory / "guest64.elf"
        self._image64.write_bytes(image64(bytes.fromhex("".join(_START64))))

    def run(
        self,
        program: bytes,
        monitor: str,
        memory: Mapping[int, bytes],
        *,
        wide: bool = False,
        before: Callable[[vlab.VM], None] | None = None,
        after: Callable[[BinaryTranslation], None] | None = None,
    ) -> Outcome:
        """Run a program in a world. before(vm), after(monitor): what else is done with it."""
        image = self._image64 if wide else self._image32
        with vlab.VM(image, memory="4M", monitor=monitor, machine=self.machine) as vm:
            for address, content in {**memory, PROGRAM: program}.items():
                vm.memory[address : address + len(content)] = content
            if before is not None:
                before(vm)
            stop = vm.run(timeout=10)
            if after is not None and isinstance(vm.vmm, BinaryTranslation):
                after(vm.vmm)
            seen, state = bytes(vm.memory[:LAST]), vm.registers()
        state.rflags &= ~_RF  # which the emulator clears late
        (end,) = struct.unpack_from("<I", seen, LOG_POINTER)
        return Outcome(stop, seen, state, struct.unpack_from(f"<{(end - LOG) // 4}I", seen, LOG))

    def twins(
        self,
        program: bytes,
        memory: Mapping[int, bytes],
        *,
        wide: bool = False,
        after: Callable[[BinaryTranslation], None] | None = None,
    ) -> Outcome:
        """Run it both ways, which must not differ; give what it did."""
        bare, ours = (self.run(program, name, memory, wide=wide, after=after) for name in MONITORS)
        assert not bare.differences(ours), bare.differences(ours)
        assert bare.stop.exit_code in (3, 7), bare.stop
        return ours


def open_lab(directory: Path) -> Iterator[Lab]:
    """For a fixture."""
    lab = Lab(directory)
    before = dict(lab.machine.frames.allocated)
    yield lab
    assert lab.machine.frames.allocated == before
    lab.machine.close()
