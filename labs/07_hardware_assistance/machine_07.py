"""What the student's exit handler is given, and the monitor that it serves.

The guest runs under `HardwareMonitor`. Exits that belong to the exercise go to the student's function, which
sees the VMCB as AMD-V's programmers do. Sections are those of the AMD64 Architecture Programmer's Manual,
vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from typing import ClassVar, Final

from vlab.grading.cpu_facade import CpuFacade
from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, unsigned
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, EventType, VmcbControl
from vlab.machine.faults import Event, EventKind
from vlab.machine.svm import event_of
from vlab.session import VM
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.verdicts import IDLE, RESUME, Inject, Verdict

RAX, RCX, RDX, RBX = range(4)
REFLECTED: Final = (Vector.DE, Vector.BP, Vector.UD, Vector.GP, Vector.PF)
"""The exceptions that the exercise's VMCB intercepts."""
_LENGTHS: Final = {SvmExit.CPUID: 2, SvmExit.HLT: 1, SvmExit.MSR: 2, SvmExit.EXCP_BP: 1}
"""Bytes without prefixes of the instructions whose exits have an nRIP here."""


class Vmcb(Facade):
    """The control block after #VMEXIT: why the guest stopped, and the guest's state that is kept in it."""

    read_only = ("exitcode", "exitinfo1", "exitinfo2", "nrip")
    fields = ("rip", "rax", "cr2", "eventinj")

    def __init__(self, monitor: HardwareMonitor) -> None:
        control = VmcbControl(monitor.machine.memory.bytes, monitor.vmcb)
        core = self._core = monitor.core
        self.exitcode = int(control.exitcode)
        self.exitinfo1, self.exitinfo2 = int(control.exitinfo1), int(control.exitinfo2)
        self.length = _LENGTHS.get(SvmExit(self.exitcode), 0)
        self.before = self._rip = core.rip
        prefixes = monitor.processor.code.prefix_count() if self.length else 0
        self.nrip = self._rip + prefixes + self.length if self.length else 0
        self._eventinj = 0

    @property
    def rip(self) -> int:
        """Where the guest goes on."""
        return self._rip

    @rip.setter
    def rip(self, value: object) -> None:
        self._rip = unsigned("rip", value)

    @property
    def rax(self) -> int:
        """The guest's RAX."""
        return int(self._core.words[RAX])

    @rax.setter
    def rax(self, value: object) -> None:
        self._core.words[RAX] = unsigned("rax", value)

    @property
    def cr2(self) -> int:
        """The guest's CR2."""
        return self._core.cr2

    @cr2.setter
    def cr2(self, value: object) -> None:
        self._core.cr2 = unsigned("cr2", value)

    @property
    def eventinj(self) -> int:
        """The event that the next VMRUN delivers first."""
        return self._eventinj

    @eventinj.setter
    def eventinj(self, value: object) -> None:
        self._eventinj = unsigned("eventinj", value)


class Registers(Facade):
    """General registers that VMRUN and #VMEXIT leave alone: the guest's values are still in them."""

    fields = ("rbx", "rcx", "rdx")

    def __init__(self, monitor: HardwareMonitor) -> None:
        self._core = monitor.core

    @property
    def rbx(self) -> int:
        """The guest's RBX."""
        return int(self._core.words[RBX])

    @rbx.setter
    def rbx(self, value: object) -> None:
        self._core.words[RBX] = unsigned("rbx", value)

    @property
    def rcx(self) -> int:
        """The guest's RCX."""
        return int(self._core.words[RCX])

    @rcx.setter
    def rcx(self, value: object) -> None:
        self._core.words[RCX] = unsigned("rcx", value)

    @property
    def rdx(self) -> int:
        """The guest's RDX."""
        return int(self._core.words[RDX])

    @rdx.setter
    def rdx(self, value: object) -> None:
        self._core.words[RDX] = unsigned("rdx", value)


class Host(CpuFacade):
    """What the rest of the monitor does for a handler."""

    offers = (*CpuFacade.offers, "wait_for_interrupt")

    def __init__(self, monitor: HardwareMonitor) -> None:
        self._monitor = monitor
        self.waits = False

    def wait_for_interrupt(self) -> None:
        """Let the guest sleep until an interrupt comes."""
        self.waits = True


class Reflecting(HardwareMonitor):
    """vlab's monitor, which here also intercepts the exceptions of ``REFLECTED``, and reflects them."""

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_exceptions = sum(1 << vector for vector in REFLECTED)

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Serve one exit."""
        if isinstance(exit_, exits.PageFault):
            return Inject(Event(EventKind.EXCEPTION, Vector.PF, exit_.code, exit_.address))
        return super().handle(exit_)


class WithStudent(Reflecting):
    """The same with the student's handler."""

    student: Student
    followed: ClassVar[bool] = False
    """Whether all of the state is compared after each exit: then what is wrong with RIP is told at once."""

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Ask the student, and check what comes back before anything is done."""
        if not isinstance(
            exit_, exits.Cpuid | exits.Halt | exits.MsrAccess | exits.ExceptionExit | exits.PageFault
        ):
            return super().handle(exit_)
        vmcb, registers, host = Vmcb(self), Registers(self), Host(self)
        self.student.call("handle", vmcb, registers, host)
        if vmcb.rip != vmcb.before:
            if self.followed and not vmcb.nrip:
                raise Broken(
                    f"a fault at {vmcb.before:#x}: your handler set RIP to {vmcb.rip:#x}, and it has to stay",
                    hint="nRIP is 0 for a fault: the guest's handler gets the address of the instruction.",
                )
            if vmcb.rip == vmcb.nrip:
                self.processor.skip(vmcb.length)
            else:
                self.core.rip = vmcb.rip
        if vmcb.eventinj:
            return Inject(self._injected(vmcb.eventinj))
        return IDLE if host.waits else RESUME

    def _injected(self, raw: int) -> Event:
        wanted = EventInjection(raw)
        if not wanted.V:
            raise Broken(f"EVENTINJ is {raw:#x}: without bit 31, V, nothing is injected (APM2 15.20)")
        if wanted.TYPE != EventType.EXCEPTION or wanted.VECTOR > 31 or wanted.VECTOR == Vector.NMI:
            raise Broken(
                f"EVENTINJ is {raw:#x}, of type {wanted.TYPE} and vector {wanted.VECTOR}; "
                "to reflect an exception takes type 3 and one of the vectors 0 to 31 but 2 (APM2 15.20)"
            )
        return event_of(raw, self.processor)


def yours(trial: Trial, guest: bytes | str, memory: str = "2M", *, followed: bool = False) -> VM:
    """Make the guest under the monitor with the student's handler in it."""
    monitor = type("Yours", (WithStudent,), {"student": trial.student, "followed": followed})
    return trial.vm(guest, monitor=monitor, memory=memory)


def ours(trial: Trial, guest: bytes | str, memory: str = "2M") -> VM:
    """Make the guest under vlab's own handlers."""
    return trial.vm(guest, monitor=Reflecting, memory=memory)
