"""What a paging strategy offers a monitor, and what it may ask of it: the seam for a strategy of your own."""

from __future__ import annotations

from typing import Protocol

from vlab.isa.paging import PagingControls
from vlab.isa.state import CpuState
from vlab.isa.vmcb import VmcbControl
from vlab.machine.core import LiveCore
from vlab.machine.machine import Machine
from vlab.vmm.board import Board
from vlab.vmm.exits import Exit
from vlab.vmm.guest_memory import GuestMemory
from vlab.vmm.mmio import Translate
from vlab.vmm.verdicts import Verdict


class PagingHost(Protocol):
    """What a strategy may use of its monitor."""

    machine: Machine
    memory: GuestMemory
    core: LiveCore
    board: Board

    def intercepts_changed(self) -> None:
        """Tell the processor that the control area of the VMCB was changed."""

    def emulate_device_access(self, gpa: int, translate: Translate | None = None) -> Verdict:
        """Carry out the guest's instruction at RIP against the device at ``gpa``.

        translate: how a second memory operand is reached, where the processor's own tables do not say.
        """


class PagingStrategy(Protocol):
    """How a guest's addresses reach host frames.

    ``name`` is what ``--paging`` calls it. A strategy serves one guest, from ``attach`` to ``close``.
    """

    name: str

    def attach(self, host: PagingHost) -> None:
        """Take up service; the guest's memory map is complete."""

    def configure(self, control: VmcbControl) -> None:
        """Write what the strategy needs into the control area: nested paging, or intercepts of its own."""

    def initial_state(self, state: CpuState) -> CpuState:
        """Give the state that the processor must hold for the guest to see ``state``."""

    def guest_state(self, state: CpuState) -> CpuState:
        """Give what the guest sees while the processor holds ``state``."""

    def guest_paging(self) -> PagingControls:
        """Give what steers the guest's own translation now: its CR3, its modes."""

    def handle(self, exit_: Exit) -> Verdict | None:
        """Serve an exit that concerns memory; None when it is none of the strategy's."""

    def rebuild(self) -> None:
        """Follow a change of the guest's physical memory map. May be called in mid-instruction."""

    def save(self) -> dict[str, int]:
        """Give the strategy's own state, beside tables that can be rebuilt, for a snapshot."""

    def restore(self, state: dict[str, int]) -> None:
        """Take that state back; the guest's registers and memory are restored already."""

    def close(self) -> None:
        """Give all frames back."""
