"""What `vlab trace FILE` tells of a trace, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vlab.trace.events import Kind
from vlab.trace.exits import Exits
from vlab.trace.recorder import Level, Recorder

if TYPE_CHECKING:
    from vlab.trace.storage import Rows, Source


@dataclass(frozen=True, slots=True)
class Share:
    """Some of the exits: how many, and which part of all (0 to 1)."""

    name: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Place:
    """An address in the guest at which exits happen: how many, and the most frequent reason among them."""

    rip: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in figures.

    total: all exits. kept: exits with a record. dropped: records of any kind that were overwritten. start_ns,
    end_ns: virtual time of the first and last kept record, 0 without records. exits_per_second: kept exits by
    virtual time, 0 when no time passed. reasons: of all exits. handlers, places: of the kept exits, the most
    frequent first. vectors: (vector, deliveries) among the kept records. digest: see `storage.digest`.
    """

    level: Level
    total: int
    kept: int
    dropped: int
    interrupts: int
    accesses: int
    start_ns: int
    end_ns: int
    exits_per_second: float
    reasons: tuple[Share, ...]
    handlers: tuple[Share, ...]
    places: tuple[Place, ...]
    vectors: tuple[tuple[int, int], ...]
    digest: str

    def as_dict(self) -> dict[str, object]:
        """Give the figures as what JSON can hold."""
        return asdict(self)


def summarize(trace: Recorder | Exits, *, places: int = 10) -> Summary:
    """Work out the figures of a trace; places: how many addresses to list."""
    from vlab.trace.storage import digest, exits_of, freeze

    source = freeze(trace.source if isinstance(trace, Exits) else trace)
    table = source.rows()
    exits = exits_of(table)
    start, end = (int(table["time"][0]), int(table["time"][-1])) if len(table) else (0, 0)
    return Summary(
        level=source.level,
        total=source.total,
        kept=len(exits),
        dropped=source.dropped,
        interrupts=source.event_counts[Kind.INTERRUPT],
        accesses=source.event_counts[Kind.IO],
        start_ns=start,
        end_ns=end,
        exits_per_second=len(exits) * 1e9 / (end - start) if end > start else 0.0,
        reasons=_shares(source.counts, source.reasons),
        handlers=_handlers(exits, source),
        places=_places(exits, source, places),
        vectors=_vectors(table),
        digest=digest(source),
    )


def _shares(counts: Sequence[int], names: Sequence[str]) -> tuple[Share, ...]:
    total = sum(counts)
    some = [Share(name, count, count / total) for name, count in zip(names, counts, strict=True) if count]
    return tuple(sorted(some, key=lambda each: (-each.count, each.name)))


def _handlers(exits: Rows, source: Source) -> tuple[Share, ...]:
    import numpy as np

    from vlab.trace.storage import ranked

    ranks, names = ranked(exits["handler"], source.handlers)
    return _shares(np.bincount(ranks, minlength=len(names)).tolist(), names)


def _places(exits: Rows, source: Source, most: int) -> tuple[Place, ...]:
    import numpy as np

    from vlab.trace.storage import name_of

    rips, counts = np.unique(exits["rip"], return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:most]
    found = []
    for rip, count in zip(rips[chosen].tolist(), counts[chosen].tolist(), strict=True):
        reason = int(np.bincount(exits["reason"][exits["rip"] == rip]).argmax())
        found.append(Place(rip, count, name_of(source.reasons, reason)))
    return tuple(found)


def _vectors(table: Rows) -> tuple[tuple[int, int], ...]:
    import numpy as np

    delivered = table["info1"][table["kind"] == Kind.INTERRUPT]
    vectors, counts = np.unique(delivered, return_counts=True)
    pairs = zip(vectors.tolist(), counts.tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
