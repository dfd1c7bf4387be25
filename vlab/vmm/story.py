"""The stories: what happened to a guest, where and why, in a few lines a student can follow."""

from __future__ import annotations

from collections.abc import Sequence

from vlab.isa.state import GENERAL_REGISTERS
from vlab.machine.core import LiveCore
from vlab.machine.delivery import FaultRecord
from vlab.machine.processor import Processor
from vlab.vmm.stop import Stop, StopKind


def disassemble(processor: Processor, count: int = 1) -> list[str]:
    """Disassemble ``count`` instructions at RIP: "0x7c00: hlt"."""
    import capstone

    mode = {0: capstone.CS_MODE_16, 1: capstone.CS_MODE_16, 2: capstone.CS_MODE_16, 5: capstone.CS_MODE_64}
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode.get(processor.core.mode_code, capstone.CS_MODE_32))
    code = processor.fetch(15 * count)
    lines = [
        f"{instruction.address:#x}: {instruction.mnemonic} {instruction.op_str}".rstrip()
        for instruction in decoder.disasm(code, processor.core.rip, count)
    ]
    if not lines:
        shown = code[:8].hex(" ") if code else "nothing is mapped there"
        lines.append(f"{processor.core.rip:#x}: (no instruction: {shown})")
    return lines


def registers(core: LiveCore) -> list[str]:
    """The general and control registers, four a line."""
    names = GENERAL_REGISTERS
    wide = core.mode_code == 5
    digits = 16 if wide else 8
    shown = names if wide else names[:8]
    values = [f"{name}={core.get_gpr(n) & (1 << 4 * digits) - 1:0{digits}x}" for n, name in enumerate(shown)]
    lines = [" ".join(values[start : start + 4]) for start in range(0, len(values), 4)]
    lines.append(
        f"rip={core.rip:x} rflags={core.rflags:x} cr0={core.cr0:x} cr2={core.cr2:x} cr3={core.cr3:x} "
        f"cr4={core.cr4:x} efer={core.efer & ~0x1000:x} mode: {core.mode.value}, CPL {core.cpl}"
    )
    return lines


def where(processor: Processor) -> list[str]:
    """The instruction at RIP and the registers."""
    return [f"at {disassemble(processor)[0]}", *registers(processor.core)]


def shutdown_story(processor: Processor, chain: Sequence[FaultRecord], failure: str) -> Stop:
    """Tell a triple fault: the chain of faults, the instruction, the registers."""
    if not chain:
        return failed_story(processor, failure or "the processor shut down")
    lines = ["triple fault: the guest's exception handling failed three times over"]
    lines += [f"  {step}. {record.describe()}" for step, record in enumerate(chain, 1)]
    return Stop(StopKind.TRIPLE_FAULT, "\n".join([*lines, *where(processor)]))


def failed_story(processor: Processor, why: str) -> Stop:
    """Tell what the monitor could not carry out for the guest."""
    return Stop(StopKind.FAILED, "\n".join([f"the guest cannot go on: {why}", *where(processor)]))


def halted_story(core: LiveCore) -> Stop:
    """Tell a HLT that nothing can end."""
    return Stop(
        StopKind.HALTED,
        "\n".join(
            [
                f"the guest halted at {core.rip:#x} with interrupts disabled; nothing can wake it",
                *registers(core),
            ]
        ),
    )


def reset_story(why: str) -> Stop:
    """Tell a reset."""
    return Stop(StopKind.RESET, f"the guest reset the machine through {why}")
