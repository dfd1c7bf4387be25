"""A monitor on a processor without virtualization extensions: the guest's kernel runs at CPL 1, and traps.

Every exception comes to ring 0, which is the monitor's. It carries out what the guest's kernel may do, and
gives the guest back what is its own: its page faults, its programs' system calls, its divisions by zero.
Sections are those of AMD APM vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from vlab.isa.control import EFlags
from vlab.isa.paging import PagingControls
from vlab.isa.sensitive import Sensitive
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector, has_error_code
from vlab.machine import registers as reg
from vlab.machine.delivery import Shutdown, deliver
from vlab.machine.faults import Event, EventKind
from vlab.machine.identity import Identity
from vlab.machine.instructions import software_interrupt
from vlab.machine.mmu import NestedFault
from vlab.machine.msrs import ModelSpecificRegisters
from vlab.vmm import device_access, exits
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.deprivileged.sites import Action, Trapped
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.device_bus import DeviceBus
from vlab.vmm.exits import Exit
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.story import failed_story, shutdown_story
from vlab.vmm.svm_decode import ends_block
from vlab.vmm.tenant import Parts
from vlab.vmm.trapping import TrappingMonitor
from vlab.vmm.verdicts import RESUME, End, Inject, Verdict

_ALL: Final = 0xFFFFFFFF
_SOFTWARE: Final = (SvmExit.SWINT, SvmExit.ICEBP)
_INTERCEPTED: Final = sum(1 << code - SvmExit.INTR for code in (*_SOFTWARE, SvmExit.IRET))
"""INT n leads to the monitor's IDT. IRET faults for its code segment, but the emulator lets CPL 1 to 3 go to
virtual-8086 mode by it, which no processor does (Intel SDM vol. 2A, "IRET"); so it is stopped before."""
_EXCEPTION_OF_INT: Final = (SvmExit.EXCP_BP, SvmExit.EXCP_OF)
"""INT3 and INTO."""
_TRAPS: Final = frozenset(
    (
        SvmExit.IRET,
        *(SvmExit.EXCP_DE + vector for vector in (Vector.UD, Vector.TS, Vector.NP, Vector.SS, Vector.GP)),
    )
)
"""The faults with which the processor refuses an instruction to CPL 1, or finds no descriptor."""
_CPU, _PAGING = "cpu.", "paging."
_TF: Final = EFlags.TF.mask


class DeprivilegedMonitor(TrappingMonitor):
    """One virtual machine whose kernel runs at CPL 1.

    ``cpu``: the processor that its guest sees, of the class ``core_type``. ``watched``: exits that the
    processor makes where it would not trap. ``actions``: emulation of what does not trap.
    """

    watched: ClassVar[frozenset[int]] = frozenset()
    core_type: ClassVar[type[VirtualCore]] = VirtualCore
    actions: Mapping[Sensitive, Action] = MappingProxyType({})

    def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
        super().__init__(parts)
        self.paging = paging
        self.paging_name = paging.name
        self._add_windows()
        paging.attach(self)
        self.cpu = self.core_type(self.processor, paging.space, paging.registers)
        self.msrs = ModelSpecificRegisters(self.cpu, self.processor.tsc)
        self.msrs.on_apic_base = self.apic_base_written
        self.identity = Identity()
        self.emulator = Emulator(self.processor, self.cpu, paging, self.msrs, more=self.actions)
        self._device_bus = DeviceBus(self._recorded(self.board.memory_windows), self.memory)
        self._trapped: Trapped | None = None
        self._name_handlers(_HANDLER_NAMES, self.cpu)

    # --- the processor ----------------------------------------------------------------------------------

    def _take_processor(self, *, first: bool) -> None:
        processor = self.processor
        processor.on_port_in, processor.on_port_out = self._port_in, self._port_out
        processor.port_gate.program = self.cpu
        processor.identity, processor.now, processor.msrs = self.identity, self.clock.now, self.msrs
        watched = sum(1 << code - SvmExit.INTR for code in self.watched if code >= SvmExit.INTR)
        reads = int(SvmExit.READ_CR0 in self.watched)
        processor.set_intercepts(_ALL, _INTERCEPTED | watched, reads, 0, None)
        processor.code.exact = True  # all that changes translations comes through here
        if first:
            self.cpu.load(self._start)
            self.emulator.put_registers(translation=True)

    def _keep_registers(self) -> None:
        self.processor.port_gate.program = self.core
        super()._keep_registers()

    def guest_state(self) -> CpuState:
        """The registers as the guest sees them."""
        return self.on_processor(lambda _processor: self.cpu.state())

    def guest_paging(self) -> PagingControls:
        """What steers the guest's own translation."""
        return self.paging.guest_paging()

    def _memory_map_changed(self) -> None:
        self.paging.rebuild()

    def intercepts_changed(self) -> None:
        """Nothing to do: this processor has no intercepts."""

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        """Carry out the instruction at RIP, whose memory operand is at ``gpa``, against the devices."""
        return device_access.carry_out(
            self.processor, self.cpu, gpa, self._device_bus, self._failed, translate
        )

    # --- interrupts -------------------------------------------------------------------------------------

    def _interrupts_enabled(self) -> bool:
        return self.cpu.interrupt_flag

    def _offer_interrupt(self) -> None:
        """Deliver through the guest's IDT while its own interrupt flag is set; the real one always is."""
        board, cpu = self.board, self.cpu
        if board.interrupt and cpu.interrupts_enabled:
            vector = board.acknowledge()
            self._note_interrupt(vector)
            self._deliver(Event(EventKind.EXTERNAL, vector))
        self.processor.engine.request_window(board.interrupt and cpu.interrupt_flag)

    def _deliver(self, event: Event) -> None:
        """Enter the guest's handler, as its virtual processor does (APM2 chapter 8)."""
        processor, cpu, registers = self.processor, self.cpu, self.paging.registers
        processor.step_due = False
        cr0, cr3 = registers.cr0, registers.cr3
        try:
            outcome = deliver(cpu, event)
        except NestedFault as miss:
            self.end(failed_story(processor, f"the delivery of an event reaches {miss.gpa:#x}, no memory"))
            return
        cpu.refresh()
        self.emulator.note_task_switch(cr0, cr3)
        self.emulator.follow()
        if isinstance(outcome, Shutdown):
            self.end(shutdown_story(processor, outcome.chain, "", cpu.state()))
            return
        cpu.end_shadow()
        processor.note_delivery(event)

    # --- the exit loop ----------------------------------------------------------------------------------

    def _execute(self) -> None:
        self.emulator.sites.forget()  # translations may have changed while the guest did not run
        super()._execute()

    def _serve(self, code: int) -> bool:
        """Handle one trap; True to run the guest on at once."""
        if code in self.watched:
            return self._watch(code)
        if code in _EXCEPTION_OF_INT:
            return self._trap(exits.SoftwareInterrupt(code - SvmExit.EXCP_DE))
        return self._trap(self._decode(code))

    def _watch(self, code: int) -> bool:
        """Serve an exit that the processor would not have made; for monitors that watch any."""
        raise AssertionError(f"exit {code:#x} is not watched")

    def _trap(self, exit_: Exit) -> bool:
        self._perform(exit_)
        if self.halted or self._stop is not None or (self.board.interrupt and self.cpu.interrupt_flag):
            return False
        return self._short_of_goal()

    def _decode(self, code: int) -> Exit:
        """Say what the trap means: the same fault can be a privileged instruction, or the guest's mistake."""
        if code in _TRAPS:
            trapped = self.emulator.sites.find()
            if trapped is not None:
                self._trapped = trapped
                return trapped.exit_
        processor = self.processor
        if code == SvmExit.EXCP_DE + Vector.PF:
            return exits.PageFault(processor.info2, processor.info1)
        if code in _SOFTWARE:
            return exits.SoftwareInterrupt(processor.info1 or Vector.DB)
        if SvmExit.EXCP_DE <= code < SvmExit.EXCP_DE + 32:
            return exits.ExceptionExit(code - SvmExit.EXCP_DE, processor.info1)
        return exits.InterruptWindow() if code == SvmExit.VINTR else exits.TripleFault()

    def handle(self, exit_: Exit) -> Verdict:
        """Serve one exit and say how to go on. Override it to serve some differently."""
        match exit_:
            case exits.SensitiveInstruction():
                return self._emulate()
            case exits.PageFault():
                return self._page_fault(exit_)
            case exits.SoftwareInterrupt():
                long_mode = self.cpu.mode_code == 5
                return Inject(software_interrupt(self.processor.fetch(), long_mode=long_mode))
            case exits.ExceptionExit(vector, code):
                return Inject(Event(EventKind.EXCEPTION, vector, code if has_error_code(vector) else None))
            case exits.TripleFault():
                processor = self.processor
                return End(shutdown_story(processor, processor.chain, processor.failure, self.cpu.state()))
            case _:  # timers and open interrupt windows: the loop outside serves them
                return RESUME

    def _page_fault(self, exit_: exits.PageFault) -> Verdict:
        """Have the paging strategy serve it; the guest's time must not show that its block was cut in two."""
        words, words32 = self.processor.registers, self.processor.registers32
        alone = words32[reg.HFLAGS] & reg.INHIBIT or words[reg.EFLAGS] & _TF
        rip = words[reg.RIP]
        verdict = self.paging.handle(exit_)
        self.emulator.sites.forget()
        assert verdict is not None
        if verdict is RESUME and not ends_block(exit_) and not (alone and words[reg.RIP] != rip):
            self.processor.engine.uncount_block()
        return verdict

    def _emulate(self) -> Verdict:
        trapped = self._trapped
        assert trapped is not None
        try:
            return self.emulator.execute(trapped)
        except NestedFault as miss:
            return self._failed(f"{trapped.instruction.text} reaches {miss.gpa:#x}, where no memory is")

    def _failed(self, why: str) -> Verdict:
        return End(failed_story(self.processor, why, self.cpu.state()))

    # --- snapshots --------------------------------------------------------------------------------------

    def save_state(self) -> dict[str, int]:
        """Give the virtual processor's state and the paging strategy's."""
        cpu = {_CPU + name: value for name, value in self.cpu.save().items()}
        paging = {_PAGING + name: value for name, value in self.paging.save().items()}
        return super().save_state() | cpu | paging

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take that back. The strategy makes its tables anew."""
        super().restore_state(state)

        def part(prefix: str) -> dict[str, int]:
            return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}

        self.paging.restore(part(_PAGING))
        self.cpu.restore(part(_CPU))
        self.emulator.put_registers(translation=False)

    def close(self) -> None:
        """Give all tables back."""
        if self.machine.occupant is self:  # nobody has asked for the processor meanwhile
            self.processor.port_gate.program = self.core
        super().close()
        self.paging.close()


_HANDLER_NAMES: Final[dict[type[Exit], str]] = {
    exits.PageFault: "paging", exits.SensitiveInstruction: "emulation", exits.SoftwareInterrupt: "reflection",
    exits.ExceptionExit: "reflection", exits.PhysicalInterrupt: "timers", exits.InterruptWindow: "interrupts",
    exits.PortAccess: "ports", exits.TripleFault: "shutdown", exits.CallOut: "emulation",
    exits.CacheMiss: "translation",
}  # fmt: skip
