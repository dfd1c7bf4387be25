"""One guest on its way under a loop: what is to come, each VMRUN, and what ends the run with a sentence.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bare_12 import Bare

from vlab.grading.exercise import Broken
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vmcb import InterceptMisc1, VmcbControl
from vlab.machine.exit_loop import STOPPED
from vlab.session import VM
from vlab.vmm import exits
from vlab.vmm.exits import Exit
from vlab.vmm.svm_decode import DECODERS

_LENGTHS: Final = {SvmExit.CPUID: 2, SvmExit.HLT: 1, SvmExit.MSR: 2}
_NEEDED: Final = ("INTR", "VINTR", "CPUID", "HLT", "IOIO", "MSR", "SHUTDOWN")


@dataclass(slots=True)
class Plan:
    """What is to come of a run.

    script: what to type when which text has appeared. finish: the text that ends the run, "" where the guest
    ends it. exits, time_ns: the most that it may take.
    """

    script: list[tuple[str, str]] = field(default_factory=list)
    finish: str = ""
    exits: int = 5_000
    time_ns: int = 2_000_000_000


class Session:
    """One guest, its monitor, and how far the plan is."""

    def __init__(self, vm: VM, monitor: Bare, plan: Plan) -> None:
        self.vm, self.monitor, self.plan = vm, monitor, plan
        self.code: int = 0
        self.before = self.length = 0
        self.ended = False
        self.first = True

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        said, plan = self.vm.console.text, self.plan
        return (
            self.ended
            or self.monitor.stop_noted is not None
            or bool(plan.finish and not plan.script and plan.finish in said)
        )

    def follow_script(self) -> None:
        """Type what is due."""
        script = self.plan.script
        if script and script[0][0] in self.vm.console.text:
            self.vm.send(script.pop(0)[1])

    def enter(self) -> None:
        """Do VMRUN, and take note of the exit."""
        monitor, plan = self.monitor, self.plan
        if self.over:
            raise Broken("the guest has ended, and the loop goes on: look at board.over", vm=self.vm)
        self._check_intercepts()
        self.follow_script()
        code = self.code = monitor.enter(plan.time_ns)
        if code == SvmExit.INVALID:
            raise Broken(
                f"VMRUN ended in VMEXIT_INVALID: {monitor.machine.svm.refused} (APM2 15.5.1)", vm=self.vm
            )
        if code == SvmExit.SHUTDOWN:
            rip = monitor.core.rip
            raise Broken(f"the guest ended in a triple fault at RIP {rip:#x}", vm=self.vm)
        if code == STOPPED:
            raise Broken(
                f"after {plan.time_ns / 1e9:g} s of its time the guest has not got to its end", vm=self.vm
            )
        self.before = monitor.core.rip
        self.length = self._length(code)
        monitor.note(self._described(code))
        if self.vm.exits.total > plan.exits:
            raise Broken(
                f"after {plan.exits:,} exits the guest has not got to its end; the last one was "
                f"{self.vm.exits[-1].reason} at {self.before:#x}",
                vm=self.vm,
            )

    def _check_intercepts(self) -> None:
        """Say what would go wrong; the processor here would go on without a word."""
        if not self.first:
            return
        self.first = False
        chosen = VmcbControl(self.monitor.machine.memory.bytes, self.monitor.vmcb).intercept_misc1
        missing = [name for name in _NEEDED if not chosen & getattr(InterceptMisc1, name).mask]
        if missing:
            raise Broken(
                f"the VMCB does not intercept {', '.join(missing)}",
                hint=f"Add InterceptMisc1.{missing[0]}.mask to vmcb.intercept_misc1: this monitor needs "
                f"{' '.join(_NEEDED)} from the first VMRUN on.",
            )

    def _length(self, code: int) -> int:
        if code == SvmExit.IOIO:
            prefixes, opcode = self.monitor.opcode()
            return prefixes + (2 if opcode < 0xE8 else 1)
        if code not in _LENGTHS:
            return 0
        return self.monitor.processor.code.prefix_count() + _LENGTHS[SvmExit(code)]

    def _described(self, code: int) -> Exit:
        if code == SvmExit.INTR:
            return exits.PhysicalInterrupt()
        if code == SvmExit.IOIO:
            port, size, output, value = self.monitor.access
            return exits.PortAccess(port | size << 16 | output << 24, value)
        return DECODERS[code](self.monitor.processor)
