"""vlab's AMD-V monitor without its handlers: one VMRUN at a time, for a loop that is somebody else's.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from typing import Final

from vlab.errors import UnusableInput
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import VmcbControl
from vlab.machine.clock import FOREVER
from vlab.machine.exit_loop import STOPPED
from vlab.machine.microcode import ENGINE_EXIT
from vlab.session import Stop
from vlab.vmm.exits import Exit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.svm_decode import DECODERS
from vlab.vmm.tenant import Parts

_IF: Final = 1 << 9
_STRINGS: Final = range(0x6C, 0x70)
"""Opcodes of INS and OUTS."""


class Bare(HardwareMonitor):
    """vlab's monitor with its handlers and intercepts taken out: one VMRUN at a time, for whoever asks."""

    def __init__(self, parts: Parts, paging: PagingStrategy) -> None:
        self.access = 0, 0, False, 0
        super().__init__(parts, paging)

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_misc1 = control.intercept_misc2 = control.asid = 0

    def _take_processor(self, *, first: bool) -> None:
        super()._take_processor(first=first)
        self.intercepts_changed()  # VMRUN looks at all of the VMCB

    # A port access is an exit in its own right here: the instruction is undone, and the guest stands at it.

    def _port_in(self, port: int, size: int) -> int:
        if self._is_string():
            return super()._port_in(port, size)
        self._exit_for_port(port, size, False, 0)
        return 0

    def _port_out(self, port: int, size: int, value: int) -> None:
        if self._is_string():
            super()._port_out(port, size, value)
        else:
            self._exit_for_port(port, size, True, value)

    def opcode(self) -> tuple[int, int]:
        """Give the number of prefixes of the instruction at RIP, and its opcode."""
        prefixes = self.processor.code.prefix_count()
        return prefixes, self.processor.fetch()[prefixes]

    def _is_string(self) -> bool:
        return self.opcode()[1] in _STRINGS

    def _exit_for_port(self, port: int, size: int, output: bool, value: int) -> None:
        self.access = port, size, output, value
        self.processor.engine.refuse(ENGINE_EXIT + SvmExit.IOIO)

    def _tick_in(self, ns: int) -> None:
        """Blocks are counted, which ends each turn; no turn here has to look at the wall's time."""

    def enter(self, limit_ns: int) -> int:
        """Run the guest to its next #VMEXIT and give the exit code."""
        with self.machine.lock:
            self._enter()
            try:
                return self._enter_guest(limit_ns)
            finally:
                self._leave()

    def _enter_guest(self, limit_ns: int) -> int:
        while True:
            self.run_inbox()
            if self._flush_code:
                self._flush_code = False
                self.processor.engine.flush_code()
            self._attention = False
            self._arm()
            self.in_guest = True
            try:
                code = self.machine.svm.vmrun(self.vmcb)
            finally:
                self.in_guest = False
            if code == SvmExit.NPF:
                exit_ = DECODERS[code](self.processor)
                self._count(exit_)
                self._follow(super().handle(exit_))
            elif code != STOPPED:
                return code
            elif self.clock.now() >= self.board.alarms.next:
                return SvmExit.INTR
            elif self.clock.now() > limit_ns:
                return STOPPED

    def run(self) -> Stop:
        """Refuse: nobody but the student's loop runs this guest."""
        raise UnusableInput("run: the loop of this guest is your own; drive() runs it")

    def note_interrupt(self, vector: int) -> None:
        """Record an interrupt that the guest is about to take."""
        self._note_interrupt(vector)

    def note(self, exit_: Exit) -> None:
        """Record an exit."""
        self._count(exit_)

    def sleep(self) -> bool:
        """Let time pass until an interrupt waits; False when there will be none."""
        with self.machine.lock:
            self._enter()
            try:
                while not self.board.interrupt:
                    self.run_inbox()
                    if self.board.alarms.next == FOREVER or not self.core.rflags & _IF:
                        return False
                    self.clock.skip(max(0, self.board.alarms.next - self.clock.now()))
                    self._alarm()
                return True
            finally:
                self._leave()

    def serve_timers(self) -> None:
        """Do what the chips have to do by now."""
        self._alarm()

    @property
    def stop_noted(self) -> Stop | None:
        """How the guest has ended itself, None while it has not."""
        return self._stop
