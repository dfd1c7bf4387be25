"""What the student's functions get in nested paging, and the paging that runs guests on the student's tables.

The walk reads a machine's memory; the tables are those that the guest runs on, under vlab's own monitor.
Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

from audit_08 import Audit

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value, unsigned
from vlab.grading.student import Student
from vlab.guests.probes import RW
from vlab.isa.vectors import PageFaultError
from vlab.machine.machine import Machine
from vlab.session import VM
from vlab.vmm.exits import Exit, NestedPageFault
from vlab.vmm.guest_memory import Backing, GuestMemory, Region
from vlab.vmm.paging.nested import NestedPaging, NestedTables
from vlab.vmm.paging.strategy import PagingHost
from vlab.vmm.paging.tables import TableTree
from vlab.vmm.verdicts import Verdict


class Host(Facade):
    """What the processor has for a walk: CR3, the nested CR3, and host-physical memory."""

    read_only = ("guest_cr3", "nested_cr3")
    offers = ("read", "guest_fault", "nested_fault")

    def __init__(self, vm: VM) -> None:
        guest, nested = vm.vmm.guest_paging(), vm.vmm.nested_paging()
        assert nested is not None
        self.guest, self.nested = guest, nested
        self.guest_cr3, self.nested_cr3 = guest.root, nested.root
        self.memory = vm.machine.memory
        self.reads: list[int] = []
        self.ending: tuple[str, int] | None = None

    def read(self, address: Value) -> int:
        """Read the 8 bytes of an entry at a host-physical address."""
        if not isinstance(address, int) or not 0 <= address <= self.memory.size - 8 or address % 8:
            shown = hex(address) if isinstance(address, int) else repr(address)
            raise ValueError(f"address: no entry can be at the host-physical address {shown}")
        self.reads.append(address)
        return self.memory.read(address, 8)

    def guest_fault(self) -> None:
        """End the walk with a page fault of the guest's."""
        self.ending = "guest", 0

    def nested_fault(self, gpa: Value) -> None:
        """End the walk with a nested page fault: an exit to the monitor, for a guest-physical address."""
        if not isinstance(gpa, int):
            raise ValueError(f"gpa: {gpa!r} is no address")
        self.ending = "nested", gpa


class Tables(Facade):
    """The monitor's frames for nested tables."""

    read_only = ("root",)
    offers = ("new", "write")

    def __init__(self, tree: TableTree, memory: memoryview) -> None:
        self.root = tree.root
        self._tree, self._words = tree, memory.cast("Q")
        self.made = {tree.root}

    def new(self) -> int:
        """Take a frame for a table, all zero; give its host-physical address."""
        table = self._tree.new_table()
        self.made.add(table)
        return table

    def write(self, table: Value, index: Value, entry: Value) -> None:
        """Write one entry of a table."""
        if not isinstance(table, int) or table not in self.made:
            raise ValueError(f"table: {table!r} is neither tables.root nor of tables.new()")
        if not isinstance(index, int) or not 0 <= index < 512:
            raise ValueError(f"index: {index!r} is not from 0 to 511")
        self._words[(table >> 3) + index] = unsigned("entry", entry)


class StudentTables(NestedTables):
    """Nested tables that the student's function writes, looked at before the processor may."""

    def __init__(self, tree: TableTree, memory: GuestMemory, machine: Machine, student: Student) -> None:
        self._machine, self._student = machine, student
        self.frames = 0
        super().__init__(tree, memory)

    def build(self) -> None:
        """Have the student write the tables anew."""
        tree, memory = self._tree, self._memory
        tree.clear()
        self.open_pages.clear()
        tables = Tables(tree, self._machine.memory.bytes)
        regions = list(memory.regions())
        self._student.call("build", tables, [_described(each) for each in regions])
        Audit(self._machine, regions, tables.made).table(tree.root, 4, 0)
        self.frames = tree.table_count


def _described(region: Region) -> Value:
    return {"gpa": region.gpa, "hpa": region.hpa, "size": region.size, "writable": region.writable}


class StudentNested(NestedPaging):
    """vlab's nested paging on the student's tables."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self.vm: VM | None = None

    def attach(self, host: PagingHost) -> None:
        """Have the student write the tables for the whole guest."""
        super().attach(host)
        self._tables.close()
        tree = TableTree(host.machine)
        try:
            self._tables = StudentTables(tree, host.memory, host.machine, self._student)
        except BaseException:
            tree.close()
            host.machine.give_back_window(self._nothing)
            raise

    @property
    def frames(self) -> int:
        """How many frames the tables take."""
        assert isinstance(self._tables, StudentTables)
        return self._tables.frames

    def handle(self, exit_: Exit) -> Verdict | None:
        """Serve what the tables leave out on purpose: ROM that is written, devices, nothing at all."""
        if isinstance(exit_, NestedPageFault):
            region = self._host.memory.find(exit_.gpa)
            write = exit_.code & RW != 0
            if region is not None and not (write and region.backing is Backing.ROM):
                what = "write to" if write else "use"
                raise Broken(
                    f"the guest wanted to {what} guest-physical {exit_.gpa:#x}, which is "
                    f"{region.backing.value}, and your "
                    f"tables did not let it: the error code is {PageFaultError(exit_.code & 0x1F)!r}",
                    hint=(
                        "every nested access counts as one of ring 3 (APM2 15.25.5), and every page has "
                        "to be there. With P in the error code an entry on the way forbids it; without, "
                        "one is missing"
                    ),
                    vm=self.vm,
                )
        return super().handle(exit_)
