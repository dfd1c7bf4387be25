"""Virtual time: two clocks, and the alarms that devices set on them.

The deterministic clock counts basic blocks: 16 ns each, near what the emulator needs for one, so that a
guest's idea of a second is not far from ours. Two runs of the same guest see the same times on any computer.
The realtime clock follows the wall. Both stand still while their virtual machine does not run.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

NS_PER_BLOCK: Final = 16
"""Virtual nanoseconds that one basic block takes on the deterministic clock."""

FOREVER: Final = (1 << 63) - 1


class Clock(Protocol):
    """Virtual nanoseconds since the virtual machine's power-on."""

    name: str

    def now(self) -> int:
        """Give the virtual time in ns."""
        ...

    def enter(self) -> None:
        """Let time pass: the virtual machine is on the processor."""
        ...

    def leave(self) -> None:
        """Stop time: it is off the processor."""
        ...

    def skip(self, ns: int) -> None:
        """Let ``ns`` pass at once, without executing (the processor was halted)."""
        ...

    def set(self, ns: int) -> None:
        """Set the time: a snapshot is restored."""
        ...


class DeterministicClock:
    """Time from executed blocks. counter: the engine's control words, whose first is the block count.

    ``skipped``: how much of the time in ns passed without executing.
    """

    name = "deterministic"

    def __init__(self, counter: memoryview) -> None:
        self._counter = counter
        self.skipped = 0
        self._base = 0  # the time while it stands still
        self._zero: int | None = None  # while it passes: what it was when the counter was 0

    def now(self) -> int:
        """Give the virtual time in ns."""
        zero = self._zero
        return self._base if zero is None else zero + self._counter[0] * NS_PER_BLOCK

    def enter(self) -> None:
        """Let time pass."""
        if self._zero is None:
            self.set(self._base, passing=True)

    def leave(self) -> None:
        """Stop time."""
        self._base, self._zero = self.now(), None

    def skip(self, ns: int) -> None:
        """Let ``ns`` pass at once."""
        self.set(self.now() + ns)
        self.skipped += ns

    def set(self, ns: int, *, passing: bool = False) -> None:
        """Set the time. passing: and let it pass, if it did not."""
        if passing or self._zero is not None:
            self._zero = ns - self._counter[0] * NS_PER_BLOCK
        else:
            self._base = ns

    def blocks_until(self, when: int) -> int:
        """Give the value of the block counter at which virtual time reaches ``when``."""
        return self._counter[0] + max(0, -(-(when - self.now()) // NS_PER_BLOCK))


class RealtimeClock:
    """Time from the wall, without the time spent paused."""

    name = "realtime"

    def __init__(self) -> None:
        self._base = 0
        self._origin: int | None = None

    def now(self) -> int:
        """Give the virtual time in ns."""
        if self._origin is None:
            return self._base
        return self._base + time.monotonic_ns() - self._origin

    def enter(self) -> None:
        """Let time pass."""
        if self._origin is None:
            self._origin = time.monotonic_ns()

    def leave(self) -> None:
        """Stop time."""
        self._base = self.now()
        self._origin = None

    def skip(self, ns: int) -> None:
        """Nothing to do: the wall has moved by itself."""

    def set(self, ns: int) -> None:
        """Set the time."""
        self._base = ns
        if self._origin is not None:
            self._origin = time.monotonic_ns()


class Alarm:
    """One device's wake-up call. ``when``: virtual ns, or None while it is not set."""

    __slots__ = ("_alarms", "expire", "index", "when")

    def __init__(self, alarms: Alarms, expire: Callable[[], None], index: int) -> None:
        self._alarms = alarms
        self.expire = expire
        self.index = index
        self.when: int | None = None

    def schedule(self, when: int | None) -> None:
        """Call ``expire`` at virtual time ``when``; None cancels; a later call replaces an earlier one."""
        if when != self.when:
            self.when = when
            self._alarms.changed(self)


class Alarms:
    """All alarms of one virtual machine. ``next``: the earliest time, FOREVER when none is set.

    Nothing here remembers the order of calls: alarms set to the same times go off in the same order, whether
    their devices set them as the guest asked or all at once when a snapshot was restored.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Alarm]] = []
        self._count = 0
        self.next = FOREVER
        self.on_earlier: Callable[[], None] = lambda: None

    def alarm(self, expire: Callable[[], None]) -> Alarm:
        """Make an alarm that calls ``expire``; of those due at one time the first made goes off first."""
        self._count += 1
        return Alarm(self, expire, self._count)

    def changed(self, alarm: Alarm) -> None:
        """Note an alarm's new time; outdated entries are dropped when they come up."""
        if alarm.when is not None:
            heapq.heappush(self._heap, (alarm.when, alarm.index, alarm))
        before = self.next
        self._look()
        if self.next < before:
            self.on_earlier()

    def _look(self) -> None:
        """Find the earliest time that is still meant."""
        heap = self._heap
        while heap and heap[0][2].when != heap[0][0]:
            heapq.heappop(heap)
        self.next = heap[0][0] if heap else FOREVER

    def run_due(self) -> None:
        """Call every alarm whose time has come, in the order of their times."""
        heap, now = self._heap, self._clock.now()
        while heap:
            when, _, alarm = heap[0]
            if alarm.when != when:
                heapq.heappop(heap)
            elif when <= now:
                heapq.heappop(heap)
                alarm.when = None
                try:
                    alarm.expire()
                except BaseException:
                    if alarm.when is None:
                        alarm.schedule(when)  # a device of a student's that raised is asked again
                    raise
            else:
                break
        self._look()

    def reset(self) -> None:
        """Cancel all: the devices are about to be restored and set theirs again."""
        for _, _, alarm in self._heap:
            alarm.when = None
        self._heap.clear()
        self.next = FOREVER
