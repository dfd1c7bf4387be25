"""Going back: checkpoints along the way, and the same way again from the nearest one to the place wanted.

Nothing is undone. A guest under the deterministic clock does the same every time, so the state after exit
1000 is found by restoring an earlier checkpoint and running to exit 1000 again, with the same keys typed at
the same times.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from vlab.errors import UnusableInput, VlabError
from vlab.machine.clock import DeterministicClock
from vlab.trace.events import ExitEvent
from vlab.trace.exits import Exits
from vlab.vmm.checkpoints import Checkpoint, Checkpoints, Position
from vlab.vmm.monitor import Monitor
from vlab.vmm.runner import Runner
from vlab.vmm.snapshot import Snapshot, Snapshots
from vlab.vmm.stop import Stop, StopKind

INTERVAL_NS: Final = 500_000_000
"""Virtual time that the guest executes between two checkpoints that are taken by themselves."""
_BATCH: Final = 4096


def check_clock(what: str, clock: str) -> None:
    """Raise UnusableInput when a guest with this clock does not do the same twice."""
    if clock != "deterministic":
        raise UnusableInput(
            f"{what}: under the {clock} clock a guest does not do the same twice; "
            "make the VM with clock='deterministic'"
        )


class History:
    """The past of one virtual machine.

    automatic: take checkpoints as it runs, not only at its start and when the user takes a snapshot.
    ``memory_seen``: the user may have changed what the loader wrote.
    """

    def __init__(
        self,
        monitor: Monitor,
        runner: Runner,
        snapshots: Snapshots,
        checkpoints: Checkpoints,
        *,
        automatic: bool,
    ) -> None:
        self._monitor = monitor
        self._runner = runner
        self._snapshots = snapshots
        self.checkpoints: Final = checkpoints
        self._automatic = automatic
        self.memory_seen = False
        self._again = False
        self._latest: weakref.ref[Snapshot] | None = None
        self._stopped_at: Position | None = None
        runner.on_begin = self._begin

    # --- snapshots --------------------------------------------------------------------------------------

    def snapshot(self, earlier: Snapshot | None = None) -> Snapshot:
        """Take a snapshot, and keep it as a checkpoint; the guest stands still."""
        return self._take(earlier or self._nearest(), pinned=True)

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a snapshot; the guest stands still. One that is no checkpoint here begins a new history."""
        self._snapshots.restore(snapshot)
        self._stopped_at, self._latest = None, weakref.ref(snapshot)
        if self._is_deterministic and all(each.snapshot is not snapshot for each in self.checkpoints):
            self.checkpoints.clear()
            self.checkpoints.add(snapshot, pinned=True)
        self._set_moment()

    @property
    def _is_deterministic(self) -> bool:
        return isinstance(self._monitor.clock, DeterministicClock)

    @property
    def position(self) -> Position:
        """Where the guest is now."""
        return Position(self._monitor.recorder.total, self._monitor.clock.now())

    def _nearest(self) -> Snapshot | None:
        """Give a snapshot that probably has most pages in common with the memory now."""
        latest = None if self._latest is None else self._latest()
        if latest is not None:
            return latest
        last = self.checkpoints.last
        return None if last is None else last.snapshot

    def _take(self, earlier: Snapshot | None, *, pinned: bool, memory: bool = True) -> Snapshot:
        snapshot = self._snapshots.take(earlier, memory=memory)
        self._latest = weakref.ref(snapshot)
        if self._is_deterministic:
            self.checkpoints.drop_after(self.position)
            self.checkpoints.add(snapshot, pinned=pinned)
        return snapshot

    def _begin(self) -> None:
        """A run begins. What is ahead, if the guest has been there before, may come out differently now."""
        if not self._is_deterministic or self._again:
            return
        self._stopped_at = None
        if len(self.checkpoints):
            self.checkpoints.drop_after(self.position)
            return
        self._set_moment()
        whole = self._automatic or self.memory_seen or bool(self.position.time)
        self._take(None, pinned=True, memory=whole)

    def _set_moment(self) -> None:
        """Have the next checkpoint be taken, unless a snapshot says when."""
        monitor, clock = self._monitor, self._monitor.clock
        if not self._automatic or not isinstance(clock, DeterministicClock):
            monitor.moment = None
            return
        monitor.on_moment = self._on_moment
        if monitor.moment is None:
            monitor.moment = ((clock.now() - clock.skipped) // INTERVAL_NS + 1) * INTERVAL_NS

    def _on_moment(self) -> None:
        self._monitor.moment = None
        self._set_moment()
        if self._again:
            self._snapshots.settle()
        else:
            self._take(self._nearest(), pinned=False)

    # --- going back -------------------------------------------------------------------------------------

    def step_back(self) -> Stop:
        """Go to the state after the exit before this place. Raises UnusableInput where there is none."""
        self._check("step_back")
        here = self.position
        goal = here.exits - 1 if here == self._stopped_at else here.exits
        there = self._go(goal, here)
        if there >= here:
            there = self._go(self._last_stop_before(here), here)
        return Stop(StopKind.EXPECTED, f"back at the state after exit {there.exits:,}")

    def go_to(self, goal: int) -> Stop | int:
        """Go back to the state after exit ``goal``; where that is ahead, say how many exits ahead."""
        self._check("go_to")
        here = self.position
        if goal > here.exits:
            return goal - here.exits
        first = self.checkpoints.first.position if len(self.checkpoints) else here
        if goal < first.exits:
            raise UnusableInput(
                f"go_to: the history begins after exit {first.exits:,}; exit {goal:,} is before that"
            )
        if goal < here.exits or here not in (self._stopped_at, first):
            here = self._go(goal, here)
        return Stop(StopKind.EXPECTED, f"at the state after exit {here.exits:,}")

    def run_back(self, predicate: Callable[[ExitEvent], bool]) -> ExitEvent | None:
        """Go to the state after the latest earlier exit that satisfies ``predicate``; give that exit.

        None, and nothing changes, when there is none among those in the trace.
        """
        self._check("run_back")
        if not self._monitor.recorder.full:
            raise UnusableInput("run_back: the trace has no single exits; make the VM with trace='full'")
        here = self.position
        for number, event in self._exits_backwards():
            if number == here.exits and here == self._stopped_at:
                continue
            if number <= self.checkpoints.first.position.exits:
                return None
            if predicate(event) and self._go(number, here) < here:
                return event
        return None

    def note_stop(self, stop: Stop) -> None:
        """Note that a run for so many exits ended: the guest is right behind one."""
        if stop.kind is StopKind.EXPECTED:
            self._stopped_at = self.position

    def _check(self, what: str) -> None:
        monitor = self._monitor
        check_clock(what, monitor.clock.name)
        if monitor.name == "none":
            raise UnusableInput(f"{what}: the bare machine has no exits; use monitor='hardware'")
        if not monitor.recorder.counting:
            raise UnusableInput(f"{what}: nothing counts exits; make the VM with trace='counters' or 'full'")
        if self._runner.busy:
            raise UnusableInput(f"{what}: this VM runs; pause() or wait() for it first")

    def _exits_backwards(self) -> Iterator[tuple[int, ExitEvent]]:
        """Give the exits in the trace with their numbers, the latest, which is the total, first."""
        exits = Exits(self._monitor.recorder)[:]  # a copy: going back changes the recorder
        number, kept = exits.total, len(exits)
        for stop in range(kept, 0, -_BATCH):
            for event in reversed(list(exits[max(0, stop - _BATCH) : stop])):
                yield number, event
                number -= 1

    def _go(self, goal: int, here: Position) -> Position:
        """Go to where the guest first stops with so many exits, or to the first checkpoint."""
        self._stopped_at = None
        checkpoint = self.checkpoints.before(goal)
        if checkpoint is None:
            if not len(self.checkpoints) or here <= self.checkpoints.first.position:
                raise UnusableInput("step_back: the history begins here; there is no exit before this place")
            self._return_to(self.checkpoints.first)
        else:
            self._return_to(checkpoint)
            with self._once_more():
                self._run_to(goal, here)
        self._stopped_at = self.position
        return self.position

    def _last_stop_before(self, here: Position) -> int:
        """Find the exit count of the last place before ``here`` at which stepping would stop.

        One block can hold several port accesses, after which there is one stop for all.
        """
        distance = 8
        while True:
            there = self._go(here.exits - distance, here)
            if there < here:
                break
            distance *= 8
        with self._once_more():
            while (place := self.position) < here:
                there = place
                self._run_to(place.exits + 1, here)
        return there.exits

    def _run_to(self, goal: int, here: Position) -> None:
        """Run until there were so many exits, which happened before."""
        monitor = self._monitor

        def missed() -> bool:
            return monitor.clock.now() > here.time

        stop = self._runner.run(missed, None, goal - monitor.recorder.total)
        if stop.kind is StopKind.PAUSED:
            raise UnusableInput("replay: it was paused on its way; the VM is between the two places")
        if monitor.recorder.total < goal:
            raise VlabError(
                "replay: the guest went another way than before; were its memory or the monitor's handlers "
                "changed by hand since the last snapshot?"
            )

    def _return_to(self, checkpoint: Checkpoint) -> None:
        """Go to a checkpoint; the others stay."""
        snapshots = self._snapshots
        self._runner.call(lambda: snapshots.restore(checkpoint.snapshot))
        if checkpoint.snapshot.pages is None:
            self.checkpoints.complete(
                checkpoint, self._runner.call(lambda: snapshots.with_memory(checkpoint.snapshot))
            )

    @contextmanager
    def _once_more(self) -> Iterator[None]:
        """Run through what was before: no checkpoint is taken or dropped, no console listener hears it."""
        self._again = self._monitor.hurry = True
        for console in self._snapshots.consoles:
            console.again = True
        try:
            yield
        finally:
            self._again = self._monitor.hurry = False
            for console in self._snapshots.consoles:
                console.again = False
