"""Task-state segments of the three sizes, and the I/O permission bitmap that follows them.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2).
"""

from __future__ import annotations

from collections.abc import Callable

from vlab.isa.blocks import Block, at


class Tss16(Block):
    """The 16-bit task-state segment."""

    SIZE = 44
    REFERENCE = "APM2 12.2.4"

    link = at(0x00, 2, "selector of the task that was interrupted")
    sp0 = at(0x02, 2, "stack pointer for CPL 0")
    ss0 = at(0x04, 2, "stack segment for CPL 0")
    sp1 = at(0x06, 2, "stack pointer for CPL 1")
    ss1 = at(0x08, 2, "stack segment for CPL 1")
    sp2 = at(0x0A, 2, "stack pointer for CPL 2")
    ss2 = at(0x0C, 2, "stack segment for CPL 2")
    ip = at(0x0E, 2, "instruction pointer of the saved task")
    flags = at(0x10, 2, "flags of the saved task")
    ax = at(0x12, 2, "AX of the saved task")
    cx = at(0x14, 2, "CX of the saved task")
    dx = at(0x16, 2, "DX of the saved task")
    bx = at(0x18, 2, "BX of the saved task")
    sp = at(0x1A, 2, "SP of the saved task")
    bp = at(0x1C, 2, "BP of the saved task")
    si = at(0x1E, 2, "SI of the saved task")
    di = at(0x20, 2, "DI of the saved task")
    es = at(0x22, 2, "ES of the saved task")
    cs = at(0x24, 2, "CS of the saved task")
    ss = at(0x26, 2, "SS of the saved task")
    ds = at(0x28, 2, "DS of the saved task")
    ldt = at(0x2A, 2, "LDT selector of the task")


class Tss32(Block):
    """The 32-bit task-state segment."""

    SIZE = 104
    REFERENCE = "APM2 12.2.4"

    link = at(0x00, 2, "selector of the task that was interrupted")
    esp0 = at(0x04, 4, "stack pointer for CPL 0")
    ss0 = at(0x08, 2, "stack segment for CPL 0")
    esp1 = at(0x0C, 4, "stack pointer for CPL 1")
    ss1 = at(0x10, 2, "stack segment for CPL 1")
    esp2 = at(0x14, 4, "stack pointer for CPL 2")
    ss2 = at(0x18, 2, "stack segment for CPL 2")
    cr3 = at(0x1C, 4, "page tables of the task")
    eip = at(0x20, 4, "instruction pointer of the saved task")
    eflags = at(0x24, 4, "flags of the saved task")
    eax = at(0x28, 4, "EAX of the saved task")
    ecx = at(0x2C, 4, "ECX of the saved task")
    edx = at(0x30, 4, "EDX of the saved task")
    ebx = at(0x34, 4, "EBX of the saved task")
    esp = at(0x38, 4, "ESP of the saved task")
    ebp = at(0x3C, 4, "EBP of the saved task")
    esi = at(0x40, 4, "ESI of the saved task")
    edi = at(0x44, 4, "EDI of the saved task")
    es = at(0x48, 2, "ES of the saved task")
    cs = at(0x4C, 2, "CS of the saved task")
    ss = at(0x50, 2, "SS of the saved task")
    ds = at(0x54, 2, "DS of the saved task")
    fs = at(0x58, 2, "FS of the saved task")
    gs = at(0x5C, 2, "GS of the saved task")
    ldt = at(0x60, 2, "LDT selector of the task")
    debug_trap = at(0x64, 2, "bit 0: #DB on a switch to this task")
    iomap_base = at(0x66, 2, "offset of the I/O permission bitmap in the segment")


class Tss64(Block):
    """The 64-bit task-state segment: stacks only, no task switching."""

    SIZE = 104
    REFERENCE = "APM2 12.2.5"

    rsp0 = at(0x04, 8, "stack pointer for CPL 0")
    rsp1 = at(0x0C, 8, "stack pointer for CPL 1")
    rsp2 = at(0x14, 8, "stack pointer for CPL 2")
    ist1 = at(0x24, 8, "interrupt stack 1")
    ist2 = at(0x2C, 8, "interrupt stack 2")
    ist3 = at(0x34, 8, "interrupt stack 3")
    ist4 = at(0x3C, 8, "interrupt stack 4")
    ist5 = at(0x44, 8, "interrupt stack 5")
    ist6 = at(0x4C, 8, "interrupt stack 6")
    ist7 = at(0x54, 8, "interrupt stack 7")
    iomap_base = at(0x66, 2, "offset of the I/O permission bitmap in the segment")


def io_allowed(
    read_byte: Callable[[int], int], tss_limit: int, iomap_base: int, port: int, size: int
) -> bool:
    """Say whether the I/O permission bitmap lets ``size`` bytes (1, 2 or 4) at ``port`` pass.

    ``read_byte(offset)`` reads a byte of the TSS; ``tss_limit`` is the offset of its last byte. Every port of
    the access needs a 0 in the map. The processor reads two bytes of the map at once, whatever the size, so
    both must lie within the limit (APM2 12.2.4, "I/O-Permission Bitmap"): outside it everything is denied.
    """
    first = iomap_base + (port >> 3)
    if first + 1 > tss_limit:
        return False
    window = read_byte(first) | read_byte(first + 1) << 8
    return not window >> (port & 7) & ((1 << size) - 1)
