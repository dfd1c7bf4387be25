"""`.vlabtrace` files: a trace with what it is a trace of, checksummed, the same bytes for the same run.

Layout, little-endian: magic (8 bytes), format version (u16), flags (u16, zero), header length (u32), length
of the whole file (u64); the header, JSON with sorted keys in UTF-8; one zlib stream per column, in the order
of `events.COLUMNS`; the SHA-256 of everything before it (32 bytes). Times are stored as differences, and
every column as byte planes (all lowest bytes first), which is what makes it small. Equal traces make equal
files wherever zlib compresses alike; the digest in the header is the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlab.errors import UnusableInput
from vlab.trace import beginning
from vlab.trace.atomic import replacing
from vlab.trace.events import COLUMNS, MODES, Kind
from vlab.trace.exits import Exits
from vlab.trace.recorder import LEVELS, Recorder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vlab.trace.storage import Rows, StoredTrace

MAGIC: Final = b"\x8fvlabtr\n"
FORMAT: Final = 1
_PREFIX: Final = struct.Struct("<8sHHIQ")
_CHECKSUM: Final = hashlib.sha256().digest_size
_COMPRESSION: Final = 6
_DIFFERENCES: Final = frozenset({"time"})


class TraceFileError(UnusableInput):
    """A file that cannot be read or written as a trace; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace that was loaded.

    metadata: what `save` was given. exits: as `vm.exits`. digest: see `storage.digest`. durations: whether
    the handlers' wall times were stored; they are zero otherwise.
    """

    metadata: Mapping[str, Any]
    exits: Exits
    digest: str
    durations: bool


def save(
    path: str | PathLike[str],
    trace: Recorder | Exits,
    metadata: Mapping[str, object],
    *,
    durations: bool = False,
) -> None:
    """Write a trace to a file, whole or not at all.

    metadata: what can be written as JSON, such as guest, monitor, paging, memory and clock. durations: store
    the handlers' wall times too, which differ from run to run. Raises TraceFileError when the file cannot be
    written, UnusableInput for metadata that is no JSON.
    """
    whole = dump(trace, metadata, durations=durations)
    try:
        with replacing(Path(path)) as stream:
            stream.write(whole)
    except OSError as error:
        raise TraceFileError(f"{path}: the trace cannot be written: {_reason(error)}") from error


def dump(
    trace: Recorder | Exits,
    metadata: Mapping[str, object],
    *,
    durations: bool = False,
    compression: int = _COMPRESSION,
) -> bytes:
    """Give the bytes of a trace's file. compression: zlib's level, 0 to 9; for the rest see ``save``."""
    from vlab.trace.storage import digest, freeze

    source = freeze(trace.source if isinstance(trace, Exits) else trace)
    streams = [_packed(source.table, each.name, durations, compression) for each in COLUMNS]
    header = {
        "columns": [[each.name, each.code, len(data)] for each, data in zip(COLUMNS, streams, strict=True)],
        "counts": source.counts,
        "digest": digest(source),
        "dropped": source.dropped,
        "durations": durations,
        "event_counts": source.event_counts,
        "handlers": source.handlers,
        "level": source.level,
        "metadata": _plain(metadata),
        "reasons": source.reasons,
        "rows": len(source.table),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    length = _PREFIX.size + len(text) + sum(map(len, streams)) + _CHECKSUM
    whole = b"".join([_PREFIX.pack(MAGIC, FORMAT, 0, len(text), length), text, *streams])
    return whole + hashlib.sha256(whole).digest()


def load(path: str | PathLike[str]) -> TraceFile:
    """Read a trace file.

    Raises TraceFileError for what is no trace, is newer than this vlab, was cut short, or was changed.
    """
    return loads(_read(path), path)


def loads(whole: bytes, path: str | PathLike[str] = "the trace") -> TraceFile:
    """Read the bytes of a trace file, such as ``dump`` gives. path: what errors call it."""
    if not whole.startswith(MAGIC):
        raise _no_trace(path, whole[: len(MAGIC)])
    _, version, flags, header_length, length = _PREFIX.unpack_from(whole.ljust(_PREFIX.size, b"\0"))
    if len(whole) >= _PREFIX.size and version > FORMAT:
        raise TraceFileError(
            f"{path}: the trace has format {version}, and this vlab reads up to {FORMAT}: use a newer vlab"
        )
    if len(whole) < max(length, _PREFIX.size + _CHECKSUM):
        expected = f" of {length:,}" if len(whole) >= _PREFIX.size else ""
        raise TraceFileError(
            f"{path}: the trace is cut short: {len(whole):,}{expected} bytes are there; copy it again"
        )
    if len(whole) > length or hashlib.sha256(whole[:-_CHECKSUM]).digest() != whole[-_CHECKSUM:]:
        raise TraceFileError(
            f"{path}: the trace was changed since it was written: its checksum does not match"
        )
    if version != FORMAT or flags:
        raise TraceFileError(
            f"{path}: the trace has format {version}, flags {flags:#x}, which nothing writes"
        )
    try:
        return _parse(whole[_PREFIX.size : -_CHECKSUM], header_length)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, zlib.error) as error:
        raise TraceFileError(f"{path}: the trace was written wrongly: {error}") from error


def _read(path: str | PathLike[str]) -> bytes:
    """Read the file, but only its start when it is none of ours."""
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(len(MAGIC))
            if start != MAGIC:
                raise _no_trace(path, start)
            return start + stream.read()
    except OSError as error:
        raise TraceFileError(f"{path}: the trace cannot be read: {_reason(error)}") from error


def _no_trace(path: str | PathLike[str], start: bytes) -> TraceFileError:
    return TraceFileError(
        f"{path}: this is no vlab trace: it {beginning.describe(start)}; `vlab run --trace FILE` writes one"
    )


def _parse(body: bytes, header_length: int) -> TraceFile:
    """Make the trace from header and columns; raises all sorts for a header that does not fit them."""
    import numpy as np

    from vlab.trace.storage import DTYPE, StoredTrace

    header = json.loads(body[:header_length])
    reasons, handlers, table = _names(header, "reasons"), _names(header, "handlers"), header["columns"]
    counts, event_counts = (
        _numbers(header["counts"], len(reasons)),
        _numbers(header["event_counts"], len(Kind)),
    )
    count, dropped = _numbers([header["rows"], header["dropped"]], 2)
    if header["level"] not in LEVELS or [each[:2] for each in table] != [
        [each.name, each.code] for each in COLUMNS
    ]:
        raise ValueError("its level or its columns are not those of this format")
    lengths = _numbers([each[2] for each in table], len(COLUMNS))
    if header_length + sum(lengths) != len(body) or count > len(body) * 1100:
        raise ValueError("its columns do not fill the file")
    rows = np.zeros(count, DTYPE)
    start = header_length
    for each, length in zip(COLUMNS, lengths, strict=True):
        rows[each.name] = _unpacked(body[start : start + length], each.name, count)
        start += length
    trace = StoredTrace(header["level"], reasons, handlers, counts, event_counts, dropped, rows)
    _check_codes(trace)
    metadata, digest, durations = header["metadata"], header["digest"], header["durations"]
    if not (isinstance(metadata, dict) and isinstance(digest, str) and isinstance(durations, bool)):
        raise TypeError("its metadata, digest or durations are of another type")
    return TraceFile(metadata, Exits(trace), digest, durations)


def _names(header: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = header[key]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise TypeError(f"its {key} are not names")
    return tuple(names)


def _numbers(values: Any, count: int) -> tuple[int, ...]:
    if not (isinstance(values, list) and len(values) == count and all(type(each) is int for each in values)):
        raise TypeError(f"{count} whole numbers were expected in its header")
    if any(not 0 <= each < 1 << 63 for each in values):
        raise ValueError("a number in its header is out of range")
    return tuple(values)


def _check_codes(trace: StoredTrace) -> None:
    """Refuse codes that have no name, so that reading the trace never fails later."""
    limits = {"reason": len(trace.reasons), "handler": 1 << 16, "mode": len(MODES), "kind": len(Kind)}
    exits = trace.table["kind"] == Kind.EXIT
    for name, limit in limits.items():
        codes = trace.table[name][exits] if name == "reason" else trace.table[name]
        if codes.size and int(codes.max()) >= limit:
            raise ValueError(f"its {name} {int(codes.max())} has no name")


def _packed(table: Rows, name: str, durations: bool, compression: int) -> bytes:
    """Compress a column."""
    import numpy as np

    values = np.ascontiguousarray(table[name])
    if name == "duration" and not durations:
        values = np.zeros_like(values)
    if name in _DIFFERENCES:
        values = np.diff(values, prepend=values.dtype.type(0))
    planes = values.view(np.uint8).reshape(len(values), -1).T if len(values) else values
    return zlib.compress(planes.tobytes(), compression)


def _unpacked(data: bytes, name: str, count: int) -> npt.NDArray[np.unsignedinteger]:
    """Decompress a column of so many values; raises ValueError or zlib.error when it is not that."""
    import numpy as np

    from vlab.trace.storage import DTYPE

    dtype = DTYPE[name]
    size = count * dtype.itemsize
    inflater = zlib.decompressobj()
    planes = inflater.decompress(data, size + 1)
    if len(planes) != size or not inflater.eof or inflater.unused_data:
        raise ValueError(f"column {name} does not hold {count:,} values")
    octets = np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, count).T
    values = np.ascontiguousarray(octets).view(dtype).reshape(count)
    return np.cumsum(values, dtype=dtype) if name in _DIFFERENCES else values


def _plain(metadata: Mapping[str, object]) -> dict[str, object]:
    """Check that each value can be written as JSON, and name the one that cannot."""
    for key, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnusableInput(
                f"metadata: {key!r} cannot be written as JSON: {error}; use plain values"
            ) from error
    return dict(metadata)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
