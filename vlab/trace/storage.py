"""Traces as NumPy arrays: the structured type of a record, a trace at rest, and the digest.

Codes stay codes here; `frames` and `exits` give them their names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from vlab.trace.events import COLUMNS, RECORD_SIZE, Kind
from vlab.trace.recorder import Level
from vlab.trace.ring import Ring

Rows = npt.NDArray[np.void]
"""Records as a one-dimensional structured array of DTYPE."""

_FORMATS: Final = {"Q": "<u8", "I": "<u4", "H": "<u2", "B": "u1"}


def _dtype() -> np.dtype[np.void]:
    formats = [np.dtype(_FORMATS[column.code]) for column in COLUMNS]
    offsets = [sum(each.itemsize for each in formats[:i]) for i in range(len(formats))]
    names = [column.name for column in COLUMNS]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": RECORD_SIZE})


DTYPE: Final = _dtype()


class Source(Protocol):
    """What a trace can be read from: the recorder of a live machine, or a `StoredTrace`."""

    @property
    def level(self) -> Level:
        """The level of recording."""

    @property
    def reasons(self) -> Sequence[str]:
        """The exit reasons' names by code."""

    @property
    def handlers(self) -> Sequence[str]:
        """The handlers' names by code."""

    @property
    def counts(self) -> Sequence[int]:
        """How many exits there were, by reason code."""

    @property
    def event_counts(self) -> Sequence[int]:
        """How many other events there were, by Kind."""

    @property
    def total(self) -> int:
        """How many exits there were."""

    @property
    def dropped(self) -> int:
        """How many records were dropped."""

    @property
    def version(self) -> tuple[int, int]:
        """A value that is new whenever the records are not the same as before."""

    def rows(self, newest: int | None = None) -> Rows:
        """Copy the records, or only so many of the newest, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTrace:
    """A trace that does not change any more: from a file, or a selection from another trace."""

    level: Level
    reasons: tuple[str, ...]
    handlers: tuple[str, ...]
    counts: tuple[int, ...]
    event_counts: tuple[int, ...]
    dropped: int
    table: Rows

    @property
    def total(self) -> int:
        """How many exits there were."""
        return sum(self.counts)

    @property
    def version(self) -> tuple[int, int]:
        """A constant: the records stay the same."""
        return 0, len(self.table)

    def rows(self, newest: int | None = None) -> Rows:
        """Give the records, or only so many of the newest, in order; not a copy."""
        return self.table if newest is None else self.table[max(0, len(self.table) - newest) :]


def rows(ring: Ring, newest: int | None = None) -> Rows:
    """Copy the records of a ring into an array."""
    return np.frombuffer(ring.copy(newest), DTYPE)


def column(source: Source, name: str) -> npt.NDArray[np.unsignedinteger]:
    """Copy one column, of every kind of record; `events.COLUMNS` tells the names and meanings."""
    return np.ascontiguousarray(source.rows()[name])


def exits_of(table: Rows) -> Rows:
    """Select the exits."""
    chosen = table["kind"] == Kind.EXIT
    return table if chosen.all() else table[chosen]


def freeze(source: Source) -> StoredTrace:
    """Take a trace out of a recorder. Pause the machine first if counts and records are to agree."""
    return StoredTrace(
        source.level,
        tuple(source.reasons),
        tuple(source.handlers),
        tuple(source.counts),
        tuple(source.event_counts),
        source.dropped,
        source.rows(),
    )


def select(source: Source, table: Rows) -> StoredTrace:
    """Make a trace of some exits of another one; its counts are those of the selection."""
    counts = np.bincount(table["reason"], minlength=len(source.reasons))
    return StoredTrace(
        "full",
        tuple(source.reasons),
        tuple(source.handlers),
        tuple(counts.tolist()),
        (0,) * len(Kind),
        0,
        table,
    )


def name_of(names: Sequence[str], code: int) -> str:
    """Give a code's name, or the code itself when nobody named it."""
    return names[code] if code < len(names) else f"#{code}"


def ranked(
    codes: npt.NDArray[np.unsignedinteger], names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Renumber codes by the sorted names of those that occur; give the new codes and those names."""
    used, inverse = np.unique(codes, return_inverse=True)
    labels = [name_of(names, int(code)) for code in used]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels))
    return rank[inverse.reshape(-1)], [labels[i] for i in order]


def digest(source: Source) -> str:
    """Hash all that two identical runs agree on: the counts and every column but the durations.

    Names are hashed instead of codes, so the order in which handlers registered does not matter. How many
    records were kept does: compare traces of the same level and capacity.
    """
    trace = freeze(source)
    hasher = hashlib.sha256()
    reasons, reason_names = ranked(trace.table["reason"], trace.reasons)
    handlers, handler_names = ranked(trace.table["handler"], trace.handlers)
    counts = {name: count for name, count in zip(trace.reasons, trace.counts, strict=True) if count}
    head = [counts, trace.event_counts, trace.dropped, len(trace.table), reason_names, handler_names]
    hasher.update(json.dumps(head, sort_keys=True).encode())
    named = {"reason": reasons.astype("<u2"), "handler": handlers.astype("<u2")}
    for each in COLUMNS:
        if each.deterministic:
            hasher.update(np.ascontiguousarray(named.get(each.name, trace.table[each.name])).data)
    return hasher.hexdigest()
