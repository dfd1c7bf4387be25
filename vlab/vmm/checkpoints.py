"""The snapshots that a history keeps: few enough, spread so that the recent past is closer together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from vlab.machine.memory import PAGE
from vlab.vmm.snapshot import Snapshot

COUNT: Final = 64
"""How many snapshots a history keeps."""
BYTES: Final = 256 << 20
"""How much memory content they may hold together, where more than one is kept."""


class Position(NamedTuple):
    """A place in a guest's life: how many exits there were, and the virtual time in ns. Later is greater."""

    exits: int
    time: int


@dataclass(slots=True)
class Checkpoint:
    """A snapshot to go back to. pinned: the user took it, so it is not thinned out."""

    snapshot: Snapshot
    pinned: bool

    @property
    def position(self) -> Position:
        """Where it was taken."""
        return Position(self.snapshot.exits, self.snapshot.time_ns)


class Checkpoints:
    """Checkpoints in the order of their positions. count, limit: how many and how many bytes are kept."""

    def __init__(self, count: int = COUNT, limit: int = BYTES) -> None:
        self._count = count
        self._limit = limit
        self._kept: list[Checkpoint] = []
        self._owners: Counter[int] = Counter()  # of page contents, by their identity

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of memory content that they hold together."""
        return len(self._owners) * PAGE

    @property
    def first(self) -> Checkpoint:
        """The oldest."""
        return self._kept[0]

    @property
    def last(self) -> Checkpoint | None:
        """The newest."""
        return self._kept[-1] if self._kept else None

    def add(self, snapshot: Snapshot, *, pinned: bool) -> None:
        """Keep one more, newer than all others; let some of those go if there are too many."""
        new, last = Checkpoint(snapshot, pinned), self.last
        if last is not None and not last.pinned and last.position == new.position:
            self._remove(len(self._kept) - 1)  # it was taken here before, when the guest first came along
        self._kept.append(new)
        self._owners.update(map(id, (snapshot.pages or {}).values()))
        while len(self._kept) > 1 and (len(self._kept) > self._count or self.nbytes > self._limit):
            self._remove(self._least_useful())

    def complete(self, checkpoint: Checkpoint, snapshot: Snapshot) -> None:
        """Put a snapshot with its memory in place of the same one without."""
        checkpoint.snapshot = snapshot
        self._owners.update(map(id, (snapshot.pages or {}).values()))

    def before(self, exits: int) -> Checkpoint | None:
        """Give the newest one that has fewer exits than these."""
        return next((each for each in reversed(self._kept) if each.position.exits < exits), None)

    def drop_after(self, position: Position) -> None:
        """Let all go that are beyond a position."""
        while self._kept and self._kept[-1].position > position:
            self._remove(len(self._kept) - 1)

    def clear(self) -> None:
        """Let all go."""
        self._kept.clear()
        self._owners.clear()

    def _least_useful(self) -> int:
        """Give the index of the one that leaves the smallest gap for its age; else the oldest.

        The oldest and the newest stay as long as there is another, and so do those that the user took.
        """
        kept = self._kept
        now = kept[-1].snapshot.time_ns

        def gap(index: int) -> float:
            width = kept[index + 1].snapshot.time_ns - kept[index - 1].snapshot.time_ns
            return width / (now - kept[index].snapshot.time_ns + 1)

        return min((n for n in range(1, len(kept) - 1) if not kept[n].pinned), key=gap, default=0)

    def _remove(self, index: int) -> None:
        gone = self._kept.pop(index)
        owners = self._owners
        for content in (gone.snapshot.pages or {}).values():
            owners[id(content)] -= 1
            if not owners[id(content)]:
                del owners[id(content)]
