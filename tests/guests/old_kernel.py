"""Kernels as they were before boot protocol 2.08, in miniature: 16-bit setup code that asks the BIOS, then a
32-bit part that tells over the serial port what it found.

The setup code does what that of Linux 2.2 did (Linux documentation, arch/x86/boot.rst): it expects its
segment registers from the loader, prints through INT 10h, asks INT 15h for memory and the A20 gate, moves
a zImage down to 1000h, enters protected mode, and jumps.
"""

from __future__ import annotations

import struct

from vlab.guests.loaders.boot_params import BootParams

SETUP_SECTORS = 6
HEADER_END = 0x268
"""Where the jump in the setup header leads; all offsets are from the start of the image."""
CODE, GDT, GDTR, VERSION = 0x600, 0xA00, 0xA20, 0xB00
"""The setup code goes on behind what the zero page has room for: the memory map is written to 2D0h."""
HIGH, LOW = 0x100000, 0x1000
"""Where the 32-bit part of a bzImage and of a zImage runs."""
STAY = b"\xeb\xfe"


def kernel(version: int, *, high: bool, status: int = 0) -> bytes:
    """Build a bzImage (`high`) or zImage whose 32-bit part ends the guest with `status`."""
    body = _protected(version, status).ljust(0x1000, b"\x90")
    code = _real(0 if high else len(body), HIGH if high else LOW)
    assert CODE + len(code) <= GDT
    setup = bytearray((1 + SETUP_SECTORS) * 512)
    header = BootParams(bytearray(BootParams.SIZE))
    header.setup_sects = SETUP_SECTORS
    header.syssize = len(body) // 16
    header.boot_flag = 0xAA55
    header.jump = 0xEB | HEADER_END - 0x202 << 8
    header.header = int.from_bytes(b"HdrS", "little")
    header.version = version
    header.kernel_version = VERSION - 0x200
    header.loadflags = int(high)
    header.code32_start = HIGH if high else LOW
    if version >= 0x203:
        header.initrd_addr_max = 0x37FFFFFF
    if version >= 0x206:
        header.cmdline_size = 255
    setup[0x1F1:HEADER_END] = bytes(header._buffer)[0x1F1:HEADER_END]
    setup[HEADER_END : HEADER_END + 3] = b"\xe9" + struct.pack("<H", CODE - HEADER_END - 3)
    setup[CODE : CODE + len(code)] = code
    setup[GDT : GDT + 32] = struct.pack("<4Q", 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    setup[GDTR : GDTR + 6] = struct.pack("<HI", 31, 0x90000 + GDT)
    setup[VERSION : VERSION + 12] = b"2.2.26 (old)"
    return bytes(setup) + body


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


def _teletype(text: str) -> bytes:
    """Print through INT 10h; the firmware shows it on the screen and the serial port."""
    out = b"".join(b"\xb8" + bytes((ord(letter), 0x0E)) + b"\xcd\x10" for letter in text)
    return b"\xbb\x07\x00" + out  # mov bx, 7; for each: mov ax, 0E00h + letter; int 10h


def _serial(text: str) -> bytes:
    """Print with OUT, in either mode; DX is 3F8h."""
    return b"".join(b"\xb0" + bytes((ord(letter),)) + b"\xee" for letter in text)


def _real(move: int, entry: int) -> bytes:
    """The setup code. `move`: bytes to move from 10000h to 1000h."""
    return b"".join(
        (
            _bytes("8CD8 3D0090 7402") + STAY,  # mov ax, ds; cmp ax, 9000h; jne $
            _bytes("8CC0 3D0090 7402") + STAY,  # the same for ES
            _bytes("8CD0 3D0090 7402") + STAY,  # and SS
            _bytes("81FC0080 7302") + STAY,  # cmp sp, 8000h; jb $: room for a heap and a stack
            _bytes("FB"),  # sti: the services need the timer and the keyboard
            _teletype("setup\r\n"),
            _bytes("B403 30FF CD10 89160000"),  # cursor: mov ah, 3; xor bh, bh; int 10h; mov [0], dx
            _bytes("B40F CD10 A20600 88260700"),  # mode and columns: mov ah, 0Fh; int 10h; mov [6], al...
            _bytes("B488 CD15 7302") + STAY + _bytes("A30200"),  # mov ah, 88h; int 15h; jc $; mov [2], ax
            _bytes("B801E8 31C9 31D2 CD15 7302") + STAY,  # mov ax, E801h; xor cx, cx; xor dx, dx; int 15h
            _bytes("660FB7D2 66C1E206 660FB7C9 6601CA 668916E001"),  # mov [1E0h], DX * 64 + CX
            _e820(),
            _bytes("B80124 CD15 7302") + STAY,  # mov ax, 2401h; int 15h; jc $: A20 on
            _move(move) if move else b"",
            _bytes("BAF803") + _serial("real mode\r\n"),  # mov dx, 3F8h
            _bytes("FA 0F0116") + struct.pack("<H", GDTR),  # cli; lgdt [GDTR]
            _bytes("0F20C0 0C01 0F22C0"),  # mov eax, cr0; or al, 1; mov cr0, eax
            b"\x66\xea" + struct.pack("<IH", entry, 0x10),  # jmp far 10h:entry
        )
    )


def _e820() -> bytes:
    """Collect the memory map at DS:2D0h and its length at DS:1E8h."""
    again = b"".join(
        (
            b"\x66\xb8" + struct.pack("<I", 0xE820),  # mov eax, E820h
            b"\x66\xba" + b"PAMS",  # mov edx, 'SMAP'
            b"\x66\xb9" + struct.pack("<I", 20),  # mov ecx, 20
            _bytes("CD15 720C"),  # int 15h; jc done
            _bytes("FE06E801 83C714 6685DB"),  # inc byte [1E8h]; add di, 20; test ebx, ebx
        )
    )
    loop = again + b"\x75" + bytes((-len(again) - 2 & 0xFF,))  # jnz again
    return _bytes("6631DB BFD002") + loop  # xor ebx, ebx; mov di, 2D0h


def _move(count: int) -> bytes:
    """Move `count` bytes from 10000h to 1000h."""
    return b"".join(
        (
            _bytes("1E 06 B80010 8ED8 B80001 8EC0"),  # push ds; push es; ds = 1000h; es = 100h
            _bytes("31F6 31FF B9") + struct.pack("<H", count // 2),  # xor si, si; xor di, di; mov cx, words
            _bytes("FC F3A5 07 1F"),  # cld; rep movsw; pop es; pop ds
        )
    )


def _protected(version: int, status: int) -> bytes:
    """The 32-bit part: the command line and the initrd, in brackets, the number of KiB above 1 MiB in hex."""
    new = _bytes("8BB328020000")  # mov esi, [ebx + 228h]
    # xor esi, esi; cmp word [ebx + 20h], A33Fh; jne over; mov si, [ebx + 22h]; add esi, ebx; over:
    old = _bytes("31F6 66817B203FA3 7506 668B7322 01DE")
    text = _bytes("AC 84C0 7403 EE EBF8")  # again: lodsb; test al, al; jz over; out dx, al; jmp again
    count = _bytes("E306 AC EE 49 75FB 90")  # jecxz over; again: lodsb; out dx, al; dec ecx; jnz again; nop
    digit = _bytes("C1C504 89E8 240F 0430 3C3A 7202 0407 EE")  # rol ebp, 4; the lowest digit; out dx, al
    return b"".join(
        (
            _bytes("66B81800 8ED8 8EC0 8ED0 BC00000800"),  # data segments; mov esp, 80000h
            _bytes("BAF8030000 BB00000900"),  # mov edx, 3F8h; mov ebx, 90000h
            _serial("protected mode ["),
            (new if version >= 0x202 else old) + text,
            _serial("] ["),
            _bytes("8BB318020000 8B8B1C020000") + count,  # mov esi, [ebx + 218h]; mov ecx, [ebx + 21Ch]
            _serial("] "),
            _bytes("8BABE0010000") + digit * 8,  # mov ebp, [ebx + 1E0h]
            _serial("\r\n"),
            _bytes("BAF4000000 B0") + bytes((status,)) + b"\xee" + STAY,  # the debug exit
        )
    )
