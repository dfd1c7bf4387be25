"""Export to the Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open.

Time runs in the guest's virtual time. An exit is a slice on the track of its vcpu; the handler takes no
virtual time, so the slice is as wide as the wall time that the handler took, but never reaches the next
exit. Interrupts, device accesses and marks are instants. A counter track shows exits by reason over time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from vlab.trace.atomic import replacing
from vlab.trace.events import COLUMNS, MODES, Kind
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFileError
from vlab.trace.recorder import Recorder

if TYPE_CHECKING:
    from vlab.trace.storage import Rows, Source

Describe = Callable[[str, int, int], Mapping[str, object]]
"""(reason, info1, info2) -> what the infos mean, by name."""

_BLOCK = 4096
_BINS = 500
_PROCESS = 1
_WRITE = 1
_CATEGORIES = tuple(kind.name.lower() for kind in Kind)


def export(
    path: str | PathLike[str],
    trace: Recorder | Exits,
    *,
    title: str = "vlab",
    describe: Describe | None = None,
) -> int:
    """Write the trace as JSON, in pieces; give the number of trace events.

    title: the name of the process in the viewer. describe: decodes an exit's qualification, shown under
    that name. Raises TraceFileError when the file cannot be written.
    """
    source = trace.source if isinstance(trace, Exits) else trace
    count = 0
    try:
        with replacing(Path(path)) as stream:
            stream.write(b'{"displayTimeUnit":"ns","traceEvents":[')
            for count, event in enumerate(_events(source, title, describe), 1):
                stream.write(b",\n" if count > 1 else b"\n")
                stream.write(event.encode())
            stream.write(b"\n]}\n")
    except OSError as error:
        raise TraceFileError(f"{path}: the export cannot be written: {error.strerror or error}") from error
    return count


def _events(source: Source, title: str, describe: Describe | None) -> Iterator[str]:
    table = source.rows()
    yield json.dumps({"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": title}})
    for vcpu in sorted(set(table["vcpu"].tolist())):
        name = {"name": f"vcpu {vcpu}"}
        yield json.dumps({"ph": "M", "pid": _PROCESS, "tid": vcpu, "name": "thread_name", "args": name})
    yield from _counters(table, source)
    widths = _widths(table)
    for start in range(0, len(table), _BLOCK):
        block = slice(start, start + _BLOCK)
        yield from _block(table[block], widths[block], source, describe)


def _block(table: Rows, widths: list[int], source: Source, describe: Describe | None) -> Iterator[str]:
    """Write records one by one, as text: a JSON encoder for each would take twice as long."""
    from vlab.trace.storage import name_of

    columns = [table[column.name].tolist() for column in COLUMNS]
    modes = [json.dumps(mode.value) for mode in MODES]
    for row, width in zip(zip(*columns, strict=True), widths, strict=True):
        time, rip, info1, info2, duration, reason, handler, mode, ring, vcpu, flags, kind = row
        args = f'"rip":"{rip:#x}","mode":{modes[mode]},"ring":{ring},'
        if kind == Kind.EXIT:
            shape, name = f'"ph":"X","dur":{_microseconds(width)}', name_of(source.reasons, reason)
            handled = json.dumps(name_of(source.handlers, handler))
            args += f'"info1":"{info1:#x}","info2":"{info2:#x}","handler":{handled},"handler_ns":{duration}'
            if describe is not None:
                args += f',"qualification":{json.dumps(describe(name, info1, info2), default=str)}'
        else:
            shape = '"ph":"i","s":"t"'
            name, first, second = _instant(kind, info1, flags)
            args += f'"{first}":"{info1:#x}","{second}":"{info2:#x}"'
        yield (
            f'{{{shape},"pid":{_PROCESS},"tid":{vcpu},"ts":{_microseconds(time)},'
            f'"cat":"{_CATEGORIES[kind]}","name":{json.dumps(name)},"args":{{{args}}}}}'
        )


def _instant(kind: int, info1: int, flags: int) -> tuple[str, str, str]:
    """Name an event that is no exit, and what its info1 and info2 are."""
    if kind == Kind.INTERRUPT:
        return f"interrupt {info1:#x}", "vector", "error_code"
    if kind == Kind.IO:
        return f"{'write' if flags & _WRITE else 'read'} {info1:#x}", "address", "value"
    return "mark", "info1", "info2"


def _widths(table: Rows) -> list[int]:
    """Give each record's width in ns: its duration, or the time to the next exit of its vcpu if less."""
    import numpy as np

    widths = table["duration"].astype(np.int64)
    for vcpu in np.unique(table["vcpu"]):
        track = np.flatnonzero((table["vcpu"] == vcpu) & (table["kind"] == Kind.EXIT))
        gaps = np.diff(table["time"][track].astype(np.int64))
        widths[track[:-1]] = np.minimum(widths[track[:-1]], np.maximum(gaps, 0))
    result: list[int] = widths.tolist()
    return result


def _counters(table: Rows, source: Source) -> Iterator[str]:
    """Give the number of exits by reason in each of some hundred equal parts of the time."""
    import numpy as np

    from vlab.trace.storage import exits_of, ranked

    exits = exits_of(table)
    if not len(exits):
        return
    times = exits["time"].astype(np.int64)
    start, end = int(times.min()), int(times.max())
    width = (end - start) // _BINS + 1
    bins = (end - start) // width + 1
    ranks, names = ranked(exits["reason"], source.reasons)
    flat = np.bincount((times - start) // width * len(names) + ranks, minlength=bins * len(names))
    for index, counts in enumerate(flat.reshape(bins, len(names)).tolist()):
        args = json.dumps(dict(zip(names, counts, strict=True)))
        at = _microseconds(start + index * width)
        yield f'{{"ph":"C","pid":{_PROCESS},"ts":{at},"name":"exits by reason","args":{args}}}'


def _microseconds(ns: int) -> str:
    """Write nanoseconds in the format's unit without losing any."""
    return f"{ns // 1000}.{ns % 1000:03}"
