"""What a hostile guest tries with page tables and addresses, in machine code, on the computer of the lab.

The attackers know everything: where the victim is, where the machine keeps its own, how shadow tables work.
"""

from __future__ import annotations

import struct

from tests.vmm.properties_lab import DIRECTORY, DONE, MEMORY, USER_OFFSET, Attack, user
from tests.vmm.trap_emulate_cases import CODE32, DATA32, FIRST_RANDOM, IDT, SLOT_BASE, STACK, u32

P, RW, US, PS, G = 1, 2, 4, 0x80, 0x100
ALL = P | RW | US
TABLE = 0x40000
"""A page table of the attacker's; its pages are seen from WINDOW on."""
WINDOW = 0x80000000
MARK = 0xDEADBEEF


def eax(value: int) -> bytes:
    return b"\xb8" + u32(value)


def store(address: int, value: int) -> bytes:
    return b"\xc7\x05" + u32(address) + u32(value)


def load(address: int) -> bytes:
    return b"\xa1" + u32(address)


def set_cr3(value: int) -> bytes:
    return eax(value) + b"\x0f\x22\xd8"


def invlpg(address: int) -> bytes:
    return b"\x0f\x01\x3d" + u32(address)


def use(address: int) -> bytes:
    """Read, and write something else."""
    return load(address) + store(address, MARK)


def entry(index: int, value: int) -> bytes:
    """Write an entry of the directory."""
    return store(DIRECTORY + 4 * index, value)


SEEN = entry(WINDOW >> 22, TABLE | ALL) + set_cr3(DIRECTORY)
"""Have TABLE looked at from WINDOW on."""


def frames(targets: dict[str, int]) -> list[Attack]:
    """Page tables that name frames which are not the guest's."""
    found = []
    for name, target in targets.items():
        page, large = target & ~0xFFF, target & 0xFFC00000
        found += [
            Attack(
                f"a page table entry that names {name}",
                (
                    store(TABLE, page | ALL) + SEEN + load(WINDOW) + DONE,
                    store(TABLE, page | ALL) + SEEN + store(WINDOW, MARK) + load(WINDOW) + DONE,
                    user(2, load(WINDOW) + store(WINDOW + 8, MARK) + DONE),
                    SEEN + b"\xbf" + u32(WINDOW) + b"\xb9" + u32(4) + b"\xfc\xf3\xab" + DONE,  # rep stosd
                ),
            ),
            Attack(
                f"a large page over {name}",
                (
                    entry(WINDOW >> 22, large | ALL | PS)
                    + set_cr3(DIRECTORY)
                    + load(WINDOW | page & 0x3FF000)
                    + DONE,
                    store(WINDOW | page & 0x3FF000, MARK) + DONE,
                    user(2, load(WINDOW | page & 0x3FF000) + DONE),
                ),
            ),
            # Code where no memory is ends a guest over shadow tables, and is FF FF on the bare machine.
            Attack(
                f"a jump to {name}",
                (store(TABLE, page | ALL) + SEEN + eax(WINDOW) + b"\xff\xe0",),
                same=False,
            ),
            Attack(f"CR3 with the address of {name}", (set_cr3(page) + load(WINDOW) + DONE,), same=False),
            Attack(
                f"a directory entry that points to {name}",
                (entry(WINDOW >> 22, page | ALL) + set_cr3(DIRECTORY) + use(WINDOW) + DONE,),
                same=page < MEMORY,
            ),
        ]
    return found


def tables() -> list[Attack]:
    """Tables that change while they are in use, and entries with bits that they should not have."""
    mine = {TABLE: struct.pack("<1024I", *(page << 12 | ALL for page in range(1024)))}
    inside = WINDOW + TABLE
    return [
        Attack(
            "bits of a large entry that are reserved or address 36 bits",
            tuple(
                entry(WINDOW >> 22, ALL | PS | 1 << bit) + set_cr3(DIRECTORY) + use(WINDOW) + DONE
                for bit in range(12, 22)
            ),
        ),
        Attack(
            "global entries over the victim",
            (
                store(TABLE, ALL | G | 0x50000)
                + SEEN
                + b"\x0f\x20\xe0\x0c\x80\x0f\x22\xe0"
                + use(WINDOW)
                + DONE,
                store(TABLE, MEMORY | ALL | G) + set_cr3(DIRECTORY) + use(WINDOW) + DONE,
            ),
        ),
        Attack(
            "an entry changed behind INVLPG's back",
            (
                SEEN
                + load(WINDOW + 0x50000)
                + store(TABLE + 4 * 0x50, MEMORY + 0x20000 | ALL)
                + use(WINDOW + 0x50000)
                + DONE,
                invlpg(WINDOW + 0x50000) + use(WINDOW + 0x50000) + DONE,
                invlpg(WINDOW + 0x51000)
                + store(TABLE + 4 * 0x50, 0x50000 | P)
                + invlpg(0)
                + use(WINDOW + 0x50000)
                + DONE,
            ),
            memory=mine,
            same=False,
        ),
        Attack(
            "a table that a string instruction rewrites through itself",
            (
                SEEN
                + b"\xbf"
                + u32(inside)
                + b"\xb9"
                + u32(1024)
                + eax(MEMORY | ALL)
                + b"\xfc\xf3\xab"
                + DONE,
                use(WINDOW) + DONE,
                user(2, use(WINDOW + 0x3FF000) + DONE),
            ),
            memory=mine,
        ),
    ]


def more_tables() -> list[Attack]:
    """Tables that map themselves, entries made in other ways, and no tables at all."""
    return [
        Attack(
            "a directory that is its own table",
            (
                entry(0x3FF, DIRECTORY | ALL) + set_cr3(DIRECTORY) + load(0xFFFFFFFC) + DONE,
                store(0xFFFFF000 + 4 * 0x200, MEMORY | ALL | PS) + set_cr3(DIRECTORY) + use(WINDOW) + DONE,
                user(2, store(0xFFFFF000 + 4 * 0x201, MEMORY | ALL | PS) + use(WINDOW + 0x400000) + DONE),
            ),
        ),
        Attack(
            "a locked exchange that makes an entry",
            (
                SEEN
                + eax(MEMORY | ALL)
                + b"\x87\x05"
                + u32(TABLE + 4)
                + set_cr3(DIRECTORY)
                + use(WINDOW + 0x1000)
                + DONE,
                eax(0x50000 | ALL)
                + b"\xf0\x0f\xc1\x05"
                + u32(TABLE + 8)
                + set_cr3(DIRECTORY)
                + use(WINDOW + 0x2000)
                + DONE,
            ),
        ),
        Attack(
            "paging off and on again",
            (
                b"\x0f\x20\xc0\x25\xff\xff\xff\x7f\x0f\x22\xc0" + use(MEMORY) + DONE,  # and eax, 7FFFFFFFh
                b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0" + use(WINDOW) + DONE,
            ),
        ),
    ]


def pae(target: int) -> list[Attack]:
    """The same in PAE's format, whose entries are 8 bytes and name 40 bits, and more that are reserved."""
    pointers, directory, table, identity = 0x41000, 0x42000, 0x43000, 0x44000
    on = (
        b"\x0f\x20\xc0\x25\xff\xff\xff\x7f\x0f\x22\xc0"  # CR0.PG off
        b"\x0f\x20\xe0\x83\xc8\x20\x0f\x22\xe0"  # CR4.PAE
        + set_cr3(pointers)
        + b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0"
    )
    off = (
        b"\x0f\x20\xc0\x25\xff\xff\xff\x7f\x0f\x22\xc0\x0f\x20\xe0\x83\xe0\xdf\x0f\x22\xe0"
        + set_cr3(DIRECTORY)
        + b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0"
    )
    found = []
    for bit in (None, 36, 39, 51, 63):
        high = 0 if bit is None else 1 << bit
        memory = {
            pointers: struct.pack("<4Q", identity | P, 0, directory | P, 0),
            identity: struct.pack("<512Q", ALL | PS, *[0] * 511),
            directory: struct.pack("<512Q", table | ALL, *[0] * 510, (target & -(2 << 20) | high) | ALL | PS),
            table: struct.pack("<512Q", *(target + (page << 12) | high | ALL for page in range(512))),
        }
        slots = (on + use(WINDOW) + off + DONE, on + use(WINDOW + (511 << 21)) + off + DONE)
        found.append(Attack(f"PAE entries with bit {bit}", slots, memory=memory))
    bad = {pointers: struct.pack("<4Q", identity | P, 0, target | P, 0x1E6 | P)}
    memory = bad | {identity: struct.pack("<512Q", ALL | PS, *[0] * 511)}
    found.append(Attack("PAE pointers to the victim", (on + use(WINDOW) + DONE,), memory=memory, same=False))
    return found


def a20(target: int) -> list[Attack]:
    """Address line 20 low: what lies beyond the second megabyte is no one else's."""
    low = bytes.fromhex("B0 D1 E6 64 B0 DD E6 60 B0 00 E6 92 EB 00")
    high = bytes.fromhex("B0 02 E6 92 EB 00")
    return [
        Attack(
            "address line 20 low",
            (
                low + load(0x160000) + store(0x160004, MARK) + load(0x60004) + high + DONE,
                low + use(MEMORY | 0x100000) + high + DONE,
                store(TABLE, target | 1 << 20 | ALL) + SEEN + low + use(WINDOW) + high + DONE,
            ),
        )
    ]


def tasks(target: int) -> list[Attack]:
    """Task switches into an address space that is not the guest's."""
    task, gate = 0x45000, 0x46000
    state = struct.pack("<7I", 0, 0, 0, 0, 0, 0, 0) + struct.pack("<3I", target, gate, 2) + bytes(16)
    state += struct.pack("<4I", STACK - 0x200, 0, 0, 0)
    state += struct.pack("<7I", DATA32, CODE32, DATA32, DATA32, 0, 0, 0) + bytes(4)
    descriptor = 0x0000890000000067 | (task & 0xFFFF) << 16 | (task >> 16) << 32
    selector = FIRST_RANDOM * 8
    found = []
    for kind, code in (
        ("a task gate", b"\xcd\x21"),
        ("a far jump", b"\xea\0\0\0\0" + struct.pack("<H", selector)),
    ):
        gates = {IDT + 8 * 0x21: struct.pack("<HHHH", 0, selector, 0xE500, 0)}
        memory = gates | {task: state, gate: use(WINDOW) + DONE}
        found.append(
            Attack(
                f"{kind} to a task with another CR3",
                (code + DONE,),
                memory=memory,
                descriptors=(descriptor,),
                same=False,
            )
        )
    return found


# --- all addresses, one after the other ---------------------------------------------------------------------

LIST, FOUND, BACK_FROM_FAULT = 0x50000, 0x58000, 0x9F00
PROBES = {"read": b"\x8b\x18", "write": b"\x8b\x18\x89\x18", "fetch": b"\xff\xd0"}
_PROBED = 0xFF0
_RET = 0xC3


def scan(kind: str, ring: int, foreign: list[int]) -> Attack:
    """Touch an address in every 32 MiB, in every 512 KiB of the highest, and in all pages in ``foreign``.

    Each leaves a word at FOUND: what was read, or the vector and error code of the fault. kind: of PROBES.
    """
    addresses = [base | _PROBED for base in range(0x2000000, 1 << 32, 32 << 20)]
    addresses += [base | _PROBED for base in range(0xFC000000, 1 << 32, 0x80000)]
    addresses += [WINDOW | page << 12 | _PROBED for page in range(5 if kind != "fetch" else 4)]
    addresses += [page + offset & 0xFFFFFFFF for page in foreign for offset in (0, 0x7FC)]
    assert len(addresses) * 4 < FOUND - LIST
    body = b"\xbe" + u32(LIST) + b"\xbf" + u32(FOUND) + b"\xfc"
    probe = b"\xbb" + u32(0xFFFFFFFF) + b"\x89\xe5" + PROBES[kind]
    again = b"\xad\x85\xc0\x74" + bytes((len(probe) + 6,)) + probe  # lodsd; test eax, eax; jz done
    tail = b"\x89\xec\x93\xab"  # mov esp, ebp; xchg eax, ebx; stosd
    back = b"\xeb" + bytes((256 - len(again) - len(tail) - 2,))
    start = SLOT_BASE + (USER_OFFSET if ring else 0)
    after = u32(start + len(body) + len(again))
    code = body + again + tail + back + DONE
    handlers = {  # pop ebx; or ebx, vector << 16; mov [esp], after; iret
        vector: b"\x5b\x81\xcb" + u32(vector << 16) + b"\xc7\x04\x24" + after + b"\xcf" for vector in (13, 14)
    }
    handlers[6] = b"\xbb" + u32(6 << 16) + b"\xc7\x04\x24" + after + b"\xcf"
    pages = (0x60000 | ALL, 0x61000 | P | US, 0x62000 | P, 0x63000, MEMORY | 0x3000 | ALL)
    memory = {LIST: struct.pack(f"<{len(addresses) + 1}I", *addresses, 0)}
    memory |= {0x60000 + (n << 12) + _PROBED: bytes((_RET,)) for n in range(3)}
    memory |= {TABLE: struct.pack("<5I", *pages), DIRECTORY + 4 * (WINDOW >> 22): u32(TABLE | ALL)}
    for vector, handler in handlers.items():
        place = BACK_FROM_FAULT + 0x10 * (vector - 6)
        memory |= {place: handler, IDT + 8 * vector: struct.pack("<HHHH", place, CODE32, 0x8E00, 0)}
    return Attack(f"{kind} from ring {ring}", (user(0, code) if ring else code,), memory=memory)
