"""What a hostile guest tries, in machine code, on the computer of ``properties_lab``: all of it together."""

from __future__ import annotations

import struct

from tests.vmm.hostile_tables import (
    WINDOW,
    a20,
    eax,
    entry,
    frames,
    load,
    more_tables,
    pae,
    store,
    tables,
    tasks,
)
from tests.vmm.properties_lab import DONE, Attack, user
from tests.vmm.trap_emulate_cases import (
    CODE32,
    DATA,
    FIRST_RANDOM,
    GDT,
    IDT,
    LDT_AT,
    STACK,
    TSS,
    TSS_AT,
    USER_CODE,
    u32,
)


def ports() -> list[Attack]:
    """Ports from ring 3, by every instruction, with IOPL, a bitmap, and what POPF makes of them."""
    instructions = (
        b"\xe4\x60",
        b"\xe5\x60",
        b"\xe6\x80",
        b"\xe7\x80",
        b"\xec",
        b"\xed",
        b"\xee",
        b"\xef",
        b"\x66\xed",
        b"\x6c",
        b"\x6e",
        b"\xf3\x6c",
        b"\xf3\x6e",
        b"\x66\x6d",
    )
    at = b"\xba\x80\0\0\0\xbe\x00\x78\0\0\xbf\x00\x70\0\0\xb9\x02\0\0\0"  # edx, esi, edi, ecx

    def all_of(flags: int) -> tuple[bytes, ...]:
        return tuple(user(n, at + code + DONE, flags) for n, code in enumerate(instructions))

    open_ports = {TSS + 0x66: struct.pack("<H", 0x68), TSS + 0x68: bytes(8) + b"\xff"}
    closed = {TSS + 0x66: struct.pack("<H", 0x68), TSS + 0x68: b"\xff" * 33}
    limit = {GDT + TSS_AT: struct.pack("<Q", 0x890000000090 | TSS << 16)}
    popf = b"\x68\x02\x32\0\0\x9d"  # IOPL 3 and IF
    outer = user(0, popf + b"\x9c\x58\xe6\x80" + DONE)
    return [
        Attack("ports from ring 3", all_of(2)),
        Attack("ports from ring 3 with IOPL 3", all_of(0x3002)),
        Attack("ports from ring 3 with IOPL 2", all_of(0x2002)),
        Attack("ports that a bitmap opens", all_of(2), memory=open_ports | limit),
        Attack("ports that a bitmap closes", all_of(2), memory=closed | limit),
        Attack("IOPL from POPF in ring 3", (outer,)),
        Attack(
            "flags from ring 3",
            tuple(
                user(n, bytes.fromhex(code) + DONE)
                for n, code in enumerate(("FA", "FB", "F4", "0F 06", "0F 01 F0", "0F 09"))
            ),
        ),
    ]


def descriptors() -> list[Attack]:
    """Selectors, gates and tables that are not the guest's."""
    probes = [b"\x0f\x02\xd8", b"\x0f\x03\xd8", b"\x0f\x00\xe0", b"\x0f\x00\xe8"]  # lar, lsl, verr, verw
    selectors = (0x48, 0x4B, 0x100, 0x800, 0x1000, 0x8000, 0xFFF8, 0xFFFB, 0xFFFC, 0x7FF8, USER_CODE | 3)

    def loads(ring: int) -> tuple[bytes, ...]:
        codes = [eax(selector) + b"\x8e\xc0" + DONE for selector in selectors]
        return tuple(user(n, code) if ring else code for n, code in enumerate(codes))

    def probed(ring: int) -> tuple[bytes, ...]:
        codes = [
            b"".join(eax(selector) + b"\xbb\0\0\0\0" + probe + b"\x9c\x5a" for probe in probes) + DONE
            for selector in selectors
        ]
        return tuple(user(n, code) if ring else code for n, code in enumerate(codes))

    far = [b"\x9a" + u32(0) + struct.pack("<H", s) + DONE for s in selectors] + [
        b"\xea" + u32(0) + struct.pack("<H", s) + DONE for s in selectors[:5]
    ]
    gate = 0x1000 | CODE32 << 16 | (0xEC << 40)  # a call gate to ring 0
    stored = b"".join(
        code + u32(0x7000 + 8 * n)
        for n, code in enumerate(
            (b"\x0f\x01\x05", b"\x0f\x01\x0d", b"\x0f\x00\x05", b"\x0f\x00\x0d", b"\x0f\x01\x25")
        )
    )
    return [
        Attack("loads of selectors beyond the tables", loads(0), world="flat"),
        Attack("loads of selectors beyond the tables in ring 3", loads(3)),
        Attack("LAR, LSL, VERR and VERW", probed(0)),
        Attack("LAR, LSL, VERR and VERW in ring 3", probed(3)),
        Attack("far transfers to selectors beyond the tables", tuple(far[:14]), world="flat"),
        Attack(
            "a call gate from ring 3",
            (
                user(0, b"\x9a" + u32(0) + struct.pack("<H", FIRST_RANDOM * 8 | 3) + DONE),
                user(1, b"\x9a" + u32(0) + struct.pack("<H", FIRST_RANDOM * 8 + 8 | 3) + DONE),
            ),
            descriptors=(gate, gate & ~(0x60 << 40)),
        ),
        Attack("SGDT, SIDT, SLDT, STR and SMSW", (stored + DONE,)),
        Attack("SGDT, SIDT, SLDT, STR and SMSW in ring 3", (user(0, stored + DONE),)),
        Attack(
            "a GDT and an IDT without end",
            (
                store(DATA, 0xFFFF) + b"\x0f\x01\x15" + u32(DATA) + eax(0xFFF8) + b"\x8e\xc0" + DONE,
                store(DATA + 8, IDT << 16 | 0xFFFF) + b"\xcd\xff" + DONE,
            ),
            world="flat",
        ),
        Attack(
            "LLDT and LTR of what is none",
            (
                eax(CODE32) + b"\x0f\x00\xd0" + DONE,
                eax(LDT_AT | 4) + b"\x0f\x00\xd0" + DONE,
                eax(TSS_AT) + b"\x0f\x00\xd8" + DONE,
                eax(0xFFF8) + b"\x0f\x00\xd8" + DONE,
                user(4, eax(TSS_AT) + b"\x0f\x00\xd8" + DONE),
                user(5, b"\x0f\x01\x15" + u32(DATA) + DONE),
            ),
        ),
    ]


def registers() -> list[Attack]:
    """Control and model-specific registers."""

    def wrmsr(number: int, low: int, high: int = 0) -> bytes:
        return b"\xb9" + u32(number) + eax(low) + b"\xba" + u32(high) + b"\x0f\x30"

    numbers = (
        0x1B,
        0x8B,
        0xFE,
        0x174,
        0x176,
        0x179,
        0x1D9,
        0x200,
        0x277,
        0x2FF,
        0x400,
        0x6E0,
        0xC0000080,
        0xC0000081,
        0xC0000082,
        0xC0000100,
        0xC0000102,
        0xC0000103,
        0xC0010010,
        0xC0010015,
        0xC0010140,
        0xDEAD,
    )
    read = [b"\xb9" + u32(number) + b"\x0f\x32" + DONE for number in numbers]
    return [
        Attack("RDMSR", tuple(read[:13])),
        Attack("RDMSR of the rest", tuple(read[13:])),
        Attack("RDMSR in ring 3", tuple(user(n, code) for n, code in enumerate(read[:6]))),
        Attack(
            "EFER, bit by bit",
            tuple(wrmsr(0xC0000080, 1 << bit) + DONE for bit in (1, 2, 8, 10, 11, 12, 13, 14, 20)),
        ),
        Attack(
            "VM_HSAVE_PA and VM_CR",
            (wrmsr(0xC0010117, 0x1000) + DONE, wrmsr(0xC0010114, 0) + DONE),
        ),
        Attack(
            "CR4, bit by bit",
            tuple(
                b"\x0f\x20\xe0\x0d" + u32(1 << bit) + b"\x0f\x22\xe0" + DONE
                for bit in (0, 1, 2, 3, 6, 8, 9, 11, 12, 13, 14, 16, 31)
            ),
        ),
        Attack(
            "CR0, bit by bit",
            tuple(
                b"\x0f\x20\xc0\x35" + u32(1 << bit) + b"\x0f\x22\xc0" + DONE
                for bit in (1, 2, 3, 4, 5, 16, 18, 28, 29, 30)
            ),
        ),
    ]


def instructions() -> list[Attack]:
    """Debug registers, the instructions of AMD-V and of protection keys, and what ring 3 may not do."""
    svm = [bytes.fromhex(f"0F 01 D{n:X}") + DONE for n in range(8, 16)]
    return [
        Attack(
            "debug registers",
            (
                eax(STACK) + b"\x0f\x23\xc0" + eax(0x000F0703) + b"\x0f\x23\xf8" + b"\x68\1\0\0\0\x58" + DONE,
                b"\x0f\x21\xf0\x0f\x21\xfb" + eax(0) + b"\x0f\x23\xf8" + DONE,
                eax(0x12345678) + b"\x0f\x23\xcb" + b"\x0f\x21\xc8" + DONE,
                user(3, b"\x0f\x21\xc0" + DONE),
            ),
        ),
        Attack("the instructions of AMD-V", tuple(eax(0x50000) + code for code in svm)),
        # To AMD-V itself a guest's EFER.SVME is 1, so in ring 3 these are #GP and not #UD (APM3 "VMRUN").
        Attack(
            "the instructions of AMD-V in ring 3",
            tuple(user(n, code) for n, code in enumerate(svm)),
            same=False,
        ),
        Attack(
            "protection keys",
            (
                b"\x31\xc9\x0f\x01\xee" + DONE,
                b"\x31\xc9\x31\xd2\x31\xc0\x0f\x01\xef" + DONE,
                user(2, b"\x31\xc9\x0f\x01\xee" + DONE),
                user(3, b"\x31\xc9\x31\xd2\x31\xc0\x0f\x01\xef" + DONE),
                b"\x0f\x20\xe0\x0d" + u32(1 << 22) + b"\x0f\x22\xe0" + DONE,
                b"\x31\xc9\x0f\x01\xd0" + DONE,
            ),
        ),
        Attack(
            "CR and DR in ring 3",
            tuple(
                user(n, bytes.fromhex(code) + DONE)
                for n, code in enumerate(
                    ("0F 20 C0", "0F 20 D8", "0F 22 C0", "0F 22 D8", "0F 22 E0", "0F 23 F8", "0F 01 38")
                )
            ),
        ),
    ]


def ends() -> list[Attack]:
    """The ways to end, and to try not to."""
    return [
        Attack("HLT with interrupts off", (b"\xfa\xf4" + DONE,)),
        Attack("a triple fault", (store(DATA + 6, 0) + b"\x0f\x01\x1d" + u32(DATA + 6) + b"\xcc",)),
        Attack("no stack for any fault", (b"\xbc" + u32(0x90000000) + b"\x0f\x0b",)),
        Attack("no page for the handlers", (entry(0, 0) + b"\x0f\x20\xd8\x0f\x22\xd8",)),
        Attack("a reset", (b"\xb0\xfe\xe6\x64\xeb\xfe",)),
    ]


FOREVER = {
    "a jump to itself": b"\xfa\xeb\xfe",
    "a jump to itself in ring 3": user(0, b"\xeb\xfe"),
    "traps without end": b"\xfa\x0f\x20\xc0\xeb\xfb",
    "faults without end": store(IDT + 8 * 6, 0x00080000 | 0x9F00)
    + store(IDT + 8 * 6 + 4, 0x8E00)
    + b"\x0f\x0b",
    "repeated strings without end": b"\xbf\0\x70\0\0\xbe\0\x70\0\0\xb9\xff\xff\0\0\xf3\xa4\xeb\xed",
    "HLT with interrupts on": b"\xfb\xf4\xeb\xfd",
    "page faults without end": store(IDT + 8 * 14, 0x00080000 | 0x9F10)
    + store(IDT + 8 * 14 + 4, 0x8E00)
    + load(WINDOW),
}
"""Programs that do not end. At 9F00h is an IRET, at 9F10h one for faults with an error code."""
BACK = {0x9F00: b"\xcf", 0x9F10: b"\x83\xc4\x04\xcf"}


def wild(victim: int) -> list[Attack]:
    """All attacks. victim: where the victim's memory begins, host-physical."""
    targets = {"the victim": victim + 0x101000, "the APIC": 0xFEE00000}
    return [
        *frames(targets),
        *tables(),
        *more_tables(),
        *pae(victim),
        *a20(victim),
        *tasks(victim),
        *ports(),
        *descriptors(),
        *registers(),
        *instructions(),
        *ends(),
    ]
