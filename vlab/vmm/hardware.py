"""The hardware-assisted monitor: VMRUN, and a handler for each reason to come back.

The guest kernel runs unmodified at CPL 0 in guest mode. The VMCB says what interests the monitor; everything
else the processor does by itself. Sections are those of AMD APM vol. 2, rev. 3.42, chapter 15.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from time import perf_counter_ns
from typing import ClassVar, Final, assert_never

from vlab.isa.control import EFlags
from vlab.isa.msr import Msr
from vlab.isa.paging import PagingControls, PagingMode
from vlab.isa.permission_maps import IOPM_SIZE, MSRPM_SIZE
from vlab.isa.state import CpuState
from vlab.isa.vectors import Vector, has_error_code
from vlab.isa.vmcb import EventInjection, InterceptMisc1, InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.faults import Event, EventKind
from vlab.machine.memory import PAGE
from vlab.machine.processor import STOPPED
from vlab.machine.registers import INHIBIT, RIP
from vlab.machine.svm import event_of, injection_of, write_save_area
from vlab.trace.recorder import Origin
from vlab.vmm import device_access, exits
from vlab.vmm.device_bus import DeviceBus
from vlab.vmm.exiting import ExitingMonitor
from vlab.vmm.exits import CODE, HardwareExit
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.redelivery import Redelivery
from vlab.vmm.story import failed_story, shutdown_story
from vlab.vmm.svm_decode import DECODERS, ends_block
from vlab.vmm.tenant import Parts
from vlab.vmm.verdicts import IDLE, RESUME, End, Inject, Verdict
from vlab.vmm.virtual_cpu import REFUSED_MSRS, virtual_identity

_M1, _M2 = InterceptMisc1, InterceptMisc2
_MISC1: Final = sum(
    field.mask
    for field in (
        _M1.INTR, _M1.NMI, _M1.VINTR, _M1.CPUID, _M1.HLT, _M1.INVLPGA, _M1.IOIO, _M1.MSR,
        _M1.SHUTDOWN,
    )
)  # fmt: skip
_MISC2: Final = sum(
    field.mask
    for field in (
        _M2.VMRUN, _M2.VMMCALL, _M2.VMLOAD, _M2.VMSAVE, _M2.STGI, _M2.CLGI, _M2.SKINIT, _M2.MONITOR,
        _M2.MWAIT,
    )
)  # fmt: skip
_VALID: Final = 1 << 31
_V_IRQ: Final = 1 << 8
_PAGING: Final = "paging."
_EVENTINJ, _INT_CTL, _CLEAN, _EXITINTINFO = 0xA8 >> 3, 0x60 >> 3, 0xC0 >> 3, 0x88 >> 3
_NOTHING_NOTED: Final[tuple[None, int, int, int, int, int]] = None, 0, 0, 0, 0, 0
_TF: Final = EFlags.TF.mask
_VM: Final = 1 << 17  # in RFLAGS, and no bit that the digest of the mode uses
_rip_and_flags: Final = Struct("QQ32xI").unpack_from
_RIP_AT: Final = 8 * RIP
"""RIP, RFLAGS and the digest of the mode (hflags) in the live register file."""
_pack_rax_to_rbx: Final = Struct("QQQQ").pack_into
"""RAX, RCX, RDX and RBX at the start of the live register file."""


class HardwareMonitor(ExitingMonitor):
    """One virtual machine under hardware assistance.

    paging: the strategy for its memory. apic: whether its CPUID has the local APIC.
    """

    name: ClassVar[str] = "hardware"

    def __init__(self, parts: Parts, paging: PagingStrategy) -> None:
        super().__init__(parts)
        self.paging = paging
        self.paging_name = paging.name
        self.identity = virtual_identity()
        self._add_windows()
        paging.attach(self)
        machine = self.machine
        self.vmcb = machine.frames.allocate(PAGE, use="VMCB")
        self._maps = machine.frames.allocate(IOPM_SIZE + MSRPM_SIZE, use="permission maps")
        self._fill_vmcb()
        self._words = machine.memory.bytes[self.vmcb : self.vmcb + PAGE].cast("Q")
        self._file = self.processor.engine.bytes
        self._name_handlers(_HANDLER_NAMES, self.core)
        self._device_bus = DeviceBus(self._recorded(self.board.memory_windows), self.memory)
        self._redelivery = Redelivery(self.processor, self.guest_state)

    # --- set-up -------------------------------------------------------------------------------------------

    def _fill_vmcb(self) -> None:
        machine = self.machine
        machine.memory.zero(self.vmcb, PAGE)
        machine.memory.bytes[self._maps : self._maps + IOPM_SIZE + MSRPM_SIZE] = b"\xff" * (
            IOPM_SIZE + MSRPM_SIZE
        )
        control = VmcbControl(machine.memory.bytes, self.vmcb)
        control.intercept_misc1 = _MISC1
        control.intercept_misc2 = _MISC2
        control.iopm_base_pa = self._maps
        control.msrpm_base_pa = self._maps + IOPM_SIZE
        control.asid = 1
        self.paging.configure(control)

    def _take_processor(self, *, first: bool) -> None:
        processor = self.processor
        processor.on_port_in, processor.on_port_out = self._port_in, self._port_out
        processor.identity, processor.now = self.identity, self.clock.now
        processor.msrs = self.msrs
        if first:
            state = self.paging.initial_state(self._start)
            self.core.load(state)  # VMRUN loads RAX and RSP alone of the general registers (APM2 15.5.1)
            write_save_area(VmcbSave(self.machine.memory.bytes, self.vmcb), state)
        self.machine.svm.adopt(self.vmcb)

    def _keep_registers(self) -> None:
        self.machine.svm.write_back()
        self.machine.svm.forget(self.vmcb)
        super()._keep_registers()

    def guest_state(self) -> CpuState:
        """The registers as the guest sees them: under shadow paging some are the monitor's."""
        return self.paging.guest_state(super().guest_state())

    def guest_paging(self) -> PagingControls:
        """What steers the guest's own translation."""
        return self.paging.guest_paging()

    def nested_paging(self) -> PagingControls | None:
        """The nested tables, when the VMCB has nested paging on and the guest's own tables are above them."""
        return self._nested() if self.guest_paging() == self.core.paging else None

    def fence_paging(self) -> PagingControls | None:
        """The nested tables, when there are shadow tables above them."""
        return self._nested() if self.guest_paging() != self.core.paging else None

    def _nested(self) -> PagingControls | None:
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        if not control.nested_ctl & 1:
            return None
        return PagingControls(PagingMode.LONG, int(control.nested_cr3), nxe=True, wp=True)

    def _memory_map_changed(self) -> None:
        self.paging.rebuild()

    # --- interrupts -------------------------------------------------------------------------------------

    def _offer_interrupt(self) -> None:
        """Inject through EVENTINJ, or ask for a VINTR exit once the guest can take it (APM2 15.20,
        15.21.4).
        """
        words, board = self._words, self.board
        if board.interrupt and self.core.interrupts_enabled and not words[_EVENTINJ] & _VALID:
            vector = board.acknowledge()
            self._note_interrupt(vector)
            words[_EVENTINJ] = EventInjection.interrupt(vector)
        if board.interrupt:
            words[_INT_CTL] |= _V_IRQ
        else:
            words[_INT_CTL] &= ~_V_IRQ

    # --- the exit loop ----------------------------------------------------------------------------------

    def _execute(self) -> None:
        """Run the guest and handle its exits until the loop outside has something to do."""
        code = self.machine.svm.vmrun(self.vmcb, self._serve)
        if code == STOPPED and self.clock.now() >= self.board.alarms.next:
            self._count(PHYSICAL_INTERRUPT)

    def _serve(self, code: int) -> bool:
        """Handle one exit; True to run the guest again at once, False for the loop outside to look around."""
        processor, recorder = self.processor, self.recorder
        exit_ = DECODERS[code](processor)
        origin: Origin | None
        if recorder.full:
            qualify, origins = self._kinds[type(exit_)]
            info1, info2 = qualify(exit_)
            rip, flags, hflags = _rip_and_flags(self._file, _RIP_AT)
            origin = origins[hflags | flags & _VM]
            now, started = self.clock.now(), perf_counter_ns()
        else:
            origin, now, rip, info1, info2, started = _NOTHING_NOTED
        verdict = self.handle(exit_)  # a handler that raises is tried again: count when it is done
        if processor.during is not None and self._words[_EXITINTINFO] & _VALID:
            verdict = self._deliver_again(verdict)
        if verdict is not RESUME:
            self._follow(verdict)
        if origin is not None:
            recorder.record_from(origin, now, rip, info1, info2, perf_counter_ns() - started)
        elif recorder.counting:
            recorder.counts[CODE[type(exit_)]] += 1
        if self.halted or self.board.interrupt or self._stop is not None:
            return False
        if self.exit_goal is not None:
            self.at_exit = recorder.total >= self.exit_goal
            return not self.at_exit
        return True

    def _deliver_again(self, verdict: Verdict) -> Verdict:
        """The exit cut the delivery of an event short; go on with that after what the handler decided."""
        during = event_of(self._words[_EXITINTINFO], self.processor)
        return self._redelivery.after(during, verdict)

    def _deliver(self, event: Event) -> None:
        """Have the processor deliver an event at the next VMRUN (APM2 15.20)."""
        if event.address is not None:
            self.core.cr2 = event.address  # whoever injects #PF sets CR2
        self._words[_EVENTINJ] = injection_of(event)

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Serve one exit and say how to go on. Override it to serve some differently."""
        match exit_:
            case exits.Cpuid():
                return self._cpuid(exit_)
            case exits.NestedPageFault() | exits.PageFault() | exits.ControlRegisterAccess():
                return self._memory_exit(exit_)
            case exits.InvalidatePage():
                return self._memory_exit(exit_)
            case exits.Halt():
                self.processor.skip(1)
                return IDLE
            case exits.MsrAccess():
                return self._msr(exit_)
            case exits.InterruptWindow():
                self._words[_INT_CTL] &= ~_V_IRQ
                return RESUME  # the loop offers the interrupt again
            case exits.PhysicalInterrupt() | exits.PortAccess():
                return RESUME  # the loop serves the timers; ports were served in mid-instruction
            case exits.ExceptionExit(vector, code):
                return self._reflect(vector, code)
            case exits.TimeStampRead(with_aux):
                return self._time_stamp(with_aux)
            case exits.Hypercall():
                return Inject(Event(EventKind.EXCEPTION, Vector.UD))  # this guest has no hypercalls
            case exits.PrivilegedInstruction():
                verdict = self.paging.handle(exit_)  # task switches under shadow paging
                if verdict is not None:
                    return verdict
                return Inject(Event(EventKind.EXCEPTION, Vector.UD))  # CPUID says there is no AMD-V
            case exits.TripleFault():
                processor = self.processor
                return End(shutdown_story(processor, processor.chain, processor.failure, self.guest_state()))
            case _:
                assert_never(exit_)

    # --- handlers ---------------------------------------------------------------------------------------

    def _cpuid(self, exit_: exits.Cpuid) -> Verdict:
        """CPUID shows the virtual CPU."""
        eax, ebx, ecx, edx = self.identity.cpuid(exit_.leaf, exit_.subleaf)
        _pack_rax_to_rbx(self._file, 0, eax, ecx, edx, ebx)
        self.processor.skip(2)
        return RESUME

    def _reflect(self, vector: int, code: int) -> Verdict:
        """Give the guest its exception back. RIP is at the INT3 or INTO whose handler returns behind it."""
        if vector in (Vector.BP, Vector.OF):
            self.processor.advance(self.processor.code.prefix_count() + 1)
        return Inject(Event(EventKind.EXCEPTION, vector, code if has_error_code(vector) else None))

    def _msr(self, exit_: exits.MsrAccess) -> Verdict:
        """MSRs behave as the processor's own, except those of the host (APM2 15.11)."""
        if exit_.number == Msr.EFER:
            verdict = self.paging.handle(exit_)
            if verdict is not None:
                return verdict
        if exit_.number in REFUSED_MSRS or not self.processor.access_msr(write=bool(exit_.write)):
            return Inject(Event(EventKind.EXCEPTION, Vector.GP, 0))
        return RESUME

    def _time_stamp(self, with_aux: int) -> Verdict:
        self.processor.read_time_stamp(with_aux=bool(with_aux))
        return RESUME

    def _memory_exit(self, exit_: HardwareExit) -> Verdict:
        rip, flags, hflags = _rip_and_flags(self._file, _RIP_AT)
        verdict = self.paging.handle(exit_)
        if verdict is None:
            return self._failed(f"the paging strategy {self.paging.name} left {exit_} to nobody")
        # An instruction in an interrupt shadow, or one that is stepped over, is a block of its own.
        alone = hflags & INHIBIT or flags & _TF
        split = not ends_block(exit_) and not (alone and self.core.rip != rip)
        if verdict is RESUME and split and not self._words[_EXITINTINFO] & _VALID:
            # Bare hardware would not have stopped here: the guest's time must not show that we did.
            self.processor.engine.uncount_block()
        return verdict

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        """Carry out the instruction at RIP, whose memory operand is at ``gpa``, against the devices."""
        processor = self.processor
        if processor.during is not None:  # the access was the delivery's, not that of the instruction at RIP
            return self._failed(f"the delivery of an event reaches {gpa:#x}, where no memory is")
        return device_access.carry_out(processor, self.core, gpa, self._device_bus, self._failed, translate)

    def _failed(self, why: str) -> Verdict:
        return End(failed_story(self.processor, why, self.guest_state()))

    def intercepts_changed(self) -> None:
        """Have the next VMRUN read the control area again."""
        self._words[_CLEAN] = 0

    # --- snapshots --------------------------------------------------------------------------------------

    def save_state(self) -> dict[str, int]:
        """Give what waits in the VMCB, and the paging strategy's state."""
        waiting = {"event": self._words[_EVENTINJ], "window": self._words[_INT_CTL] & _V_IRQ}
        paging = {_PAGING + name: value for name, value in self.paging.save().items()}
        return super().save_state() | waiting | paging

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take that back. The strategy makes its tables anew."""
        super().restore_state(state)
        words = self._words
        words[_EVENTINJ] = state["event"]
        words[_INT_CTL] = words[_INT_CTL] & ~_V_IRQ | state["window"]
        paging = {name: value for name, value in state.items() if name.startswith(_PAGING)}
        self.paging.restore({name.removeprefix(_PAGING): value for name, value in paging.items()})
        self.intercepts_changed()

    def close(self) -> None:
        """Give the VMCB and all tables back."""
        super().close()
        self.machine.svm.forget(self.vmcb)
        self.paging.close()
        self.machine.frames.free(self.vmcb)
        self.machine.frames.free(self._maps)


PHYSICAL_INTERRUPT: Final = exits.PhysicalInterrupt()
_HANDLER_NAMES: Final[dict[type[exits.Exit], str]] = {
    exits.Cpuid: "virtual CPU", exits.Halt: "idle", exits.PhysicalInterrupt: "timers",
    exits.InterruptWindow: "interrupts", exits.PortAccess: "ports", exits.MsrAccess: "MSRs",
    exits.NestedPageFault: "paging", exits.PageFault: "paging", exits.ExceptionExit: "exceptions",
    exits.ControlRegisterAccess: "paging", exits.InvalidatePage: "paging", exits.TimeStampRead: "time",
    exits.Hypercall: "refused", exits.PrivilegedInstruction: "refused", exits.TripleFault: "shutdown",
}  # fmt: skip
