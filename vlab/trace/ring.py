"""The memory of a trace: fixed-size records in chunks that are allocated on demand, then reused as a ring.

One thread writes. The writer's fast path, inlined in `recorder`, packs into ``chunk`` at ``offset`` and moves
``offset`` on; it takes no lock, since packing at the end of a chunk fails and leads to `append`. Everything
that changes the chunk happens under the lock, so a reader that holds it sees the writer move only within the
current chunk.
"""

from __future__ import annotations

from threading import RLock
from typing import Final

from vlab.trace.events import RECORD_SIZE

CHUNK_RECORDS: Final = 8192


class Ring:
    """The newest `capacity` records. Records are numbered from 0 in the order in which they were written.

    chunk, offset: where the next record goes; ``offset == len(chunk)`` when there is no room. Memory stays
    within (capacity + 1) * RECORD_SIZE bytes, and within one chunk more than what was written.
    """

    __slots__ = (
        "_base",
        "_chunks",
        "_first",
        "_generation",
        "_lock",
        "_origin",
        "_redo",
        "_slots",
        "capacity",
        "chunk",
        "offset",
    )

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # One slot more than records: the writer fills it before it moves on, and no reader looks there.
        self._slots = capacity + 1
        self._lock = RLock()
        self._generation = 0
        self.restart(0)

    def restart(self, number: int) -> None:
        """Forget every record; the next one written has this number."""
        with self._lock:
            self._generation += 1
            self._chunks: list[bytearray] = []
            self._origin = self._first = self._base = number
            self._redo = (number, number)
            self.chunk = bytearray()
            self.offset = 0

    @property
    def written(self) -> int:
        """The number that the next record will have."""
        with self._lock:
            return self._base + self.offset // RECORD_SIZE

    @property
    def first(self) -> int:
        """The number of the oldest record that is still here."""
        with self._lock:
            return max(self._first, self.written - self.capacity)

    @property
    def version(self) -> tuple[int, int]:
        """A value that is new whenever the records are not the same as before."""
        with self._lock:
            return self._generation, self.written

    @property
    def nbytes(self) -> int:
        """The bytes that the records occupy now."""
        return sum(map(len, self._chunks))

    def append(self, record: bytes) -> None:
        """Write one packed record, in a new or reused chunk when this one is full."""
        with self._lock:
            if self.offset == len(self.chunk):
                self._seek(self.written)
            self.chunk[self.offset : self.offset + RECORD_SIZE] = record
            self.offset += RECORD_SIZE

    def _seek(self, number: int) -> None:
        """Make this the number of the next record, at most one chunk beyond those that exist."""
        slot = (number - self._origin) % self._slots
        index, within = divmod(slot, CHUNK_RECORDS)
        if index == len(self._chunks):
            room = min(CHUNK_RECORDS, self._slots - slot)
            self._chunks.append(bytearray(room * RECORD_SIZE))
        self._base = number - within
        self.chunk = self._chunks[index]
        self.offset = within * RECORD_SIZE

    def truncate(self, number: int) -> bool:
        """Go back so that the next record has this number; say whether the records before it are here.

        Going forward again, to where the writer was, works as long as nothing was written since.
        """
        with self._lock:
            back, forth = self._redo
            if self.first <= number <= self.written:
                forth = self.written
            elif not (self.written == back < number <= forth):
                return False
            self._first = self.first
            self._generation += 1
            if self._chunks:
                self._seek(number)
            self._redo = (number, forth)
            return True

    def record(self, number: int) -> bytes:
        """Give the bytes of one record, or none when it is not here."""
        with self._lock:
            if not self.first <= number < self.written:
                return b""
            index, within = divmod((number - self._origin) % self._slots, CHUNK_RECORDS)
            return bytes(self._chunks[index][within * RECORD_SIZE : (within + 1) * RECORD_SIZE])

    def copy(self, newest: int | None = None) -> memoryview:
        """Copy the records, oldest first; only so many of the newest when that is given.

        The writer may go on meanwhile. What it overwrites during the copy is left out at the old end, what it
        adds is left out at the new end: the result is always a run of consecutive records.
        """
        with self._lock:
            last = self.written
            first = self.first if newest is None else max(self.first, last - newest)
            taken = memoryview(bytearray((last - first) * RECORD_SIZE))
            number = first
            while number < last:
                index, within = divmod((number - self._origin) % self._slots, CHUNK_RECORDS)
                chunk = self._chunks[index]
                count = min(last - number, len(chunk) // RECORD_SIZE - within)
                to, source = (number - first) * RECORD_SIZE, within * RECORD_SIZE
                taken[to : to + count * RECORD_SIZE] = memoryview(chunk)[
                    source : source + count * RECORD_SIZE
                ]
                number += count
            overwritten = max(0, self.first - first)
        return taken[overwritten * RECORD_SIZE :]
