"""From counts to cycles: what the counted exits would have taken on a processor of the cost table.

A model, and a coarse one: cycles are added, caches and pipelines are in the figures or nowhere. It tells
which of two techniques is dearer, and about how much; not how long something takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlab.costs.operations import OPERATIONS
from vlab.costs.readings import BARE, Reading, Way
from vlab.costs.table import BLOCK, OTHER, TRANSITION, Costs, Figure, Generation, Sure

_CARRIED_OUT = frozenset(operation.name for operation in OPERATIONS if operation.carried_out)
_SERVED = 0.5
"""Exits per operation from which on the monitor counts as the one who carries it out."""


@dataclass(frozen=True, slots=True)
class Cycles:
    """Cycles of an operation or a run: the guest's own, those of exits and monitor, and how sure they are."""

    guest: float
    exits: float
    sure: Sure

    @property
    def total(self) -> float:
        """All of them."""
        return self.guest + self.exits


def possible(costs: Costs, generation: Generation, monitor: str, paging: str) -> bool:
    """Whether a generation can run a monitor with a paging, and the table has its costs."""
    return (monitor == BARE or monitor in costs.techniques) and (generation.nested or paging != "nested")


def of_operation(
    costs: Costs, generation: Generation, operation: str, way: Way, reading: Reading
) -> Cycles | None:
    """Model one operation; None where the generation cannot run it so, or nothing says what it takes."""
    if not possible(costs, generation, way.monitor, way.paging):
        return None
    exits, sure = _exits(costs, generation, way.monitor, reading.exits)
    own = generation.guest.get(operation)
    if own is None and reading.blocks is not None:
        own = _blocks(generation, reading.blocks)
    if own is None:
        return None
    if operation in _CARRIED_OUT and reading.total >= _SERVED:
        return Cycles(0.0, exits, sure)
    guest, sure = own.cycles, min(sure, own.sure)
    technique = costs.techniques.get(way.monitor)
    more = generation.translated.get(operation) if technique and technique.translated else None
    if more is not None:
        guest, sure = guest + more.cycles, min(sure, more.sure)
    return Cycles(guest, exits, sure)


def of_run(
    costs: Costs, generation: Generation, way: Way, exits: Mapping[str, float], blocks: float | None
) -> Cycles | None:
    """Model a whole run, the guest by its basic blocks. None as above, or where nothing counts blocks."""
    if blocks is None or not possible(costs, generation, way.monitor, way.paging):
        return None
    taken, sure = _exits(costs, generation, way.monitor, exits)
    own = _blocks(generation, blocks)
    return Cycles(own.cycles, taken, min(sure, own.sure))


def _blocks(generation: Generation, blocks: float) -> Figure:
    block = generation.guest[BLOCK]
    return Figure(blocks * block.cycles, block.sure, block.source)


def _exits(
    costs: Costs, generation: Generation, monitor: str, exits: Mapping[str, float]
) -> tuple[float, Sure]:
    """Give what the exits of a run take, with the transitions, and how sure that is."""
    total, sure = 0.0, max(Sure)
    for reason, count in exits.items():
        one = per_exit(costs, generation, monitor, reason)
        if one is not None:
            total, sure = total + count * one.cycles, min(sure, one.sure)
    return total, sure


def per_exit(costs: Costs, generation: Generation, monitor: str, reason: str) -> Figure | None:
    """Give what one exit takes, with the way to the monitor and back; None on the bare machine."""
    technique = costs.techniques.get(monitor)
    if technique is None:
        return None
    figures = generation.exits(technique.exits)
    found = figures.get(reason, figures[OTHER])
    if reason in technique.inside:
        return found
    way = figures[TRANSITION]
    source = f"{found.source}; transition: {way.source}"
    return Figure(found.cycles + way.cycles, min(found.sure, way.sure), source)
