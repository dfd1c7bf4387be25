"""Edits of page tables by a guest's own instructions: what can be changed, by what means, and what follows.

The expectation is the walker's of ``vlab.isa.paging``, over the guest's tables as they are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.vmm.test_shadow_differential import (
    BASE,
    CODE,
    DATA,
    FETCH_CODE,
    INVLPG_CODE,
    NX,
    PAGES,
    PROGRAMS,
    PS,
    READ_CODE,
    ROOT,
    RW,
    STEP,
    TABLES,
    TABLES_AT,
    US,
    VMMCALL,
    WRITE_CODE,
    A,
    D,
    P,
    Subject,
    shape,
    start,
    tables_for,
)
from vlab.isa.paging import (
    Access,
    Fault,
    PagingControls,
    PagingMode,
    Step,
    accessed_dirty_updates,
    translate,
    walk,
)
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.paging.strategy import PagingStrategy

USER_AT, OFFSET = 0x30000, 8
"""Where ring 3 sees the tables; the offset in a page that is accessed, where there is a VMMCALL in some."""
WORDS = 0x100
"""What is added for reads and writes, where each page has bytes of its own."""
BUFFER = TABLES[15]
OTHER_ROOT, OTHER_DIRECTORY, OTHER_POINTERS = TABLES[14], TABLES[13], TABLES[12]
RECURSIVE = {PagingMode.LEGACY: 0x3FF, PagingMode.LONG: 0x1FE}
ALL = P | RW | US | A
PAE, LONG, LEGACY = PagingMode.PAE, PagingMode.LONG, PagingMode.LEGACY

EXCHANGE8 = 0x400
"""Programs beside those of the differential tests: their offsets from CODE."""
WRITERS = {
    "mov byte": (0x420, "8808"),  # mov [eax], cl
    "mov word": (0x430, "668908"),
    "mov dword": (0x440, "8908"),
    "xchg": (0x450, "8708"),
    "lock xadd": (0x460, "f00fc108"),
    "stosd": (0x470, "89c7 89c8 fc ab"),  # mov edi, eax; mov eax, ecx; cld; stosd
    "rep movsb": (0x480, "89c7 89ce b908000000 fc f3a4"),  # edi = eax; esi = ecx; 8 bytes
    "push": (0x4A0, "89e3 8d6004 51 89dc"),  # mov ebx, esp; lea esp, [eax + 4]; push ecx; mov esp, ebx
    "lock cmpxchg8b": (0x4C0, "89c6 8b06 8b5604 8b19 8b4904 f00fc70e"),  # the new value at [ecx]
    "mov qword": (0x4E0, "488b09 488908"),  # long mode: mov rcx, [rcx]; mov [rax], rcx
}
LOW = {"stosd", "rep movsb", "lock cmpxchg8b"}
"""Those whose register moves cut addresses off at 32 bits."""


def writers(mode: PagingMode) -> list[str]:
    """Give the means of a mode: PUSH is of 8 bytes in long mode, and CMPXCHG8B of two legacy entries."""
    absent = {LEGACY: {"mov qword", "lock cmpxchg8b"}, PAE: {"mov qword"}, LONG: {"push"}}[mode]
    return [name for name in WRITERS if name not in absent]


@dataclass(frozen=True)
class Edit:
    """One change of one entry: by what it is called, its level, and the new value of the old."""

    name: str
    level: int
    flipped: int = 0
    cleared: int = 0
    value: int | None = None

    def of(self, old: int) -> int:
        return self.value if self.value is not None else (old ^ self.flipped) & ~self.cleared


def edits(mode: PagingMode) -> list[Edit]:
    """Give one of each kind at every level of a mode."""
    found = []
    for level in {LEGACY: (1, 2), PAE: (1, 2, 3), LONG: (1, 2, 3, 4)}[mode]:
        pointer = mode is PAE and level == 3
        flips = {"present": P, "available": 1 << 9}
        if not pointer:
            flips |= {"writable": RW, "user": US, "write-through": 8, "uncached": 16, "both rights": RW | US}
        if mode is not LEGACY and not pointer:
            flips |= {"no execute": NX, "a reserved bit": 1 << 51, "present and a reserved bit": P | 1 << 40}
        if level == 1:
            flips |= {"PAT": 0x80, "global": 0x100}
        found += [Edit(name, level, flipped=bits) for name, bits in flips.items()]
        if not pointer:
            found += [Edit("clear accessed", level, cleared=A), Edit("clear dirty", level, cleared=D)]
            found += [
                Edit("clear both", level, cleared=A | D),
                Edit("clear the rights", level, cleared=RW | US),
            ]
        found.append(Edit("nothing at all", level, value=0))
        found += frames(mode, level)
    return found


def frames(mode: PagingMode, level: int) -> list[Edit]:
    """Give edits that lead elsewhere: other pages, other tables, a large page."""
    if level == 1:
        pages = ((PAGES[1], ALL), (PAGES[1], P), (CODE, P | US), (ROOT, P))
        return [Edit(f"page {page:#x} with {flags:#x}", 1, value=page | flags) for page, flags in pages]
    if level == 2:
        large = 0x200000 if STEP[mode] == 2 << 20 else 0
        found = [
            Edit("another table", 2, value=TABLES[9] | ALL),
            Edit("a table as its page", 2, value=TABLES[8] | P),
        ]
        for flags in (ALL, ALL | D, P | US, P | RW, P | 0x1000 | US):
            found.append(Edit(f"a large page with {flags:#x}", 2, value=large | PS | flags))
        bad = 1 << (21 if mode is LEGACY else 13)
        return [*found, Edit("a large page with a reserved bit", 2, value=large | PS | ALL | bad)]
    if level == 3:
        flags = P if mode is PAE else ALL
        found = [Edit("another directory", 3, value=OTHER_DIRECTORY | flags)]
        return [*found, Edit("a page of 1 GiB", 3, value=PS | ALL)] if mode is LONG else found
    return [
        Edit("another table of pointers", 4, value=OTHER_POINTERS | ALL),
        Edit("a large page", 4, value=PS | ALL),
    ]


class EditSubject(Subject):
    """A guest whose tables map BASE by one page table at each level, and show themselves in four ways."""

    def __init__(self, machine: Machine, strategy: PagingStrategy) -> None:
        super().__init__(machine, strategy)
        for offset, code in WRITERS.values():
            program = bytes.fromhex(code) + VMMCALL
            self.memory.ram[CODE + offset : CODE + offset + len(program)] = program

    def open(self, mode: PagingMode) -> None:
        """Begin with tables that are in order."""
        self.mode = mode
        self.size = shape(mode)[0]
        state = start(mode, wp=True, smep=False)
        directory = [table | ALL for table in TABLES[8:12]]
        leaves = [[PAGES[0] | ALL, PAGES[1] | P | US, PAGES[0] | P | RW, PAGES[1] | ALL | D]] * 4
        image = bytearray(tables_for(mode, directory, leaves))
        self._show_the_tables(image)
        self.controls = PagingControls.from_registers(state.cr0, state.cr3, state.cr4, state.efer)
        state.rsp = TABLES_AT + BUFFER - ROOT + 0x800
        self.begin(state, bytes(image))
        self.run(READ_CODE, USER_AT, user=True)

    def _show_the_tables(self, image: bytearray) -> None:
        size, mode = self.size, self.mode

        def put(gpa: int, value: int) -> None:
            image[gpa - ROOT : gpa - ROOT + size] = value.to_bytes(size, "little")

        for number, table in enumerate(TABLES):
            put(TABLES[5] + size * ((USER_AT >> 12) + number), table | ALL)
        put((ROOT if mode is LEGACY else TABLES[2]) + size, P | RW | PS)  # a large page over address 0
        if mode in RECURSIVE:
            put(ROOT + size * RECURSIVE[mode], ROOT | P | RW)
        copies = [(OTHER_ROOT, ROOT)]
        if mode is not LEGACY:
            copies += [
                (OTHER_DIRECTORY, TABLES[3] if mode is PAE else TABLES[4]),
                (OTHER_POINTERS, TABLES[3]),
            ]
        for copy, original in copies:
            image[copy - ROOT : copy - ROOT + PAGE] = image[original - ROOT : original - ROOT + PAGE]

    # --- addresses --------------------------------------------------------------------------------------

    def entry_of(self, linear: int, level: int) -> int:
        """The guest-physical address of the entry for ``linear``, in the tables as they were at first."""
        index = (linear - BASE[self.mode]) // STEP[self.mode]
        if level == 1:
            return TABLES[8 + index] + linear // PAGE % 4 * self.size
        if level == 2:
            return shape(self.mode)[2][index]
        if self.mode is PAE:
            return ROOT + 8
        return ROOT + 8 * 256 if level == 4 else TABLES[3] + 8 * (BASE[LONG] >> 30 & 0x1FF)

    def routes(self, linear: int, level: int) -> dict[str, tuple[int, bool]]:
        """The linear addresses at which an entry can be written, and whether from ring 3."""
        gpa = self.entry_of(linear, level)
        found = {
            "its own mapping": (TABLES_AT + gpa - ROOT, False),
            "another mapping, from ring 3": (USER_AT + gpa - ROOT, True),
            "a large page": (STEP[self.mode] + gpa, False),
        }
        if self.mode is LEGACY:
            found["the directory as a table"] = (
                0xFFC00000 + (linear >> 12) * 4 if level == 1 else 0xFFFFF000 + (linear >> 22) * 4, False
            )  # fmt: skip
        elif self.mode is LONG:
            index, place = RECURSIVE[LONG], linear & 0xFFFFFFFFFFFF
            for _ in range(level):
                place = index << 39 | place >> 9 & 0x7FFFFFFFF8
            found["the top table as a table"] = place | 0xFFFF << 48, False
        return found

    def read_entry(self, gpa: int) -> int:
        return int.from_bytes(self.memory.ram[gpa : gpa + self.size], "little")

    # --- doing ------------------------------------------------------------------------------------------

    def write_entry(self, gpa: int, value: int, writer: str, route: tuple[int, bool]) -> None:
        """Have the guest write an entry; the half with the present bit last."""
        linear, user = route
        old, place = self.read_entry(gpa), CODE + WRITERS[writer][0]
        self.memory.ram[BUFFER : BUFFER + 8] = value.to_bytes(8, "little")
        source = (USER_AT if user else TABLES_AT) + BUFFER - ROOT

        def do(address: int, operand: int) -> None:
            self.core.words[0], self.core.words[1] = address, operand
            outcome = self.go(place, user=user)
            assert outcome[0] == "done", f"{writer} at {address:#x}: {outcome}"

        if writer in ("rep movsb", "lock cmpxchg8b", "mov qword") and self.size == 8:
            do(linear, source)
            return
        if writer == "rep movsb":
            self.memory.ram[BUFFER : BUFFER + 8] = value.to_bytes(4, "little") + bytes(
                self.memory.ram[gpa + 4 : gpa + 8]
            )
            do(linear, source)
            return
        width = {"mov byte": 1, "mov word": 2}.get(writer, 4)
        for at in reversed(range(0, self.size, width)):
            mask = (1 << 8 * width) - 1
            before, after = old >> 8 * at & mask, value >> 8 * at & mask
            if writer == "lock xadd":
                after = after - before & mask
            do(linear + at, after)

    def flush(self, how: str, linear: int) -> None:
        if how == "invlpg":
            assert self.run(INVLPG_CODE, linear)[0] == "done"
        elif how != "none":
            self.load_cr3(ROOT)

    def load_cr3(self, root: int) -> None:
        assert self.run(bytes.fromhex("0f22d8 0f01d9"), root)[0] == "done"

    def touch(self, linear: int, access: Access) -> tuple[object, ...]:
        program = FETCH_CODE if access.fetch else WRITE_CODE if access.write else READ_CODE
        return self.run(program, linear, user=access.user)

    # --- what is expected -------------------------------------------------------------------------------

    def expected(self, linear: int, access: Access) -> tuple[tuple[object, ...], bytes | None]:
        """How an access ends by the tables as they are, and the tables then; None if any will do."""
        steps: list[Step] = []
        walker = walk(linear, self.controls, access, self._read)
        try:
            while True:
                steps.append(next(walker))
        except StopIteration as end:
            result = end.value
        image = bytearray(self.tables)
        if isinstance(result, Fault):
            updates = accessed_dirty_updates(steps[:-1], Access())
            outcome: tuple[object, ...] = ("fault", 14, result.error_code, linear)
        else:
            updates = accessed_dirty_updates(steps, access)
            outcome = self._reached(result.physical, access)
        for gpa, size, value in updates:
            if ROOT <= gpa < ROOT + len(image):
                image[gpa - ROOT : gpa - ROOT + size] = value.to_bytes(size, "little")
        written = (
            not isinstance(result, Fault) and access.write and ROOT <= result.physical < ROOT + len(image)
        )
        return outcome, None if written or outcome[0] == "missed" else bytes(image)

    def data_frame(self, linear: int, access: Access) -> int | None:
        """Give the guest-physical address of a byte of data that an access reaches by the tables."""
        result = translate(linear, self.controls, access, self._read)
        if isinstance(result, Fault) or access.fetch or result.physical & -PAGE not in PAGES[:2]:
            return None
        return result.physical

    def _read(self, gpa: int, size: int) -> int:
        if gpa + size > len(self.memory.ram):
            return (1 << 8 * size) - 1
        return int.from_bytes(self.memory.ram[gpa : gpa + size], "little")

    def _reached(self, gpa: int, access: Access) -> tuple[object, ...]:
        if gpa >= len(self.memory.ram) or (access.write and 0xF0000 <= gpa < 0x100000):
            return "missed", gpa
        if access.fetch and bytes(self.memory.ram[gpa : gpa + 3]) != VMMCALL:
            return ("unknown",)
        return "done", 0x5A if access.write or access.fetch else self.memory.ram[gpa]


assert DATA in PAGES
assert len(PROGRAMS) * 16 < 0x400
