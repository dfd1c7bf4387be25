"""The processor states that 32-bit and 64-bit images are entered in, with their GDT and page tables.

Formats: AMD APM vol. 2, rev. 3.42, sections 4.8 (descriptors) and 5.3 (long-mode page translation).
"""

from __future__ import annotations

import struct

from vlab.guests.loaders import layout
from vlab.guests.loaders.ram import GuestRam
from vlab.isa.state import CpuState, Segment, TableRegister

_CODE_32 = 0x00CF9B000000FFFF
_CODE_64 = 0x00AF9B000000FFFF
_DATA = 0x00CF93000000FFFF

_PRESENT, _WRITABLE, _LARGE = 1 << 0, 1 << 1, 1 << 7
_LARGE_PAGE = 2 << 20
_ENTRIES = 512
_DIRECTORIES = 4


def flat32(ram: GuestRam, entry: int) -> CpuState:
    """Return 32-bit protected mode without paging at `entry`, with the loader's GDT and stack.

    CS is BOOT_CS, the data segments are BOOT_DS, interrupts are off, all other registers 0.
    """
    state = CpuState.flat32(entry)
    _install_gdt(ram, state, _CODE_32)
    return state


def long64(ram: GuestRam, entry: int) -> CpuState:
    """Return 64-bit mode at `entry` over page tables that map the low 4 GiB to themselves, in 2 MiB pages.

    CS is BOOT_CS, the data segments are BOOT_DS, interrupts are off, all other registers 0. A guest
    replaces the tables (at `layout.PML4`) before it uses their memory for something else.
    """
    _write_identity_tables(ram)
    state = CpuState.long64(entry, layout.PML4)
    _install_gdt(ram, state, _CODE_64)
    return state


def _install_gdt(ram: GuestRam, state: CpuState, code: int) -> None:
    table = struct.pack("<4Q", 0, 0, code, _DATA)
    ram.write(layout.GDT, table, "the loader's GDT")
    ram.claim(layout.STACK_TOP - layout.PAGE, layout.PAGE, "the loader's stack")
    state.gdtr = TableRegister(layout.GDT, len(table) - 1)
    state.rsp = layout.STACK_TOP
    state.cs.selector = layout.BOOT_CS
    for segment in _data_segments(state):
        segment.selector = layout.BOOT_DS


def _data_segments(state: CpuState) -> tuple[Segment, ...]:
    return state.ds, state.es, state.fs, state.gs, state.ss


def _write_identity_tables(ram: GuestRam) -> None:
    pointers = [layout.PAGE_DIRECTORIES + n * layout.PAGE for n in range(_DIRECTORIES)]
    pdpt = [pointer | _PRESENT | _WRITABLE for pointer in pointers]
    pages = [n * _LARGE_PAGE | _PRESENT | _WRITABLE | _LARGE for n in range(_DIRECTORIES * _ENTRIES)]
    tables = [*_padded([layout.PDPT | _PRESENT | _WRITABLE]), *_padded(pdpt), *pages]
    ram.write(layout.PML4, struct.pack(f"<{len(tables)}Q", *tables), "the loader's page tables")


def _padded(entries: list[int]) -> list[int]:
    return entries + [0] * (_ENTRIES - len(entries))
