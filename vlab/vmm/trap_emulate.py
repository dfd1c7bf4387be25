"""Trap-and-emulate: the oldest technique, and why it was not enough for x86.

The guest runs natively at CPL 1, and every privileged instruction traps to the monitor, which carries it out
on the guest's virtual processor. On the machines of the 1970s that was all (Popek and Goldberg, CACM 17,
1974). On x86 some sensitive instructions do not trap: they silently do something else, and the guest goes
wrong. This monitor does nothing about that; it only watches, to be able to say why.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.machine.faults import CpuFault
from vlab.vmm.deprivileged.audit import CODES, Audit, in_virtual_8086_mode
from vlab.vmm.deprivileged.decode import decode
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
from vlab.vmm.mmio import code_bits
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.stop import Stop, StopKind
from vlab.vmm.tenant import Parts
from vlab.vmm.verdicts import Inject

_GONE_WRONG = (StopKind.TRIPLE_FAULT, StopKind.FAILED, StopKind.HALTED, StopKind.RESET)
_VIRTUAL_8086_TRAPS = (SvmExit.PUSHF, SvmExit.POPF)


class TrapAndEmulate(DeprivilegedMonitor):
    """Nothing but traps. ``audit``: what did not trap, and should have.

    ``repaired``: exits of `watched` that trap all the same, to be emulated: a processor with fewer holes.
    """

    name: ClassVar[str] = "trap-emulate"
    watched: ClassVar[frozenset[int]] = CODES
    repaired: ClassVar[frozenset[int]] = frozenset()

    def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
        super().__init__(parts, paging)
        self.audit = Audit(self.processor, self.cpu)
        self.silent = self.audit.kept

    def _watch(self, code: int) -> bool:
        """Carry out what does not trap, and note what was wrong with it."""
        trapping = code in self.repaired
        if trapping or (code in _VIRTUAL_8086_TRAPS and in_virtual_8086_mode(self.core)):
            return self._trap(self._decode(SvmExit.EXCP_DE + Vector.GP))
        instruction = decode(self.processor.fetch(), code_bits(self.cpu))
        assert instruction is not None, "the processor stopped at a watched instruction"
        try:
            self.audit.execute(instruction)
        except CpuFault as fault:
            self._follow(Inject(fault.event()))
        return self._stop is None

    def end(self, stop: Stop) -> None:
        """Note that the guest is over; where it has gone wrong, with what may have brought it there."""
        first = self.audit.first()
        if first and (stop.kind in _GONE_WRONG or (stop.kind is StopKind.EXIT and stop.exit_code)):
            stop = replace(stop, story=f"{stop.story}\n{_WHY} {first}")
        super().end(stop)


_WHY = "x86 cannot be virtualized by traps alone. The first sensitive instruction that went by in silence:\n "
