"""What a run by binary translation did: blocks made, how they grew, how often code found its way alone.

Blocks and links are counted as they are made. How often they are used is not: the cache holds no counters,
which its code could not write to. So hit rates are taken by watching, while ``profile`` is on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlab.machine.cpu import CodeHook
from vlab.vmm.translation import select
from vlab.vmm.translation.code_cache import SIZE
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


class Statistics:
    """What one virtual machine's monitor can tell of its translations."""

    def __init__(self, monitor: BinaryTranslation) -> None:
        self._monitor = monitor

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return self._monitor.translations.counts

    @property
    def blocks(self) -> list[int]:
        """The guest's addresses of the blocks that are in the cache, in the order of their making."""
        return [block.rip for block in self._monitor.translations.map.blocks.values()]

    def listing(self, rip: int) -> list[Listing]:
        """Show the blocks that begin at the guest's ``rip``: with interrupts on, with interrupts off."""
        blocks = self._monitor.translations.map.blocks.values()
        return [self._list(block) for block in blocks if block.rip == rip]

    def _list(self, block: Block) -> Listing:
        translations, bits = self._monitor.translations, block.context.bits
        base = self._monitor.window.place.base(bits)
        offset = block.linear - block.pages[0].linear
        seen = b"".join(page.seen for page in block.pages[:2])[offset : offset + block.source]
        source = {found.rip: found for found in select.decode(seen, block.rip, bits, block.instructions)}
        lines, end = [], block.start + block.size
        positions = translations.map.code.run(block.start)
        for position, following in zip(positions, [*positions[1:], None], strict=True):
            stop = following.offset if following else end
            code = translations.cache.read(position.offset, stop - position.offset)
            texts = [
                f"{each.name} {each.operands}".rstrip()
                for each in select.decode(code, base + position.offset, bits, len(code))
                if each.name != "nop" or len(code) == 1
            ]
            found = source.get(position.rip)
            text = f"{found.name} {found.operands}".rstrip() if found else "(way out)"
            lines.append((position.rip, text, "; ".join(texts)))
        return Listing(block.rip, repr(block.context), tuple(lines))

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
