"""What the student's loop is given: the VMCB, the processor and the board.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from typing import Final

from session_12 import Session

from vlab.grading.cpu_facade import CpuFacade
from vlab.grading.facade import Facade, unsigned
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import EventInjection, VmcbControl

_REGISTERS: Final = ("rax", "rcx", "rdx", "rbx")
_V_IRQ: Final = 1 << 8


class Vmcb(Facade):
    """The control block, between two VMRUNs."""

    read_only = ("exitcode", "exitinfo1", "exitinfo2", "nrip", "rflags", "interrupt_shadow")
    fields = ("intercept_misc1", "intercept_misc2", "asid", "rip", "rax", "eventinj", "v_irq")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor
        self._control = VmcbControl(self._monitor.machine.memory.bytes, self._monitor.vmcb)

    @property
    def exitcode(self) -> int:
        """Why the guest stopped."""
        return int(self._session.code)

    @property
    def exitinfo1(self) -> int:
        """IOIO: what kind of access (APM2 15.10.2). MSR: 1 for WRMSR."""
        if self.exitcode != SvmExit.IOIO:
            return int(self._control.exitinfo1)
        port, size, output, _ = self._monitor.access
        return port << 16 | size << 4 | (not output)

    @property
    def exitinfo2(self) -> int:
        """IOIO: the address of the next instruction."""
        return self.nrip if self.exitcode == SvmExit.IOIO else int(self._control.exitinfo2)

    @property
    def nrip(self) -> int:
        """The address behind the instruction that exited, 0 where the exit is no instruction's."""
        return self._session.before + self._session.length if self._session.length else 0

    @property
    def rflags(self) -> int:
        """The guest's RFLAGS."""
        return self._monitor.core.rflags

    @property
    def interrupt_shadow(self) -> bool:
        """Whether no interrupt may come before the next instruction (APM2 15.21.5)."""
        return self._monitor.core.interrupt_shadow

    @property
    def rip(self) -> int:
        """Where the guest goes on."""
        return self._monitor.core.rip

    @rip.setter
    def rip(self, value: object) -> None:
        where = unsigned("rip", value)
        if self._session.length and where == self.nrip and self.rip == self._session.before:
            self._monitor.processor.advance(self._session.length)
        else:
            self._monitor.core.rip = where

    @property
    def rax(self) -> int:
        """The guest's RAX."""
        return int(self._monitor.core.words[0])

    @rax.setter
    def rax(self, value: object) -> None:
        self._monitor.core.words[0] = unsigned("rax", value)

    @property
    def eventinj(self) -> int:
        """The event that the next VMRUN delivers first."""
        return int(self._control.eventinj)

    @eventinj.setter
    def eventinj(self, value: object) -> None:
        event = EventInjection(unsigned("eventinj", value))
        if event and (not event.V or event.TYPE not in (0, 3) or (event.TYPE == 3 and event.VECTOR > 31)):
            raise ValueError(
                f"eventinj: {int(event):#x} is no interrupt (type 0) or exception (type 3) that is valid"
            )
        self._control.eventinj = event

    @property
    def v_irq(self) -> bool:
        """V_IRQ: exit with VINTR as soon as the guest can take an interrupt (APM2 15.21.4)."""
        return bool(self._control.int_ctl & _V_IRQ)

    @v_irq.setter
    def v_irq(self, value: object) -> None:
        self._control.int_ctl = self._control.int_ctl & ~_V_IRQ | (_V_IRQ if value else 0)

    @property
    def intercept_misc1(self) -> int:
        """The third intercept vector."""
        return int(self._control.intercept_misc1)

    @intercept_misc1.setter
    def intercept_misc1(self, value: object) -> None:
        self._control.intercept_misc1 = unsigned("intercept_misc1", value, 32)
        self._monitor.intercepts_changed()

    @property
    def intercept_misc2(self) -> int:
        """The fourth intercept vector."""
        return int(self._control.intercept_misc2)

    @intercept_misc2.setter
    def intercept_misc2(self, value: object) -> None:
        self._control.intercept_misc2 = unsigned("intercept_misc2", value, 32)
        self._monitor.intercepts_changed()

    @property
    def asid(self) -> int:
        """The address-space identifier."""
        return int(self._control.asid)

    @asid.setter
    def asid(self, value: object) -> None:
        self._control.asid = unsigned("asid", value, 16)
        self._monitor.intercepts_changed()


class Cpu(CpuFacade):
    """The processor: VMRUN, and the registers that it leaves alone."""

    offers = ("vmrun", *CpuFacade.offers)
    fields = ("rbx", "rcx", "rdx")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor

    def __getattr__(self, name: str) -> int:
        if name not in _REGISTERS:
            raise AttributeError(name)
        return int(self._monitor.core.words[_REGISTERS.index(name)])

    def __setattr__(self, name: str, value: object) -> None:
        if name in _REGISTERS:
            self._monitor.core.words[_REGISTERS.index(name)] = unsigned(name, value)
        else:
            super().__setattr__(name, value)

    def vmrun(self) -> None:
        """Run the guest to its next #VMEXIT."""
        self._session.enter()


class BoardFacade(Facade):
    """The board with its chips."""

    offers = ("read_port", "write_port", "acknowledge", "serve_timers", "wait")
    read_only = ("interrupt", "over")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor
        self._board = session.monitor.board

    @property
    def interrupt(self) -> bool:
        """Whether the interrupt controller asks for the processor."""
        return self._board.interrupt

    @property
    def over(self) -> bool:
        """Whether the guest has ended."""
        return self._session.over

    def read_port(self, port: int, size: int) -> int:
        """Read 1, 2 or 4 bytes from a chip."""
        return self._board.ports.read(unsigned("port", port, 16), _size(size))

    def write_port(self, port: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes to a chip."""
        size = _size(size)
        self._board.ports.write(unsigned("port", port, 16), size, unsigned("value", value, 8 * size))

    def acknowledge(self) -> int:
        """Take the interrupt that waits: give its vector."""
        vector = self._board.acknowledge()
        self._monitor.note_interrupt(vector)
        return vector

    def serve_timers(self) -> None:
        """Let the chips do what is due."""
        self._monitor.serve_timers()

    def wait(self) -> None:
        """Let the guest sleep until an interrupt waits; it ends where none will come."""
        self._session.follow_script()
        if not self._monitor.sleep() and not self._session.over:
            self._session.ended = True


def _size(size: object) -> int:
    if size not in (1, 2, 4) or not isinstance(size, int):
        raise ValueError(f"size: {size!r} is not 1, 2 or 4")
    return size
