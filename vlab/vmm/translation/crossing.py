"""In and out of the cache: the guest's registers are the guest's own whenever it does not execute.

To *enter* is to put the processor at the translation of the guest's next instruction; to *leave* is to put
the guest's own RIP and interrupt flag back, wherever in its translation it has stopped.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vlab.isa.control import EFER, EFlags
from vlab.isa.state import GENERAL_REGISTERS
from vlab.isa.vectors import Vector
from vlab.machine import registers as reg
from vlab.machine.core import CS_BASE
from vlab.machine.faults import CpuFault
from vlab.machine.processor import Processor
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.translation import context
from vlab.vmm.translation.blocks import Block, Position, Redo, Stub
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.core import TranslatedCore
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.window import Window

_VM, _RF, _LMA = EFlags.VM.mask, EFlags.RF.mask, EFER.LMA.mask
_32: Final = (1 << 32) - 1


class _Left(NamedTuple):
    """Where the guest left the cache: at its own ``rip``, in ``block``, whose code goes on at ``offset``.

    redo: for an instruction that had begun: does that part of it again. registers: the guest's then.
    """

    rip: int
    context: Context
    offset: int
    block: Block
    redo: Redo | None
    registers: tuple[int, ...]


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
        self._kept: _Left | None = None
        self._breakpoints: frozenset[int] = frozenset()
        self._passed: int | None = None
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
            self._window.shut()
            registers.always_long = wanted
            self._paging.space.crown(wanted)
            self._emulator.put_registers(translation=True)

    def enter(self, *, hold_gates: bool) -> None:
        """Enter the cache at the guest's next instruction.

        hold_gates: an interrupt waits until the guest turns interrupts on. Raises CpuFault for the guest,
        and NestedFault where no memory is.
        """
        self._translations.source.follow()
        now, rip = context.current(self._cpu), self._words[reg.RIP]
        self._meet_breakpoint(self.linear(rip, now))
        kept, self._kept = self._kept, None
        if kept is not None and self._goes_on(kept, rip, now, waits=hold_gates):
            offset = kept.offset
        else:
            offset = self._translations.block(rip, self.linear(rip, now), now).start
        self._go(offset, now, hold_gates=hold_gates and not now.interrupts)

    def _goes_on(self, kept: _Left, rip: int, now: Context, *, waits: bool) -> bool:
        """Say whether the guest is where it left; if its instruction had begun there, it has once more.

        So where the monitor stops the guest does not show: beginning anew would take time again. waits: for
        the end of an interrupt shadow, which such an instruction behind STI would pass unnoticed.
        """
        if kept.rip != rip or kept.context is not now or not kept.block.alive:
            return False
        if kept.redo is None:
            return True
        if kept.registers != self._general_registers() or (waits and self._cpu.interrupt_shadow):
            return False
        return kept.redo()

    def _general_registers(self) -> tuple[int, ...]:
        return tuple(self._words[: len(GENERAL_REGISTERS)])

    def _go(self, offset: int, now: Context, *, hold_gates: bool) -> None:
        if self._translations.emptied:
            self._translations.emptied = False
            self._window.forget_all()
        self._window.admit(self._addresses, gates=not hold_gates)
        if self._paging.space.stale:
            self._paging.flush()
        words = self._words
        self.entries += 1
        place = self._window.place
        words[reg.RIP] = place.high + offset if now.wide else place.low + offset - words[CS_BASE] & _32
        self._cpu.in_cache = True

    def run_directly(self) -> None:
        """Have the processor execute the guest's own code next."""
        self._window.shut()
        if self._paging.space.stale:
            self._paging.flush()

    def _meet_breakpoint(self, linear: int) -> None:
        """Raise #DB before an instruction with a breakpoint, unless RFLAGS.RF says to go on (APM2 13.1.4)."""
        breakpoints, words = self._processor.breakpoints, self._words
        if breakpoints.on_code is not self._breakpoints:
            self._breakpoints = breakpoints.on_code
            self._translations.stop_at(self._breakpoints)
            self._kept = None
        self._passed = None
        if linear not in self._breakpoints:
            return
        if words[reg.EFLAGS] & _RF:
            words[reg.EFLAGS] &= ~_RF
            self._passed = words[reg.RIP]
            return
        self._cpu.dr6 = self._cpu.dr6 & ~0xF | breakpoints.at(linear)
        raise CpuFault(Vector.DB)

    @property
    def _addresses(self) -> tuple[int, ...]:
        """Where the window must be."""
        place = self._window.place
        if self._paging.registers.efer & _LMA:
            return place
        return (place.low, place.wrapped) if self._words[CS_BASE] > place.low else (place.low,)

    # --- out ----------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """The offset in the cache at which the processor is."""
        return self._offset(self._words[reg.RIP])

    def _offset(self, rip: int) -> int:
        place = self._window.place
        return place.offset(rip if rip >= place.high else rip + self._words[CS_BASE])

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
        if self._passed == position.rip:
            self._words[reg.EFLAGS] |= _RF  # the instruction with the breakpoint is still to come
        redo = None if position.undo is None else position.undo(cpu)
        registers = () if redo is None else self._general_registers()
        self._kept = _Left(position.rip, position.context, offset, position.block, redo, registers)

    def leave_at(self, stub: Stub) -> None:
        """Leave it at a call-out."""
        cpu = self._cpu
        cpu.in_cache = False
        self._kept = self.left = None
        self._words[reg.RIP] = stub.rip
        cpu.interrupt_flag = stub.context.interrupts
