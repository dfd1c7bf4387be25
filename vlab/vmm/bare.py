"""No monitor: the guest owns the processor, and the hardware does all there is to do.

What looks like a monitor here is wiring. Ports go to the chips, interrupts to the processor's pin, and the
physical address space is laid out by tables that no guest instruction can tell from a real bus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, assert_never

from vlab.isa.svm_exits import SvmExit
from vlab.machine.faults import Event, EventKind
from vlab.machine.identity import Identity
from vlab.machine.processor import STOPPED
from vlab.vmm import mmio
from vlab.vmm.device_bus import DeviceBus
from vlab.vmm.guest_memory import Backing
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.nested import NestedTables
from vlab.vmm.paging.tables import TableTree
from vlab.vmm.story import shutdown_story
from vlab.vmm.tenant import Parts


class BareMachine(Monitor):
    """The machine without a monitor."""

    name: ClassVar[str] = "none"
    paging_name = "direct"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._add_windows()
        self._bus = NestedTables(TableTree(self.machine, "tables of the bus"), self.memory)
        self._nothing = self._window(
            lambda _offset, size: (1 << 8 * size) - 1, lambda _offset, _size, _value: None
        )
        self._identity = Identity()
        self._ports = self._recorded(self.board.ports, unclaimed=True)
        self._device_bus = DeviceBus(self._recorded(self.board.memory_windows), self.memory)

    def _take_processor(self, *, first: bool) -> None:
        processor = self.processor
        processor.on_port_in, processor.on_port_out = self._ports.read, self._ports.write
        processor.identity, processor.now = self._identity, self.clock.now
        processor.set_intercepts(0, 0, 0, 0, self._bus.root)
        processor.msrs = self.msrs
        if first:
            self.core.load(self._start)

    def _memory_map_changed(self) -> None:
        self._bus.build()
        self.processor.set_nested_root(self._bus.root)

    def _offer_interrupt(self) -> None:
        """The INTR pin: taken between two instructions while RFLAGS.IF is 1 (APM2 8.1)."""
        board, processor = self.board, self.processor
        if board.interrupt and self.core.interrupts_enabled:
            vector = board.acknowledge()
            self._note_interrupt(vector)
            event = Event(EventKind.EXTERNAL, vector)
            while (code := processor.inject(event)) == SvmExit.NPF:
                self._map_nothing(processor.info2)
            if code is not None:
                self._handle(code)
        processor.engine.request_window(board.interrupt)

    def _execute(self) -> None:
        processor = self.processor
        code = processor.run()
        while code == SvmExit.NPF:
            came_of_it = self._answer(processor.info2)
            processor.engine.uncount_block()
            code = processor.run() if came_of_it is None else came_of_it
        if code != STOPPED:
            self._handle(code)

    def _answer(self, gpa: int) -> int | None:
        """Do what the bus does where the tables lead to no RAM; None, or the exit that came of it.

        The firmware takes no writes. Elsewhere no chip answers: an open bus, one page of it from now on.
        """
        region, processor = self.memory.find(gpa), self.processor
        if region is not None and region.backing is Backing.ROM:
            match mmio.emulate(self.core, processor.fetch(15), gpa, self._device_bus):
                case mmio.Done():
                    return None
                case mmio.Faulted(fault):
                    return processor.raise_fault(fault)
                case mmio.Missed(other):
                    gpa = other
                case mmio.NotUnderstood():
                    pass
                case outcome:
                    assert_never(outcome)
        self._map_nothing(gpa)
        return None

    def _map_nothing(self, gpa: int) -> None:
        self._bus.map_nothing(gpa, self._nothing)
        self.processor.set_nested_root(self._bus.root)

    def _handle(self, code: int) -> None:
        processor = self.processor
        if code == SvmExit.HLT:
            processor.skip(1)
            self.halted = True
        elif code != SvmExit.VINTR:
            self.end(shutdown_story(processor, processor.chain, processor.failure))

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take the state back. Pages that were found to be an open bus will be found again."""
        super().restore_state(state)
        self._memory_map_changed()

    def close(self) -> None:
        """Give the tables back."""
        super().close()
        self._bus.close()
