"""A virtual machine's share of the computer: its turn on the processor, its windows, and a look at it.

Several virtual machines may live on one machine. The one whose registers are on the processor is its
occupant; whoever wants to run or be looked at takes its place, and the registers of the one before are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from vlab.errors import UnusableInput
from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.machine import register_image
from vlab.machine.bus import Bus
from vlab.machine.clock import Clock, DeterministicClock
from vlab.machine.core import LiveCore
from vlab.machine.machine import Machine, Read, Write
from vlab.machine.processor import Processor
from vlab.machine.register_image import RegisterImage
from vlab.trace.events import Kind
from vlab.trace.recorder import Recorder
from vlab.vmm.address_space import MOST, AddressSpace, map_space
from vlab.vmm.board import IO_APIC_BASE, LOCAL_APIC_BASE, Board
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.recorded_bus import Answering, RecordedBus
from vlab.vmm.walks import GuestWalk, ShadowWalk, walk_guest, walk_shadow

T = TypeVar("T")


def _state(processor: Processor) -> CpuState:
    return processor.core.state()


class Parts(NamedTuple):
    """What a virtual machine is made of, but for its monitor."""

    machine: Machine
    memory: GuestMemory
    board: Board
    clock: Clock
    recorder: Recorder


class Tenant(ABC):
    """One virtual machine on ``machine``.

    ``in_guest``: its guest is in the middle of an instruction. ``registers``: kept while another one occupies
    the processor, None before the first time.
    """

    def __init__(self, parts: Parts) -> None:
        self.machine, self.memory, self.board, self.clock, self.recorder = parts
        self.processor = self.machine.processor
        self.core = self.processor.core
        self.in_guest = False
        self.registers: RegisterImage | None = None
        self._windows: list[int] = []

    # --- changing worlds --------------------------------------------------------------------------------

    def _occupy(self) -> None:
        machine, processor = self.machine, self.processor
        if machine.occupant is not self:
            if isinstance(machine.occupant, Tenant):
                if machine.occupant.in_guest:
                    raise UnusableInput(
                        "VM: another virtual machine on this processor is in the middle of an instruction; "
                        "look at this one between two, in a predicate of run(), "
                        "not in a handler or console listener"
                    )
                machine.occupant.give_up_processor()
            machine.occupant = self
            if self.registers is None:
                processor.load_registers(None)
            else:
                register_image.put(processor, self.registers)
            self._take_processor(first=self.registers is None)

    def give_up_processor(self) -> None:
        """Keep the registers: another virtual machine is about to run."""
        if isinstance(self.clock, DeterministicClock):
            self.clock.leave()  # the blocks of others are not this guest's time
        self._keep_registers()
        self.machine.occupant = None

    def _keep_registers(self) -> None:
        self.registers = register_image.take(self.processor)

    @abstractmethod
    def _take_processor(self, *, first: bool) -> None:
        """Set the processor up for this virtual machine, whose registers are loaded unless ``first``."""

    # --- looking ----------------------------------------------------------------------------------------

    def on_processor(self, look: Callable[..., T], *arguments: object) -> T:
        """Call ``look(processor, ...)`` with this virtual machine's registers on the processor."""
        with self.machine.lock:
            self._occupy()
            return look(self.processor, *arguments)

    def guest_state(self) -> CpuState:
        """The registers as the guest sees them."""
        return self.on_processor(_state)

    def guest_paging(self) -> PagingControls:
        """What steers the guest's own translation; this virtual machine is on the processor."""
        return self.core.paging

    def nested_paging(self) -> PagingControls | None:
        """The nested tables that are under the guest's, None without."""
        return None

    def fence_paging(self) -> PagingControls | None:
        """The nested tables that keep a guest on shadow tables in, None without."""
        return None

    def guest_physical(self, address: int) -> int:
        """Give the guest-physical address that an address in the guest's tables stands for."""
        return address

    def walk(self, linear: int) -> GuestWalk:
        """Walk the guest's tables for a linear address, and the nested ones or the shadow's."""
        return self.on_processor(lambda _processor: self._walk(linear))

    def _walk(self, linear: int) -> GuestWalk:
        found = walk_guest(
            linear,
            self.guest_paging(),
            self._read_guest,
            self.nested_paging(),
            self.machine.memory.read,
            lambda gpa: self.memory.host_address(self.guest_physical(gpa)),
        )
        backing = ""
        if found.physical is not None:
            region = self.memory.find(self.guest_physical(found.physical))
            backing = "" if region is None else region.backing.value
        return replace(found, backing=backing, shadow=self._walk_shadow(linear))

    def _walk_shadow(self, linear: int) -> ShadowWalk | None:
        """Walk by the processor's own CR3, where that is not the guest's."""
        real, memory = self.core.paging, self.memory
        if real == self.guest_paging():
            return None
        found = walk_shadow(linear, real, self.fence_paging(), self.machine.memory.read)
        own = found.host is None or any(
            0 <= found.host - region.hpa < region.size for region in memory.regions()
        )
        return replace(found, foreign=not own)

    def address_space(self, most: int = MOST) -> AddressSpace:
        """Give all that the guest's tables map, in at most so many ranges."""

        def look(_processor: object) -> AddressSpace:
            return map_space(self.guest_paging(), self._guest_table, self.guest_physical, self.memory, most)

        return self.on_processor(look)

    def _guest_table(self, address: int, size: int) -> bytes | None:
        """Read a whole table of the guest's; None where no memory is."""
        hpa = self.memory.host_address(self.guest_physical(address))
        return None if hpa is None else self.machine.memory.read_bytes(hpa, size)

    def _read_guest(self, gpa: int, size: int) -> int:
        hpa = self.memory.host_address(gpa)
        return (1 << 8 * size) - 1 if hpa is None else self.machine.memory.read(hpa, size)

    def misfit(self, _state: Mapping[str, int]) -> str:
        """Say why a state out of a snapshot means something else at this place of the machine; "" if it does
        not. By itself a guest does not know its place.
        """
        return ""

    # --- devices in memory ------------------------------------------------------------------------------

    def _add_windows(self) -> None:
        """Show the APICs through device windows of the machine: no exit, the hardware calls the device."""
        bus = self._recorded(self.board.memory_windows, stopped=False)
        for gpa in (LOCAL_APIC_BASE, IO_APIC_BASE):

            def read(offset: int, size: int, gpa: int = gpa) -> int:
                return bus.read(gpa + offset, size)

            def write(offset: int, size: int, value: int, gpa: int = gpa) -> None:
                bus.write(gpa + offset, size, value)

            self.memory.add_window(gpa, self._window(read, write))

    def _recorded(self, bus: Bus, *, stopped: bool = True, unclaimed: bool = False) -> Answering:
        """Give ``bus``; at trace level "full" one whose accesses are recorded, for where none is an exit.

        stopped: whether RIP is at the instruction. In the middle of a block it is at an earlier one, at which
        depends on how the processor came there, so 0 is recorded. unclaimed: also where no device answers.
        """
        if not self.recorder.full:
            return bus

        def note(address: int, value: int, write: bool) -> None:
            if not unclaimed and bus.find(address) is None:
                return
            core = self._recorded_core()
            place = core.mode_code, core.cpl, core.rip if stopped else 0
            self.recorder.event(Kind.IO, self.clock.now(), *place, address, value, flags=int(write))

        return RecordedBus(bus, note)

    def _recorded_core(self) -> LiveCore:
        """The processor as records show it."""
        return self.core

    def _window(self, read: Read, write: Write) -> int:
        """Take a device window of the machine's until ``close``."""
        hpa = self.machine.window(read, write)
        self._windows.append(hpa)
        return hpa

    def close(self) -> None:
        """Give everything back to the machine."""
        while self._windows:
            self.machine.give_back_window(self._windows.pop())
        if self.machine.occupant is self:
            self.machine.occupant = None
