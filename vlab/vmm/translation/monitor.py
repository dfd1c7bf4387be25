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

from vlab.isa.paging import Fault
from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine.code_reader import CodeReader
from vlab.machine.faults import CpuFault
from vlab.machine.mmu import NestedFault
from vlab.vmm import arrival, device_access, exits, mmio
from vlab.vmm.deprivileged import near, stores
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.exits import Exit
from vlab.vmm.mmio import Translate
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.tenant import Parts
from vlab.vmm.translation import accesses
from vlab.vmm.translation.blocks import CallOut, Link, Stub
from vlab.vmm.translation.code_cache import GATES
from vlab.vmm.translation.core import TranslatedCore
from vlab.vmm.translation.crossing import Crossing
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.library import Translations
from vlab.vmm.verdicts import RESUME, Inject, Verdict

_CALL_OUT: Final = SvmExit.EXCP_DE + Vector.GP
_FETCH: Final = SvmExit.EXCP_DE + Vector.PF
_EXCEPTIONS: Final = frozenset(range(SvmExit.EXCP_DE, SvmExit.EXCP_DE + 32)) - {_FETCH}
_WINDOW: Final = exits.InterruptWindow()


class BinaryTranslation(DeprivilegedMonitor):
    """One virtual machine whose kernel is translated. ``translations``: what there is in the cache.

    ``window``, ``crossing``: where the processor executes them, and its ways in and out. ``faulting``:
    accesses that keep faulting.
    """

    name: ClassVar[str] = "binary-translation"
    watched: ClassVar[frozenset[int]] = frozenset(
        (SvmExit.IDTR_READ, SvmExit.GDTR_READ, SvmExit.LDTR_READ, SvmExit.TR_READ, SvmExit.READ_CR0)
    )
    """What programs must not see either; later processors have CR4.UMIP for that (Intel SDM vol. 3A, 2.5)."""
    core_type: ClassVar[type[VirtualCore]] = TranslatedCore
    translations_type: ClassVar[type[Translations]] = Translations
    actions: Mapping[Sensitive, Action] = {**stores.ACTIONS, **near.ACTIONS}
    cpu: TranslatedCore

    def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
        super().__init__(parts, paging)
        space, processor, memory = paging.space, self.processor, self.memory
        self.translations = self.translations_type(
            self.machine, self.cpu, self.emulator, space, paging.registers
        )
        self.window = self.translations.window
        self.faulting = accesses.Faulting()
        self._memory_bus = accesses.MemoryBus(
            self._recorded(self.board.memory_windows), memory, space, self.translations.source
        )
        self._guest_reader = CodeReader(self.cpu, processor.memory, self.cpu.mmu)
        self._guest_reader.exact = True
        self.crossing = Crossing(processor, self.cpu, self.emulator, paging, self.translations, self.window)
        self._stub: Stub | None = None
        self._call_outs: dict[int, exits.CallOut] = {}
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
        self.processor.code = self.processor.own_code

    # --- running ------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        if not self._go_on():
            return
        try:
            super()._execute()
        finally:
            if self.cpu.in_cache:
                self.crossing.leave()

    def _go_on(self) -> bool:
        """Have the processor execute what the guest executes next; False when it is not to run on."""
        crossing = self.crossing
        crossing.follow_shape()
        while crossing.translates():
            try:
                crossing.enter(hold_gates=self.board.interrupt)
            except CpuFault as fault:
                self._follow(Inject(fault.event()))
            except NestedFault as miss:
                self._follow(self._failed(arrival.tell(self.cpu, miss.gpa)))
            else:
                return True
            if self._stop is not None or self.halted:
                return False
            crossing.follow_shape()
        crossing.run_directly()
        return True

    # --- exits --------------------------------------------------------------------------------------------

    def _serve(self, code: int) -> bool:
        crossing = self.crossing
        if not self.cpu.in_cache:
            crossing.forget()
            return super()._serve(code) and self._go_on()
        offset = crossing.offset
        stub = self.translations.map.stubs.get(offset) if code == _CALL_OUT else None
        if stub is None:
            crossing.leave()
            if code == _FETCH and offset >= GATES:
                self._count(_WINDOW)  # the gates are shut, for an interrupt waits for this
                return False
            return super()._serve(code) and self._go_on()
        self._stub = stub
        crossing.leave_at(stub)
        return self._trap(self._exit_of(stub)) and self._go_on()

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
        if self.crossing.left is not None and code in _EXCEPTIONS and not self._is_time_stamp(code):
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
            case exits.PageFault(address, code) if self.crossing.left is not None:
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
            link = translations.learn(stub, self.cpu.rip)
        else:
            assert isinstance(stub, Link)
            link = stub
            translations.counts.unlinked += 1
            if link.via is not None:
                self.processor.engine.uncount_block()  # the jump leads past its way out once it is linked
        if link is not None:
            translations.source.follow()
            try:
                target = translations.block(
                    link.rip, self.crossing.linear(link.rip, link.context), link.context
                )
            except (CpuFault, NestedFault):
                return RESUME  # and the way in tells
            translations.link(link, target)
        return RESUME

    # --- memory -------------------------------------------------------------------------------------------

    def _fault(self, address: int, write: bool) -> Verdict:
        """A page fault of translated code."""
        try:
            if self.window.contains(address):
                return self._access(address, write)
            if write and (verdict := self._patch(address)) is not None:
                return verdict
        except CpuFault as fault:
            return Inject(fault.event())
        return self._page_fault(exits.PageFault(address, self.processor.info1))

    def _patch(self, address: int) -> Verdict | None:
        """Carry out a write to code; None for any other write, and where the guest is to do it by itself."""
        source, cpu = self.translations.source, self.cpu
        found = cpu.mmu.look(address, cpu.paging)
        if isinstance(found, Fault) or not source.covers(gfn := found.physical >> 12):
            return None
        position = self.crossing.left
        assert position is not None
        # Code that writes beside itself would be translated, protected and written to for ever.
        beside = any(page.gfn == gfn for page in position.block.pages)
        code = self.processor.fetch()
        operand = accesses.operand_of(code, cpu)
        if (source.is_patched(gfn) or beside) and operand is not None and operand[0] == address:
            verdict = self._carry_out_at(accesses.reach(cpu, address, write=True), code, patch=True)
            if verdict is not None:
                return verdict
        if beside:
            source.loosen(gfn)
        return None

    def _access(self, address: int, write: bool) -> Verdict:
        """Carry out the instruction at RIP, whose operand is where the window is; raises CpuFault.

        One that the monitor cannot carry out executes again, with the window out of its way.
        """
        verdict = self._carry_out_at(accesses.reach(self.cpu, address, write=write), self.processor.fetch())
        if verdict is not None:
            return verdict
        self._forget_translations()
        self.window.move()
        self.processor.engine.uncount_block()
        return RESUME

    def _access_slowly(self, stub: CallOut) -> Verdict:
        """An access that kept faulting, or is out of its translation's reach, and so is a call-out."""
        cpu, code = self.cpu, self.processor.fetch()
        found = accesses.operand_of(code, cpu)
        linear = self.crossing.linear(stub.rip, stub.context)
        far = self.translations.is_far(linear)
        try:
            if found is not None and (far or not (self._is_plain(found) and self.faulting.regret(linear))):
                verdict = self._carry_out_at(accesses.reach(cpu, found[0], write=found[1]), code)
                if verdict is not None:
                    return verdict
        except CpuFault as fault:
            return Inject(fault.event())
        if far:
            return self._failed(
                f"the instruction at {stub.rip:#x} is not emulated, and in the translation cache at "
                f"{self.window.place.high:#x} it would not reach its operand, which is relative to RIP"
            )
        self.translations.speed_up(stub.block, linear)
        return RESUME

    def _carry_out_at(self, gpa: int, code: bytes, *, patch: bool = False) -> Verdict | None:
        """Carry out ``code``, the instruction at RIP, whose operand is at ``gpa``; None where that cannot be.

        patch: it is a write to code.
        """
        outcome = mmio.emulate(self.cpu, code, gpa, self._memory_bus)
        if not isinstance(outcome, mmio.Done | mmio.Faulted):
            return None
        if patch and isinstance(outcome, mmio.Done):
            self._note_persistent()
        return device_access.settle(self.processor, self.cpu, outcome)

    def _is_plain(self, operand: tuple[int, bool]) -> bool:
        """Whether an operand is in memory that the guest may access by itself; raises CpuFault."""
        linear, write = operand
        gpa = accesses.reach(self.cpu, linear, write=write)
        return self.memory.host_address(gpa) is not None and not self.translations.source.covers(gpa >> 12)

    def _note_persistent(self) -> None:
        """Note that an instruction faulted for which faulting is the rule."""
        position = self.crossing.left
        if position is None:
            return
        linear = self.crossing.linear(position.rip, position.context)
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
        self.crossing.forget()

    def close(self) -> None:
        """Give all memory back."""
        if self.machine.occupant is self:
            self.processor.code = self.processor.own_code
        super().close()
        self.window.close()
        self.translations.close()
