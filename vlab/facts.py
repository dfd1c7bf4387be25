"""What a virtual machine tells about itself: names, sizes, times and counts, none of which changes it."""

from __future__ import annotations

from vlab.machine.machine import Machine
from vlab.vmm.monitor import Monitor
from vlab.vmm.silent import Silent
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.statistics import Statistics


class Facts:
    """For whoever has a ``_monitor``."""

    _monitor: Monitor

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
        return Statistics(monitor) if isinstance(monitor, BinaryTranslation) else None
