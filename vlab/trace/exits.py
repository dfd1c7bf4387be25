"""`vm.exits`: the exits of a machine as a sequence, a frame, and counts."""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, overload

from vlab.errors import TraceUnavailable, UnusableInput
from vlab.isa.state import Mode
from vlab.trace.events import MODES, ExitEvent

if TYPE_CHECKING:
    import pandas as pd

    from vlab.trace.storage import Rows, Source

_BLOCK = 4096
_SHOWN = 10
_U64 = (1 << 64) - 1


class Exits:
    """The exits from one guest to its monitor, oldest first; a view that follows a running machine.

    ``len``, indexing and frames speak of the exits that are kept, `total` and `by_reason` of all there were.
    A negative index or slice, such as ``exits[-1]`` and ``exits[-20:]``, costs little however long the trace.
    Methods that need the exits themselves raise TraceUnavailable when the level was never "full".
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cache: tuple[tuple[int, int], Rows] | None = None

    @property
    def source(self) -> Source:
        """The recorder or stored trace behind this view."""
        return self._source

    @property
    def total(self) -> int:
        """All exits that were counted."""
        return self._source.total

    @property
    def dropped(self) -> int:
        """How many of the oldest records, of all kinds, no longer fit in the trace."""
        return self._source.dropped

    def by_reason(self) -> pd.Series[int]:
        """Count all exits by reason, the most frequent first; works at level "counters" too."""
        from vlab.trace.frames import count_series

        if self._source.level == "off" and not self.total:
            raise TraceUnavailable(
                'nothing counts exits at trace level "off"; make the VM with VM(..., trace="counters")'
            )
        return count_series(self._source.counts, self._source.reasons, "reason")

    def by_handler(self) -> pd.Series[int]:
        """Count the kept exits by the handler that took them, the most frequent first."""
        from vlab.trace.frames import handler_series

        return handler_series(self._kept(), self._source)

    def frame(self) -> pd.DataFrame:
        """Give the kept exits as a pandas frame.

        Columns: time_ns, reason, rip, mode, ring, info1, info2, handler, duration_ns, vcpu.
        """
        from vlab.trace.frames import exit_frame

        return exit_frame(self._kept(), self._source)

    def events(self) -> pd.DataFrame:
        """Give exits, interrupts, device accesses and marks as one frame: as `frame`, with kind and flags."""
        from vlab.trace.frames import event_frame

        self._need_records()
        return event_frame(self._source.rows(), self._source)

    def where(
        self,
        *,
        reason: str | Iterable[str] | None = None,
        handler: str | Iterable[str] | None = None,
        rip: int | range | None = None,
        ring: int | None = None,
        mode: Mode | None = None,
        vcpu: int | None = None,
    ) -> Exits:
        """Select the kept exits that fit every argument given.

        reason, handler: a name or several. rip: an address or a range of addresses. Raises UnusableInput for
        a reason or handler that this trace does not know.
        """
        import numpy as np

        from vlab.trace.storage import select

        table = self._kept()
        fits = np.ones(len(table), bool)
        if reason is not None:
            fits &= np.isin(table["reason"], _codes("reason", reason, self._source.reasons))
        if handler is not None:
            fits &= np.isin(table["handler"], _codes("handler", handler, self._source.handlers))
        if isinstance(rip, range):
            first, last = max(rip.start, 0), min(rip.stop - 1, _U64)
            fits &= (
                (table["rip"] >= np.uint64(first)) & (table["rip"] <= np.uint64(last))
                if first <= last
                else False
            )
        elif rip is not None:
            fits &= table["rip"] == np.uint64(rip & _U64)
        if ring is not None:
            fits &= table["ring"] == ring
        if mode is not None:
            fits &= table["mode"] == MODES.index(mode)
        if vcpu is not None:
            fits &= table["vcpu"] == vcpu
        return Exits(select(self._source, table[fits]))

    def digest(self) -> str:
        """Give the SHA-256 of all that two identical runs agree on; see `storage.digest`."""
        from vlab.trace.storage import digest

        return digest(self._source)

    def __len__(self) -> int:
        """Count the kept exits; 0 when only counters are."""
        return len(self._table())

    def __iter__(self) -> Iterator[ExitEvent]:
        """Go through the exits that are kept now."""
        table = self._kept()
        for start in range(0, len(table), _BLOCK):
            yield from self._events(table[start : start + _BLOCK])

    @overload
    def __getitem__(self, index: int) -> ExitEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Exits: ...
    def __getitem__(self, index: int | slice) -> ExitEvent | Exits:
        if isinstance(index, slice):
            from vlab.trace.storage import select

            forward = index.stop is None and (index.step is None or index.step > 0)
            near = forward and index.start is not None and index.start < 0
            table = self._newest(-index.start) if near else self._kept()
            return Exits(select(self._source, table[index]))
        table = self._newest(-index) if index < 0 else self._kept()
        if not -len(table) <= index < len(table):
            raise IndexError(f"exits[{index}]: there are {len(self)} exits in the trace")
        return next(self._events(table[index : index + 1 or None]))

    def __repr__(self) -> str:
        """Say how many exits there were, of which kinds."""
        counts = self._frequent()
        shown = [f"{name} {count:,}" for name, count in counts[:_SHOWN]]
        if len(counts) > _SHOWN:
            shown.append(f"{len(counts) - _SHOWN} more reasons")
        return f"<Exits: {self._headline()}{': ' if shown else ''}{', '.join(shown)}>"

    def _repr_html_(self) -> str:
        """Show the most frequent reasons as a table."""
        counts, total = self._frequent(), self.total
        lines = [
            f"<tr><td>{html.escape(name)}</td><td>{count:,}</td><td>{count / total:.1%}</td></tr>"
            for name, count in counts[:_SHOWN]
        ]
        if len(counts) > _SHOWN:
            rest = sum(count for _, count in counts[_SHOWN:])
            name = f"{len(counts) - _SHOWN} more reasons"
            lines.append(f"<tr><td>{name}</td><td>{rest:,}</td><td>{rest / total:.1%}</td></tr>")
        return (
            f"<p>{html.escape(self._headline())}</p><table><thead><tr><th>reason</th><th>exits</th>"
            f"<th>share</th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )

    def _headline(self) -> str:
        text = f"{self.total:,} exits"
        if self._source.level != "full":
            text += f' (trace level "{self._source.level}")'
        elif self.dropped:
            text += f" (the oldest {self.dropped:,} records were dropped)"
        return text

    def _frequent(self) -> list[tuple[str, int]]:
        pairs = zip(self._source.reasons, self._source.counts, strict=True)
        return sorted(((name, count) for name, count in pairs if count), key=lambda pair: (-pair[1], pair[0]))

    def _need_records(self) -> None:
        if self._source.level != "full" and not len(self._source.rows(1)):
            raise TraceUnavailable(
                f'trace level "{self._source.level}" does not keep single exits;'
                ' make the VM with VM(..., trace="full")'
            )

    def _kept(self) -> Rows:
        self._need_records()
        return self._table()

    def _table(self) -> Rows:
        """Give the kept exits, copied once until there are others."""
        from vlab.trace.storage import exits_of

        version = self._source.version
        cache = self._cache
        if cache is None or cache[0] != version:
            cache = self._cache = version, exits_of(self._source.rows())
        return cache[1]

    def _newest(self, count: int) -> Rows:
        """Give at least so many of the newest exits, or all, without copying a long trace for a few."""
        from vlab.trace.storage import exits_of

        self._need_records()
        window = 2 * count + 62
        while True:
            rows = self._source.rows(window)
            table = exits_of(rows)
            if len(table) >= count or len(rows) < window:
                return table
            window *= 4

    def _events(self, table: Rows) -> Iterator[ExitEvent]:
        from vlab.trace.storage import name_of

        reasons, handlers = self._source.reasons, self._source.handlers
        names = ("time", "reason", "info1", "info2", "rip", "mode", "ring", "handler", "duration", "vcpu")
        columns = [table[name].tolist() for name in names]
        for time, reason, info1, info2, rip, mode, ring, handler, duration, vcpu in zip(
            *columns, strict=True
        ):
            yield ExitEvent(
                time=time,
                reason=name_of(reasons, reason),
                qualification=(info1, info2),
                rip=rip,
                mode=MODES[mode],
                ring=ring,
                handler=name_of(handlers, handler),
                duration=duration,
                vcpu=vcpu,
            )


def _codes(argument: str, wanted: str | Iterable[str], names: Iterable[str]) -> list[int]:
    """Give the codes of one name or several."""
    known = {name: code for code, name in enumerate(names)}
    codes = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"by_{argument}() lists those that occurred"
            raise UnusableInput(f"{argument}: this trace has no {argument} named {name!r}; {hint}")
        codes.append(known[name])
    return codes
