"""What the translation of single instructions has in common: the guest's code, and ways to the monitor."""

from __future__ import annotations

from vlab.vmm.deprivileged import decode as sensitive
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.translation.blocks import CallOut
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.select import Found
from vlab.vmm.translation.source import SourceCode

_UD2 = b"\x0f\x0b"


class Workshop:
    """For one guest.

    ``slow``: addresses of accesses that are better carried out by the monitor; ``fast``: of those that are
    none that it can carry out; ``far``: of accesses whose operand is out of a translation's reach.
    ``breakpoints``: addresses at which a block begins and no link arrives.
    """

    def __init__(self, emulator: Emulator, source: SourceCode) -> None:
        self._emulator = emulator
        self.source = source
        self.slow: set[int] = set()
        self.fast: set[int] = set()
        self.far: set[int] = set()
        self.breakpoints: frozenset[int] = frozenset()

    def forget(self) -> None:
        """Forget what was learned of the guest."""
        self.slow.clear()
        self.fast.clear()
        self.far.clear()

    def stub(self, draft: Draft, found: Found) -> CallOut | None:
        """Make an instruction ready to be carried out by the monitor; None where that does not know it."""
        instruction = sensitive.decode(found.code, draft.bits)
        trapped = None if instruction is None else self._emulator.prepare(instruction)
        return None if trapped is None else CallOut(found.rip, draft.context, draft.block, trapped)

    def out(self, draft: Draft, found: Found) -> bool:
        """Have the monitor carry it out; what it does not know, the processor refuses. Ends the block."""
        stub = self.stub(draft, found)
        if stub is None:
            return self.undefined(draft, found.rip)
        draft.mark(found.rip)
        return draft.call_out(stub)

    def undefined(self, draft: Draft, rip: int) -> bool:
        """What the guest's processor does not know: #UD. Ends the block."""
        draft.add(rip, _UD2)
        return True
