"""What a virtual machine tells about itself: names, sizes, times, registers, walks; nothing changes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

from vlab.isa.state import CpuState
from vlab.machine.machine import Machine
from vlab.trace.events import ExitEvent
from vlab.vmm import arguments, guest_code, handlers
from vlab.vmm.address_space import MOST, AddressSpace
from vlab.vmm.devices import Devices
from vlab.vmm.monitor import Monitor
from vlab.vmm.runner import Runner
from vlab.vmm.silent import Silent
from vlab.vmm.snapshot import state_hash
from vlab.vmm.stop import Stop
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.statistics import Statistics
from vlab.vmm.walks import GuestWalk


class Facts(ABC):
    """For whoever has a ``_monitor`` and its ``_runner``."""

    _monitor: Monitor
    _runner: Runner

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse what needs a guest that was not given up."""

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
    def vmm(self) -> Monitor:
        """The virtual machine monitor itself, an object of ``vlab.vmm``, for a look inside.

        Its name is ``monitor``. What it has differs between monitors, and may change between versions.
        """
        return self._monitor

    @property
    def machine(self) -> Machine:
        """The computer underneath."""
        return self._monitor.machine

    # --- looking at the guest -------------------------------------------------------------------------------

    def registers(self) -> CpuState:
        """The guest's registers, as the guest sees them."""
        self._check_open()
        return self._runner.call(self._monitor.guest_state)

    def walk(self, linear: int) -> GuestWalk:
        """Walk the page tables for a guest-linear address, as the hardware does."""
        self._check_open()
        linear = arguments.linear_address("linear", linear)
        return self._runner.call(lambda: self._monitor.walk(linear))

    def address_space(self, most: int = MOST) -> AddressSpace:
        """All that the guest's page tables map now, as ranges, of which the first ``most`` are given."""
        self._check_open()
        most = arguments.whole("most", most, "number of ranges")
        return self._runner.call(lambda: self._monitor.address_space(most))

    def disassemble(self, count: int = 8, at: int | None = None) -> list[str]:
        """The next instructions, or those from ``at`` on, an address like RIP."""
        self._check_open()
        count = arguments.whole("count", count, "number of instructions to show")
        if at is not None:
            at = arguments.linear_address("at", at)
        return self._runner.call(lambda: guest_code.disassemble(self._monitor, count, at))

    def state_hash(self) -> str:
        """Digest of the guest: registers and all of its memory. Equal states have equal hashes."""
        self._check_open()
        return self._runner.call(lambda: state_hash(self._monitor))

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
