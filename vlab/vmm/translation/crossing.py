"""In and out of the cache: the guest's registers are the guest's own whenever it does not execute.

To *enter* is to put the processor at the translation of the guest's next instruction; to *leave* is to put
the guest's own RIP and interrupt flag back, wherever in its translation it has stopped.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFER, EFlags
from vlab.isa.vectors import Vector
from vlab.machine import registers as reg
from vlab.machine.core import CS_BASE
from vlab.machine.faults import CpuFault
from vlab.machine.processor import Processor
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.translation import context
from vlab.vmm.translation.blocks import Block, Position, Stub
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.core import TranslatedCore
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.window import HIGH, LOW, WRAPPED, Window

_VM, _RF, _LMA = EFlags.VM.mask, EFlags.RF.mask, EFER.LMA.mask
_ONE, _BOTH, _BEHIND = (LOW,), (LOW, HIGH), (LOW, WRAPPED)
_32: Final = (1 << 32) - 1


class Crossing:
    """For one guest.

    ``left``: where the translation was that was last left; None where that was at a call-out, or the guest
    did not execute one. ``entries``: how often the cache was entered.
    """

    def __init__(
        self,
        processor: Processor,
        cpu: TranslatedCore,
        emulator: Emulator,
        paging: ShadowPaging,
        translations: Translations,
        window: Window,
    ) -> None:
        self._processor = processor
        self._cpu = cpu
        self._words = processor.registers
        self._emulator = emulator
        self._paging = paging
        self._translations = translations
        self._window = window
        self._kept: tuple[int, Context, int, Block] | None = None
        self._breakpoints: frozenset[int] = frozenset()
        self._entered = 0
        self._passes = False
        self.left: Position | None = None
        self.entries = 0
        cpu.locate = self._locate

    def forget(self) -> None:
        """Forget where the guest was: the cache is emptied."""
        self._kept = self.left = None

    def linear(self, rip: int, now: Context) -> int:
        """Give the linear address of code."""
        return rip if now.wide else rip + self._words[CS_BASE] & _32

    def translates(self) -> bool:
        """Whether what the guest executes next must be translated."""
        cpu = self._cpu
        if self._words[reg.EFLAGS] & _VM:
            return False
        return cpu.cpl < 3 or cpu.iopl > 0 or not cpu.interrupt_flag

    # --- in -----------------------------------------------------------------------------------------------

    def follow_shape(self) -> None:
        """Have the processor be in long mode, where the window is, but for virtual-8086 mode."""
        registers, wanted = self._paging.registers, not self._words[reg.EFLAGS] & _VM
        if registers.always_long != wanted:
            self._window.shut(self._places)
            registers.always_long = wanted
            self._paging.space.crown(wanted)
            self._emulator.put_registers(translation=True)

    def enter(self, *, hold_gates: bool) -> None:
        """Enter the cache at the guest's next instruction.

        hold_gates: an interrupt waits until the guest turns interrupts on. Raises CpuFault for the guest,
        NestedFault where no memory is, and Untranslatable.
        """
        self._translations.source.follow()
        now, rip = context.current(self._cpu), self._words[reg.RIP]
        self._meet_breakpoint(self.linear(rip, now))
        kept = self._kept
        if kept is not None and kept[0] == rip and kept[1] is now and kept[3].alive:
            offset = kept[2]
        else:
            offset = self._translations.block(rip, self.linear(rip, now), now).start
        self._go(offset, now, hold_gates=hold_gates and not now.interrupts)

    def _go(self, offset: int, now: Context, *, hold_gates: bool) -> None:
        if self._translations.emptied:
            self._translations.emptied = False
            self._window.forget_all()
        self._window.admit(self._places, gates=not hold_gates)
        if self._paging.space.stale:
            self._paging.flush()
        words = self._words
        self.entries += 1
        self._entered = offset
        words[reg.RIP] = HIGH + offset if now.wide else LOW + offset - words[CS_BASE] & _32
        self._cpu.in_cache = True

    def run_directly(self) -> None:
        """Have the processor execute the guest's own code next."""
        self._window.shut(self._places)
        if self._paging.space.stale:
            self._paging.flush()

    def _meet_breakpoint(self, linear: int) -> None:
        """Raise #DB before an instruction with a breakpoint, unless RFLAGS.RF says to go on (APM2 13.1.4)."""
        breakpoints, words = self._processor.breakpoints, self._words
        if breakpoints.on_code is not self._breakpoints:
            self._breakpoints = breakpoints.on_code
            self._translations.stop_at(self._breakpoints)
            self._kept = None
        self._passes = False
        if linear not in self._breakpoints:
            return
        if words[reg.EFLAGS] & _RF:
            words[reg.EFLAGS] &= ~_RF
            self._passes = True
            return
        self._cpu.dr6 = self._cpu.dr6 & ~0xF | breakpoints.at(linear)
        raise CpuFault(Vector.DB)

    @property
    def _places(self) -> tuple[int, ...]:
        """Where the window must be."""
        if self._paging.registers.efer & _LMA:
            return _BOTH
        return _BEHIND if self._words[CS_BASE] > LOW else _ONE

    # --- out ----------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """The offset in the cache at which the processor is."""
        return self._offset(self._words[reg.RIP])

    def _offset(self, rip: int) -> int:
        return rip - HIGH if rip >= HIGH else (rip + self._words[CS_BASE] & _32) - LOW

    def _locate(self, rip: int) -> int:
        return self._translations.position(self._offset(rip)).rip

    def leave(self) -> None:
        """Leave the cache, wherever the processor is in it."""
        cpu = self._cpu
        offset = self.offset
        position = self.left = self._translations.position(offset)
        cpu.in_cache = False
        self._words[reg.RIP] = position.rip
        cpu.interrupt_flag = position.context.interrupts
        if self._passes and offset == self._entered:
            self._words[reg.EFLAGS] |= _RF  # the instruction with the breakpoint is still to come
        if position.undo is None:
            self._kept = position.rip, position.context, offset, position.block
        else:
            self._kept = None
            position.undo(cpu)

    def leave_at(self, stub: Stub) -> None:
        """Leave it at a call-out."""
        cpu = self._cpu
        cpu.in_cache = False
        self._kept = self.left = None
        self._words[reg.RIP] = stub.rip
        cpu.interrupt_flag = stub.context.interrupts
