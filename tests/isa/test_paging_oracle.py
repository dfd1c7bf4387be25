"""The walker against a second, naive walker on random page tables.

The oracle shares nothing with the walker: each mode is written out, and the reserved bits are lists of bit
numbers read off the figures of the manual.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vlab.isa.paging import Access, Fault, PagingControls, PagingMode, Step, Translation, translate, walk

PAGES = 16
SIZE = PAGES * 4096


@dataclass
class Answer:
    """What the oracle expects; ``physical`` is None for a fault and ``code`` None for a success."""

    steps: list[tuple[int, int]]
    code: int | None = None
    physical: int | None = None
    size: int = 0
    writable: bool = True
    user: bool = True
    executable: bool = True


class Oracle:
    """A page walk with one paragraph for each mode."""

    def __init__(self, memory: bytearray, controls: PagingControls, access: Access) -> None:
        self.memory, self.c, self.access = memory, controls, access
        self.answer = Answer([])

    def fetch(self, level: int, address: int, size: int) -> list[int]:
        """Read an entry as a list of bits, lowest first."""
        self.answer.steps.append((level, address))
        number = read(self.memory, address, size)
        return [number >> n & 1 for n in range(8 * size)]

    def fail(self, code: int) -> bool:
        code |= 2 * self.access.write + 4 * self.access.user
        if self.access.fetch and (self.c.smep or (self.c.nxe and self.c.mode is not PagingMode.LEGACY)):
            code |= 16
        self.answer.code = code
        return False

    def accept(self, entry: list[int], reserved: list[int], plain: bool = False) -> bool:
        """Check one entry and gather its rights."""
        if not entry[0]:
            return self.fail(0)
        if len(entry) == 64:
            reserved = reserved + list(range(self.c.maxphyaddr, 52)) + ([] if self.c.nxe else [63])
        if any(entry[n] for n in reserved):
            return self.fail(1 | 8)
        if not plain:
            self.answer.writable &= bool(entry[1])
            self.answer.user &= bool(entry[2])
            self.answer.executable &= not (len(entry) == 64 and entry[63])
        return True

    def finish(self, frame: int, offset_bits: int, linear: int) -> Answer:
        answer, access = self.answer, self.access
        refused = access.user and not answer.user
        refused |= access.write and not answer.writable and (access.user or self.c.wp)
        refused |= access.fetch and not answer.executable
        if answer.user and not access.user:
            refused |= self.c.smep if access.fetch else (self.c.smap and not self.c.ac)
        if refused:
            self.fail(1)
            return answer
        answer.physical = frame + linear % (1 << offset_bits)
        answer.size = 1 << offset_bits
        return answer

    def legacy(self, linear: int) -> Answer:
        pde = self.fetch(2, self.c.root // 4096 * 4096 + linear // (1 << 22) * 4, 4)
        if self.c.pse and pde[7] and pde[0]:
            too_high = [n - 19 for n in range(self.c.maxphyaddr, 40)]
            if not self.accept(pde, [21, *too_high]):
                return self.answer
            return self.finish(number(pde, 22, 31) + (number(pde, 13, 20) << 19), 22, linear)
        if not self.accept(pde, []):
            return self.answer
        pte = self.fetch(1, number(pde, 12, 31) + linear // 4096 % 1024 * 4, 4)
        if not self.accept(pte, []):
            return self.answer
        return self.finish(number(pte, 12, 31), 12, linear)

    def pae(self, linear: int) -> Answer:
        high = list(range(52, 63))
        pdpe = self.fetch(3, self.c.root // 32 * 32 + linear // (1 << 30) * 8, 8)
        if not self.accept(pdpe, [1, 2, 5, 6, 7, 8, 63, *high], plain=True):
            return self.answer
        pde = self.fetch(2, number(pdpe, 12, 51) + linear // (1 << 21) % 512 * 8, 8)
        if pde[7] and pde[0]:
            if not self.accept(pde, [*range(13, 21), *high]):
                return self.answer
            return self.finish(number(pde, 21, 51), 21, linear)
        if not self.accept(pde, high):
            return self.answer
        pte = self.fetch(1, number(pde, 12, 51) + linear // 4096 % 512 * 8, 8)
        if not self.accept(pte, high):
            return self.answer
        return self.finish(number(pte, 12, 51), 12, linear)

    def long(self, linear: int) -> Answer:
        pml4e = self.fetch(4, self.c.root // 4096 * 4096 + linear // (1 << 39) % 512 * 8, 8)
        if not self.accept(pml4e, [7, 8]):
            return self.answer
        pdpe = self.fetch(3, number(pml4e, 12, 51) + linear // (1 << 30) % 512 * 8, 8)
        if pdpe[7] and pdpe[0]:
            if not self.accept(pdpe, list(range(13, 30))):
                return self.answer
            return self.finish(number(pdpe, 30, 51), 30, linear)
        if not self.accept(pdpe, []):
            return self.answer
        pde = self.fetch(2, number(pdpe, 12, 51) + linear // (1 << 21) % 512 * 8, 8)
        if pde[7] and pde[0]:
            if not self.accept(pde, list(range(13, 21))):
                return self.answer
            return self.finish(number(pde, 21, 51), 21, linear)
        if not self.accept(pde, []):
            return self.answer
        pte = self.fetch(1, number(pde, 12, 51) + linear // 4096 % 512 * 8, 8)
        if not self.accept(pte, []):
            return self.answer
        return self.finish(number(pte, 12, 51), 12, linear)


def number(entry: list[int], lo: int, hi: int) -> int:
    """The bits lo..hi of an entry, in place."""
    return sum(entry[n] << n for n in range(lo, hi + 1))


def read(memory: bytearray, address: int, size: int) -> int:
    """Table memory; beyond its end every byte reads 0xFF, as on an empty bus."""
    chunk = memory[address : address + size] if address < SIZE else b""
    return int.from_bytes(chunk.ljust(size, b"\xff"), "little")


def random_entry(random: Random, wide: bool) -> int:
    """An entry that is likely to lead somewhere: mostly present, mostly permissive, seldom with odd bits."""
    entry = random.randrange(PAGES) << 12
    for bit, chance in ((0, 0.95), (1, 0.8), (2, 0.8), (5, 0.5), (6, 0.5), (7, 0.15), (8, 0.05)):
        entry |= (random.random() < chance) << bit
    if entry & 0x80 and random.random() < 0.8:
        entry = entry & 0xFFF | random.choice((0, 1 << 30, 3 << 30, 1 << 24))
    if wide and random.random() < 0.1:
        entry |= 1 << random.randrange(32, 64)
    elif random.random() < 0.05:
        entry |= 1 << random.randrange(12, 32)
    return entry & (2**64 - 1 if wide else 2**32 - 1)


def random_memory(random: Random, controls: PagingControls) -> bytearray:
    """Pages of random entries; the four pointers of PAE, which have many reserved bits, are mostly clean."""
    wide = controls.mode is not PagingMode.LEGACY
    size = 8 if wide else 4
    entries = (random_entry(random, wide) for _ in range(SIZE // size))
    memory = bytearray(b"".join(entry.to_bytes(size, "little") for entry in entries))
    if controls.mode is PagingMode.PAE:
        for address in range(controls.root & ~31, (controls.root & ~31) + 32, 8):
            if random.random() < 0.9:
                memory[address : address + 8] = (random.randrange(PAGES) << 12 | 1).to_bytes(8, "little")
    return memory


CONTROLS = st.builds(
    PagingControls,
    st.sampled_from([PagingMode.LEGACY, PagingMode.PAE, PagingMode.LONG]),
    st.integers(0, SIZE - 32),
    pse=st.booleans(),
    nxe=st.booleans(),
    wp=st.booleans(),
    smep=st.booleans(),
    smap=st.booleans(),
    ac=st.booleans(),
    maxphyaddr=st.sampled_from([32, 36, 40, 52]),
)
ACCESSES = st.builds(
    lambda what, user: Access(write=what == "write", user=user, fetch=what == "fetch"),
    st.sampled_from(["read", "write", "fetch"]),
    st.booleans(),
)


# No shrinking: a seed does not shrink to anything simpler.
@settings(max_examples=150, phases=[Phase.generate])
@given(CONTROLS, ACCESSES, st.integers(0, 2**32))
def test_the_walker_agrees_with_a_naive_one_on_random_tables(
    controls: PagingControls, access: Access, seed: int
) -> None:
    random = Random(seed)
    long = controls.mode is PagingMode.LONG
    memory = random_memory(random, controls)
    for _ in range(40):
        linear = random.getrandbits(47 if long else 32)
        expected = getattr(Oracle(memory, controls, access), controls.mode.name.lower())(linear)
        if long and random.random() < 0.5:
            linear |= 0xFFFF << 48 | 1 << 47
            expected = Oracle(memory, controls, access).long(linear)
        check(memory, linear, controls, access, expected)


def check(memory: bytearray, linear: int, controls: PagingControls, access: Access, expected: Answer) -> None:
    steps: list[Step] = []
    generator = walk(linear, controls, access, lambda address, size: read(memory, address, size))
    result: Translation | Fault | None = None
    while result is None:
        try:
            steps.append(next(generator))
        except StopIteration as stop:
            result = stop.value
    assert result == translate(linear, controls, access, lambda address, size: read(memory, address, size))
    assert [(step.level, step.entry_address) for step in steps] == expected.steps
    for step in steps:
        assert step.entry == read(memory, step.entry_address, step.entry_size)
    if isinstance(result, Fault):
        assert result.error_code == expected.code
        assert result.step in steps
        if not result.error_code & 1 or result.error_code & 8:
            assert result.step == steps[-1]
    else:
        assert isinstance(result, Translation)
        assert (result.physical, result.page_size) == (expected.physical, expected.size)
        assert (result.writable, result.user) == (expected.writable, expected.user)
        assert result.executable == (expected.executable or not controls.nxe)
        last = steps[-1].kind(steps[-1].entry).decode()
        assert (result.global_, result.dirty) == (last["G"], last["D"])
