"""What is known of the code in the cache: blocks, links between them, and where in the guest each byte is.

A *link* leads from one block to the next by a jump; as long as the next is not translated, a call-out stands
in its place. A *segment* is a run of the cache with the guest's place of each instruction in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from vlab.isa.sensitive import Sensitive
from vlab.machine.instructions import LONGEST
from vlab.vmm.deprivileged.sites import Trapped
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.translation.context import COUNT, Context

if TYPE_CHECKING:
    from vlab.vmm.translation.indirect import Lookup
    from vlab.vmm.translation.source import SourcePage

Redo: TypeAlias = Callable[[], bool]
"""Has an instruction be half done again as it was; False, and nothing is changed, where it is another now."""

Undo: TypeAlias = Callable[[VirtualCore], Redo]
"""Puts the guest's registers and stack back as they were before the instruction whose middle this is."""


class Position(NamedTuple):
    """Where the guest is when the processor is at ``offset``: about to execute what is at ``rip``.

    block: that this belongs to. undo: to be done first, for the instruction has begun; None where it has not.
    """

    offset: int
    rip: int
    context: Context
    block: Block
    undo: Undo | None = None


@dataclass(eq=False, slots=True)
class Link:
    """A way out of ``block`` to the guest's ``rip``.

    place: of the call-out or jump. via: of the last four bytes of a conditional jump that leads there, and
    that leads straight to the target once there is one. target: where it leads.
    """

    rip: int
    context: Context
    block: Block
    place: int = 0
    via: int | None = None
    target: Block | None = None


@dataclass(eq=False, slots=True)
class CallOut:
    """An instruction that the monitor carries out. rip: the guest's. block: the one it ends.

    trapped: ready to be carried out; None: it is a memory access that kept faulting, or has far to go.
    """

    rip: int
    context: Context
    block: Block
    trapped: Trapped | None

    @property
    def family(self) -> int:
        """What traces call it by."""
        return Sensitive.ACCESS if self.trapped is None else self.trapped.instruction.family


@dataclass(eq=False, slots=True)
class Block:
    """A translated basic block.

    rip, linear: the guest's, of its first instruction. start, size: in the cache. source: bytes translated.
    pages: where these are. elsewhere: linear address of an instruction that is not behind the others, 0
    without one. instructions: how many. transient: it is not found again, for its source may change
    unnoticed. links: ways out. incoming: links that lead here.
    """

    rip: int
    linear: int
    context: Context
    start: int
    size: int = 0
    source: int = 0
    elsewhere: int = 0
    instructions: int = 0
    alive: bool = True
    transient: bool = False
    pages: tuple[SourcePage, ...] = ()
    links: list[Link] = field(default_factory=list)
    incoming: set[Link] = field(default_factory=set)

    def covers(self, linear: int, size: int) -> bool:
        """Say whether any of ``size`` bytes at ``linear`` was translated."""
        if self.linear < linear + size and linear < self.linear + self.source:
            return True
        return bool(self.elsewhere) and self.elsewhere < linear + size and linear < self.elsewhere + LONGEST

    @property
    def key(self) -> int:
        """What it is found by."""
        return self.rip * COUNT + self.context.code


Stub: TypeAlias = "Link | CallOut | Lookup"


class Segments:
    """The runs of one part of the cache, in the order of their offsets."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._positions: list[list[Position]] = []

    def add(self, positions: list[Position]) -> None:
        """Note the run that begins with the first of ``positions``, which are in order."""
        self._starts.append(positions[0].offset)
        self._positions.append(positions)

    def run(self, offset: int) -> list[Position]:
        """Give the run that ``offset`` is in; none before the first."""
        run = bisect_right(self._starts, offset) - 1
        return self._positions[run] if run >= 0 else []

    def find(self, offset: int) -> Position | None:
        """Give the last position at or before ``offset``."""
        positions = self.run(offset)
        if not positions:
            return None
        return positions[bisect_right(positions, offset, key=_offset) - 1]

    def owners(self) -> list[tuple[int, Block]]:
        """Give the offset of each run, and the block that it belongs to."""
        return [(positions[0].offset, positions[0].block) for positions in self._positions]

    def clear(self) -> None:
        """Forget all."""
        self._starts.clear()
        self._positions.clear()


def _offset(position: Position) -> int:
    return position.offset


class BlockMap:
    """The blocks there are, by the guest's address and context; ``stubs`` by the offset of their call-out.

    ``starts``, ``hits``: offsets at which blocks begin, and where a lookup goes on that has found its target.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.stubs: dict[int, Stub] = {}
        self.starts: set[int] = set()
        self.hits: set[int] = set()
        self.code: Final = Segments()
        self.gates: Final = Segments()

    def find(self, rip: int, context: Context) -> Block | None:
        """Give the block at ``rip``."""
        return self.blocks.get(rip * COUNT + context.code)

    def clear(self) -> None:
        """Forget all."""
        for block in self.blocks.values():
            block.alive = False
        self.blocks.clear()
        self.stubs.clear()
        self.starts.clear()
        self.hits.clear()
        self.code.clear()
        self.gates.clear()
