"""Traces as pandas objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vlab.trace.events import MODES, Kind
from vlab.trace.storage import Rows, Source, name_of

if TYPE_CHECKING:
    import pandas as pd

_MODE_NAMES = tuple(mode.name for mode in MODES)
_KIND_NAMES = tuple(kind.name for kind in Kind)


def exit_frame(table: Rows, source: Source) -> pd.DataFrame:
    """Give exits as a frame, one row each.

    time_ns and duration_ns: int64, virtual and wall ns. reason, mode, handler: categorical, by name. rip,
    info1, info2: uint64. ring, vcpu: uint8.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "time_ns": table["time"].astype(np.int64),
            "reason": _categorical(table["reason"], source.reasons),
            "rip": np.ascontiguousarray(table["rip"]),
            "mode": _categorical(table["mode"], _MODE_NAMES),
            "ring": np.ascontiguousarray(table["ring"]),
            "info1": np.ascontiguousarray(table["info1"]),
            "info2": np.ascontiguousarray(table["info2"]),
            "handler": _categorical(table["handler"], source.handlers),
            "duration_ns": table["duration"].astype(np.int64),
            "vcpu": np.ascontiguousarray(table["vcpu"]),
        }
    )


def event_frame(table: Rows, source: Source) -> pd.DataFrame:
    """Give records of every kind as a frame: the columns of `exit_frame`, kind before them and flags after.

    A record that is no exit has no reason.
    """
    frame = exit_frame(table, source)
    frame.insert(0, "kind", _categorical(table["kind"], _KIND_NAMES))
    frame["flags"] = np.ascontiguousarray(table["flags"])
    frame["reason"] = frame["reason"].where(table["kind"] == Kind.EXIT).cat.remove_unused_categories()
    return frame


def count_series(counts: Sequence[int], names: Sequence[str], index: str) -> pd.Series[int]:
    """Give counts by name as a series called exits: no zeros, the largest first, equal ones by name."""
    import pandas as pd

    pairs = sorted(((-count, name) for count, name in zip(counts, names, strict=True) if count))
    labels = pd.Index([name for _, name in pairs], name=index, dtype=object)
    return pd.Series([-count for count, _ in pairs], index=labels, name="exits", dtype=np.int64)


def handler_series(table: Rows, source: Source) -> pd.Series[int]:
    """Count exits by handler."""
    counts = np.bincount(table["handler"])
    names = [name_of(source.handlers, code) for code in range(len(counts))]
    return count_series(counts.tolist(), names, "handler")


def _categorical(codes: npt.NDArray[np.unsignedinteger], names: Sequence[str]) -> pd.Series[str]:
    """Name codes; only the names that occur become categories, in the order of their codes."""
    import pandas as pd

    used, inverse = np.unique(codes, return_inverse=True)
    categories = pd.Index([name_of(names, int(code)) for code in used])
    return pd.Series(pd.Categorical.from_codes(inverse.reshape(-1), categories=categories))
