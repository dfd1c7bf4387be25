"""Snapshot files: a virtual machine at one moment, to go on from anywhere and at any time.

Layout, little-endian: magic (8 bytes), format version (u16), flags (u16, zero), length of the header (u32),
length of the whole file (u64), SHA-256 of the header (32 bytes); the header, JSON in UTF-8; the sections,
each a zlib stream whose lengths and SHA-256 are in the header. The section "pages" holds the pages that are
not all zero, one after another, in the order of the guest frame numbers (u32) in "frames". The states of the
chips are in the header, as ``vlab.devices.state`` encodes them.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final

from vlab.devices.state import Json, decode, encode
from vlab.errors import UnusableInput
from vlab.guests.catalogue import Guest
from vlab.guests.loaders import Kind, Loaded
from vlab.isa.state import CpuState
from vlab.machine.memory import PAGE
from vlab.machine.register_image import RegisterImage
from vlab.trace import beginning
from vlab.trace.atomic import replacing
from vlab.trace.recorder import Level, Mark
from vlab.vmm import arguments, factory
from vlab.vmm.board import Board, Makers
from vlab.vmm.inputs import Input
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.snapshot import Snapshot, Text
from vlab.vmm.stop import Stop, StopKind

MAGIC: Final = b"\x8fvlabsn\n"
FORMAT: Final = 1
_PREFIX: Final = struct.Struct("<8sHHIQ32s")
_LEVEL: Final = 1  # of compression: pages are many, and patience is short
_MOST_HEADER: Final = 64 << 20
_PLAIN: Final = (
    "guest", "monitor", "paging", "memory_bytes", "time_ns", "skipped_ns", "tsc_offset", "moment",
)  # fmt: skip


class SnapshotFileError(UnusableInput):
    """A file that cannot be read or written as a snapshot; the message is one line that says why."""


# --- writing ----------------------------------------------------------------------------------------


def save(path: str | PathLike[str], snapshot: Snapshot, settings: factory.Settings, loaded: Loaded) -> None:
    """Write a snapshot to a file, whole or not at all. Raises SnapshotFileError."""
    arguments.path("path", path)
    pages = snapshot.pages or {}
    frames = sorted(pages)
    plain: dict[str, Iterable[bytes]] = {
        "registers": [snapshot.registers.file],
        "console": [bytes(snapshot.console)],
        "debug console": [bytes(snapshot.debug_console)],
        "disk": [loaded.disk or b""],
        "frames": [struct.pack(f"<{len(frames)}I", *frames)],
        "pages": (pages[number] for number in frames),
    }
    sections = {name: _Section(pieces) for name, pieces in plain.items()}
    header = _describe(snapshot) | _describe_machine(settings, loaded)
    header["sections"] = {name: section.described for name, section in sections.items()}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    length = _PREFIX.size + len(text) + sum(section.length for section in sections.values())
    try:
        with replacing(Path(path)) as stream:
            stream.write(_PREFIX.pack(MAGIC, FORMAT, 0, len(text), length, hashlib.sha256(text).digest()))
            stream.write(text)
            for section in sections.values():
                stream.writelines(section.pieces)
    except OSError as error:
        raise SnapshotFileError(f"{path}: the snapshot cannot be written: {_reason(error)}") from error


class _Section:
    """A compressed section."""

    def __init__(self, plain: Iterable[bytes]) -> None:
        deflater, digest = zlib.compressobj(_LEVEL), hashlib.sha256()
        self.pieces: list[bytes] = []
        size = 0
        for piece in plain:
            size += len(piece)
            self._add(deflater.compress(piece))
        self._add(deflater.flush())
        for piece in self.pieces:
            digest.update(piece)
        self.length = sum(map(len, self.pieces))
        self.described = {"length": self.length, "size": size, "sha256": digest.hexdigest()}

    def _add(self, piece: bytes) -> None:
        if piece:
            self.pieces.append(piece)


def _describe(snapshot: Snapshot) -> dict[str, object]:
    registers, mark, ended = snapshot.registers, snapshot.mark, snapshot.ended
    rest: dict[str, object] = {
        "registers": {
            "build": registers.build,
            "step_due": registers.step_due,
            "hit": registers.hit,
            "task_priority": registers.task_priority,
            "stalled": registers.stalled,
        },
        "msrs": sorted(snapshot.msrs.items()),
        "state": {name: int(value) for name, value in snapshot.state.items()},
        "devices": {name: encode(state) for name, state in snapshot.devices.items()},
        "mark": {
            "number": mark.number,
            "counts": mark.counts,
            "event_counts": mark.event_counts,
            "last": mark.last.hex(),
        },
        "ended": None if ended is None else [ended.kind, ended.story, ended.exit_code],
        "waited_for": [snapshot.console.waited_for, snapshot.debug_console.waited_for],
        "waiting": [[each.time, each.data.hex()] for each in snapshot.waiting],
    }
    return {name: getattr(snapshot, name) for name in _PLAIN} | rest


def _describe_machine(settings: factory.Settings, loaded: Loaded) -> dict[str, object]:
    guest = settings.guest
    return {
        "about": {"kind": guest.kind, "summary": guest.summary, "cmdline": guest.cmdline},
        "cmdline": settings.cmdline,
        "clock": settings.clock,
        "trace": settings.trace,
        "trace_capacity": settings.trace_capacity,
        "loaded": {
            "kind": loaded.kind,
            "description": loaded.description,
            "notes": loaded.notes,
            "disk": loaded.disk is not None,
        },
    }


# --- reading ----------------------------------------------------------------------------------------


def load(path: str | PathLike[str]) -> Saved:
    """Read a file that ``save`` wrote.

    Raises SnapshotFileError for what is no snapshot, is newer than this vlab, was cut short, or was changed.
    """
    arguments.path("path", path)
    try:
        with Path(path).open("rb") as stream:
            header = _read_header(path, stream)
            return Saved(path, header, dict(_read_sections(path, stream, header)))
    except OSError as error:
        raise SnapshotFileError(f"{path}: the snapshot cannot be read: {_reason(error)}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise _wrong(path, error) from error


def _read_header(path: str | PathLike[str], stream: BinaryIO) -> dict[str, Any]:
    start = stream.read(_PREFIX.size)
    if not start.startswith(MAGIC):
        raise SnapshotFileError(
            f"{path}: this is no vlab snapshot: it {beginning.describe(start)}; vm.save(path) writes one"
        )
    there = stream.seek(0, 2)
    _, version, flags, header_length, length, digest = _PREFIX.unpack(start.ljust(_PREFIX.size, b"\0"))
    if len(start) == _PREFIX.size and version > FORMAT:
        raise SnapshotFileError(
            f"{path}: the snapshot has format {version}, and this vlab reads up to {FORMAT}: use a newer vlab"
        )
    if there < max(length, _PREFIX.size):
        expected = f" of {length:,}" if len(start) == _PREFIX.size else ""
        raise SnapshotFileError(
            f"{path}: the snapshot is cut short: {there:,}{expected} bytes are there; copy it again"
        )
    stream.seek(_PREFIX.size)
    text = stream.read(min(header_length, _MOST_HEADER))
    if there > length or version != FORMAT or flags or hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "header")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise TypeError("its header is no object")
    return header


def _read_sections(
    path: str | PathLike[str], stream: BinaryIO, header: Mapping[str, Any]
) -> Iterator[tuple[str, bytes]]:
    table: Mapping[str, Mapping[str, Any]] = header["sections"]
    for name in ("registers", "console", "debug console", "disk", "frames", "pages"):
        length, size = int(table[name]["length"]), int(table[name]["size"])
        stored = stream.read(length)
        if len(stored) != length or hashlib.sha256(stored).hexdigest() != table[name]["sha256"]:
            raise _damaged(path, f"section {name!r}")
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(stored, size + 1)
        except zlib.error as error:
            raise ValueError(f"its section {name!r} is no zlib stream") from error
        if len(plain) != size or not inflater.eof:
            raise ValueError(f"its section {name!r} is not {size:,} bytes long")
        yield name, plain


class Saved:
    """What a snapshot file holds. ``loaded`` is what the loader said when the guest was loaded."""

    def __init__(
        self, path: str | PathLike[str], header: Mapping[str, Any], sections: Mapping[str, bytes]
    ) -> None:
        self._path = path
        self._header = header
        self._sections = sections
        about = header["loaded"]
        self.loaded = Loaded(
            Kind(about["kind"]),
            CpuState.reset(),
            str(about["description"]),
            tuple(map(str, about["notes"])),
            sections["disk"] if about["disk"] else None,
        )

    def settings(
        self,
        paging: PagingStrategy | None = None,
        trace: Level | None = None,
        monitor: type[Monitor] | None = None,
        devices: Makers | None = None,
    ) -> factory.Settings:
        """Say how to build a virtual machine for the snapshot. What is given goes before what was saved."""
        header = self._header
        try:
            about = header["about"]
            how = f"it came from the snapshot {self._path}"
            guest = Guest(
                header["guest"], Kind(about["kind"]), about["summary"], None,
                cmdline=about["cmdline"], available=False, how_to_get=how,
            )  # fmt: skip
            return factory.Settings(
                guest=guest,
                monitor=monitor or header["monitor"],
                paging=paging or header["paging"],
                memory_bytes=factory.memory_size(header["memory_bytes"]),
                initrd=None,
                disk=None,
                cmdline=header["cmdline"],
                clock=header["clock"],
                trace=trace or header["trace"],
                trace_capacity=header["trace_capacity"],
                devices=factory.makers(devices),
            )
        except (ValueError, TypeError, LookupError) as error:
            raise _wrong(self._path, error) from error

    def snapshot(self, board: Board) -> Snapshot:
        """Give the snapshot. board: of the virtual machine it is for: it knows the types of the chips."""
        try:
            return self._snapshot(board)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise _wrong(self._path, error) from error

    def _snapshot(self, board: Board) -> Snapshot:
        header, sections = self._header, self._sections
        encoded: Mapping[str, Mapping[str, Json]] = header["devices"]
        types = {name: type(chip.save()) for name, chip in board.devices.items()}
        pages = _pages(sections["frames"], sections["pages"], header["memory_bytes"])
        texts = (sections["console"], sections["debug console"])
        console, debug_console = (
            Text((data,) if data else (), waited_for)
            for data, waited_for in zip(texts, _numbers(header["waited_for"]), strict=True)
        )
        return Snapshot(
            **{name: header[name] for name in _PLAIN},
            registers=RegisterImage(file=sections["registers"], **header["registers"]),
            msrs={int(number): int(value) for number, value in header["msrs"]},
            state=dict(zip(header["state"], _numbers(header["state"].values()), strict=True)),
            devices={name: decode(types[name], data) for name, data in encoded.items() if name in types},
            mark=_mark(header["mark"]),
            ended=_stop(header["ended"]),
            console=console,
            debug_console=debug_console,
            pages=pages,
            waiting=tuple(Input(time, bytes.fromhex(data)) for time, data in header["waiting"]),
            own_bytes=len(pages) * PAGE,
        )


def _pages(frames: bytes, contents: bytes, memory_bytes: int) -> dict[int, bytes]:
    numbers = struct.unpack(f"<{len(frames) // 4}I", frames)
    if len(contents) != len(numbers) * PAGE or any(number * PAGE >= memory_bytes for number in numbers):
        raise ValueError("its pages are not those of its memory")
    return {number: contents[n * PAGE : (n + 1) * PAGE] for n, number in enumerate(numbers)}


def _mark(data: Mapping[str, Any]) -> Mark:
    counts, event_counts = _numbers(data["counts"]), _numbers(data["event_counts"])
    return Mark(int(data["number"]), counts, event_counts, bytes.fromhex(data["last"]))


def _stop(data: Sequence[Any] | None) -> Stop | None:
    if data is None:
        return None
    kind, story, exit_code = data
    return Stop(StopKind(kind), str(story), exit_code)


def _numbers(values: Iterable[Any]) -> tuple[int, ...]:
    numbers = tuple(values)
    if any(type(each) is not int for each in numbers):
        raise TypeError("whole numbers were expected in its header")
    return numbers


# --- refusals ---------------------------------------------------------------------------------------


def _damaged(path: str | PathLike[str], what: str) -> SnapshotFileError:
    return SnapshotFileError(
        f"{path}: the snapshot was changed since it was written: the checksum of its {what} does not match"
    )


def _wrong(path: str | PathLike[str], error: Exception) -> SnapshotFileError:
    return SnapshotFileError(f"{path}: the snapshot was written wrongly: {error}")


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
