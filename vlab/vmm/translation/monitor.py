"""Binary translation: the guest's kernel as a copy without sensitive instructions, its programs as they are.

On a processor without virtualization extensions this is what VMware began with (Bugnion et al., TOCS 30(4),
2012; Adams and Agesen, ASPLOS 2006). What trap-and-emulate cannot see, for it does not trap, is not there any
more when the code runs. The guest's programs run directly, while that is safe: at CPL 3 with the interrupt
flag set and IOPL 0, which POPF and PUSHF then show as they are. Real mode runs in virtual-8086 mode, where
all that is sensitive traps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from vlab.isa.control import EFER, EFlags
from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine import registers as reg
from vlab.machine.clock import Clock
from vlab.machine.code_reader import CodeReader
from vlab.machine.core import CS_BASE
from vlab.machine.faults import CpuFault
from vlab.machine.machine import Machine
from vlab.machine.mmu import NestedFault
from vlab.trace.recorder import Recorder
from vlab.vmm import arrival, device_access, exits
from vlab.vmm.board import Board
from vlab.vmm.deprivileged import near, stores
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.exits import Exit
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.translation import accesses, context
from vlab.vmm.translation.blocks import Block, CallOut, Link, Position, Stub
from vlab.vmm.translation.code_cache import GATES
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.core import TranslatedCore
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.source import PATIENT
from vlab.vmm.translation.translator import Untranslatable
from vlab.vmm.translation.window import HIGH, LOW, WRAPPED, Window
from vlab.vmm.verdicts import RESUME, Inject, Verdict

_CALL_OUT: Final = SvmExit.EXCP_DE + Vector.GP
_FETCH: Final = SvmExit.EXCP_DE + Vector.PF
_EXCEPTIONS: Final = frozenset(range(SvmExit.EXCP_DE, SvmExit.EXCP_DE + 32)) - {_FETCH}
_WINDOW: Final = exits.InterruptWindow()
_VM, _RF, _LMA = EFlags.VM.mask, EFlags.RF.mask, EFER.LMA.mask
_ONE, _BOTH, _BEHIND = (LOW,), (LOW, HIGH), (LOW, WRAPPED)
_32: Final = (1 << 32) - 1
_64: Final = (1 << 64) - 1


class BinaryTranslation(DeprivilegedMonitor):
    """One virtual machine whose kernel is translated. ``translations``: what there is in the cache.

    ``cpu``: the guest's processor. Whenever the guest does not execute, its registers are the guest's own:
    ``_leave_cache`` and ``_enter_cache`` change RIP from that of the translation to the guest's and back.
    """

    name: ClassVar[str] = "binary-translation"
    watched: ClassVar[frozenset[int]] = frozenset(
        (SvmExit.IDTR_READ, SvmExit.GDTR_READ, SvmExit.LDTR_READ, SvmExit.TR_READ, SvmExit.READ_CR0)
    )
    """What programs must not see either; later processors have CR4.UMIP for that (Intel SDM vol. 3A, 2.5)."""
    core_type: ClassVar[type[VirtualCore]] = TranslatedCore
    actions: ClassVar[Mapping[Sensitive, Action]] = {**stores.ACTIONS, **near.ACTIONS}
    cpu: TranslatedCore

    def __init__(
        self,
        machine: Machine,
        memory: GuestMemory,
        board: Board,
        clock: Clock,
        recorder: Recorder,
        paging: ShadowPaging,
    ) -> None:
        super().__init__(machine, memory, board, clock, recorder, paging)
        space, processor = paging.space, self.processor
        self.translations = Translations(machine, self.cpu, self.emulator, space)
        self.window = Window(machine, self.translations.cache, space, paging.registers)
        self.faulting = accesses.Faulting()
        self._memory_bus = accesses.MemoryBus(board.memory_windows, memory, space, self.translations.source)
        self._reader, self._guest_reader = processor.code, CodeReader(self.cpu, processor.memory, self.cpu.mmu)
        self._guest_reader.exact = True
        self._words, self._words32 = processor.registers, processor.registers32
        self._kept: tuple[int, Context, int, Block] | None = None
        self._stub: Stub | None = None
        self._from: Position | None = None
        self._breakpoints: frozenset[int] = frozenset()
        self._call_outs: dict[int, exits.CallOut] = {}
        self.cpu.locate = self._locate
        shadow_written = memory.on_written

        def written(gpa: int, size: int) -> None:
            shadow_written(gpa, size)
            self.translations.source.written(gpa, size)

        memory.on_written = written

    # --- the processor ------------------------------------------------------------------------------------

    def _take_processor(self, *, first: bool) -> None:
        self.processor.code = self._guest_reader
        self._guest_reader.forget()
        super()._take_processor(first=first)

    def _keep_registers(self) -> None:
        super()._keep_registers()
        self.processor.code = self._reader

    # --- in and out of the cache --------------------------------------------------------------------------

    def _execute(self) -> None:
        if not self._enter_cache():
            return
        try:
            super()._execute()
        finally:
            if self.cpu.in_cache:
                self._leave_cache()

    def _translates(self) -> bool:
        """Whether what the guest executes next must be translated."""
        cpu = self.cpu
        if self._words[reg.EFLAGS] & _VM:
            return False
        return cpu.cpl < 3 or cpu.iopl > 0 or not cpu.interrupt_flag

    def _enter_cache(self) -> bool:
        """Put the processor where the guest's next instruction is; False when the guest is not to run on."""
        self._follow_shape()
        while self._translates():
            self.translations.source.follow()
            now = context.current(self.cpu)
            try:
                self._meet_breakpoint(self._linear(self._words[reg.RIP], now))
                offset = self._find(self._words[reg.RIP], now)
            except CpuFault as fault:
                self._follow(Inject(fault.event()))
            except NestedFault as miss:
                self._follow(self._failed(arrival.tell(self.cpu, miss.gpa)))
            except Untranslatable as why:
                self._follow(self._failed(str(why)))
            else:
                self._go(offset, now)
                return True
            if self._stop is not None or self.halted:
                return False
            self._follow_shape()
        self.window.shut(self._places)
        if self.paging.space.stale:
            self.paging.flush()
        return True

    def _meet_breakpoint(self, linear: int) -> None:
        """Raise #DB before an instruction with a breakpoint, unless RFLAGS.RF says to go on (APM2 13.1.4)."""
        breakpoints = self.processor.breakpoints
        if breakpoints.on_code is not self._breakpoints:
            self._breakpoints = breakpoints.on_code
            self.translations.stop_at(self._breakpoints)
            self._kept = None
        if linear not in self._breakpoints:
            return
        if self._words[reg.EFLAGS] & _RF:
            self._words[reg.EFLAGS] &= ~_RF
            return
        self.cpu.dr6 = self.cpu.dr6 & ~0xF | breakpoints.at(linear)
        raise CpuFault(Vector.DB)

    @property
    def _places(self) -> tuple[int, ...]:
        """Where the window must be."""
        if self.paging.registers.efer & _LMA:
            return _BOTH
        return _BEHIND if self._words[CS_BASE] > LOW else _ONE

    def _follow_shape(self) -> None:
        """Have the processor be in long mode, where the window is, but for virtual-8086 mode."""
        registers, wanted = self.paging.registers, not self._words[reg.EFLAGS] & _VM
        if registers.always_long != wanted:
            self.window.shut(self._places)
            registers.always_long = wanted
            self.paging.space.crown(wanted)
            self.emulator.put_registers(translation=True)

    def _find(self, rip: int, now: Context) -> int:
        """Give where in the cache the guest goes on."""
        kept = self._kept
        if kept is not None and kept[0] == rip and kept[1] is now and kept[3].alive:
            return kept[2]
        return self.translations.block(rip, self._linear(rip, now), now).start

    def _linear(self, rip: int, now: Context) -> int:
        return rip if now.wide else rip + self._words[CS_BASE] & _32

    def _go(self, offset: int, now: Context) -> None:
        if self.translations.emptied:
            self.translations.emptied = False
            self.window.forget_all()
        self.window.admit(self._places, gates=now.interrupts or not self.board.interrupt)
        if self.paging.space.stale:
            self.paging.flush()
        words = self._words
        words[reg.RIP] = HIGH + offset if now.wide else LOW + offset - words[CS_BASE] & _32
        self.cpu.in_cache = True

    def _offset(self, rip: int) -> int:
        """Give the offset in the cache of a RIP there."""
        return rip - HIGH if rip >= HIGH else (rip + self._words[CS_BASE] & _32) - LOW

    def _locate(self, rip: int) -> int:
        return self.translations.position(self._offset(rip)).rip

    def _leave_cache(self) -> None:
        """Have the guest's own RIP and interrupt flag in place, wherever in its translation it is."""
        cpu, words = self.cpu, self._words
        offset = self._offset(words[reg.RIP])
        position = self._from = self.translations.position(offset)
        cpu.in_cache = False
        words[reg.RIP] = position.rip
        cpu.interrupt_flag = position.context.interrupts
        if position.undo is None:
            self._kept = position.rip, position.context, offset, position.block
        else:
            self._kept = None
            position.undo(cpu)

    def _leave_at(self, rip: int, now: Context) -> None:
        """The same at a call-out, where it is known."""
        cpu = self.cpu
        cpu.in_cache = False
        self._kept = self._from = None
        self._words[reg.RIP] = rip
        cpu.interrupt_flag = now.interrupts

    # --- exits --------------------------------------------------------------------------------------------

    def _serve(self, code: int) -> bool:
        if not self.cpu.in_cache:
            self._from = self._kept = None
            return super()._serve(code) and self._enter_cache()
        stub = None
        offset = self._offset(self._words[reg.RIP])
        if code == _CALL_OUT:
            stub = self.translations.map.stubs.get(offset)
        if stub is None:
            self._leave_cache()
            if code == _FETCH and offset >= GATES:
                self._count(_WINDOW)  # the gates are shut, for an interrupt waits for this
                return False
            return super()._serve(code) and self._enter_cache()
        self._stub = stub
        self._leave_at(stub.rip, stub.context)
        return self._trap(self._exit_of(stub)) and self._enter_cache()

    def _exit_of(self, stub: Stub) -> Exit:
        if isinstance(stub, Link):
            return exits.CacheMiss(stub.rip, 0)
        if isinstance(stub, Lookup):
            return exits.CacheMiss(stub.rip, 1)
        family = stub.family
        exit_ = self._call_outs.get(family)
        if exit_ is None:
            exit_ = self._call_outs[family] = exits.CallOut(family)
        return exit_

    def _watch(self, code: int) -> bool:
        """SGDT and its like in the guest's programs."""
        return self._trap(self._decode(SvmExit.EXCP_DE + Vector.GP))

    def _decode(self, code: int) -> Exit:
        """A fault in a translation is the guest's own; what is sensitive is not there any more."""
        if self._from is not None and code in _EXCEPTIONS and not self._is_time_stamp(code):
            return exits.ExceptionExit(code - SvmExit.EXCP_DE, self.processor.info1)
        return super()._decode(code)

    def _is_time_stamp(self, code: int) -> bool:
        """RDTSC, which is copied, and faults at CPL 1 while CR4.TSD is set."""
        trapped = self.emulator.sites.find() if code == _CALL_OUT else None
        return trapped is not None and trapped.instruction.family is Sensitive.RDTSC

    def handle(self, exit_: Exit) -> Verdict:
        """Serve one exit and say how to go on. Override it to serve some differently."""
        match exit_:
            case exits.CacheMiss():
                return self._miss()
            case exits.CallOut():
                stub = self._stub
                assert isinstance(stub, CallOut)
                return self._access_slowly(stub) if stub.trapped is None else self._carry_out(stub)
            case exits.PageFault(address, code) if self._from is not None:
                return self._fault(address, accesses.is_write(code))
            case _:
                return super().handle(exit_)

    def _carry_out(self, stub: CallOut) -> Verdict:
        self._trapped = stub.trapped
        return self._emulate()

    def _miss(self) -> Verdict:
        """Translated code came to its end, or to a lookup that did not know where to go."""
        stub, translations = self._stub, self.translations
        link: Link | None
        if isinstance(stub, Lookup):
            translations.counts.misses += 1
            verdict = self._carry_out(stub.call_out)
            if verdict is not RESUME or self.processor.step_due:
                return verdict
            link = translations.learn(stub, self._words[reg.RIP])
        else:
            assert isinstance(stub, Link)
            link = stub
            if link.via is not None:
                self.processor.engine.uncount_block()  # the jump leads past its way out once it is linked
        if link is not None:
            translations.source.follow()
            try:
                target = translations.block(link.rip, self._linear(link.rip, link.context), link.context)
            except (CpuFault, NestedFault, Untranslatable):
                return RESUME  # and the way in tells
            if link.block.alive and not link.block.transient:
                translations.link(link, target)
        return RESUME

    # --- memory -------------------------------------------------------------------------------------------

    def _fault(self, address: int, write: bool) -> Verdict:
        """A page fault of translated code."""
        try:
            if self.window.contains(address):
                return self._access(address, write)
            source = self.translations.source
            if write and source.writes:
                gpa = self._written_code(address)
                if gpa is not None:
                    self._note_persistent()
                    return self._access(address, write)
        except CpuFault as fault:
            return Inject(fault.event())
        verdict = self.paging.handle(exits.PageFault(address, self.processor.info1))
        assert verdict is not None
        return verdict

    def _written_code(self, address: int) -> int | None:
        """Give the guest-physical address of a write to code that was written to often; raises CpuFault."""
        source, cpu = self.translations.source, self.cpu
        gpa = accesses.reach(cpu, address, write=True)
        gfn = gpa >> 12
        if source.writes.get(gfn, 0) < PATIENT or not source.covers(gfn):
            return None
        if accesses.operand_of(self.processor.fetch(), cpu) is None:
            position = self._from
            assert position is not None
            if any(page.gfn == gfn for page in position.block.pages):
                source.loosen(gfn)  # it would be translated, protected and written to for ever
            return None
        return gpa

    def _access(self, address: int, write: bool) -> Verdict:
        """Carry out the instruction at RIP against the guest's memory or its devices; raises CpuFault."""
        gpa = accesses.reach(self.cpu, address, write=write)
        return device_access.carry_out(self.processor, self.cpu, gpa, self._memory_bus, self._failed)

    def _access_slowly(self, stub: CallOut) -> Verdict:
        """An access that kept faulting, and is a call-out now."""
        found, linear = accesses.operand_of(self.processor.fetch(), self.cpu), self._linear(stub.rip, stub.context)
        try:
            if found is None or (self._is_plain(found) and self.faulting.regret(linear)):
                self.translations.speed_up(stub.block, linear)
                return RESUME
            return self._access(*found)
        except CpuFault as fault:
            return Inject(fault.event())

    def _is_plain(self, operand: tuple[int, bool]) -> bool:
        """Whether an operand is in memory that the guest may access by itself; raises CpuFault."""
        linear, write = operand
        gpa = accesses.reach(self.cpu, linear, write=write)
        return self.memory.host_address(gpa) is not None and not self.translations.source.covers(gpa >> 12)

    def _note_persistent(self) -> None:
        """Note that an instruction faulted for which faulting is the rule."""
        position = self._from
        if position is None:
            return
        linear = self._linear(position.rip, position.context)
        if self.faulting.note(linear):
            self.translations.slow_down(position.block, linear)

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        """Carry out the instruction at RIP, whose memory operand is at ``gpa``, against the devices."""
        self._note_persistent()
        return super().emulate_device_access(gpa, translate)

    # --- snapshots ----------------------------------------------------------------------------------------

    def restore_state(self, state: Mapping[str, int]) -> None:
        """Take that back, with an empty cache."""
        self._forget_translations()
        self.window.reset()
        super().restore_state(state)

    def _forget_translations(self) -> None:
        self.translations.empty()
        self.faulting.clear()
        self._kept = None

    def close(self) -> None:
        """Give all memory back."""
        if self.machine.occupant is self:
            self.processor.code = self._reader
        super().close()
        self.window.close()
        self.translations.close()
