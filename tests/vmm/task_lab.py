"""Guests of two tasks in two address spaces, for tests of hardware task switches without hardware's help."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import vlab
from vlab.guests.programs import UD2, guest, leave
from vlab.isa.blocks import Block
from vlab.isa.state import CpuState
from vlab.isa.tss import Tss32
from vlab.vmm.stop import Stop

RESULTS, GDT, LDT, IDT, TASKS = 0x8000, 0x9000, 0x9200, 0x9400, 0x9800
TASK1, TASK2, TASK3 = TASKS, TASKS + 0x80, TASKS + 0x100
FIRST_SPACE, SECOND_SPACE, EMPTY_SPACE = 0xA000, 0xB000, 0xC000
THERE, HANDLER, DEBUGGER = 0xD000, 0xD400, 0xD800
STACK2, STACK3 = 0xE800, 0xEC00
CODE, DATA, TSS1, TSS2, GATE, TSS3, LDT_AT, USER_CODE, USER_DATA, CODE16 = (8 * n for n in range(1, 11))
_CODE, _DATA, _USER = 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x6000_0000_0000
NT, RF = 0x4000, 0x10000


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def system(base: int, limit: int, attributes: int) -> int:
    """A descriptor of the GDT for a TSS or LDT."""
    return limit & 0xFFFF | base << 16 | attributes << 40


def keep(register: str, slot: int) -> bytes:
    """Write a register to a slot of RESULTS."""
    number = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi").index(register)
    return bytes((0x89, 5 | number << 3)) + u32(RESULTS + 4 * slot)


def far(opcode: str, selector: int) -> bytes:
    return bytes.fromhex(opcode) + u32(0xDEAD) + struct.pack("<H", selector)


SPACE_AND_FLAGS = b"".join(
    (
        b"\xa1" + u32(0x800000), keep("eax", 0),  # mov eax, [800000h]
        bytes.fromhex("0F 20 D8"), keep("eax", 1),  # mov eax, cr3
        bytes.fromhex("0F 20 C0"), keep("eax", 2),  # mov eax, cr0
        bytes.fromhex("9C 58"), keep("eax", 3), keep("ebx", 4),  # pushfd; pop eax
        bytes.fromhex("B8 00 00 00 00 6A 00 58"),  # mov eax, 0; push 0; pop eax
    )
)  # fmt: skip
JMP, CALL = "EA", "9A"
_FLAGS = range(RESULTS + 12, RESULTS + 16)


def start(*, paging: bool = True) -> bytes:
    code = b"\x0f\x01\x15" + u32(RESULTS + 0xF0) + b"\x0f\x01\x1d" + u32(RESULTS + 0xF8)  # lgdt; lidt
    code += bytes.fromhex("66 B8 10 00 8E D0 8E D8 8E C0 66 B8 18 00 0F 00 D8")  # ss, ds, es; ltr
    if paging:  # CR4.PSE; CR3; CR0.PG and WP
        code += bytes.fromhex("0F 20 E0 83 C8 10 0F 22 E0 B8") + u32(FIRST_SPACE)
        code += bytes.fromhex("0F 22 D8 0F 20 C0 0D 00 00 01 80 0F 22 C0")
    return code


TO_USER = bytes.fromhex("6A 4B 68 00 EF 00 00 68 02 30 00 00 6A 43 E8 00 00 00 00 83 04 24 05 CF")
"""push 4Bh; push 0EF00h; push 3002h; push 43h; call next; next: add dword [esp], 5; iret"""


@dataclass
class World:
    """Two tasks in two address spaces, which differ in what is at 0x800000, and a third for faults.

    descriptors: what the GDT has at a selector instead. changes, first: of the TSS of the second task and the
    first. gates: the IDT, otherwise empty. memory: what else there is.
    """

    code: bytes
    there: bytes = UD2
    descriptors: dict[int, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    gates: dict[int, bytes] = field(default_factory=dict)
    memory: dict[int, bytes] = field(default_factory=dict)

    def content(self) -> dict[int, bytes]:
        gdt = {
            CODE: _CODE, DATA: _DATA, TSS1: system(TASK1, 0x67, 0x89), TSS2: system(TASK2, 0x67, 0x89),
            GATE: TSS2 << 16 | 0xE5 << 40, TSS3: system(TASK3, 0x67, 0x89), LDT_AT: system(LDT, 0x1F, 0x82),
            USER_CODE: _CODE | _USER, USER_DATA: _DATA | _USER, CODE16: 0x9B000000FFFF, **self.descriptors,
        }  # fmt: skip
        idt = b"".join(self.gates.get(vector, bytes(8)) for vector in range(32))
        spaces = {
            FIRST_SPACE: u32(0x87, 0, 0x400087), SECOND_SPACE: u32(0x87, 0, 0x87),
            EMPTY_SPACE: bytes(16),
        }  # fmt: skip
        second = {
            "cr3": SECOND_SPACE, "eip": THERE, "eflags": 2, "esp": STACK2, "ebx": 0xB0B, "cs": CODE,
            "ss": DATA, "ds": DATA, "es": DATA, "iomap_base": 0x68, **self.changes,
        }  # fmt: skip
        third = {
            "cr3": FIRST_SPACE, "eip": HANDLER, "eflags": 2, "esp": STACK3, "cs": CODE, "ss": DATA,
            "ds": DATA, "es": DATA,
        }  # fmt: skip
        first = {"cr3": FIRST_SPACE, "esp0": 0xE400, "ss0": DATA, **self.first}
        return {
            RESULTS: bytes(0xF0) + struct.pack("<HI2xHI", 0x5F, GDT, 0xFF, IDT),
            GDT: b"".join(struct.pack("<Q", gdt.get(selector, 0)) for selector in range(0, 0x60, 8)),
            LDT: struct.pack("<4Q", 0, _DATA, _CODE, _DATA | _USER), IDT: idt,
            TASK1: tss(first), TASK2: tss(second), TASK3: tss(third), THERE: self.there,
            HANDLER: b"\x58" + keep("eax", 0) + leave(7), 0: u32(0x2222), 0x400000: u32(0x1111),
            **spaces, **self.memory,
        }  # fmt: skip

    def run(self, directory: Path, monitor: str) -> Ending:
        image = guest(directory, self.code, monitor)
        with vlab.VM(image, memory="8M", monitor=monitor) as vm:
            for address, content in self.content().items():
                vm.memory[address : address + len(content)] = content
            stop = vm.run(timeout=20)
            return Ending(stop, vm.registers(), bytes(vm.memory[:0x10000]))


@dataclass
class Ending:
    """What a guest left."""

    stop: Stop
    state: CpuState
    memory: bytes

    def value(self, name: str) -> object:
        return getattr(self.state, name)

    def word(self, slot: int) -> int:
        return self.number(RESULTS + 4 * slot, 4)

    def number(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory[address : address + size], "little")

    def task(self, address: int) -> Tss32:
        return Tss32(self.memory, address)

    def busy(self, selector: int) -> bool:
        return bool(self.memory[GDT + selector + 5] & 2)

    def check_as(self, bare: Ending) -> None:
        """Compare, but for what PUSHF shows of IF and IOPL at CPL 1, where it does not trap."""
        assert (self.stop.kind, self.stop.exit_code) == (bare.stop.kind, bare.stop.exit_code), self.stop.story
        names = [name for name in CpuState.__dataclass_fields__ if self.value(name) != bare.value(name)]
        assert not names, [(name, self.value(name), bare.value(name)) for name in names]
        for start, end in ((RESULTS, FIRST_SPACE), (THERE, 0x10000)):
            places = [n for n in range(start, end) if n not in _FLAGS and self.memory[n] != bare.memory[n]]
            assert not places, [f"[{n:#x}]: {self.memory[n]:02x} {bare.memory[n]:02x}" for n in places]


def tss(values: Mapping[str, int], kind: type[Block] = Tss32) -> bytes:
    """A task-state segment of either kind."""
    buffer = bytearray(kind.SIZE)
    block = kind(buffer)
    for name, value in values.items():
        setattr(block, name, value)
    return bytes(buffer)


def interrupt_gate(offset: int) -> bytes:
    return struct.pack("<HHBBH", offset, CODE, 0, 0x8E, 0)


TASK_GATE = struct.pack("<HHBBH", 0, TSS3, 0, 0x85, 0)
