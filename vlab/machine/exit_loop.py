"""From the engine's stops to the exits that the processor's owner sees.

At most stops the microcode finishes what the hardware would have done by itself, and the program goes on. The
rest are exits. The owner may leave a function that is asked about each: to serve an exit from there, while
the engine waits between two instructions, takes a third of the time of leaving ``run`` and calling it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vlab.isa.svm_exits import SvmExit
from vlab.machine import microcode
from vlab.machine.microcode import ENGINE_EXIT
from vlab.machine.mmu import NestedFault
from vlab.machine.stops import LEAVE, LOOK, RUN

if TYPE_CHECKING:
    from vlab.machine.processor import Processor

STOPPED: Final = -1
"""``run`` gave this instead of an exit code: a stop was asked for, or the deadline passed."""

_PLAIN: Final = frozenset((SvmExit.CPUID, SvmExit.HLT, SvmExit.VINTR, SvmExit.VMMCALL))
"""Exits that their code says all about: no EXITINFO."""


def nobody(_code: int) -> bool:
    """Give False: an owner that sees its exits when ``run`` ends."""
    return False


class ExitLoop:
    """The loop around one processor's engine.

    ``owner(code)`` is asked about each exit; True has the program go on. It may do all that can be done
    between two calls of ``run``, but call ``run``. What it raises comes out of ``run``.

    Of an owner with a VMCB the compiled helper does a part for plain exits (see ``stops``). The rest of it
    then is ``monitor(code)``, and ``vmrun()`` where that changed the VMCB.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._engine = processor.engine
        self._words = processor.engine.stops.words
        self._owned: frozenset[int] = frozenset()
        self._plain: dict[int, int] = {}
        self._code: int | None = None
        self.owner: Callable[[int], bool] = nobody
        self.monitor: Callable[[int], bool] = nobody
        self.vmrun: Callable[[], bool] = lambda: True
        processor.engine.on_exit = self._serve
        processor.engine.on_plain_exit = self._serve_plain
        processor.engine.on_look = self._look

    def set_owned(self, numbers: frozenset[int]) -> None:
        """Say which of the engine's stops are exits."""
        self._owned = numbers
        self._plain = {number: number - ENGINE_EXIT for number in numbers if number - ENGINE_EXIT in _PLAIN}
        self._engine.set_plain_exits(sum(1 << code - SvmExit.INTR for code in self._plain.values()))

    def run(self) -> int:
        """Execute until an exit whose owner does not send the program on; give its code, or STOPPED."""
        self._processor.during = None
        self._go_on(None)
        code = self._take()
        while code is None:
            try:
                number = self._engine.run()
            except NestedFault as fault:  # of the TSS, when a port's permission was looked up
                self._code = self._processor.nested_exit(fault, None)
                if self.owner(SvmExit.NPF):
                    self._go_on(None)
                number = STOPPED
            code = self._take()  # of what was asked inside
            if code is None:
                if number == STOPPED:
                    return STOPPED
                self._serve(number)
                code = self._take()
        return code

    def _take(self) -> int | None:
        code, self._code = self._code, None
        return code

    def _serve(self, number: int) -> bool:
        """Settle a stop of the engine; False, with what ``run`` is to give in ``_code``, to leave."""
        processor = self._processor
        processor.during = None
        code = self._plain.get(number)
        if code is not None:
            processor.event = None
            processor.info1 = processor.info2 = 0
            if self.owner(code):  # and the instruction is done: the next block is a chance to stop
                return not processor.step_due or self._go_on(None)
            self._code = code
            return False
        code = self._settle(number)
        if code is None or self.owner(code):
            words = self._words
            return (words[0] < words[1] and not processor.step_due) or self._go_on(None)
        self._code = code
        return False

    def _serve_plain(self, code: int) -> int:
        """Do what is left to do at a plain exit whose fields are in the VMCB; the helper does the rest."""
        processor = self._processor
        processor.during = processor.event = None
        processor.info1 = processor.info2 = 0
        if self.monitor(code):
            return LOOK if processor.step_due else RUN
        self._code = code
        return LEAVE

    def _look(self, code: int) -> bool:
        """Have VMRUN look at the VMCB after plain exit ``code``; False to leave."""
        if self.vmrun():
            return not self._processor.step_due or self._go_on(None)
        self._code = code
        return False

    def _settle(self, number: int) -> int | None:
        """Have the microcode do its part; give the exit's code, if it is one."""
        processor = self._processor
        try:
            if number in microcode.SHARED:
                number = microcode.SHARED[number](processor)
            if number in self._owned:
                processor.qualify(number)
                return number - ENGINE_EXIT
            handler = microcode.MICROCODE.get(number)
            if handler is None:
                return processor.give_up(f"the emulator stopped with the unknown number {number:#x}")
            return handler(processor, number)
        except NestedFault as fault:
            return processor.nested_exit(fault, None)

    def _go_on(self, code: int | None) -> bool:
        """Raise the #DB that may be due, and see whether it is time to stop."""
        while code is None and self._processor.step_due:
            code = self._processor.trap_step()
            if code is not None and self.owner(code):
                code = None
        if code is None and self._words[0] >= self._words[1]:  # a guest can fault for ever and enter no block
            code = STOPPED
        self._code = code
        return code is None
