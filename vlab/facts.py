"""What a virtual machine tells about itself: names, sizes, times and counts, none of which changes it."""

from __future__ import annotations

from functools import cached_property

from vlab.machine.machine import Machine
from vlab.trace.events import ExitEvent
from vlab.vmm import handlers
from vlab.vmm.devices import Devices
from vlab.vmm.monitor import Monitor
from vlab.vmm.runner import Runner
from vlab.vmm.silent import Silent
from vlab.vmm.stop import Stop
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.statistics import Statistics


class Facts:
    """For whoever has a ``_monitor`` and its ``_runner``."""

    _monitor: Monitor
    _runner: Runner

    @property
    def monitor(self) -> str:
        """The monitor's name."""
        return self._monitor.name

    @property
    def paging(self) -> str:
        """The paging strategy's name."""
        return self._monitor.paging_name

    @property
    def clock(self) -> str:
        """The clock's name."""
        return self._monitor.clock.name

    @property
    def memory_bytes(self) -> int:
        """The guest's memory in bytes."""
        return self._monitor.memory.size

    @property
    def virtual_time_ns(self) -> int:
        """Virtual nanoseconds since power-on."""
        return self._monitor.clock.now()

    @property
    def blocks(self) -> int | None:
        """Basic blocks that the machine's processor entered, None where nothing counts them."""
        stops = self._monitor.processor.engine.stops
        return stops.words[0] if stops.counts else None

    @property
    def interrupts_delivered(self) -> int:
        """External interrupts that the guest took."""
        return self._monitor.interrupts_delivered

    @property
    def halted(self) -> bool:
        """Whether the guest waits for an interrupt in HLT."""
        return self._monitor.halted

    @property
    def last_stop(self) -> Stop | None:
        """Why the guest stands still: the end of its last run. None while it runs, and where it never ran.

        None as well when what the run called raised an exception.
        """
        return None if self._runner.busy else self._runner.last_stop

    @property
    def ended(self) -> Stop | None:
        """How the guest ended; None while it can still run on."""
        return self._monitor.ended

    @cached_property
    def devices(self) -> Devices:
        """The chips by name, such as ``vm.devices["serial"]``, with their registers."""
        return Devices(self._monitor.board, self._runner)

    def handler_of(self, event: ExitEvent) -> handlers.Handler:
        """Give the function of the monitor, or of its paging strategy, that serves exits like this one.

        ``inspect.getsource`` shows it. Raises UnusableInput on the bare machine.
        """
        return handlers.serving(self._monitor, event.reason, event.info1, event.info2)

    @property
    def machine(self) -> Machine:
        """The computer underneath."""
        return self._monitor.machine

    # --- what only some monitors know -----------------------------------------------------------------------

    @property
    def silent(self) -> tuple[Silent, ...]:
        """Sensitive instructions that did not trap and did something else: under trap-and-emulate alone."""
        return tuple(self._monitor.silent)

    @property
    def translation(self) -> Statistics | None:
        """What binary translation made of the guest's kernel; None under any other monitor."""
        monitor = self._monitor
        return Statistics(monitor, self._runner.call) if isinstance(monitor, BinaryTranslation) else None
