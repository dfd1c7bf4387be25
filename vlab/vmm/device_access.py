"""The instruction at RIP, carried out against the devices: what every monitor does where no memory is."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from vlab.machine.core import LiveCore
from vlab.machine.memory import PAGE
from vlab.machine.processor import Processor
from vlab.vmm import arrival, mmio
from vlab.vmm.device_bus import OPEN_BUS, DeviceBus
from vlab.vmm.mmio_decode import LONGEST
from vlab.vmm.verdicts import RESUME, Inject, Verdict


def carry_out(
    processor: Processor,
    core: LiveCore,
    gpa: int,
    bus: DeviceBus,
    failed: Callable[[str], Verdict],
    translate: mmio.Translate | None = None,
) -> Verdict:
    """Carry out the instruction at RIP, whose memory operand is at ``gpa``; see ``mmio.emulate``.

    core: the processor as the guest sees it. failed(why): what becomes of an access that cannot be done.
    """
    code = processor.fetch(LONGEST)
    if not code:
        return failed(arrival.tell(core, gpa))
    outcome = mmio.emulate(core, code, gpa, bus, translate)
    match outcome:
        case mmio.Done() | mmio.Faulted():
            return settle(processor, core, outcome)
        case mmio.Missed(other):
            return failed(f"one instruction reaches two places without memory, {gpa:#x} and {other:#x}")
        case mmio.NotUnderstood(text):
            if len(code) < LONGEST and not gpa % PAGE:  # the page behind the instruction's could not be read
                return failed(f"the guest ran on to {gpa:#x}, where no memory is")
            what = f"which is {bus.find(gpa)}" if bus.find(gpa) != OPEN_BUS else "where no memory is"
            return failed(f"the instruction {text!r} reaches {gpa:#x}, {what}, and is not emulated")
        case _:
            assert_never(outcome)


def settle(processor: Processor, core: LiveCore, outcome: mmio.Done | mmio.Faulted) -> Verdict:
    """Have the guest go on behind an instruction that was carried out, or into its handler."""
    if isinstance(outcome, mmio.Faulted):
        return Inject(outcome.fault.event())
    processor.step_due = core.single_stepping
    return RESUME
