"""What a run by binary translation did: blocks made, how they grew, how often code found its way alone.

Blocks and links are counted as they are made. How often they are used is not: the cache holds no counters,
which its code could not write to. So hit rates are taken by watching, while ``profile`` is on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from vlab.isa.sensitive import mnemonic
from vlab.machine.cpu import CodeHook
from vlab.vmm.translation.anatomy import Anatomy, take_apart
from vlab.vmm.translation.blocks import CallOut
from vlab.vmm.translation.code_cache import CODE_SIZE, GATES, SIZE
from vlab.vmm.translation.library import Counts
from vlab.vmm.translation.window import PLACES

if TYPE_CHECKING:
    from vlab.vmm.translation.blocks import Block
    from vlab.vmm.translation.monitor import BinaryTranslation


@dataclass(slots=True)
class Profile:
    """What was executed meanwhile. blocks: entered. by_monitor: of those, by the monitor's hand.

    found: lookups of indirect targets that succeeded in the cache; lost: those that ended at the monitor.
    unlinked: ends of blocks that were not linked yet.
    """

    blocks: int = 0
    by_monitor: int = 0
    found: int = 0
    lost: int = 0
    unlinked: int = 0

    @property
    def chained(self) -> int:
        """Blocks entered by a jump from another."""
        return max(0, self.blocks - self.by_monitor - self.found)

    @property
    def chain_rate(self) -> float:
        """Share of direct ways from block to block that did not end at the monitor."""
        return _share(self.chained, self.unlinked)

    @property
    def lookup_rate(self) -> float:
        """Share of indirect targets that were found in the cache."""
        return _share(self.found, self.lost)


def _share(hits: int, misses: int) -> float:
    return hits / (hits + misses) if hits + misses else 0.0


@dataclass(frozen=True, slots=True)
class Listing:
    """One block beside its translation; a line: the guest's address, its instruction, the code for it."""

    rip: int
    context: str
    lines: tuple[tuple[int, str, str], ...]

    def __str__(self) -> str:
        head = f"block {self.rip:#x}, {self.context}"
        return "\n".join((head, *(f"  {rip:#x}  {source:36} {code}" for rip, source, code in self.lines)))


class Room(NamedTuple):
    """Bytes of the cache that are taken, and all that there are: for code, and for gates."""

    code: int
    gates: int
    code_size: int = CODE_SIZE
    gates_size: int = SIZE - GATES


class Run(NamedTuple):
    """A run of the cache that was written at once. used: it can still be executed again."""

    offset: int
    size: int
    used: bool


T = TypeVar("T")


class Still(Protocol):
    """Calls a function and gives its result."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """Call it."""


def _at_once(action: Callable[[], T]) -> T:
    return action()


class Statistics:
    """What one virtual machine's monitor can tell of its translations. Two of one monitor are equal.

    still: calls a function while the guest stands still, which must be so where several things are looked at.
    """

    def __init__(self, monitor: BinaryTranslation, still: Still = _at_once) -> None:
        self._monitor = monitor
        self._still = still

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and self._monitor is other._monitor

    def __hash__(self) -> int:
        return hash(id(self._monitor))

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self._monitor.translations.counts

    @property
    def blocks(self) -> list[int]:
        """The guest's addresses of the blocks that are in the cache, in the order of their making."""
        return [block.rip for block in self.translated]

    @property
    def translated(self) -> list[Block]:
        """The blocks that are in the cache, in the order of their making."""
        return list(self._monitor.translations.map.blocks.values())

    @property
    def room(self) -> Room:
        """How much of the cache is taken."""
        cache = self._monitor.translations.cache
        return Room(cache.used, cache.gates_used)

    def runs(self) -> list[Run]:
        """Give what the cache's code is made of, in the order of offsets: blocks, and comparisons of lookups.

        What is not used any more stays where it is until the cache is emptied.
        """
        owners = self._monitor.translations.map.code.owners()
        ends = [*(offset for offset, _ in owners[1:]), self.room.code]
        return [
            Run(offset, end - offset, block.alive and not block.transient)
            for (offset, block), end in zip(owners, ends, strict=False)
        ]

    def call_outs(self) -> dict[str, int]:
        """Count the places in the cache that have the monitor carry an instruction out, by its family."""
        stubs = list(self._monitor.translations.map.stubs.values())
        families = Counter(stub.family for stub in stubs if isinstance(stub, CallOut) and stub.block.alive)
        return {mnemonic(family): places for family, places in families.most_common()}

    def anatomy(self, block: Block) -> Anatomy:
        """Take a block of ``translated`` apart: its lines, its ways out, and who leads to it."""
        return self._still(lambda: self._take_apart(block))

    def anatomies(self, rip: int) -> list[Anatomy]:
        """Take the blocks apart that begin at the guest's ``rip``, one for each context."""
        return self._still(lambda: [self._take_apart(each) for each in self.translated if each.rip == rip])

    def _take_apart(self, block: Block) -> Anatomy:
        base = self._monitor.window.place.base(block.context.bits)
        return take_apart(block, self._monitor.translations, base)

    def listing(self, rip: int) -> list[Listing]:
        """Show the blocks that begin at the guest's ``rip``: with interrupts on, with interrupts off."""
        return [_list(anatomy) for anatomy in self.anatomies(rip)]

    @contextmanager
    def profile(self) -> Iterator[Profile]:
        """Watch every block that is entered, which slows the guest down many times.

        The virtual machine must not run when this begins or ends.
        """
        monitor, found = self._monitor, Profile()
        engine, translations = monitor.processor.engine, monitor.translations
        starts = _Starts(monitor, found)
        hook = CodeHook(starts.entered)
        before, entries = _copy(translations.counts), monitor.crossing.entries
        hooks = [
            engine.add_hook("block", hook, 0, first, first + SIZE)
            for place in PLACES
            for first in (*place, place.wrapped)
        ]
        engine.flush_code()
        try:
            yield found
        finally:
            for each in hooks:
                engine.remove_hook(each)
            engine.flush_code()
            counts = translations.counts
            found.by_monitor = monitor.crossing.entries - entries
            found.lost = counts.misses - before.misses
            found.unlinked = counts.unlinked - before.unlinked


def _list(anatomy: Anatomy) -> Listing:
    block, lines = anatomy.block, []
    for line in anatomy.lines:
        if block.start <= line.offset < block.start + block.size:
            if line.source or line.way is None:
                lines.append((line.rip, line.source, line.code))
            else:
                lines.append((anatomy.ways[line.way].rip, "(way out)", line.code))
    return Listing(block.rip, repr(block.context), tuple(lines))


def _copy(counts: Counts) -> Counts:
    return Counts(**{name: getattr(counts, name) for name in Counts.__slots__})


class _Starts:
    """Tells what begins at an address in the cache."""

    def __init__(self, monitor: BinaryTranslation, found: Profile) -> None:
        self._monitor = monitor
        self._map = monitor.translations.map
        self._found = found

    def entered(self, _engine: int, address: int, _size: int, _data: int) -> None:
        """Count what the processor has just entered."""
        offset = self._monitor.window.place.offset(address)
        if offset in self._map.starts:
            self._found.blocks += 1
        elif offset in self._map.hits:
            self._found.found += 1
