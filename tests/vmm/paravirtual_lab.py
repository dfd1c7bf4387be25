"""Tiny paravirtual guests for tests: their code is poked into memory when it is known where that is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import vlab
from vlab.vmm.paravirtual.interface import HEADER_MAGIC, KERNEL_BASE, KERNEL_CODE, KERNEL_DATA, Call
from vlab.vmm.paravirtual.layout import Layout
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor
from vlab.vmm.stop import StopKind

IMAGE = 0x100000
CODE, RESULTS, STACK, HANDLERS, TRAPS, PAGES = 0x200000, 0x300000, 0x311000, 0x320000, 0x330000, 0x340000
"""Guest-physical addresses of what the tests put into memory; PAGES is where their own frames begin."""
FRAME = RESULTS + 0x100
"""Where the handlers leave the vector and what was on the stack."""
TRAPPED = 0x55
"""The status with which the handlers end the guest."""
MEMORY = 4 << 20


def elf(words: tuple[int, int, int, int] = (HEADER_MAGIC, 1, KERNEL_BASE, KERNEL_BASE + CODE)) -> bytes:
    """An ELF file with the header of a paravirtual kernel and nothing in it but a few bytes."""
    header = struct.pack("<5I", *words, -sum(words) & 0xFFFFFFFF)
    place = 52 + 32
    program = struct.pack("<8I", 1, place, IMAGE, IMAGE, len(header), len(header), 5, 4)
    start = b"\x7fELF\x01\x01\x01" + bytes(9)
    start += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, IMAGE, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return start + program + header


@dataclass(frozen=True)
class Place:
    """Where a guest is: machine address of its memory, and the monitor's additions."""

    base: int
    layout: Layout

    def entry(self, gpa: int) -> int:
        """The machine address of the entry that maps a page of memory in the kernel's part."""
        return self.base + self.layout.tables + gpa // 4096 * 4

    def slot(self, directory: int, index: int) -> int:
        """The machine address of a directory's entry."""
        return self.base + directory + 4 * index


Program = Callable[[Place], bytes]


@dataclass(frozen=True)
class Outcome:
    """How a guest ended, the 32-bit words of RESULTS, what the handlers kept, its console and its machine."""

    stop: vlab.Stop
    results: tuple[int, ...]
    frame: tuple[int, ...]
    console: str
    shared: tuple[int, int, int]


def page(number: int) -> int:
    """The guest-physical address of a frame that is free to use."""
    return PAGES + number * 4096


def linear(gpa: int) -> int:
    return KERNEL_BASE + gpa


def dwords(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def call(number: int, first: int = 0, second: int = 0) -> bytes:
    """mov eax, number; mov ebx, first; mov ecx, second; int 82h."""
    return b"\xb8" + dwords(number) + b"\xbb" + dwords(first) + b"\xb9" + dwords(second) + b"\xcd\x82"


def keep(slot: int) -> bytes:
    """mov [RESULTS + 4 * slot], eax."""
    return b"\xa3" + dwords(linear(RESULTS) + 4 * slot)


def store(address: int, value: int) -> bytes:
    """mov dword [address], value."""
    return b"\xc7\x05" + dwords(address, value)


def fetch(address: int) -> bytes:
    """mov eax, [address]."""
    return b"\xa1" + dwords(address)


def done(status: int = 0) -> bytes:
    return call(Call.SHUTDOWN, status)


def handlers() -> bytes:
    """A handler of 16 bytes for each vector, and behind them what they share."""
    common = b"".join(b"\x8f\x05" + dwords(linear(FRAME) + 4 * n) for n in range(7)) + done(TRAPPED)
    code = b""
    for vector in range(256):
        stub = b"\x68" + dwords(vector) + b"\xe9"
        code += (stub + dwords(4096 - 16 * vector - 10)).ljust(16, b"\x90")
    return code + common


def traps(privileged: tuple[int, ...] = (0x80,), without: tuple[int, ...] = ()) -> bytes:
    """A trap table that leads to the handlers."""
    rows = b""
    for vector in range(256):
        if vector not in without:
            privilege = 3 if vector in privileged else 1
            rows += struct.pack("<HHII", vector, privilege, KERNEL_CODE, linear(HANDLERS) + 16 * vector)
    return rows + bytes(12)


BEGIN = (
    b"\xbc" + dwords(linear(STACK))  # mov esp, STACK
    + call(Call.SET_TRAP_TABLE, linear(TRAPS))
    + call(Call.SET_KERNEL_STACK, KERNEL_DATA, linear(STACK) - 0x800)
)  # fmt: skip


def place_of(vm: vlab.VM) -> Place:
    monitor = vm.vmm
    assert isinstance(monitor, ParavirtualMonitor)
    return Place(monitor.tables.base, Layout.of(vm.loaded.start, monitor.memory))


def computer() -> vlab.Machine:
    """A machine whose first guest does not begin at machine address 0."""
    machine = vlab.Machine("8M")
    machine.frames.allocate()
    return machine


def open_guest(
    directory: Path, program: Program, contents: dict[int, bytes] | None = None, **options: object
) -> vlab.VM:
    """Make a guest that runs ``program``. contents: what else is in its memory, by guest-physical address."""
    path = directory / "paravirtual.elf"
    path.write_bytes(elf())
    vm = vlab.VM(path, monitor="paravirtual", memory=MEMORY, **options)  # type: ignore[arg-type]
    code = program(place_of(vm))
    for gpa, data in {CODE: code, HANDLERS: handlers(), TRAPS: traps(), **(contents or {})}.items():
        vm.memory[gpa : gpa + len(data)] = data
    return vm


def outcome(vm: vlab.VM, stop: vlab.Stop) -> Outcome:
    layout = place_of(vm).layout
    words = struct.unpack("<16I", vm.memory[RESULTS : RESULTS + 64])
    frame = struct.unpack("<7I", vm.memory[FRAME : FRAME + 28])
    shared = struct.unpack("<3I", vm.memory[layout.shared_info : layout.shared_info + 12])
    return Outcome(stop, words, frame, vm.console.text, shared)


def run(
    directory: Path, program: Program, contents: dict[int, bytes] | None = None, **options: object
) -> Outcome:
    """Run a guest to its end."""
    machine = computer()
    with open_guest(directory, program, contents, machine=machine, **options) as vm:
        seen = outcome(vm, vm.run(timeout=20))
    machine.close()
    return seen


def results(
    directory: Path,
    calls: Callable[[Place], list[bytes]],
    contents: dict[int, bytes] | None = None,
    **options: object,
) -> list[int]:
    """Run pieces of code and give what each left in EAX, as a signed number."""
    count = 0

    def program(place: Place) -> bytes:
        nonlocal count
        pieces = calls(place)
        count = len(pieces)
        return BEGIN + b"".join(piece + keep(n) for n, piece in enumerate(pieces)) + done()

    seen = run(directory, program, contents, **options)
    assert (seen.stop.kind, seen.stop.exit_code) == (StopKind.EXIT, 0), f"{seen.stop} {seen.frame}"
    return [value - (1 << 32) if value >> 31 else value for value in seen.results[:count]]
