"""Carries out, on the guest's virtual processor, the sensitive instruction at which it trapped.

One function an instruction family; the table at the end says which. A function raises CpuFault where the
processor would have faulted the guest, with nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from vlab.isa.control import CR0, CR4, EFER, EFlags
from vlab.isa.sensitive import NEAR, Sensitive
from vlab.isa.vectors import Vector
from vlab.machine import registers as reg
from vlab.machine.faults import CpuFault
from vlab.machine.instructions import software_interrupt
from vlab.machine.msrs import ModelSpecificRegisters
from vlab.machine.processor import Processor
from vlab.vmm import exits
from vlab.vmm.deprivileged import flags, transfers
from vlab.vmm.deprivileged.decode import Instruction
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action, Sites, Trapped
from vlab.vmm.deprivileged.system import SystemRegisters
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.verdicts import IDLE, RESUME, Inject, Verdict

_RF, _TF = EFlags.RF.mask, EFlags.TF.mask
_RF_TF: Final = _RF | _TF
_PE, _TSD, _SCE = CR0.PE.mask, CR4.TSD.mask, EFER.SCE.mask
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_FAR: Final = frozenset(
    (
        Sensitive.IRET, Sensitive.JMP_FAR, Sensitive.CALL_FAR, Sensitive.RET_FAR, Sensitive.SYSCALL,
        Sensitive.SYSENTER, Sensitive.SYSRET, Sensitive.SYSEXIT,
    )
)  # fmt: skip
_JUMPS: Final = _FAR | NEAR | {Sensitive.RDTSC}
_RELOADS: Final = _FAR | {Sensitive.LOAD_SEGMENT}
_NO_MORE: Final[Mapping[Sensitive, Action]] = MappingProxyType({})
_SET_RF: Final = frozenset((Sensitive.IRET, Sensitive.JMP_FAR, Sensitive.CALL_FAR))
"""What may leave RFLAGS.RF set for what comes next (APM2 3.1.6)."""
_STEPS_BY_NEW_FLAGS: Final = frozenset((Sensitive.SYSCALL, Sensitive.SYSRET))
"""A single step happens behind an instruction that began with RFLAGS.TF (APM2 13.1.4); behind these two, if
TF is set when they are done."""


class Emulator:
    """Emulation for one guest. ``sites``: where it traps. ``system``: its control registers and tables.

    more: what to carry out beside the instructions that trap, such as ``stores.ACTIONS``.
    """

    def __init__(
        self,
        processor: Processor,
        cpu: VirtualCore,
        paging: ShadowPaging,
        msrs: ModelSpecificRegisters,
        *,
        more: Mapping[Sensitive, Action] = _NO_MORE,
    ) -> None:
        self._processor = processor
        self._cpu = cpu
        self._words, self._words32 = processor.registers, processor.registers32
        self._paging = paging
        self.system = system = SystemRegisters(processor, paging, msrs)
        self.sites = Sites(processor, cpu, self.prepare)
        self._table: Final[dict[Sensitive, Action]] = {
            Sensitive.CLI: flags.clear_interrupts,
            Sensitive.STI: flags.set_interrupts,
            Sensitive.PUSHF: flags.push_flags,
            Sensitive.POPF: flags.pop_flags,
            Sensitive.HLT: self._halt,
            Sensitive.MOV_CR: system.move_control,
            Sensitive.MOV_DR: system.move_debug,
            Sensitive.CLTS: system.clear_task_switched,
            Sensitive.LMSW: system.load_machine_status_word,
            Sensitive.LGDT: system.load_table,
            Sensitive.LIDT: system.load_table,
            Sensitive.LLDT: system.load_local_table,
            Sensitive.LTR: system.load_task,
            Sensitive.INVLPG: system.invalidate,
            Sensitive.INVD: system.nothing,
            Sensitive.WBINVD: system.nothing,
            Sensitive.RDMSR: system.read_msr,
            Sensitive.WRMSR: system.write_msr,
            Sensitive.RDPMC: system.read_counter,
            Sensitive.RDTSC: self._time_stamp,
            Sensitive.LOAD_SEGMENT: system.load_segment,
            Sensitive.INT: self._software_interrupt,
            Sensitive.IRET: self._return_from_interrupt,
            Sensitive.JMP_FAR: partial(self._transfer, transfers.jump_far),
            Sensitive.CALL_FAR: partial(self._transfer, transfers.call_far),
            Sensitive.RET_FAR: transfers.return_far,
            Sensitive.SYSCALL: system.system_call,
            Sensitive.SYSENTER: system.system_enter,
            Sensitive.SYSRET: system.system_return,
            Sensitive.SYSEXIT: system.system_exit,
            Sensitive.SWAPGS: system.swap_gs,
            **more,
        }

    def prepare(self, instruction: Instruction) -> Trapped | None:
        """Make an instruction ready for ``execute``; None for one that is not carried out here."""
        family = instruction.family
        action = self._table.get(family)
        if action is None:
            return None
        return Trapped(
            instruction, Operands(self._cpu, instruction), exits.SensitiveInstruction(family), action,
            instruction.length, _MASK64 if instruction.bits == 64 else _MASK32,
            family in _JUMPS, family in _RELOADS,
        )  # fmt: skip

    def action(self, family: Sensitive) -> Action | None:
        """Give what carries out a family's instructions; None for those that are not carried out here."""
        return self._table.get(family)

    def execute(self, trapped: Trapped) -> Verdict:
        """Carry the instruction out, or have its fault injected."""
        words, words32 = self._words, self._words32
        shadow, before = words32[reg.HFLAGS] & reg.INHIBIT, words[reg.EFLAGS]
        if shadow:
            words32[reg.HFLAGS] &= ~reg.INHIBIT
        verdict: Verdict | None
        try:
            verdict = trapped.action(trapped.operands)
        except CpuFault as fault:
            if shadow:
                words32[reg.HFLAGS] |= reg.INHIBIT
            verdict = Inject(fault.event())
        system = self.system
        if system.translation or system.mode or self._paging.space.stale:
            self._follow()
        if verdict is not None and verdict is not IDLE:
            return verdict
        if not trapped.jumps:
            words[reg.RIP] = words[reg.RIP] + trapped.length & trapped.mask
        if trapped.reloads:
            self._cpu.follow_segments()
        if (before | words[reg.EFLAGS]) & _RF_TF:
            self._complete(trapped, before)
        return RESUME if verdict is None else verdict

    def _complete(self, trapped: Trapped, before: int) -> None:
        """End RFLAGS.RF, and see whether there is a single step (APM2 13.1.4). before: RFLAGS then."""
        family, words = trapped.instruction.family, self._words
        after = words[reg.EFLAGS]
        if family not in _SET_RF:
            words[reg.EFLAGS] = after & ~_RF
        if family is Sensitive.LOAD_SEGMENT and trapped.operands.loads_stack:
            return  # no trap comes between a load of SS and the next instruction (APM3 "MOV", "POP")
        self._processor.step_due = bool((after if family in _STEPS_BY_NEW_FLAGS else before) & _TF)

    # --- families that need the processor -----------------------------------------------------------------

    def _halt(self, operands: Operands) -> Verdict:
        operands.need_ring_0()
        return IDLE

    def _software_interrupt(self, operands: Operands) -> Verdict:
        """INT n that faulted, as all do in virtual-8086 mode."""
        if transfers.interrupt_is_refused(self._cpu, operands.instruction):
            raise CpuFault(int(Vector.GP), 0, why="INT n in virtual-8086 mode needs IOPL 3")
        return Inject(software_interrupt(self._processor.fetch()))

    def _return_from_interrupt(self, operands: Operands) -> None:
        """IRET, which may switch tasks and with them the address space."""
        registers = self._paging.registers
        cr0, cr3 = registers.cr0, registers.cr3
        try:
            transfers.return_from_interrupt(operands)
        finally:
            self.note_task_switch(cr0, cr3)

    def _transfer(self, action: Callable[[Operands], None], operands: Operands) -> None:
        """Far JMP and CALL, which may switch tasks; a new task has the RF that its TSS says (APM2 3.1.6)."""
        registers, cpu = self._paging.registers, self._cpu
        cr0, cr3, task = registers.cr0, registers.cr3, cpu.segment("tr")
        try:
            action(operands)
        finally:
            self.note_task_switch(cr0, cr3)
        if cpu.segment("tr") is task:
            self._words[reg.EFLAGS] &= ~_RF

    def _time_stamp(self, operands: Operands) -> None:
        """RDTSC and RDTSCP, which fault at CPL 1 while CR4.TSD is set (APM3)."""
        if operands.cpu.cpl and operands.cpu.cr4 & _TSD:
            raise CpuFault(int(Vector.GP), 0, why="RDTSC outside ring 0 with CR4.TSD set")
        self._processor.read_time_stamp(with_aux=operands.instruction.name == "rdtscp")

    # --- what the processor has to follow -----------------------------------------------------------------

    def note_task_switch(self, cr0: int, cr3: int) -> None:
        """Have ``follow`` follow a task switch, which sets CR0.TS and loads CR3 (APM2 12.3).

        cr0, cr3: what the guest had before there may have been one.
        """
        registers, system = self._paging.registers, self.system
        system.mode |= registers.cr0 != cr0
        system.translation |= registers.cr3 != cr3

    def follow(self) -> None:
        """Have the processor follow what the guest changed, if it did."""
        system = self.system
        if system.translation or system.mode or self._paging.space.stale:
            self._follow()

    def _follow(self) -> None:
        """Have the processor follow what the guest changed."""
        system = self.system
        if system.translation or system.mode:
            self.put_registers(translation=system.translation)
            system.translation = system.mode = False
        else:
            self._paging.flush()
        self.sites.forget()

    def put_registers(self, *, translation: bool) -> None:
        """Put the real control registers and segments in place for what the guest has now."""
        core = self._processor.core
        self._paging.follow(translation=translation)
        core.cr0 |= _PE
        core.efer &= ~_SCE
        self._cpu.settle()
