"""Task switches of protected mode that a far CALL or JMP asks for, by a TSS or through a task gate.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3, by instruction).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.descriptors import TASK_GATE, TSS_16_AVAILABLE, TSS_32_AVAILABLE
from vlab.machine.delivery import Cause, switch_task
from vlab.machine.delivery.core import EFER_LMA
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged import segments
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.virtual_core import VirtualCore

_TASKS: Final = (TSS_16_AVAILABLE, TSS_32_AVAILABLE, TASK_GATE)
_RF: Final = EFlags.RF.mask


def names_task(cpu: VirtualCore, raw: int) -> bool:
    """Whether a far transfer to the descriptor ``raw`` switches tasks: never in long mode (APM2 12.3)."""
    return raw >> 40 & 0x1F in _TASKS and not cpu.efer & EFER_LMA


def switch(operands: Operands, raw: int, selector: int, cause: Cause) -> None:
    """Enter the task of ``selector``, whose descriptor is ``raw`` (APM2 12.3.2, 12.3.3; APM3 "JMP (Far)").

    The old task goes on behind the instruction. Raises CpuFault, with nothing changed or for the new task.
    """
    cpu, code = operands.cpu, selector & 0xFFFC
    gate = raw >> 40 & 0xF == TASK_GATE
    what = "task gate" if gate else "TSS"
    if raw >> 45 & 3 < max(cpu.cpl, selector & 3):
        raise CpuFault(segments.GP, code, why=f"the {what} {selector:#06x} is for inner rings only")
    if gate and not raw >> 47 & 1:
        raise CpuFault(segments.NP, code, why=f"the task gate {selector:#06x} is not present")
    switch_task(
        cpu,
        raw >> 16 & 0xFFFF if gate else selector,
        ext=0,
        next_rip=cpu.rip + operands.instruction.length,
        flags=cpu.rflags & ~_RF,  # the instruction is complete
        error_code=None,
        cause=cause,
        named_by="the task gate" if gate else "the far transfer",
    )
