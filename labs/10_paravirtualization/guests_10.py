"""Tiny paravirtual guests as machine code: hypercalls, updates of page tables, and what these gave."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.session import VM
from vlab.vmm.paravirtual.interface import HEADER_MAGIC, KERNEL_BASE, Call
from vlab.vmm.paravirtual.layout import Layout
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor

P, RW, US, PWT, PCD, PAT, G = 1, 2, 4, 1 << 3, 1 << 4, 1 << 7, 1 << 8
IMAGE, CODE, RESULTS, STACK, DATA, PAGES, END = (
    0x100000, 0x200000, 0x300000, 0x310000, 0x310000, 0x340000, 0x400000
)  # fmt: skip
"""Guest-physical addresses in the tiny guests; PAGES is where frames to play with begin."""
MEMORY: Final = "4M"
UPDATE: Final = struct.Struct("<II")
MASK_32: Final = 0xFFFFFFFF


def elf() -> bytes:
    """An ELF file with the header of a paravirtual kernel; its code is put into memory afterwards."""
    words = (HEADER_MAGIC, 1, KERNEL_BASE, KERNEL_BASE + CODE)
    header = struct.pack("<5I", *words, -sum(words) & MASK_32)
    place = 52 + 32
    program = struct.pack("<8I", 1, place, IMAGE, IMAGE, len(header), len(header), 5, 4)
    start = b"\x7fELF\x01\x01\x01" + bytes(9)
    start += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, IMAGE, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return start + program + header


@dataclass(frozen=True, slots=True)
class Place:
    """Where a guest is: the machine address of its memory, and the monitor's additions to it."""

    base: int
    layout: Layout

    def entry(self, gpa: int) -> int:
        """The machine address of the entry that maps a page in the kernel's part."""
        return self.base + self.layout.tables + gpa // PAGE * 4

    def slot(self, index: int) -> int:
        """The machine address of an entry of the first directory."""
        return self.base + self.layout.directory + 4 * index


def linear(gpa: int) -> int:
    """Where the kernel has a guest-physical address."""
    return KERNEL_BASE + gpa


def hypercall(number: int, first: int, second: int) -> bytes:
    """Make ``mov eax, number; mov ebx, first; mov ecx, second; int 82h``."""
    values = (number, first & MASK_32, second & MASK_32)
    return b"\xb8%b\xbb%b\xb9%b\xcd\x82" % tuple(struct.pack("<I", each) for each in values)


def keep(number: int) -> bytes:
    """Make ``mov [RESULTS + 4 * number], eax``."""
    return b"\xa3" + struct.pack("<I", linear(RESULTS) + 4 * number)


def fetch(address: int) -> bytes:
    """Make ``mov eax, [address]``."""
    return b"\xa1" + struct.pack("<I", address)


@dataclass(slots=True)
class Program:
    """A guest's code as it grows, with the arguments of its hypercalls."""

    code: bytes = field(default_factory=lambda: b"\xbc" + struct.pack("<I", linear(STACK)))  # mov esp, STACK
    data: bytes = b""
    results: int = 0

    def call(self, number: int, first: int, second: int = 0) -> None:
        """Make a hypercall and keep what it gives."""
        self.code += hypercall(number, first, second) + keep(self.results)
        self.results += 1

    def update(self, *updates: tuple[int, int]) -> None:
        """Make HV_MMU_UPDATE with these (entry address, value)."""
        at = linear(DATA) + len(self.data)
        self.data += b"".join(UPDATE.pack(place & MASK_32, value & MASK_32) for place, value in updates)
        if DATA + len(self.data) > PAGES:
            raise Broken("the updates of your calls are more than the guest has room for")
        self.call(Call.MMU_UPDATE, at, len(updates))

    def read(self, address: int) -> None:
        """Read a word of memory and keep it."""
        self.code += fetch(address) + keep(self.results)
        self.results += 1

    def parts(self) -> dict[int, bytes]:
        """Give what has to be in memory."""
        return {CODE: self.code + hypercall(Call.SHUTDOWN, 0, 0), DATA: self.data}


def place_of(vm: VM) -> Place:
    """Give where a paravirtual guest is."""
    monitor = vm.vmm
    assert isinstance(monitor, ParavirtualMonitor)
    return Place(monitor.tables.base, monitor.layout)


def open_guest(trial: Trial, monitor: type[ParavirtualMonitor] | str) -> tuple[VM, Place]:
    """Make a tiny guest without any code yet, behind somebody else's frame."""
    if trial.machine is not None and not trial.vms:
        taken = trial.machine.frames.allocate()
        try:
            vm = trial.vm(elf(), monitor=monitor, memory=MEMORY)
        finally:
            trial.machine.frames.free(taken)
    else:
        vm = trial.vm(elf(), monitor=monitor, memory=MEMORY)
    return vm, place_of(vm)


def run_program(trial: Trial, vm: VM, program: Program, hint: str = "") -> list[int]:
    """Run it and give what was kept, as signed numbers."""
    for gpa, data in program.parts().items():
        vm.memory[gpa : gpa + len(data)] = data
    stop = trial.run(vm, hint=hint)
    if stop.exit_code != 0:
        raise Broken(f"the guest ended with '{stop.headline}'", hint=hint, vm=vm)
    return list(struct.unpack(f"<{program.results}i", vm.memory[RESULTS : RESULTS + 4 * program.results]))


def lying_guest(vm: VM, machine: Machine, victim: int) -> Program:
    """Make the guest of the lesson: it maps the machine's frame ``victim`` in place of a page, and reads it.

    vm: a guest made of ``elf()``, without its code. machine: to see that the frame is not the guest's.
    """
    place, program = place_of(vm), Program()
    if place.base <= victim < place.base + END or victim >= machine.memory.size:
        raise ValueError(f"victim: {victim:#x} is not a frame of somebody else's")
    vm.memory[PAGES : PAGES + 24] = b"the liar's own memory..."
    program.update((place.entry(PAGES), victim | P))
    program.call(Call.FLUSH_ALL, 0)
    copy = linear(DATA) + 0x1000
    for offset in range(0, 24, 4):
        program.code += fetch(linear(PAGES) + offset)
        program.code += b"\xa3" + struct.pack("<I", copy + offset)  # mov [copy], eax
    program.call(Call.CONSOLE_WRITE, copy, 24)
    for gpa, data in program.parts().items():
        vm.memory[gpa : gpa + len(data)] = data
    return program
