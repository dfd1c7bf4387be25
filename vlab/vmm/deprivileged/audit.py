"""What goes by in silence: sensitive instructions that do not trap at CPL 1, watched as by a logic analyser.

A monitor without virtualization hardware never sees them; that is why trap-and-emulate fails on x86. The
laboratory's processor can be watched all the same. The watched instructions do here exactly what the
processor would have done, and where that is not what the guest's own processor should have done, the
difference is kept.
Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36, by instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.machine.core import LiveCore
from vlab.machine.processor import Processor
from vlab.vmm.deprivileged.decode import Instruction
from vlab.vmm.deprivileged.operands import Operands, Stack
from vlab.vmm.deprivileged.transfers import merged_flags
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.silent import Silent

WATCHED: Final = sum(
    1 << code - SvmExit.INTR
    for code in (
        SvmExit.PUSHF, SvmExit.POPF, SvmExit.IDTR_READ, SvmExit.GDTR_READ, SvmExit.LDTR_READ, SvmExit.TR_READ,
    )
)  # fmt: skip
"""Their bits in words 3 and 4 of the VMCB. SMSW comes with reads of CR0."""
CODES: Final = frozenset(
    (
        SvmExit.PUSHF, SvmExit.POPF, SvmExit.IDTR_READ, SvmExit.GDTR_READ, SvmExit.LDTR_READ,
        SvmExit.TR_READ, SvmExit.READ_CR0,
    )
)  # fmt: skip
KEPT: Final = 1000
"""So many differences are kept; all are counted."""

_IF, _IOPL, _VM, _RF = EFlags.IF.mask, EFlags.IOPL.mask, EFlags.VM.mask, EFlags.RF.mask


class Audit:
    """The differences of one guest. ``count``: how many there were; ``kept``: the first of them."""

    def __init__(self, processor: Processor, cpu: VirtualCore) -> None:
        self._processor = processor
        self._real = processor.core
        self._cpu = cpu
        self.count = 0
        self.kept: list[Silent] = []
        self._actions: dict[Sensitive, Callable[[Operands], None]] = {
            Sensitive.PUSHF: self._push_flags,
            Sensitive.POPF: self._pop_flags,
            Sensitive.SGDT: self._store_table,
            Sensitive.SIDT: self._store_table,
            Sensitive.SLDT: lambda operands: self._store_word(operands, "ldtr"),
            Sensitive.STR: lambda operands: self._store_word(operands, "tr"),
            Sensitive.SMSW: self._store_machine_status_word,
        }

    def execute(self, instruction: Instruction) -> None:
        """Do what the processor does at CPL 1 or 3; raises CpuFault as it would."""
        processor, stepping = self._processor, self._real.single_stepping
        self._actions[instruction.family](Operands(self._cpu, instruction))
        processor.advance(instruction.length)
        if instruction.family is not Sensitive.POPF:  # which ends its block in any case
            processor.engine.uncount_block()
        else:
            processor.step_due = stepping  # a TF that it sets concerns the next instruction (APM2 13.1.4)

    def first(self) -> str:
        """Tell the first difference, "" when there was none."""
        if not self.kept:
            return ""
        rest = f" (the first of {self.count})" if self.count > 1 else ""
        return f"{self.kept[0].describe()}{rest}"

    def _note(self, operands: Operands, saw: str, should: str) -> None:
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(Silent(self._cpu.rip, operands.instruction.text, saw, should))

    # --- flags ----------------------------------------------------------------------------------------------

    def _push_flags(self, operands: Operands) -> None:
        real, virtual = self._real.rflags, self._cpu.rflags
        stack = Stack(self._cpu, operands.instruction.item)
        stack.push(real & ~(_VM | _RF))
        stack.commit()
        if (real ^ virtual) & (_IF | _IOPL):
            self._note(operands, f"it showed {_flags(real)}", f"the guest has {_flags(virtual)}")

    def _pop_flags(self, operands: Operands) -> None:
        size, real, cpu = operands.instruction.item, self._real, self._cpu
        stack = Stack(cpu, size)
        value, before = stack.peek(0), cpu.rflags
        wanted = merged_flags(before, value, size, cpu.cpl, cpu.mode_code)
        stack.drop(size)
        stack.commit()
        real.rflags = merged_flags(real.rflags, value, size, real.cpl, real.mode_code)
        if (before ^ wanted) & (_IF | _IOPL):
            self._note(operands, f"it left {_flags(before)}", f"the guest sets {_flags(wanted)}")

    # --- registers and tables -------------------------------------------------------------------------------

    def _store_table(self, operands: Operands) -> None:
        name = "gdtr" if operands.instruction.family is Sensitive.SGDT else "idtr"
        real, virtual = getattr(self._real, name), getattr(self._cpu, name)
        width = 8 if operands.instruction.bits == 64 else 4
        linear = operands.linear(operands.instruction.operands[0])
        self._cpu.write(linear, 2 + width, real.base << 16 | real.limit, user=operands.user)
        if (real.base, real.limit) != (virtual.base, virtual.limit):
            saw = f"it showed base {real.base:#x}, limit {real.limit:#x}"
            self._note(operands, saw, f"the guest loaded {virtual.base:#x}, {virtual.limit:#x}")

    def _store_word(self, operands: Operands, name: str) -> None:
        self._show(operands, self._real.segment(name).selector, self._cpu.segment(name).selector)

    def _store_machine_status_word(self, operands: Operands) -> None:
        self._show(operands, self._real.cr0 & 0xFFFF, self._cpu.cr0 & 0xFFFF)

    def _show(self, operands: Operands, real: int, virtual: int) -> None:
        target = operands.instruction.operands[0]
        size = operands.instruction.size if operands.in_register(target) else 2
        operands.store(target, size, real)
        if real != virtual:
            self._note(operands, f"it showed {real:#x}", f"the guest has {virtual:#x}")


def _flags(value: int) -> str:
    return f"IF={value >> 9 & 1} IOPL={value >> 12 & 3}"


def in_virtual_8086_mode(core: LiveCore) -> bool:
    """Whether the processor really is in virtual-8086 mode, where these instructions do trap."""
    return core.mode_code == 1
