"""The paravirtual monitor: the guest's kernel runs at CPL 1 and asks, by INT 82h, for all that needs ring 0.

No instruction is emulated. What comes to the monitor is hypercalls, which ``hypercalls`` serves, and the
guest's own traps, which go back to it by ``traps``. Its page tables are the processor's, or a strategy
shadows them: ``tables`` says what the two have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from vlab.isa.control import EFlags
from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector, has_error_code
from vlab.machine.faults import Event, EventKind
from vlab.machine.identity import Identity
from vlab.machine.instructions import software_interrupt
from vlab.vmm import exits
from vlab.vmm.exits import Exit
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paravirtual.direct import DirectTables
from vlab.vmm.paravirtual.events import Events
from vlab.vmm.paravirtual.hypercalls import TABLE, Hypercall
from vlab.vmm.paravirtual.interface import EVENT_VECTOR, VECTOR, Call, Error, SharedInfo
from vlab.vmm.paravirtual.layout import Layout, shared_info
from vlab.vmm.paravirtual.shadowed import ShadowedTables
from vlab.vmm.paravirtual.space import GuestSpace
from vlab.vmm.paravirtual.tables import GuestTables
from vlab.vmm.paravirtual.traps import Traps
from vlab.vmm.story import failed_story, shutdown_story
from vlab.vmm.tenant import Parts
from vlab.vmm.trapping import PHYSICAL_INTERRUPT, TrappingMonitor
from vlab.vmm.verdicts import RESUME, End, Inject, Verdict

_ALL: Final = 0xFFFFFFFF
_INTERCEPTED: Final = 1 << SvmExit.SWINT - SvmExit.INTR | 1 << SvmExit.IRET - SvmExit.INTR
_EXCEPTION_OF_INT: Final = (SvmExit.EXCP_BP, SvmExit.EXCP_OF)
"""INT3 and INTO."""
_IF: Final = EFlags.IF.mask
_LONG_AGO: Final = 1
_PINNED, _PAGING, _BASE, _OFFER = "pinned.", "paging.", "machine_base", "offer"


class ParavirtualMonitor(TrappingMonitor):
    """One virtual machine whose guest knows its monitor.

    paging: a strategy that shadows its page tables, None for direct paging. ``tables``: its page tables.
    ``space``: its linear memory. ``shared``: the page that it shares with the monitor. ``traps``, ``events``:
    how it hears of things.
    """

    name: ClassVar[str] = "paravirtual"
    hypercalls: Mapping[int, Hypercall] = TABLE
    """What serves each hypercall but HV_IRET, by number; a derived monitor may have others."""

    def __init__(self, parts: Parts, paging: ShadowPaging | None = None) -> None:
        super().__init__(parts)
        self.identity = Identity()
        machine = self.machine
        self.memory.make_plain()
        self.tables: GuestTables = (
            DirectTables(machine, self.memory) if paging is None else ShadowedTables(self, paging)
        )
        self.paging_name = self.tables.name
        self.space = GuestSpace(machine.memory, self.tables)
        self.traps = Traps(self.core, self.space)
        self.events = Events(self.board, self.raise_event)
        self.shared = SharedInfo(bytearray(SharedInfo.SIZE))
        self._offer = False
        names = _HANDLER_NAMES if paging is None else _HANDLER_NAMES | {exits.PageFault: "paging"}
        self._name_handlers(names, self.core)

    # --- the processor ----------------------------------------------------------------------------------

    def boot(self, state: CpuState) -> None:
        """Set the state that ``start.build`` made."""
        super().boot(state)
        self.layout = Layout.of(state, self.memory)
        self.shared = shared_info(self.layout, self.memory)

    def _take_processor(self, *, first: bool) -> None:
        processor = self.processor
        processor.on_port_in, processor.on_port_out = self._port_in, self._port_out
        processor.identity, processor.now, processor.msrs = self.identity, self.clock.now, self.msrs
        processor.set_intercepts(_ALL, _INTERCEPTED, 0, 0, None)
        processor.code.exact = True  # all that changes translations comes through here
        if first:
            self.core.load(self.tables.initial_state(self._start))
            self.events.begin()
            self.tables.begin(self.layout, [self._start.cr3])

    def guest_state(self) -> CpuState:
        """The registers as the guest sees them: IF is that of the shared page."""
        state = self.tables.guest_state(super().guest_state())
        state.rflags = state.rflags & ~_IF | (_IF if self.shared.interrupts_on else 0)
        return state

    def guest_paging(self) -> PagingControls:
        """What steers the walk of the guest's own tables."""
        return self.tables.controls()

    def guest_physical(self, address: int) -> int:
        """The guest's tables hold machine addresses."""
        return address - self.tables.base

    def _read_guest(self, gpa: int, size: int) -> int:
        """Read for an onlooker: the guest's tables hold machine addresses."""
        return super()._read_guest(self.guest_physical(gpa), size)

    def _memory_map_changed(self) -> None:
        """Nothing to do: this guest reaches no A20 gate, and its memory has no holes."""

    def intercepts_changed(self) -> None:
        """Nothing to do: this processor has no intercepts."""

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        """End the guest: no device of its own is in memory, so it was a lie that led there."""
        return End(failed_story(self.processor, f"its tables lead to {gpa:#x}, where it has no memory"))

    # --- events -----------------------------------------------------------------------------------------

    def raise_event(self, number: int) -> None:
        """Note that event ``number`` has happened, and wake the guest."""
        self.shared.events_pending |= 1 << number
        self.halted = False
        self._offer = True

    def _interrupts_enabled(self) -> bool:
        """Whether an event can wake the guest: HV_BLOCK sees to it."""
        return True

    def _offer_interrupt(self) -> None:
        """Deliver what has just happened. A guest that switches its flag on later looks by itself."""
        if self.events.take_interrupts() is not None:
            self._count(PHYSICAL_INTERRUPT)
        if self._offer:
            self._enter_guest()

    def _enter_guest(self) -> None:
        """Do what is due at each entry to the guest: its time, and an event if it takes any."""
        self._offer = False
        shared = self.shared
        shared.time = self.clock.now()
        pending = shared.events_pending
        if pending and shared.interrupts_on and self._stop is None:
            shared.events_pending = pending & pending - 1
            vector = EVENT_VECTOR + (pending & -pending).bit_length() - 1
            self._note_interrupt(vector)
            self._deliver(Event(EventKind.EXTERNAL, vector))

    def _deliver(self, event: Event) -> None:
        """Enter the guest's handler."""
        processor = self.processor
        processor.step_due = False
        if event.vector == Vector.PF and event.address is not None:
            self.shared.fault_address = event.address
        why = self.traps.deliver(self.shared, event.vector, event.error_code)
        if why:
            why = f"{event.describe()} is not delivered: {why}"
            self.end(failed_story(processor, why, self.guest_state()))
        else:
            processor.note_delivery(event)

    def end_turn(self) -> None:
        """Let another virtual machine on this processor run, if one waits."""
        self._turn_began = _LONG_AGO
        self._look_around()

    # --- the exit loop ----------------------------------------------------------------------------------

    def _serve(self, code: int) -> bool:
        """Handle one trap; True to run the guest on at once."""
        self._perform(self._decode(code))
        self._enter_guest()
        if self.halted or self._stop is not None or self.board.interrupt:
            return False
        return self._short_of_goal()

    def _decode(self, code: int) -> Exit:
        """Say what the trap means."""
        processor = self.processor
        if code == SvmExit.SWINT:
            vector = processor.info1
            if vector == VECTOR and self.core.cpl < 3:
                return exits.Hypercall(self.core.words[0] & _ALL, vector)
            return exits.SoftwareInterrupt(vector)
        if code in _EXCEPTION_OF_INT:
            return exits.SoftwareInterrupt(code - SvmExit.EXCP_DE)
        if code == SvmExit.EXCP_DE + Vector.PF:
            return exits.PageFault(processor.info2, processor.info1)
        if code == SvmExit.IRET:
            return exits.PrivilegedInstruction(code)
        if SvmExit.EXCP_DE <= code < SvmExit.EXCP_DE + 32:
            return exits.ExceptionExit(code - SvmExit.EXCP_DE, processor.info1)
        return exits.InterruptWindow() if code == SvmExit.VINTR else exits.TripleFault()

    def handle(self, exit_: Exit) -> Verdict:
        """Serve one exit and say how to go on. Override it to serve some differently."""
        match exit_:
            case exits.Hypercall(number):
                return self._hypercall(number)
            case exits.PageFault(address, code):
                return self.tables.page_fault(address, code)
            case exits.SoftwareInterrupt():
                return self._software_interrupt()
            case exits.PrivilegedInstruction():
                return RESUME if self.traps.iret() else Inject(Event(EventKind.EXCEPTION, Vector.GP, 0))
            case exits.ExceptionExit(vector, code):
                return Inject(Event(EventKind.EXCEPTION, vector, code if has_error_code(vector) else None))
            case exits.TripleFault():
                processor = self.processor
                return End(shutdown_story(processor, processor.chain, processor.failure))
            case _:  # open interrupt windows: the loop outside serves them
                return RESUME

    def _hypercall(self, number: int) -> Verdict:
        """Serve INT 82h; RIP is behind it from here on, for the event that may come of it."""
        processor, words = self.processor, self.core.words
        processor.advance(software_interrupt(processor.fetch()).instruction_length)
        if number == Call.IRET:
            why = self.traps.leave(self.shared)
            return End(failed_story(processor, why, self.guest_state())) if why else RESUME
        call = self.hypercalls.get(number)
        result = Error.ENOSYS if call is None else call(self, words[3] & _ALL, words[1] & _ALL)
        words[0] = result & _ALL
        return RESUME

    def _software_interrupt(self) -> Verdict:
        """Reflect INT n, as a gate of the guest's own would: from ring 3 if that may (SDM3 6.12.1.2)."""
        event, core = software_interrupt(self.processor.fetch()), self.core
        if core.cpl == 3 and not self.traps.allows(event.vector):
            return Inject(Event(EventKind.EXCEPTION, Vector.GP, event.vector * 8 + 2))
        self.processor.advance(event.instruction_length)
        return Inject(event)

    # --- snapshots --------------------------------------------------------------------------------------

    def save_state(self) -> dict[str, int]:
        """Give what the guest has told its monitor, and which directories are pinned."""
        state = super().save_state() | self.traps.save() | self.events.save()
        for place, directory in enumerate(self.tables.directories()):
            state[f"{_PINNED}{place}"] = directory
        state |= {_PAGING + name: value for name, value in self.tables.save().items()}
        return state | {_BASE: self.tables.base, _OFFER: self._offer}

    def misfit(self, state: Mapping[str, int]) -> str:
        """The guest's machine addresses must mean the same frames."""
        if state[_BASE] == self.tables.base:
            return ""
        return (
            f"its guest knows its memory at machine address {state[_BASE]:#x}, and here it is at "
            f"{self.tables.base:#x}; restore it in a VM at the same place, the first on its machine"
        )

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take that back."""
        super().restore_state(state)
        self._offer = bool(state[_OFFER])
        self.traps.restore(state)
        self.events.restore(state)
        paging = {name: value for name, value in state.items() if name.startswith(_PAGING)}
        self.tables.restore({name.removeprefix(_PAGING): value for name, value in paging.items()})
        directories = [address for name, address in state.items() if name.startswith(_PINNED)]
        self.tables.begin(self.layout, directories)
        self.processor.engine.flush_tlb()
        self.processor.code.forget()

    def close(self) -> None:
        """Give the monitor's frames back."""
        super().close()
        self.tables.close()


_HANDLER_NAMES: Final[dict[type[Exit], str]] = {
    exits.Hypercall: "hypercalls", exits.PageFault: "reflection", exits.SoftwareInterrupt: "reflection",
    exits.ExceptionExit: "reflection", exits.PrivilegedInstruction: "iret",
    exits.PhysicalInterrupt: "events", exits.InterruptWindow: "events", exits.PortAccess: "ports",
    exits.TripleFault: "shutdown",
}  # fmt: skip
