"""How many memory references a TLB miss takes: counted on the tables of a running machine.

Without nested paging a walk reads one entry a level: four for a 4 KiB page in long mode, three for a 2 MiB
one (AMD APM vol. 2, rev. 3.42, 5.3.3 and 5.3.4). With it, the guest-physical address of each of the guest's
entries and of the page itself is translated by a walk of the nested tables (15.25.5). So g levels on n take
g entries, each after n others, and n more at the end: (g + 1)(n + 1) - 1. That is 24 for four on four, 19
when one side has 2 MiB pages, and 15 when both have.

``expected`` has that formula, to compare with; what is reported comes from the machine's own walker, which
reads the guest's tables and the monitor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlab.isa.paging import PagingControls, PagingMode, Step
from vlab.machine.memory import PAGE
from vlab.session import VM
from vlab.vmm.paging.nested import NestedPaging, NestedTables
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paging.tables import TableTree
from vlab.vmm.walks import GuestWalk, walk_guest

__all__ = ["SmallNestedPaging", "WalkCount", "expected", "nested_walk", "shadow_walk"]

_BITS_A_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class WalkCount:
    """The walk of one address. ``references``: memory references. ``last``: how many of them end a walk.

    ``page_size``: bytes that a TLB entry for it can cover, the smaller of the guest's page and the monitor's.
    """

    references: int
    last: int
    page_size: int

    @property
    def upper(self) -> int:
        """References to entries that point to tables."""
        return self.references - self.last


def expected(guest_levels: int, nested_levels: int = 0) -> int:
    """Give the references that a walk takes by the manual, for so many levels of either dimension."""
    return (guest_levels + 1) * (nested_levels + 1) - 1


def nested_walk(vm: VM, linear: int) -> WalkCount:
    """Count the walk of ``linear`` through the guest's tables and, for each of its entries, the nested ones.

    The VM is under nested paging, and maps the address.
    """
    walk = vm.walk(linear)
    assert walk.host is not None, f"{linear:#x} is not mapped"
    last = 1 + bool(walk.references[-1].nested) + bool(walk.last)
    page = min(_size(walk.references[-1].step), _size(walk.last[-1]))
    return WalkCount(walk.memory_references, last, page)


def shadow_walk(vm: VM, paging: ShadowPaging, linear: int) -> WalkCount:
    """Count the walk of ``linear`` through the shadow tables, which are what the processor walks.

    paging: the VM's strategy. The guest has touched the address. The fence of nested tables that the machine
    needs around shadow tables is left out: a processor that exits on every task switch does without.
    """
    walk = _walk_shadow(vm, paging, linear)
    assert walk.physical is not None, f"{linear:#x} is not in the shadow"
    return WalkCount(walk.memory_references, 1, _size(walk.references[-1].step))


def shadowed_address(vm: VM, paging: ShadowPaging, linear: int) -> int | None:
    """Give the host-physical address that the shadow tables translate ``linear`` to, None for none."""
    physical = _walk_shadow(vm, paging, linear).physical
    fence = paging.space.fence
    return None if physical is None else physical - (fence.memory if fence is not None else 0)


def _walk_shadow(vm: VM, paging: ShadowPaging, linear: int) -> GuestWalk:
    space, memory = paging.space, vm.machine.memory
    moved = space.fence.tables if space.fence is not None else 0
    controls = PagingControls(
        PagingMode.LONG if space.long else PagingMode.PAE, space.root, nxe=True, wp=True
    )
    return walk_guest(
        linear, controls, lambda address, size: memory.read(address - moved, size), None, memory.read
    )


def _size(step: Step) -> int:
    return PAGE << _BITS_A_LEVEL * (step.level - 1)


class SmallNestedPaging(NestedPaging):
    """Nested paging in 4 KiB pages alone, as a monitor has that cannot find its guest memory in larger
    pieces.
    """

    def attach(self, host: PagingHost) -> None:
        """Write the tables for the whole guest, in small pages."""
        super().attach(host)
        self._tables.close()
        self._tables = NestedTables(_SmallTree(host.machine), host.memory)


class _SmallTree(TableTree):
    """A tree that maps runs page by page."""

    def map_run(self, address: int, frame: int, size: int, flags: int) -> None:
        """Map ``size`` bytes in 4 KiB pages."""
        for offset in range(0, size, PAGE):
            self.map(address + offset, frame + offset, flags)
