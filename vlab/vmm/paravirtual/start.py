"""What a paravirtual guest finds when it starts: the two pages, page tables, and its registers.

They lie above the image in the guest's own memory, which is all that a paravirtual guest has.
"""

from __future__ import annotations

import struct
from typing import Final

from vlab.errors import UnusableInput
from vlab.guests.loaders import command_line
from vlab.isa.state import CpuState, Segment, TableRegister
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.paravirtual.area import DESCRIPTORS_BASE, DESCRIPTORS_LIMIT
from vlab.vmm.paravirtual.header import Header
from vlab.vmm.paravirtual.interface import (
    HEADER_MAGIC,
    KERNEL_BASE,
    KERNEL_CODE,
    KERNEL_DATA,
    LONGEST_MEMORY,
    StartInfo,
)
from vlab.vmm.paravirtual.layout import PRESENT_WRITABLE, TABLE_SPAN, Layout, kernel_entries
from vlab.vmm.paravirtual.traps import SEGMENTS

_COMMAND_LINE: Final = 0x100  # in the start-info page
_PRESENT: Final = 1
_CR0: Final = 1 << 31 | 1 << 16 | 0x15
"""PG, WP, ET, EM and PE: floating point faults, and read-only pages are so for the kernel too."""
_NULL: Final = Segment(0, 0, 0, 0)


def build(header: Header, memory: GuestMemory, cmdline: str, name: str, *, direct: bool) -> CpuState:
    """Write the pages, and give the state for the first instruction.

    direct: the processor is to walk the guest's tables, so they are made of machine addresses; else of
    guest-physical ones, which the guest takes for machine addresses.

    Raises UnusableInput when the memory is not of a size, or not at a place, that the interface can express.
    """
    layout = Layout(-(-header.end // PAGE) * PAGE, memory.size)
    if layout.free_start > memory.size or memory.size > LONGEST_MEMORY:
        least = -(-layout.free_start >> 20) + 1
        raise UnusableInput(
            f"memory: {memory.size >> 20}M does not suit {name} under the monitor paravirtual; "
            f"give it from {least}M to {LONGEST_MEMORY >> 20}M"
        )
    base = memory.hpa if direct else 0
    if base + memory.size > 1 << 32:
        raise UnusableInput(
            "machine: only memory beyond 4 GiB is left on it, where page tables of 32 bits do not reach"
        )
    text = command_line.encode(name, cmdline, PAGE - _COMMAND_LINE - 1)
    _write_start_info(layout, memory, base, text)
    _write_tables(layout, memory, base)
    return _state(layout, base, header.entry)


def _write_start_info(layout: Layout, memory: GuestMemory, base: int, text: bytes) -> None:
    page = layout.start_info
    memory.ram[page : page + 2 * PAGE] = bytes(2 * PAGE)
    info = StartInfo(memory.ram[page : page + StartInfo.SIZE])
    info.magic, info.memory_size, info.machine_base = HEADER_MAGIC, memory.size, base
    info.directory, info.free_start = KERNEL_BASE + layout.directory, layout.free_start
    info.shared_info = KERNEL_BASE + layout.shared_info
    info.command_line = KERNEL_BASE + page + _COMMAND_LINE
    memory.ram[page + _COMMAND_LINE : page + _COMMAND_LINE + len(text)] = text


def _write_tables(layout: Layout, memory: GuestMemory, base: int) -> None:
    """Map all memory from KERNEL_BASE on, the tables themselves read-only."""
    end = layout.table_count * TABLE_SPAN
    entries = [base + page | PRESENT_WRITABLE for page in range(0, memory.size, PAGE)]
    entries += [0] * ((end - memory.size) // PAGE)
    for page in range(layout.directory, layout.free_start, PAGE):
        entries[page // PAGE] = base + page | _PRESENT
    memory.ram[layout.tables : layout.free_start] = struct.pack(f"<{len(entries)}I", *entries)
    memory.ram[layout.directory : layout.directory + PAGE] = struct.pack(
        "<1024I", *[0] * (KERNEL_BASE // TABLE_SPAN), *kernel_entries(layout, base)
    )


def _state(layout: Layout, base: int, entry: int) -> CpuState:
    data = SEGMENTS[KERNEL_DATA]
    state = CpuState(rip=entry, rsi=KERNEL_BASE + layout.start_info, rflags=0x202)
    state.cs, state.ss = SEGMENTS[KERNEL_CODE].copy(), data.copy()
    state.ds, state.es = data.copy(), data.copy()
    state.fs, state.gs, state.ldtr = _NULL.copy(), _NULL.copy(), _NULL.copy()
    state.gdtr = TableRegister(DESCRIPTORS_BASE, DESCRIPTORS_LIMIT)
    state.idtr = TableRegister(0, 0)
    state.tr = Segment(0, 0, 0, 0x8B)
    state.cr0, state.cr3 = _CR0, base + layout.directory
    return state
