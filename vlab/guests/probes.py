"""Guests for exercises on paging: page tables laid out by chance, and accesses through them one by one.

They are 32-bit programs, under legacy or PAE paging (AMD64 Architecture Programmer's Manual, vol. 2, rev.
3.42, chapter 5). What each access came to, the guest itself keeps in its memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from vlab.guests.programs import STACK, USER_DATA, USER_STACK, Code, enter_ring_3, image, leave, rings
from vlab.isa.control import CR4
from vlab.isa.paging import PagingMode

P, RW, US, A, D, PS, G, NX = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 63
ALL: Final = P | RW | US
MEMORY: Final = "8M"
"""The memory that such a guest needs."""
RESULTS: Final = 0x20000
"""Where the guest keeps what came of each access: 8 bytes each."""
HERE: Final = 0x400000
"""Linear addresses below it are the guest's own, mapped one to one; above are the pages under test."""
POOL: Final = range(0x200000, HERE, 0x1000)
"""Frames for tables and pages."""
RETURN: Final = 0xFFC
"""Where in each page under test a RET is."""
FINE: Final = 0xFFFFFFFF
"""In place of CR2: the access went through."""
LEGACY, PAE = PagingMode.LEGACY, PagingMode.PAE
_1M: Final = 1 << 20
_PSE, _PAE, _PGE = CR4.PSE.mask, CR4.PAE.mask, CR4.PGE.mask


class Tables:
    """A guest's page tables, somewhere in its memory. ``words``: what is to be written there, by address."""

    def __init__(self, rng: Random, mode: PagingMode) -> None:
        self.mode, self.rng = mode, rng
        self.size = 4 if mode is LEGACY else 8
        self.shift = 22 if mode is LEGACY else 21
        self._frames = list(POOL)
        rng.shuffle(self._frames)
        self.words: dict[int, bytes] = {}
        self._noise = b""
        self.root = self.frame() + (0 if mode is LEGACY else 32 * rng.randrange(128))
        self._directories: dict[int, int] = {}
        self._slots = list(range(HERE >> self.shift, 1 << 32 - self.shift))
        for base in range(0, HERE, 1 << self.shift):
            table = self.frame()
            self.point(base, table)
            for place in range(1 << self.shift - 12):
                self.put(table + self.size * place, base + (place << 12) | ALL)

    def frame(self) -> int:
        """Take a frame that nothing else uses."""
        return self._frames.pop()

    def put(self, address: int, entry: int) -> None:
        """Have an entry stand at an address."""
        self.words[address] = entry.to_bytes(self.size, "little")

    def slot(self) -> int:
        """Take a part of the address space that nothing else uses: what one directory entry maps."""
        return self._slots.pop(self.rng.randrange(len(self._slots))) << self.shift

    def entry(self, linear: int) -> int:
        """Give the address of the directory entry for ``linear``."""
        if self.mode is LEGACY:
            return self.root + 4 * (linear >> 22)
        number = linear >> 30
        if number not in self._directories:
            self._directories[number] = self.frame()
            self.put(self.root + 8 * number, self._directories[number] | P)
        return self._directories[number] + 8 * (linear >> 21 & 511)

    def point(self, linear: int, table: int, flags: int = ALL) -> None:
        """Have the directory entry for ``linear`` point to a table, or to a large page."""
        self.put(self.entry(linear), table | flags)

    def pages(self, *flags: int, upper: int = ALL) -> list[int]:
        """Map one page for each of ``flags``, all through one table; give their addresses."""
        base, table = self.slot(), self.frame()
        self.point(base, table, upper)
        places = self.rng.sample(range(1 << self.shift - 12), len(flags))
        for place, each in zip(places, flags, strict=True):
            self.put(table + self.size * place, self.frame() | each)
        return [base | place << 12 for place in places]

    def large(self, flags: int = ALL) -> int:
        """Map a large page onto the upper half of memory; give its address."""
        base = self.slot()
        self.point(base, HERE, flags | PS)
        return base

    def write(self, ram: memoryview) -> None:
        """Fill the pages with noise, a RET near the end of each, and the tables with their entries."""
        if not self._noise:
            self._noise = self.rng.randbytes(_1M)
        for number, start in enumerate(range(POOL.start, 2 * HERE, _1M)):  # no two pages are alike
            turn = 4 * 257 * (number + 1)
            ram[start : start + _1M] = self._noise[turn:] + self._noise[:turn]
        ends = range(POOL.start + RETURN, 2 * HERE, 0x1000)
        ram[ends.start : ends.stop : 0x1000] = b"\xc3" * len(ends)
        for start in {address & ~0xFFF for address in self.words}:
            ram[start : start + 0x1000] = bytes(0x1000)
        for address, entry in self.words.items():
            ram[address : address + self.size] = entry


@dataclass(frozen=True, slots=True)
class Try:
    """One access of the guest's. what: "read", "write" or "call"."""

    what: str
    address: int
    user: bool = False

    def __str__(self) -> str:
        ring = "in ring 3" if self.user else "in ring 0"
        return f"{'fetch' if self.what == 'call' else self.what} at {self.address:#010x} {ring}"


@dataclass(slots=True)
class Plan:
    """A guest: its tables, what it tries, and its CR0.WP."""

    tables: Tables
    tries: list[Try] = field(default_factory=list)
    wp: bool = True

    def some(self, pages: Sequence[int], *what: str, users: Sequence[bool] = (False, True)) -> None:
        """Try all of ``what`` on each page, in every ring of ``users``."""
        rng = self.tables.rng
        for page in pages:
            for each in what:
                place = RETURN if each == "call" else 4 * rng.randrange(1, 63) + 0x100 * rng.randrange(15)
                self.tries += [Try(each, page + place, user) for user in users]

    def shuffle(self) -> None:
        """Have ring 0 come first, and each ring try in some order."""
        self.tables.rng.shuffle(self.tries)
        self.tries.sort(key=lambda each: each.user)

    def guest(self) -> bytes:
        """Give its image."""
        return image(rings(self._kernel, {14: _keep_fault, 0x20: _end}))

    def seen(self, ram: memoryview) -> list[tuple[Try, str]]:
        """Give what came of each try, in words."""
        kept = (struct.unpack_from("<II", ram, RESULTS + 8 * number) for number in range(len(self.tries)))
        return [(each, _came_to(*found)) for each, found in zip(self.tries, kept, strict=True)]

    def _kernel(self, code: Code) -> None:
        code.add(*paging_on(self.tables, wp=self.wp))
        for number, each in enumerate(each for each in self.tries if not each.user):
            self._attempt(code, each, f"kernel {number}", STACK)
        enter_ring_3(code, "user")
        code.add("user", b"\x66\xb8" + struct.pack("<H", USER_DATA) + b"\x8e\xd8\x8e\xc0")
        for number, each in enumerate(each for each in self.tries if each.user):
            self._attempt(code, each, f"user {number}", USER_STACK)
        code.add(b"\xcd\x20")  # int 20h

    def _attempt(self, code: Code, each: Try, label: str, stack: int) -> None:
        code.add(b"\xbd").word(label)  # mov ebp, label: where the handler of #PF goes on
        address = struct.pack("<I", each.address)
        if each.what == "read":
            code.add(b"\xa1" + address)  # mov eax, [address]
        elif each.what == "write":
            value = self.tables.rng.getrandbits(32)
            code.add(
                b"\xb8" + struct.pack("<I", value) + b"\xa3" + address
            )  # mov eax, value; mov [address], eax
        else:
            code.add(b"\xb8" + address + b"\xff\xd0")  # mov eax, address; call eax, where a RET is
        code.add(KEEP, label, b"\xbc" + struct.pack("<I", stack))  # mov esp, stack


def _came_to(value: int, address: int) -> str:
    if address == FINE:
        return f"the value {value:#x}"
    return f"a page fault with error code {value:#x} and {address:#010x} in CR2"


KEEP: Final = b"\x89\x07\xc7\x47\x04\xff\xff\xff\xff\x83\xc7\x08"
"""mov [edi], eax; mov dword [edi + 4], FINE; add edi, 8"""


def _end(code: Code) -> None:
    code.add(leave(0))


def _keep_fault(code: Code) -> None:
    code.add(b"\x58\x89\x07")  # pop eax: the error code; mov [edi], eax
    code.add(b"\x0f\x20\xd0\x89\x47\x04\x83\xc7\x08")  # mov eax, cr2; mov [edi + 4], eax; add edi, 8
    code.add(b"\x89\x2c\x24\xcf")  # mov [esp], ebp; iretd


def control(number: int, value: int) -> bytes:
    """Load a control register; changes EAX."""
    # mov eax, value; mov crN, eax
    return b"\xb8" + struct.pack("<I", value) + bytes((0x0F, 0x22, 0xC0 | number << 3))


def paging_on(tables: Tables, *, wp: bool = True, cr4: int = 0) -> tuple[bytes, ...]:
    """Turn paging on; leaves RESULTS in EDI. cr4: bits beside those that the mode needs."""
    legacy = tables.mode is LEGACY
    no_execute = b"\xb9\x80\x00\x00\xc0\x31\xd2\xb8\x00\x08\x00\x00\x0f\x30"  # wrmsr EFER, NXE
    return (
        b"" if legacy else no_execute,
        control(4, cr4 | (_PSE if legacy else _PAE)),
        control(3, tables.root),
        control(0, 0x80000011 | wp << 16),
        b"\xbf" + struct.pack("<I", RESULTS),  # mov edi, RESULTS
    )


class Script:
    """A guest that edits its own page tables and reads through them; ``misses``: what it may cost of those.

    Each read notes what it is to find, in words.
    """

    def __init__(self, rng: Random, cr4: int = 0) -> None:
        self.rng, self.tables = rng, Tables(rng, LEGACY)
        self._code = b"".join(paging_on(self.tables, cr4=cr4))
        self.reads: list[tuple[int, str]] = []
        self.misses = 0

    def page(self, *, is_global: bool = False) -> tuple[int, int]:
        """Map a page; give its address and its entry's."""
        (page,) = self.tables.pages(ALL | (G if is_global else 0))
        table = int.from_bytes(self.tables.words[self.tables.entry(page)], "little") & ~0xFFF
        return page, table + 4 * (page >> 12 & 1023)

    def read(self, page: int, after: str, *, miss: bool) -> None:
        """Read from a page. after: what the guest has done before it."""
        address = page + 4 * self.rng.randrange(1, 1023)
        self._code += b"\xa1" + struct.pack("<I", address) + KEEP
        self.reads.append((address, after))
        self.misses += miss

    def edit(self, entry: int, value: int) -> None:
        """Have the guest look at a page-table entry, and then write it."""
        self._code += b"\x8b\x0d" + struct.pack("<I", entry)  # mov ecx, [entry]
        self._code += b"\xc7\x05" + struct.pack("<II", entry, value)

    def invlpg(self, address: int) -> None:
        """INVLPG."""
        self._code += b"\x0f\x01\x3d" + struct.pack("<I", address)

    def cr3(self, root: int) -> None:
        """MOV to CR3."""
        self._code += control(3, root)

    def cr4(self, pge: bool) -> None:
        """MOV to CR4, with PGE or without."""
        self._code += control(4, _PSE | (_PGE if pge else 0))

    def space(self) -> int:
        """Make a second directory, like the first one; give its address."""
        root = self.tables.frame()
        for address, entry in list(self.tables.words.items()):
            if address & ~0xFFF == self.tables.root:
                self.tables.words[root | address & 0xFFF] = entry
        self.tables.words.setdefault(root, bytes(4))
        return root

    def guest(self) -> bytes:
        """Give its image."""
        return image(self._code + leave(0))

    def seen(self, ram: memoryview) -> list[tuple[tuple[int, str], int]]:
        """Give each read, as its address and what came before it, with what it found."""
        kept = (struct.unpack_from("<I", ram, RESULTS + 8 * number)[0] for number in range(len(self.reads)))
        return list(zip(self.reads, kept, strict=True))
