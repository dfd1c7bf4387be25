"""Page tables of a guest's where no memory is: hardware reads all ones there, shadow paging gives up."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import vlab
from vlab.guests.programs import CODE, CS, LOAD, guest, leave, store
from vlab.session import Stop, StopKind

NOWHERE = 0xE0000000
DIRECTORY, TABLE, POINTED = 0x2000, 0x3000, 0x40001000
PAE, ALL = 0x20, 3
HARDWARE = [("none", "direct"), ("hardware", "nested")]
SHADOWED = [("hardware", "shadow"), ("trap-emulate", "shadow")]
SEEN, FAULTED = 1, 85


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def paging(root: int, cr4: int) -> bytes:
    """CR3, CR4 and CR0.PG by way of EAX."""
    steps = ((root, b"\x0f\x22\xd8"), (cr4, b"\x0f\x22\xe0"), (0x80000011, b"\x0f\x22\xc0"))
    return b"".join(b"\xb8" + u32(value) + move for value, move in steps)


def with_page_fault_handler(body: bytes) -> bytes:
    """``body``, with an IDT whose #PF handler ends with FAULTED if the error code is 9, P and RSVD."""
    handler_at = CODE + 14 + len(body)
    found = leave(FAULTED)
    handler = b"\x58\x3c\x09\x75" + bytes((len(found),)) + found + leave(2)  # pop eax; cmp al, 9; jne
    tables_at = handler_at + len(handler)
    gdt = struct.pack("<QQ", 0, 0x00CF9B000000FFFF)
    idt = bytes(8 * 14) + struct.pack("<HHHH", handler_at & 0xFFFF, CS, 0x8E00, handler_at >> 16)
    registers = struct.pack("<HIHI", len(gdt) - 1, tables_at, len(idt) - 1, tables_at + len(gdt))
    registers_at = tables_at + len(gdt) + len(idt)
    load = b"\x0f\x01\x15" + u32(registers_at) + b"\x0f\x01\x1d" + u32(registers_at + 6)
    return load + body + handler + gdt + idt + registers


READ = b"\xa1" + u32(POINTED) + leave(SEEN)  # mov eax, [POINTED]


def legacy() -> bytes:
    """A directory whose entry for POINTED names a table where nothing is; 4 KiB pages over the program."""
    code = store(DIRECTORY, TABLE | ALL) + store(DIRECTORY + 4 * (POINTED >> 22), NOWHERE | ALL)
    for page in (*range(16), LOAD >> 12):
        code += store(TABLE + 4 * page, page << 12 | ALL)
    return code + paging(DIRECTORY, 0) + READ


def extended() -> bytes:
    """The same in PAE's format, with a large page over the program."""
    code = store(DIRECTORY, TABLE | 1) + store(DIRECTORY + 8, 0x4001)
    code += store(TABLE, 0x83) + store(0x4000 + 8 * (POINTED >> 21 & 511), NOWHERE | ALL)
    return code + paging(DIRECTORY, PAE) + READ


def run(directory: Path, code: bytes, monitor: str, way: str) -> Stop:
    image = guest(directory, with_page_fault_handler(code))
    with vlab.VM(image, memory="4M", monitor=monitor, paging=way) as vm:
        return vm.run(timeout=20)


@pytest.mark.parametrize(("monitor", "way"), HARDWARE)
def test_hardware_reads_entries_of_all_ones(tmp_path: Path, monitor: str, way: str) -> None:
    """Legacy entries then name the last page below 4 GiB; in wider ones reserved bits are set."""
    assert run(tmp_path, legacy(), monitor, way).exit_code == SEEN
    assert run(tmp_path, extended(), monitor, way).exit_code == FAULTED


@pytest.mark.parametrize(("monitor", "way"), SHADOWED)
@pytest.mark.parametrize("program", [legacy, extended])
def test_shadow_paging_ends_the_guest_with_the_entrys_address(
    tmp_path: Path, program: Callable[[], bytes], monitor: str, way: str
) -> None:
    stop = run(tmp_path, program(), monitor, way)
    assert stop.kind == StopKind.FAILED
    assert f"reaches {NOWHERE + (4 if program is legacy else 8):#x}, where no memory is" in stop.story
