"""What the nanobenchmarks give: ways of running a guest, and what an operation took in each.

Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

BARE: Final = "none"
KERNEL: Final = "wren"
KNOWN_TO_ITS_GUESTS: Final = "paravirtual"
"""The monitor whose guests must know it."""
PARAVIRTUAL: Final = {KERNEL: "wren-paravirt"}
"""The images that do, by the guest whose source they share."""


@dataclass(frozen=True, slots=True)
class Way:
    """A monitor and its paging."""

    monitor: str
    paging: str

    @property
    def name(self) -> str:
        """Both, as they are shown."""
        return f"{self.monitor}/{self.paging}"

    @property
    def kernel(self) -> str:
        """The guest's name in the catalogue: the teaching kernel, as it runs there."""
        return PARAVIRTUAL[KERNEL] if self.monitor == KNOWN_TO_ITS_GUESTS else KERNEL


def share_alone(exits: float, blocks: float | None) -> float | None:
    """Give the part of the blocks, 0 to 1, that no exit interrupted; None where nothing counts blocks."""
    return max(0.0, 1 - exits / blocks) if blocks else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one operation took, on average: exits by reason, the monitor's instructions, guest's basic blocks.

    instructions: to ten or so, which the run loop's turns add. blocks: None where nothing counts them.
    seconds: processor time. Both others are None where they were not taken.
    """

    exits: Mapping[str, float]
    instructions: float | None
    blocks: float | None
    seconds: float | None = None

    @property
    def total(self) -> float:
        """All exits."""
        return sum(self.exits.values())


@dataclass(frozen=True, slots=True)
class Refused:
    """A way in which the kernel does not run so far as to do anything. why: its last words, or the stop's."""

    way: Way
    why: str


@dataclass(slots=True)
class Results:
    """All readings, by the names of operation and way; the ways are those that run the kernel."""

    operations: tuple[str, ...]
    ways: list[Way] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)

    def of(self, operation: str, way: Way) -> Reading:
        """Give the reading of an operation."""
        return self.readings[operation, way.name]

    def some(self, holds: Callable[[Way], bool]) -> list[Way]:
        """Give the ways for which ``holds``."""
        return [way for way in self.ways if holds(way)]

    def slowdown(self, operation: str, way: Way) -> float | None:
        """Give the time of an operation over that on the bare machine, None where either was not taken."""
        bare = self.readings.get((operation, self.ways[0].name)) if self.ways else None
        ours = self.of(operation, way).seconds
        return None if bare is None or ours is None or not bare.seconds else ours / bare.seconds
