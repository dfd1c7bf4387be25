"""The loop that every monitor shares: run the guest, serve time and interrupts, stop when asked.

A monitor is what stands between one virtual machine and the machine. This base owns what does not depend on
the technique: the board, virtual time, idling, stop requests. A subclass says how the guest executes
(``_execute``) and how an interrupt gets into it (``_offer_interrupt``).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, TypeVar

from vlab.isa.state import CpuState
from vlab.machine.clock import FOREVER, DeterministicClock
from vlab.machine.msrs import ModelSpecificRegisters
from vlab.trace.events import Kind
from vlab.vmm.bell import Bell
from vlab.vmm.silent import Silent
from vlab.vmm.stop import Stop, StopKind
from vlab.vmm.story import halted_story, reset_story
from vlab.vmm.tenant import Parts, Tenant
from vlab.vmm.ticker import Ticker

T = TypeVar("T")

CHUNK_BLOCKS: Final = 500_000
"""The engine is left at least this often (some 20 ms), so that Ctrl-C, pause and other machines get a
turn."""

TURN_NS: Final = 20_000_000
"""Wall time after which a virtual machine lets another one on the same processor run."""

FREE_IDLE_NS: Final = 10_000_000_000
"""Under the deterministic clock a halted guest's time jumps ahead, until the console has been silent for this
long; then it passes no faster than the wall's: a guest at its prompt keeps no processor busy."""

_APIC_ENABLE: Final = 1 << 11


class Monitor(Tenant):
    """One virtual machine on ``machine``. Not safe for use by two threads at once, except where said.

    ``at_exit``: the engine was left right behind an exit, where nobody but an observer would leave it; the
    next run begins by entering it again, so that stepping changes nothing. ``moment``: time in ns that the
    guest is to have spent executing when ``on_moment`` is called, under the deterministic clock. ``hurry``:
    do not sleep while the guest idles. ``silent``: what went by without a trap, where the monitor can tell.
    """

    name: ClassVar[str]
    paging_name: str
    silent: Sequence[Silent] = ()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        board = self.board
        self.halted = False
        self.closed = False
        self.interrupts_delivered = 0
        self.ended: Stop | None = None
        self.msrs = ModelSpecificRegisters(self.core, self.processor.tsc)
        self.msrs.on_apic_base = self.apic_base_written
        self._start = CpuState.reset()
        self._stop: Stop | None = None
        self._attention = False
        self._flush_code = True  # another guest's code may have been translated from these frames
        self._wake = Bell()
        self._inbox: deque[Callable[[], None]] = deque()
        self.exit_goal: int | None = None
        self.at_exit = False
        self.hurry = False
        self.moment: int | None = None
        self.on_moment: Callable[[], None] = lambda: None
        self._requested: Stop | None = None
        self.active_at = 0
        self._turn_began = 0
        self._ticker: Ticker | None = None
        self.at_block: Callable[[], Stop | None] | None = None
        events = board.events
        events.attention = self._look_around
        events.reset = lambda why: self.end(reset_story(why))
        events.power_off = lambda: self.end(Stop(StopKind.POWERED_OFF, "the guest powered the machine off"))
        events.debug_exit = self._debug_exit
        events.a20 = self._set_a20
        events.dma = self._written
        board.alarms.on_earlier = self._hasten

    # --- what others may call at any time, from any thread ----------------------------------------------

    def request_stop(self, stop: Stop) -> None:
        """Have ``run`` return ``stop`` before the next block of guest code."""
        self._requested = stop
        self.wake()

    def forget_request(self) -> None:
        """Begin anew: a request that came after the end of the run before is void."""
        self._requested = None

    def post(self, action: Callable[[], None]) -> None:
        """Have ``action`` called between two blocks of guest code, by whoever runs the guest."""
        self._inbox.append(action)
        self.wake()

    def raise_later(self, problem: BaseException) -> None:
        """Have ``run`` raise ``problem`` before the next block of guest code, with nothing undone."""

        def fail() -> None:
            raise problem

        self.post(fail)

    def wake(self) -> None:
        """Have the loop look around: something changed outside."""
        self._wake.ring()
        self._look_around()

    def _look_around(self) -> None:
        """Have the engine stop before the next block, whatever deadline is set meanwhile."""
        self._attention = True
        self.processor.engine.stops.request()

    # --- what devices do --------------------------------------------------------------------------------

    def end(self, stop: Stop) -> None:
        """Note from a device callback that the guest is over."""
        if self._stop is None:
            self._stop = stop
        self._look_around()

    def _debug_exit(self, status: int) -> None:
        verdict = "success" if status == 0 else "failure"
        self.end(Stop(StopKind.EXIT, f"the guest ended with status {status} ({verdict})", status))

    def apic_base_written(self, value: int) -> None:
        """Follow MSR APIC_BASE (APM2 16.3.1)."""
        self.board.switch_local_apic(bool(value & _APIC_ENABLE))

    def _flush_later(self) -> None:
        self._flush_code = True
        self._look_around()

    def _written(self, gpa: int, size: int) -> None:
        """A device wrote to the guest's memory: page tables, perhaps, or code."""
        self.memory.on_written(gpa, size)
        self._flush_later()

    def _set_a20(self, level: bool) -> None:
        if level != self.memory.a20:
            self.memory.a20 = level
            self._memory_map_changed()

    @abstractmethod
    def _memory_map_changed(self) -> None:
        """Follow a change of the guest's physical memory map; may be called in mid-instruction."""

    # --- the loop ---------------------------------------------------------------------------------------

    def boot(self, state: CpuState) -> None:
        """Set the processor state to begin with."""
        self._start = state

    def run(self) -> Stop:
        """Run until something stops the guest or someone asks for it."""
        if self.ended is not None:
            return self.ended
        with self.machine.lock:
            self._enter()
            self._look_at_memory()
            try:
                return self._loop()
            finally:
                self._leave()

    def _loop(self) -> Stop:
        while True:
            self._attention &= self.at_exit
            self._give_way()
            if self._requested is not None:
                requested, self._requested = self._requested, None
                return requested
            self.run_inbox()
            if self._flush_code:
                self._flush_code = False
                self.processor.engine.flush_code()
            if not self.at_exit and self.clock.now() >= self.board.alarms.next:
                self._alarm()
            if self.at_block is not None:
                if (stop := self.at_block()) is not None:
                    return stop
                self._look_at_memory()
            if self.exit_goal is not None and self.recorder.total >= self.exit_goal:
                return Stop(StopKind.EXPECTED, "the exit that was waited for is done")
            self._enter()  # who was called here may have looked at another virtual machine
            if not self.halted or self._idle():
                self._run_guest()
            if self._stop is not None:
                return self._finish()

    def _look_at_memory(self) -> None:
        """Whoever has a view of the guest's memory may have written while the guest did not run."""
        if self.memory.handed_out:
            self.memory.on_written(0, self.memory.size)

    def _run_guest(self) -> None:
        if self.at_exit:
            self.at_exit = False
        else:
            if self.moment is not None and self._busy() >= self.moment:
                self.on_moment()
            attention = self._attention
            self._offer_interrupt()
            # That the acknowledgement itself changed the line is no news; that the guest ended in it is.
            self._attention = attention or self._stop is not None
        self._arm()
        self.in_guest = True
        try:
            self._execute()
        except BaseException:
            # A handler raised: the instruction is not done and its block will be entered a second time.
            self.processor.engine.uncount_block()
            self.at_exit = True
            raise
        finally:
            self.in_guest = False

    def run_inbox(self) -> None:
        """Do what others posted; only while no guest code runs."""
        while self._inbox:
            self._inbox.popleft()()

    def _finish(self) -> Stop:
        stop, self._stop = self._stop, None
        assert stop is not None
        if stop.final:
            self.ended = stop
        return stop

    def _alarm(self) -> None:
        """Serve what is due."""
        self.board.alarms.run_due()

    @abstractmethod
    def _execute(self) -> None:
        """Run guest code until the loop has something to do."""

    @abstractmethod
    def _offer_interrupt(self) -> None:
        """Deliver the board's interrupt if the guest can take it, else arrange to hear when it can."""

    def _arm(self) -> None:
        """Set the engine's deadline: the next alarm or the end of this turn, whichever is first."""
        clock, stops = self.clock, self.processor.engine.stops
        limit = stops.words[0] + CHUNK_BLOCKS
        if isinstance(clock, DeterministicClock):
            when = self.board.alarms.next
            if when != FOREVER:
                limit = min(limit, clock.blocks_until(when))
            if self.moment is not None:
                limit = min(limit, clock.blocks_until(self.moment + clock.skipped))
            self._tick_in(TURN_NS)
        else:
            self._tick_in(min(self.board.alarms.next - clock.now(), TURN_NS))
        stops.arm(limit)
        if self._attention or self._requested is not None or self._inbox:
            stops.request()

    def _hasten(self) -> None:
        """Bring the deadline forward: the guest has just set an alarm. A stop that was asked for stays so."""
        if not self.in_guest:
            return
        clock, when = self.clock, self.board.alarms.next
        if isinstance(clock, DeterministicClock):
            stops = self.processor.engine.stops
            stops.arm(min(stops.words[1], clock.blocks_until(when)))
        elif self._ticker is not None:
            self._ticker.hasten(max(0, when - clock.now()) / 1e9)

    def _tick_in(self, ns: int) -> None:
        """Leave the engine after so much wall time, even if most of it goes into exits."""
        if self._ticker is None:
            self._ticker = Ticker(self._look_around)
        self._ticker.set(max(0, ns) / 1e9)

    def _busy(self) -> int:
        """Virtual time in ns that the guest spent executing."""
        clock = self.clock
        return clock.now() - clock.skipped if isinstance(clock, DeterministicClock) else 0

    # --- idling -----------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        """Pass time while the processor is halted; True when it is awake again."""
        if not self._interrupts_enabled():  # and no chip of the board raises NMI
            self.end(halted_story(self.guest_state()))
            return False
        if self.board.interrupt:
            self.halted = False
            return True
        clock, alarms = self.clock, self.board.alarms
        wait = alarms.next - clock.now() if alarms.next != FOREVER else FOREVER
        if isinstance(clock, DeterministicClock) and clock.now() + wait - self.active_at <= FREE_IDLE_NS:
            clock.skip(max(0, wait))
            return False
        self._wake.silence()
        if self._requested is None and not self._inbox and not self.hurry:
            self._sleep(min(wait, 50_000_000) / 1e9)
        if isinstance(clock, DeterministicClock) and wait <= 50_000_000:
            clock.skip(max(0, wait))
        elif isinstance(clock, DeterministicClock) and wait != FOREVER:
            clock.skip(50_000_000)
        return False

    def _interrupts_enabled(self) -> bool:
        """Whether an interrupt can wake the guest: its RFLAGS.IF."""
        return self.core.interrupts_enabled

    def note_activity(self) -> None:
        """Note that the console was used: idle time may jump again."""
        self.active_at = self.clock.now()

    def _sleep(self, seconds: float) -> None:
        """Wait, with the machine free for others."""
        counted = isinstance(self.clock, DeterministicClock)
        if counted:
            self.clock.leave()  # blocks that others execute are not this guest's time
        self.machine.lock.release()
        try:
            self._wake.wait(seconds)
        finally:
            self.machine.lock.acquire()
            self._occupy()
            if counted:
                self.clock.enter()

    def _give_way(self) -> None:
        """Let another virtual machine have the processor if one waits and this one had its turn."""
        if not self.machine.lock.wanted:
            self._turn_began = 0
        elif not self._turn_began:
            self._turn_began = time.monotonic_ns()
        elif time.monotonic_ns() - self._turn_began >= TURN_NS:
            self._sleep(0)
            self._turn_began = 0

    # --- changing worlds --------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Put this virtual machine on the processor and let its time pass."""
        self._occupy()
        self.clock.enter()

    def _leave(self) -> None:
        self.clock.leave()
        if self._ticker is not None:
            self._ticker.cancel()

    # --- snapshots --------------------------------------------------------------------------------------

    def save_state(self) -> dict[str, int]:
        """Give what is kept of the guest beside registers, memory, chips and clock."""
        return {
            "halted": self.halted,
            "at_exit": self.at_exit,
            "attention": self._attention and self.at_exit,
            "interrupts_delivered": self.interrupts_delivered,
            "active_at": self.active_at,
            "a20": self.memory.a20,
        }

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take that back; registers and memory are in place. All that was made of them before is
        forgotten.
        """
        self.halted, self.at_exit = bool(state["halted"]), bool(state["at_exit"])
        self._attention, self._stop = bool(state["attention"]), None
        self.interrupts_delivered, self.active_at = state["interrupts_delivered"], state["active_at"]
        self.memory.a20 = bool(state["a20"])
        self._take_processor(first=False)

    def _note_interrupt(self, vector: int) -> None:
        self.interrupts_delivered += 1
        recorder = self.recorder
        if recorder.counting:
            core = self.core
            recorder.event(Kind.INTERRUPT, self.clock.now(), core.mode_code, core.cpl, core.rip, vector)

    def close(self) -> None:
        """Give everything back to the machine."""
        self.closed = True
        if self._ticker is not None:
            self._ticker.close()
        super().close()
