"""Tiny guests as machine code, for exercises and for tests.

32-bit protected mode at 1 MiB, entered through a Multiboot header, or 64-bit mode, through an ELF header.

Each function gives bytes; `guest` makes an image of them that any VM boots. Nothing here needs an assembler.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

LOAD = 0x100000
STACK = 0x9000
CODE = LOAD + 37
"""Where the first byte of a program runs, with STACK in ESP."""
CODE64 = LOAD + 120
"""The same for a 64-bit program."""
SCRATCH = 0x8000
"""Memory that nothing else uses; TICKS is in it."""
TICKS = SCRATCH
CS = 8
"""What Multiboot loaders here leave in CS, without a GDT behind it."""

USER_STACK = 0xA000
"""ESP of ring 3 in `rings`."""
_GATES = 0x21
_FLAT = (0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF)
"""Descriptors of flat code and data for ring 0, then for ring 3."""

SPIN = bytes.fromhex("EB FE")  # jmp $
HALT = bytes.fromhex("FA F4")  # cli; hlt: nothing can wake it
STI_HALT = bytes.fromhex("FB F4 EB FD")  # sti; again: hlt; jmp again
CPUID = bytes.fromhex("0F A2")
UD2 = bytes.fromhex("0F 0B")


def image(code: bytes) -> bytes:
    """A Multiboot image that runs `code` at CODE with interrupts off."""
    flags = 1 << 16
    header = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    set_up = b"\xbc" + struct.pack("<I", STACK)  # mov esp, STACK
    return header + struct.pack("<5I", LOAD, LOAD, 0, 0, LOAD + 32) + set_up + code


def image64(code: bytes) -> bytes:
    """A 64-bit ELF image that runs `code` at CODE64 in long mode, over tables that map the low 4 GiB."""
    size = 120 + len(code)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, CODE64, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 7, 0, LOAD, LOAD, size, size, 0x1000) + code


def sector(code: bytes) -> bytes:
    """A boot sector: 16-bit code at 0000:7C00, started by the firmware."""
    return code + bytes(510 - len(code)) + b"\x55\xaa"


def guest(directory: Path, code: bytes, name: str = "guest") -> Path:
    """Write an image of `code` and give its path, which VM() takes."""
    path = directory / f"{name}.bin"
    path.write_bytes(image(code))
    return path


def say(text: str) -> bytes:
    """Send `text` through the serial port, one OUT and one basic block a character; changes AL and DX."""
    start = bytes.fromhex("66 BA F8 03")  # mov dx, 3F8h
    # mov al, byte; out dx, al; jmp to the next
    return start + b"".join(bytes((0xB0, byte, 0xEE, 0xEB, 0)) for byte in text.encode())


def leave(status: int) -> bytes:
    """End with `status` through the debug-exit port."""
    return bytes((0xB0, status, 0xE6, 0xF4)) + SPIN  # mov al, status; out F4h, al


def count_down(turns: int, body: bytes = b"") -> bytes:
    """Do `body`, which must keep ECX, `turns` times."""
    head = b"\xb9" + struct.pack("<I", turns)  # mov ecx, turns
    back = -(len(body) + 1 + 6)
    return head + body + b"\x49\x0f\x85" + struct.pack("<i", back)  # dec ecx; jnz body


def store(address: int, value: int) -> bytes:
    """Write a 32-bit value to memory."""
    return b"\xc7\x05" + struct.pack("<II", address, value)  # mov dword ptr [address], value


def increment(address: int) -> bytes:
    """Add 1 to a 32-bit word of memory."""
    return b"\xff\x05" + struct.pack("<I", address)  # inc dword ptr [address]


def out(port: int, value: int) -> bytes:
    """Write a byte to a port below 100h; changes AL."""
    return bytes((0xB0, value, 0xE6, port))


def timer(then: bytes = STI_HALT, hertz: int = 100) -> bytes:
    """Count interrupts of the 8254 at TICKS, `hertz` a second, with interrupts on while `then` runs.

    The first part of a program, for it knows where it is.
    """
    divisor = 1193182 // hertz
    chips = b"".join(
        out(port, value)
        for port, value in (
            (0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01), (0x21, 0xFE), (0xA1, 0xFF),
            (0x43, 0x34), (0x40, divisor & 0xFF), (0x40, divisor >> 8),
        )
    )  # fmt: skip
    handler = b"\x50" + increment(TICKS) + out(0x20, 0x20) + b"\x58\xcf"  # push eax; ...; pop eax; iret
    # Layout: lgdt, lidt, chips, sti, then, handler, GDT, IDT, their registers.
    handler_at = CODE + 14 + len(chips) + 1 + len(then)
    gdt_at = handler_at + len(handler)
    idt_at = gdt_at + 16
    gdt = struct.pack("<QQ", 0, 0x00CF9B000000FFFF)
    idt = bytes(8 * 0x20) + struct.pack("<HHHH", handler_at & 0xFFFF, CS, 0x8E00, handler_at >> 16)
    registers = struct.pack("<HIHI", len(gdt) - 1, gdt_at, len(idt) - 1, idt_at)
    registers_at = idt_at + len(idt)
    load = b"\x0f\x01\x15" + struct.pack("<I", registers_at)  # lgdt [registers_at]
    load += b"\x0f\x01\x1d" + struct.pack("<I", registers_at + 6)  # lidt [registers_at + 6]
    return load + chips + b"\xfb" + then + handler + gdt + idt + registers


WINDOW = 0x400000
"""The page that `moved_page` moves."""
_DIRECTORY, _TABLE, _FIRST, _SECOND = 0x11000, 0x12000, 0x13000, 0x14000


def moved_page(*, invlpg: bool, again: int = 1) -> bytes:
    """Read WINDOW, where an A is, map a page with a B there, read it ``again`` times and send what was read.

    invlpg: have the processor forget the old translation before. Legacy paging; it ends with status 0.
    """
    send = b"\xa0" + struct.pack("<I", WINDOW) + b"\x66\xba\xf8\x03\xee"  # mov al, [WINDOW]; out 3F8h, al
    flush = b"\x0f\x01\x3d" + struct.pack("<I", WINDOW)  # invlpg [WINDOW]
    tables = store(_DIRECTORY, 0x83) + store(_DIRECTORY + 4, _TABLE | 3) + store(_TABLE, _FIRST | 3)
    letters = store(_FIRST, ord("A")) + store(_SECOND, ord("B"))
    registers = b"\xb8\x10\0\0\0\x0f\x22\xe0"  # mov eax, PSE; mov cr4, eax
    registers += (
        b"\xb8" + struct.pack("<I", _DIRECTORY) + b"\x0f\x22\xd8"
    )  # mov eax, _DIRECTORY; mov cr3, eax
    registers += b"\xb8\x11\0\0\x80\x0f\x22\xc0"  # mov eax, PG|ET|PE; mov cr0, eax
    move = store(_TABLE, _SECOND | 3) + (flush if invlpg else b"")
    return tables + letters + registers + send + move + send * again + leave(0)


class Code:
    """Machine code with labels, for programs that have to know where things are.

    >>> code = Code()
    >>> code.add("again", bytes.fromhex("EB FE")).base == CODE
    True

    Names in ``add`` are labels; `word` puts the address of one, before or behind it, into the code.
    """

    def __init__(self, base: int = CODE) -> None:
        self.base = base
        self._bytes = bytearray()
        self._labels: dict[str, int] = {}
        self._words: list[tuple[int, str, int]] = []

    @property
    def here(self) -> int:
        """The address of what is added next."""
        return self.base + len(self._bytes)

    def add(self, *pieces: bytes | str) -> Self:
        """Add code; text is a label for what comes behind it."""
        for piece in pieces:
            if isinstance(piece, str):
                self._labels[piece] = self.here
            else:
                self._bytes += piece
        return self

    def word(self, label: str, offset: int = 0) -> Self:
        """Add the 32-bit address of a label."""
        self._words.append((len(self._bytes), label, offset))
        self._bytes += bytes(4)
        return self

    def relative(self, label: str) -> Self:
        """Add the distance of a label from behind these 32 bits, as near jumps and calls have it."""
        return self.word(label, -(self.here + 4))

    def align(self, size: int) -> Self:
        """Fill with zeros up to a multiple of ``size``."""
        self._bytes += bytes(-self.here % size)
        return self

    def address(self, label: str) -> int:
        """Give the address of a label that was added."""
        return self._labels[label]

    def finish(self) -> bytes:
        """Give the code, with all addresses in place."""
        for place, label, offset in self._words:
            struct.pack_into("<I", self._bytes, place, self._labels[label] + offset & 0xFFFFFFFF)
        return bytes(self._bytes)


KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, TASK = 0x08, 0x10, 0x1B, 0x23, 0x28
"""Selectors in the GDT of `rings`."""


def rings(kernel: Callable[[Code], None], handlers: Mapping[int, Callable[[Code], None]]) -> bytes:
    """A program with a GDT, a TSS and an IDT, whose ``kernel`` part runs in ring 0 with interrupts off.

    handlers: code by vector, entered through interrupt gates that ring 3 may use; where there is none the
    guest ends with the vector as its status. The ring 0 stack of the TSS is STACK.
    """
    code = Code()
    code.add(b"\x0f\x01\x15").word("gdtr")  # lgdt [gdtr]
    code.add(b"\x0f\x01\x1d").word("idtr")  # lidt [idtr]
    code.add(b"\xea").word("flat").add(struct.pack("<H", KERNEL_CODE), "flat")  # jmp KERNEL_CODE:flat
    for load in (b"\x8e\xd8", b"\x8e\xc0", b"\x8e\xd0"):  # mov ds, ax; mov es, ax; mov ss, ax
        code.add(b"\x66\xb8" + struct.pack("<H", KERNEL_DATA) + load)
    code.add(b"\xbc" + struct.pack("<I", STACK))  # mov esp, STACK
    code.add(b"\x66\xb8" + struct.pack("<H", TASK) + b"\x0f\x00\xd8")  # mov ax, TASK; ltr ax
    kernel(code)
    for vector in range(_GATES):
        code.add(f"vector {vector}")
        handlers.get(vector, lambda code, vector=vector: code.add(leave(vector)))(code)
    code.align(8).add("gdt", struct.pack("<5Q", 0, *_FLAT))
    task = struct.pack("<HHBBBB", 103, 0, 0, 0x89, 0, 0)
    code.add("task descriptor", task, "idt")
    for vector in range(_GATES):
        code.add(f"gate {vector}", struct.pack("<HHHH", 0, KERNEL_CODE, 0xEE00, 0))
    code.add("task", struct.pack("<III", 0, STACK, KERNEL_DATA), bytes(104 - 12))
    code.add("gdtr", struct.pack("<H", 47)).word("gdt").add("idtr", struct.pack("<H", 8 * _GATES - 1)).word(
        "idt"
    )
    whole = bytearray(code.finish())
    for vector in range(_GATES):
        place, target = code.address(f"gate {vector}") - code.base, code.address(f"vector {vector}")
        whole[place : place + 2] = struct.pack("<H", target & 0xFFFF)
        whole[place + 6 : place + 8] = struct.pack("<H", target >> 16)
    place, base = code.address("task descriptor") - code.base, struct.pack("<I", code.address("task"))
    whole[place + 2 : place + 5], whole[place + 7] = base[:3], base[3]
    return bytes(whole)


def enter_ring_3(code: Code, label: str, flags: int = 2) -> None:
    """Go to ``label`` in ring 3 by IRET, with ``flags`` and the stack USER_STACK."""
    code.add(b"\x68" + struct.pack("<I", USER_DATA) + b"\x68" + struct.pack("<I", USER_STACK))  # push ss, esp
    code.add(b"\x68" + struct.pack("<I", flags) + b"\x68" + struct.pack("<I", USER_CODE))  # push eflags, cs
    code.add(b"\x68").word(label).add(b"\xcf")  # push eip; iretd
