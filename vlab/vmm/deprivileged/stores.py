"""What shows the state that a monitor keeps, and does not trap: SGDT, SMSW, LAR, MOV from a segment register.

A monitor that has these carried out gives the guest what its own processor would have shown. That processor
has no UMIP, so they work in every ring. Sections are those of AMD APM vol. 3, rev. 3.36 (APM3), by
instruction. Where the processor underneath is not that of the manual, the manual is followed: it stores 24
bits of a base with 16-bit operands, 16 bits of CR0 in a 32-bit register, and in long mode it takes the
descriptors of legacy mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.descriptors import (
    CALL_GATE_16,
    CALL_GATE_32,
    LDT,
    TASK_GATE,
    TSS_16_AVAILABLE,
    TSS_16_BUSY,
    TSS_32_AVAILABLE,
    TSS_32_BUSY,
    limit_of,
)
from vlab.isa.sensitive import Sensitive
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import EFER_LMA
from vlab.machine.delivery.segments import read_descriptor
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged import segments
from vlab.vmm.deprivileged.decode import Operand
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.deprivileged.virtual_core import VirtualCore

_UD: Final = int(Vector.UD)
_ZF: Final = EFlags.ZF.mask
_OUTSIDE: Final = -1
"""No vector: a selector outside its table makes LAR and its kin fail without a fault."""
_S, _CODE, _CONFORMING, _READABLE_WRITABLE = 0x10, 8, 4, 2  # in the type of a descriptor
_RIGHTS: Final = 0x00F0FF00
"""Of a descriptor's upper half, what LAR shows. APM3 adds bits 19:16, which are undefined in Intel SDM vol.
2A, "LAR", and 0 on the processor underneath."""

_LIMITED: Final = frozenset((LDT, TSS_32_AVAILABLE, TSS_32_BUSY))
_SHOWN: Final = _LIMITED | {CALL_GATE_32}
_LEGACY_LIMITED: Final = _LIMITED | {TSS_16_AVAILABLE, TSS_16_BUSY}
_LEGACY_SHOWN: Final = _LEGACY_LIMITED | {CALL_GATE_16, TASK_GATE, CALL_GATE_32}


# --- registers and tables -----------------------------------------------------------------------------------


def store_table(operands: Operands) -> None:
    """SGDT and SIDT: limit and base, 6 bytes, in 64-bit mode 10, whatever the operand size."""
    cpu, instruction = operands.cpu, operands.instruction
    table = cpu.gdtr if instruction.family is Sensitive.SGDT else cpu.idtr
    width = 8 if instruction.bits == 64 else 4
    base = table.base & (1 << 8 * width) - 1
    linear = operands.linear(instruction.operands[0])
    cpu.write(linear, 2 + width, base << 16 | table.limit & 0xFFFF, user=operands.user)


def store_local_table(operands: Operands) -> None:
    """SLDT: the selector in LDTR; #UD in real and virtual-8086 mode."""
    _need_protected(operands)
    _show(operands, operands.instruction.operands[0], operands.cpu.segment("ldtr").selector)


def store_task(operands: Operands) -> None:
    """STR: the selector in TR; #UD in real and virtual-8086 mode."""
    _need_protected(operands)
    _show(operands, operands.instruction.operands[0], operands.cpu.segment("tr").selector)


def store_machine_status_word(operands: Operands) -> None:
    """SMSW: as much of CR0 as a register takes, 16 bits of it in memory."""
    _show(operands, operands.instruction.operands[0], operands.cpu.cr0)


def store_segment(operands: Operands) -> None:
    """MOV and PUSH from a segment register; PUSH writes the whole item, zeroes above the selector."""
    selector = operands.cpu.segment(operands.system()).selector
    if operands.instruction.name == "push":
        stack = operands.stack()
        stack.push(selector)
        stack.commit()
    else:
        _show(operands, operands.general(), selector)


def _show(operands: Operands, target: Operand, value: int) -> None:
    """Set a register as wide as the operand size, or 16 bits of memory."""
    operands.store(target, operands.instruction.size if operands.in_register(target) else 2, value)


# --- descriptors --------------------------------------------------------------------------------------------


def load_access_rights(operands: Operands) -> None:
    """LAR: ZF, and the attributes of a descriptor that the program may see."""
    raw = _visible(operands, _SHOWN, _LEGACY_SHOWN)
    _answer(operands, None if raw is None else raw >> 32 & _RIGHTS)


def load_limit(operands: Operands) -> None:
    """LSL: ZF, and the limit in bytes of a segment that the program may see."""
    raw = _visible(operands, _LIMITED, _LEGACY_LIMITED)
    _answer(operands, None if raw is None else limit_of(raw))


def verify_read(operands: Operands) -> None:
    """VERR: ZF says whether the segment, be it present or not, could be read from this ring."""
    raw, selector = _named(operands, operands.instruction.operands[0])
    kind = 0 if raw is None else raw >> 40 & 0x1F
    readable = bool(kind & _S) and kind & (_CODE | _READABLE_WRITABLE) != _CODE
    _set_zero_flag(operands.cpu, readable and raw is not None and _reachable(operands.cpu, raw, selector))


def verify_write(operands: Operands) -> None:
    """VERW: ZF says whether the segment, be it present or not, could be written from this ring."""
    raw, selector = _named(operands, operands.instruction.operands[0])
    kind = 0 if raw is None else raw >> 40 & 0x1F
    writable = kind & (_S | _CODE | _READABLE_WRITABLE) == _S | _READABLE_WRITABLE
    _set_zero_flag(operands.cpu, writable and raw is not None and _reachable(operands.cpu, raw, selector))


def _visible(operands: Operands, long: frozenset[int], legacy: frozenset[int]) -> int | None:
    """Give the descriptor that LAR or LSL names, None where it fails. long, legacy: the system types."""
    cpu = operands.cpu
    raw, selector = _named(operands, operands.instruction.operands[1])
    if raw is None or not _reachable(cpu, raw, selector):
        return None
    kind = raw >> 40 & 0x1F
    return raw if kind & _S or kind in (long if cpu.efer & EFER_LMA else legacy) else None


def _named(operands: Operands, source: Operand) -> tuple[int | None, int]:
    """Give the descriptor that a selector names, None when there is none, and the selector.

    Raises CpuFault: #UD outside protected mode, and what reading the operand or the table raises.
    """
    _need_protected(operands)
    cpu, selector = operands.cpu, operands.load(source, 2)
    if not selector & 0xFFFC:
        return None, selector
    try:
        raw, _ = read_descriptor(
            cpu, selector, segments.wrap(cpu), vector=_OUTSIDE, ext=0, what=operands.instruction.text
        )
    except CpuFault as fault:
        if fault.vector != _OUTSIDE:
            raise
        return None, selector
    return raw, selector


def _reachable(cpu: VirtualCore, raw: int, selector: int) -> bool:
    """Whether the DPL allows the CPL and the RPL; that of conforming code allows all."""
    kind, dpl = raw >> 40 & 0x1F, raw >> 45 & 3
    conforming = _S | _CODE | _CONFORMING
    return kind & conforming == conforming or dpl >= max(cpu.cpl, selector & 3)


def _answer(operands: Operands, value: int | None) -> None:
    """Set ZF, and the first operand when there is a value for it."""
    if value is not None:
        operands.store(operands.instruction.operands[0], operands.instruction.size, value)
    _set_zero_flag(operands.cpu, value is not None)


def _set_zero_flag(cpu: VirtualCore, value: bool) -> None:
    cpu.write_flags(cpu.read_flags() & ~_ZF | (_ZF if value else 0))


def _need_protected(operands: Operands) -> None:
    if operands.cpu.mode_code in (0, 1):
        raise CpuFault(_UD, why=f"{operands.instruction.text} needs protected mode")


ACTIONS: Final[Mapping[Sensitive, Action]] = {
    Sensitive.SGDT: store_table,
    Sensitive.SIDT: store_table,
    Sensitive.SLDT: store_local_table,
    Sensitive.STR: store_task,
    Sensitive.SMSW: store_machine_status_word,
    Sensitive.STORE_SEGMENT: store_segment,
    Sensitive.LAR: load_access_rights,
    Sensitive.LSL: load_limit,
    Sensitive.VERR: verify_read,
    Sensitive.VERW: verify_write,
}
"""For ``Emulator(more=...)``."""
