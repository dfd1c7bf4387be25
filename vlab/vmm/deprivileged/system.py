"""System registers and tables of a deprivileged guest: control and debug registers, LGDT and its kin, MSRs.

Each function carries out one family and raises CpuFault where the processor would have faulted the guest.
Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vlab.isa.control import CR0, CR4, EFER, EFlags
from vlab.isa.msr import Msr
from vlab.isa.paging import canonical
from vlab.isa.state import Segment, TableRegister
from vlab.isa.vectors import Vector
from vlab.machine import control_registers, system_calls
from vlab.machine.delivery.core import EFER_LMA, MASK32, MASK64
from vlab.machine.faults import CpuFault
from vlab.machine.msrs import ModelSpecificRegisters
from vlab.machine.processor import Processor
from vlab.machine.task_register import load_task_register
from vlab.vmm.deprivileged import segments
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.paging.shadow import ShadowPaging

_GP, _UD = int(Vector.GP), int(Vector.UD)
_RAX, _RCX, _RDX, _RSP, _R11 = 0, 1, 2, 4, 11
_LONG64: Final = 5  # LiveCore.mode_code
_PE, _TS = CR0.PE.mask, CR0.TS.mask
_LMSW: Final = 0xF
_SCE: Final = EFER.SCE.mask
_PCE: Final = CR4.PCE.mask
_SYSRET_FLAGS: Final = sum(field.mask for field in EFlags.fields()) & ~(EFlags.VM.mask | EFlags.RF.mask)
_TASK_PRIORITIES: Final = 15
_LAST_COUNTER: Final = 3
_LAST_DEBUG_REGISTER: Final = 7
_FLAT_CODE_64, _FLAT_CODE_32, _FLAT_STACK = 0xAFB, 0xCFB, 0xCF3


class SystemRegisters:
    """Carries out what concerns system registers.

    ``translation``: the last instruction changed what translations depend on; ``mode``: it changed the mode.
    Whoever follows both up clears them.
    """

    def __init__(self, processor: Processor, paging: ShadowPaging, msrs: ModelSpecificRegisters) -> None:
        self._processor = processor
        self._paging = paging
        self._registers = paging.registers
        self._msrs = msrs
        self.translation = False
        self.mode = False

    # --- control and debug registers ----------------------------------------------------------------------

    def move_control(self, operands: Operands) -> None:
        """MOV to and from CRn (APM2 3.1)."""
        operands.need_ring_0()
        cpu, name, general = operands.cpu, operands.system(), operands.general()
        size = 8 if cpu.mode_code == _LONG64 else 4
        if name not in ("cr0", "cr2", "cr3", "cr4", "cr8"):
            raise CpuFault(_UD, why=f"{name.upper()} does not exist")
        if general is operands.instruction.operands[0]:
            seen = self._processor.read_task_priority() if name == "cr8" else getattr(cpu, name)
            operands.store(general, size, seen)
            return
        self.write_control(cpu, name, operands.load(general, size))

    def write_control(self, cpu: VirtualCore, name: str, value: int) -> None:
        """Give control register ``name`` a value; raises CpuFault for one that it does not take."""
        if name == "cr0":
            self._write_cr0(cpu, value)
        elif name == "cr2":
            cpu.cr2 = value
        elif name == "cr3":
            self.translation |= self._registers.write_cr3(value)
        elif name == "cr4":
            self.translation |= self._registers.write_cr4(value)
            self.mode = True
        elif value > _TASK_PRIORITIES:
            raise CpuFault(_GP, 0, why="bits 63:4 of CR8 must be 0")
        else:
            self._processor.write_task_priority(value)

    def _write_cr0(self, cpu: VirtualCore, value: int) -> None:
        code64 = cpu.mode_code == _LONG64
        self.translation |= self._registers.write_cr0(value, code64=code64)
        self.mode = True

    def load_machine_status_word(self, operands: Operands) -> None:
        """LMSW: the low four bits of CR0; PE can be set but not cleared."""
        operands.need_ring_0()
        value, cr0 = operands.load(operands.general(), 2), self._registers.cr0
        self._write_cr0(operands.cpu, cr0 & ~_LMSW | cr0 & _PE | value & _LMSW)

    def clear_task_switched(self, operands: Operands) -> None:
        """CLTS."""
        operands.need_ring_0()
        self._registers.cr0 &= ~_TS
        self.mode = True

    def move_debug(self, operands: Operands) -> None:
        """MOV to and from DRn (APM2 13.1.1): the breakpoints are the guest's own."""
        operands.need_ring_0()
        cpu, number, general = operands.cpu, int(operands.system()[2:]), operands.general()
        size = 8 if cpu.mode_code == _LONG64 else 4
        if number > _LAST_DEBUG_REGISTER:
            raise CpuFault(_UD, why=f"DR{number} does not exist")
        if general is not operands.instruction.operands[0]:
            control_registers.write_debug_register(cpu, number, operands.load(general, size))
            return
        if number in (4, 5):
            if cpu.cr4 & CR4.DE.mask:
                raise CpuFault(_UD, why=f"DR{number} does not exist while CR4.DE is set")
            number += 2
        operands.store(general, size, cpu.debug_register(number))

    # --- tables -------------------------------------------------------------------------------------------

    def load_table(self, operands: Operands) -> None:
        """LGDT and LIDT: limit and base from memory, 24 bits of it with 16-bit operands (APM3)."""
        operands.need_ring_0()
        cpu, instruction = operands.cpu, operands.instruction
        linear, long = operands.linear(instruction.operands[0]), cpu.mode_code == _LONG64
        limit = cpu.read(linear, 2)
        base = cpu.read(linear + 2, 8 if long else 4)
        if long and not canonical(base):
            raise CpuFault(_GP, 0, why=f"the base {base:#x} is not canonical")
        if not long and instruction.size == 2:
            base &= 0xFFFFFF
        setattr(cpu, "gdtr" if instruction.name == "lgdt" else "idtr", TableRegister(base, limit))

    def load_local_table(self, operands: Operands) -> None:
        """LLDT."""
        self._need_protected(operands)
        segments.load_ldt(operands.cpu, operands.load(operands.general(), 2))

    def load_task(self, operands: Operands) -> None:
        """LTR."""
        self._need_protected(operands)
        load_task_register(operands.cpu, operands.load(operands.general(), 2))

    def _need_protected(self, operands: Operands) -> None:
        if operands.cpu.mode_code in (0, 1):
            raise CpuFault(_UD, why=f"{operands.instruction.text} needs protected mode")
        operands.need_ring_0()

    def load_segment(self, operands: Operands) -> None:
        """MOV and POP to a segment register, LDS, LES, LFS, LGS, LSS."""
        cpu, instruction = operands.cpu, operands.instruction
        if instruction.name == "pop":
            stack = operands.stack()
            selector = stack.peek(0) & 0xFFFF
            stack.drop(instruction.item)
            segments.load(cpu, operands.system(), selector)
            stack.commit()
        elif instruction.name == "mov":
            segments.load(cpu, operands.system(), operands.load(operands.general(), 2))
        else:
            register, memory = instruction.operands
            linear = operands.linear(memory)
            offset = cpu.read(linear, instruction.size, user=operands.user)
            selector = cpu.read(linear + instruction.size, 2, user=operands.user)
            segments.load(cpu, instruction.name[1:], selector)
            operands.store(register, instruction.size, offset)
        if operands.loads_stack:
            cpu.begin_shadow()

    def invalidate(self, operands: Operands) -> None:
        """INVLPG (APM2 5.5)."""
        operands.need_ring_0()
        self._paging.space.invalidate(operands.linear(operands.instruction.operands[0]))

    def nothing(self, operands: Operands) -> None:
        """INVD and WBINVD: there are no caches."""
        operands.need_ring_0()

    # --- model-specific registers and counters ------------------------------------------------------------

    def read_msr(self, operands: Operands) -> None:
        """RDMSR."""
        operands.need_ring_0()
        words = operands.cpu.words
        number = words[_RCX] & MASK32
        value = self._registers.efer if number == Msr.EFER else self._msrs.read(number)
        if value is None:
            raise CpuFault(_GP, 0, why=f"MSR {number:#x} cannot be read")
        words[_RAX], words[_RDX] = value & MASK32, value >> 32

    def write_msr(self, operands: Operands) -> None:
        """WRMSR."""
        operands.need_ring_0()
        words = operands.cpu.words
        number, value = words[_RCX] & MASK32, (words[_RDX] & MASK32) << 32 | words[_RAX] & MASK32
        if number == Msr.EFER:
            self.translation |= self._registers.write_efer(value)
            self.mode = True
        elif not self._msrs.write(number, value):
            raise CpuFault(_GP, 0, why=f"MSR {number:#x} does not take {value:#x}")

    def read_counter(self, operands: Operands) -> None:
        """RDPMC, which faults at CPL 1 while CR4.PCE is clear: counters that count nothing (APM3)."""
        cpu, words = operands.cpu, operands.cpu.words
        number = words[_RCX] & MASK32
        if number > _LAST_COUNTER or (cpu.cpl and not cpu.cr4 & _PCE):
            raise CpuFault(_GP, 0, why=f"performance counter {number} cannot be read at CPL {cpu.cpl}")
        value = self._msrs.read(Msr.PERF_CTR0 + number) or 0
        words[_RAX], words[_RDX] = value & MASK32, value >> 32 & 0xFFFF

    # --- the fast system calls ----------------------------------------------------------------------------

    def system_call(self, operands: Operands) -> None:
        """SYSCALL (APM2 6.1.1), which faults on the processor because its EFER.SCE is 0."""
        system_calls.syscall(operands.cpu)

    def system_enter(self, operands: Operands) -> None:
        """SYSENTER (APM2 6.1.2), which faults on the processor because its SYSENTER_CS is 0."""
        system_calls.sysenter(operands.cpu)

    def system_return(self, operands: Operands) -> None:
        """SYSRET (APM3): to CPL 3, with SS and CS from STAR."""
        cpu, wide = operands.cpu, operands.instruction.size == 8
        if not self._registers.efer & _SCE or cpu.mode_code in (0, 1):
            raise CpuFault(_UD, why="SYSRET needs EFER.SCE and protected mode")
        operands.need_ring_0()
        base, words = cpu.star >> 48, cpu.words
        if cpu.efer & EFER_LMA:
            flags, selector = words[_R11] & _SYSRET_FLAGS, base + (16 if wide else 0)
            rip = words[_RCX] & (MASK64 if wide else MASK32)
        else:
            flags, selector, rip = cpu.rflags | EFlags.IF.mask, base, words[_RCX] & MASK32
        self._enter_ring_3(operands, selector, base + 8, wide=wide)  # SS keeps the RPL of STAR
        cpu.rflags = flags | 2
        cpu.rip = rip

    def system_exit(self, operands: Operands) -> None:
        """SYSEXIT (APM3): to CPL 3 with selectors after SYSENTER_CS."""
        cpu = operands.cpu
        selector = cpu.sysenter_cs & 0xFFFC
        if cpu.efer & EFER_LMA:
            raise CpuFault(_UD, why="SYSEXIT is not available in long mode on AMD processors")
        if not selector or cpu.mode_code == 0:
            raise CpuFault(_GP, 0, why="SYSEXIT needs protected mode and a selector in MSR SYSENTER_CS")
        operands.need_ring_0()
        self._enter_ring_3(operands, selector + 16, selector + 24 | 3, wide=False)
        cpu.rsp, cpu.rip = cpu.words[_RCX] & MASK32, cpu.words[_RDX] & MASK32

    def _enter_ring_3(self, operands: Operands, code: int, stack: int, *, wide: bool) -> None:
        cpu = operands.cpu
        attributes = _FLAT_CODE_64 if wide else _FLAT_CODE_32
        cpu.set_segment("cs", Segment(code & 0xFFFF | 3, 0, MASK32, attributes))
        cpu.set_segment("ss", Segment(stack & 0xFFFF, 0, MASK32, _FLAT_STACK))
        cpu.set_cpl(3)

    def swap_gs(self, operands: Operands) -> None:
        """SWAPGS (APM3): GS.base and KernelGsBase."""
        cpu = operands.cpu
        if cpu.mode_code != _LONG64:
            raise CpuFault(_UD, why="SWAPGS exists in 64-bit mode only")
        operands.need_ring_0()
        segment = cpu.segment("gs")
        cpu.set_segment("gs", replace(segment, base=cpu.kernel_gs_base))
        cpu.kernel_gs_base = segment.base
