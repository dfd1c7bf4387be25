"""The recorder: counters by exit reason, and at level "full" a record of every exit and event.

One thread writes, others may read at any time. The loop that runs a guest is meant to do, at each exit::

    if recorder.full:
        recorder.record(time, reason, mode, ring, rip, info1, info2, handler, duration, vcpu)
    elif recorder.counting:
        recorder.counts[reason] += 1

`Recorder.record` counts too, so an exit goes through one branch or the other, never both. Who has the same
kinds of exits again and again keeps an `Recorder.origin` of each and calls `Recorder.record_from`, which
packs half as many numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, get_args

from vlab.errors import UnusableInput
from vlab.trace.events import EXIT_RECORD, RECORD_SIZE, Kind, pack_clamped
from vlab.trace.ring import Ring

if TYPE_CHECKING:
    from vlab.trace.storage import Rows

Level = Literal["off", "counters", "full"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

_pack_exit = EXIT_RECORD.pack_into
_pack_known = struct.Struct("<QQQQI8s4x").pack_into
"""The same record, with all that `Recorder.origin` joins as one field."""
_ORIGIN: Final = struct.Struct("<HHBBBx")
Origin: TypeAlias = tuple[int, bytes]
"""A reason, and what `Recorder.origin` made of it and the rest."""
_MAX_NAMES = 1 << 16
_DURATION = slice(32, 36)
"""Where `duration` is in a record: the only bytes that two identical runs do not share."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a trace to come back to: what a snapshot keeps of the recorder.

    number: of the next record. counts, event_counts: by reason code and by Kind. last: the record before the
    place, without its duration, by which `Recorder.truncate` knows whether it still has that past.
    """

    VERSION: ClassVar[int] = 1

    number: int
    counts: tuple[int, ...]
    event_counts: tuple[int, ...]
    last: bytes


class Recorder:
    """Records what happens to one virtual machine.

    reasons: exit reason code -> name. handlers: the first handler names, by code; `handler_code` adds more.
    level: "off", "counters" or "full". capacity: how many records to keep, the newest; each takes 48 bytes,
    allocated as they come. Raises UnusableInput for an unknown level or a capacity below 1.

    ``counts`` and ``event_counts`` are always the same list objects, so a loop may hold on to them.
    """

    __slots__ = ("_level", "_ring", "counting", "counts", "event_counts", "full", "handlers", "reasons")

    def __init__(
        self,
        reasons: Sequence[str],
        handlers: Sequence[str] = (),
        *,
        level: Level = "counters",
        capacity: int = 1_000_000,
    ) -> None:
        if capacity < 1:
            raise UnusableInput(f"capacity: {capacity} is too small; a trace keeps at least 1 record")
        self.reasons = tuple(reasons)
        self.handlers = list(handlers)
        self.counts = [0] * len(self.reasons)
        self.event_counts = [0] * len(Kind)
        self._ring = Ring(capacity)
        self.set_level(level)

    @property
    def level(self) -> Level:
        """How much is recorded: "off", "counters" or "full"."""
        return self._level

    def set_level(self, level: Level) -> None:
        """Record more or less from now on; what was recorded stays. Raises UnusableInput for another word."""
        if level not in LEVELS:
            raise UnusableInput(
                f"trace: {level!r} is not a level; write {', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
            )
        self._level: Level = level
        self.full = level == "full"
        self.counting = level != "off"

    @property
    def capacity(self) -> int:
        """How many records are kept at most."""
        return self._ring.capacity

    @property
    def total(self) -> int:
        """All exits that were counted, whether their records were kept or not."""
        return sum(self.counts)

    @property
    def dropped(self) -> int:
        """How many records of the past are gone: overwritten, or before a snapshot from elsewhere."""
        return self._ring.first

    @property
    def nbytes(self) -> int:
        """The memory that the records take now, in bytes."""
        return self._ring.nbytes

    @property
    def version(self) -> tuple[int, int]:
        """A value that is new whenever the records are not the same as before."""
        return self._ring.version

    def handler_code(self, name: str) -> int:
        """Give the code of a handler's name, a new one at its first use. Raises UnusableInput after 65536."""
        try:
            return self.handlers.index(name)
        except ValueError:
            if len(self.handlers) == _MAX_NAMES:
                raise UnusableInput(
                    f"handler: {name!r} is one too many; a trace names {_MAX_NAMES}"
                ) from None
            self.handlers.append(name)
            return len(self.handlers) - 1

    def record(
        self,
        time: int,
        reason: int,
        mode: int,
        ring: int,
        rip: int,
        info1: int,
        info2: int,
        handler: int,
        duration: int,
        vcpu: int = 0,
    ) -> None:
        """Count and keep one exit; meant for level "full" only (the level is not asked).

        time: virtual ns. reason, handler: codes. mode: index into `events.MODES`. duration: wall ns.
        Raises IndexError for a reason that has no name.
        """
        log = self._ring
        offset = log.offset
        try:
            _pack_exit(
                log.chunk, offset, time, rip, info1, info2, duration, reason, handler, mode, ring, vcpu
            )
        except struct.error:  # no room in the chunk, or a number beyond its field
            log.append(
                pack_clamped(
                    Kind.EXIT, time, reason, mode, ring, rip, info1, info2, handler, duration, vcpu, 0
                )
            )
        else:
            log.offset = offset + RECORD_SIZE
        # Last, and with no call in between: Ctrl-C finds an exit both kept and counted, or neither.
        self.counts[reason] += 1

    def origin(self, reason: int, handler: int, mode: int, ring: int, vcpu: int = 0) -> Origin:
        """Join what an exit has in common with others: what happened where, and who handles it.

        Raises IndexError for a reason that has no name, UnusableInput for a number beyond its field.
        """
        self.counts[reason] += 0
        try:
            return reason, _ORIGIN.pack(reason, handler, mode, ring, vcpu)
        except struct.error as problem:
            raise UnusableInput(
                f"origin: handler {handler}, mode {mode}, ring {ring}, vcpu {vcpu}: {problem}"
            ) from None

    def record_from(self, origin: Origin, time: int, rip: int, info1: int, info2: int, duration: int) -> None:
        """Count and keep one exit, as `record` does, that has an `origin`."""
        reason, known = origin
        log = self._ring
        offset = log.offset
        try:
            _pack_known(log.chunk, offset, time, rip, info1, info2, duration, known)
        except struct.error:  # as in `record`, which has a way out
            _, handler, mode, ring, vcpu = _ORIGIN.unpack(known)
            self.record(time, reason, mode, ring, rip, info1, info2, handler, duration, vcpu)
            return
        log.offset = offset + RECORD_SIZE
        self.counts[reason] += 1

    def event(
        self,
        kind: Kind,
        time: int,
        mode: int,
        ring: int,
        rip: int,
        info1: int,
        info2: int = 0,
        *,
        handler: int = 0,
        vcpu: int = 0,
        flags: int = 0,
    ) -> None:
        """Count an event that is no exit, such as an interrupt delivery, and keep it at level "full".

        The arguments are those of `record`; what info1, info2 and flags mean is told by `Kind` and COLUMNS.
        """
        if self.counting:
            self.event_counts[kind] += 1
        if self.full:
            self._ring.append(
                pack_clamped(kind, time, 0, mode, ring, rip, info1, info2, handler, 0, vcpu, flags)
            )

    def clear(self) -> None:
        """Forget all records and counts; names and level stay."""
        self._ring.restart(0)
        self._set_counts((0,) * len(self.counts), (0,) * len(self.event_counts))

    def mark(self) -> Mark:
        """Say where the trace is now, for a snapshot. Not while the guest runs."""
        number = self._ring.written
        return Mark(number, tuple(self.counts), tuple(self.event_counts), self._identity(number))

    def truncate(self, mark: Mark) -> None:
        """Go back to a mark: later records and counts are gone, as if they had never been. Not while it runs.

        A mark whose past is not here (overwritten, of another recorder, or of a run that went another way)
        still restores the counts; all records are then gone and counted as dropped. Raises UnusableInput for
        a mark of a recorder with other reasons.
        """
        if len(mark.counts) != len(self.counts) or len(mark.event_counts) != len(self.event_counts):
            raise UnusableInput(
                f"snapshot: its trace counts {len(mark.counts)} exit reasons, this one {len(self.counts)};"
                " it comes from another version of vlab"
            )
        if not self._ring.truncate(mark.number) or self._identity(mark.number) != mark.last:
            self._ring.restart(mark.number)
        self._set_counts(mark.counts, mark.event_counts)

    def rows(self, newest: int | None = None) -> Rows:
        """Copy the records in order, or only so many of the newest, as a structured array."""
        from vlab.trace.storage import rows

        return rows(self._ring, newest)

    def digest(self) -> str:
        """Give the SHA-256, in hex, of all that two identical runs agree on: everything but durations."""
        from vlab.trace.storage import digest

        return digest(self)

    def _identity(self, number: int) -> bytes:
        record = bytearray(self._ring.record(number - 1))
        record[_DURATION] = bytes(len(record[_DURATION]))
        return bytes(record)

    def _set_counts(self, counts: Sequence[int], event_counts: Sequence[int]) -> None:
        self.counts[:] = counts
        self.event_counts[:] = event_counts
