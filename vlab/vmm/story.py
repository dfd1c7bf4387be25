"""The stories: what happened to a guest, where and why, in a few lines a student can follow."""

from __future__ import annotations

from collections.abc import Sequence

from vlab.isa.state import GENERAL_REGISTERS, CpuState, Mode
from vlab.machine.delivery import FaultRecord
from vlab.machine.processor import Processor
from vlab.vmm import arrival, guest_code
from vlab.vmm.stop import Stop, StopKind


def disassemble(processor: Processor, count: int = 1) -> list[str]:
    """Disassemble ``count`` instructions at RIP, as the processor finds them: "0x7c00: hlt"."""
    return guest_code.lines(processor.core.state(), processor.fetch(15 * count), count)


def registers(state: CpuState) -> list[str]:
    """The general and control registers, four a line."""
    wide = state.mode is Mode.LONG64
    digits = 16 if wide else 8
    shown = GENERAL_REGISTERS if wide else GENERAL_REGISTERS[:8]
    values = [f"{name}={getattr(state, name) & (1 << 4 * digits) - 1:0{digits}x}" for name in shown]
    lines = [" ".join(values[start : start + 4]) for start in range(0, len(values), 4)]
    lines.append(
        f"rip={state.rip:x} rflags={state.rflags:x} cr0={state.cr0:x} cr2={state.cr2:x} cr3={state.cr3:x} "
        f"cr4={state.cr4:x} efer={state.efer:x} mode: {state.mode.value}, CPL {state.cpl}"
    )
    return lines


def where(processor: Processor, seen: CpuState | None = None) -> list[str]:
    """The instruction at RIP and the registers.

    seen: the registers as the guest sees them, where those of the processor are the monitor's (and so in all
    that tells where).
    """
    return [f"at {disassemble(processor)[0]}", *registers(processor.core.state() if seen is None else seen)]


def shutdown_story(
    processor: Processor, chain: Sequence[FaultRecord], failure: str, seen: CpuState | None = None
) -> Stop:
    """Tell a triple fault: the chain of faults, the instruction, the registers."""
    if not chain:
        return failed_story(processor, failure or "the processor shut down", seen)
    lines = ["triple fault: the guest's exception handling failed three times over"]
    if arrival.is_lost(processor):
        lines.append(f"{arrival.tell(processor.core)}; an open bus reads FF FF, which is no instruction")
    lines += [f"  {step}. {record.describe()}" for step, record in enumerate(chain, 1)]
    return Stop(StopKind.TRIPLE_FAULT, "\n".join([*lines, *where(processor, seen)]))


def failed_story(processor: Processor, why: str, seen: CpuState | None = None) -> Stop:
    """Tell what the monitor could not carry out for the guest."""
    return Stop(StopKind.FAILED, "\n".join([f"the guest cannot go on: {why}", *where(processor, seen)]))


def halted_story(state: CpuState) -> Stop:
    """Tell a HLT that nothing can end."""
    return Stop(
        StopKind.HALTED,
        "\n".join(
            [
                f"the guest halted at {state.rip:#x} with interrupts disabled; nothing can wake it",
                *registers(state),
            ]
        ),
    )


def reset_story(why: str) -> Stop:
    """Tell a reset."""
    return Stop(StopKind.RESET, f"the guest reset the machine through {why}")
