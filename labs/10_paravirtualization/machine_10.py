"""vlab's monitor with the student's hypercalls in it, and what they are given of the machine.

What they let through is compared, entry by entry, with vlab's own validation before it is written, so that no
lie gets into tables that the processor walks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from guests_10 import PAT, PCD, PWT, RW, UPDATE, US, G, P

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value, unsigned
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.isa.page_entries import LegacyPte
from vlab.vmm.paravirtual.direct import DirectTables
from vlab.vmm.paravirtual.frames import Use
from vlab.vmm.paravirtual.hypercalls import TABLE, Hypercall
from vlab.vmm.paravirtual.interface import KERNEL_BASE, Call, Error
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor

FRAME: Final = LegacyPte.FRAME.mask
MOST_UPDATES: Final = 1 << 16
EINVAL, EFAULT = int(Error.EINVAL), int(Error.EFAULT)


class Hypervisor(Facade):
    """What the monitor knows of the guest that has called it. ``mmu``: the updates, when there are any."""

    offers = ("read", "print", "owns", "use", "is_kernel_table", "write")

    def __init__(self, monitor: ParavirtualMonitor) -> None:
        assert isinstance(monitor.tables, DirectTables)
        self.monitor, self.tables = monitor, monitor.tables
        self.asked: Sequence[tuple[int, int]] = ()
        self.done, self.refused = 0, False
        self.printed = b""

    def read(self, address: int, size: int) -> bytes | None:
        """Read an argument in the kernel's part; None where the guest has no such memory."""
        if unsigned("address", address, 32) + unsigned("size", size, 32) > 1 << 32 or size > 1 << 20:
            return None
        return self.monitor.space.read_argument(address, size)

    def print(self, text: bytes) -> None:
        """Write to the console."""
        if not isinstance(text, bytes):
            raise ValueError(f"text: {text!r} is not bytes")
        self.printed += text

    def owns(self, address: int) -> bool:
        """Whether a machine address is in the guest's own memory."""
        return self.tables.owns(unsigned("address", address, 32))

    def use(self, address: int) -> str:
        """Give the use of the guest's frame at a machine address: "plain", "table" or "directory"."""
        if not self.owns(address):
            raise ValueError(f"address: {address:#x} is not in the guest's memory; ask owns() first")
        return self.tables.frames.use(address).name.lower()

    def is_kernel_table(self, address: int) -> bool:
        """Whether a machine address is in a table of the kernel's part."""
        return self.owns(address) and _is_kernel_table(self.monitor, address)

    def write(self, address: int, value: int) -> bool:
        """Write an entry; False where the frame that it refers to is not fit to be a table."""
        update = unsigned("address", address, 32), unsigned("value", value, 32)
        if self.refused or self.done >= len(self.asked) or self.asked[self.done] != update:
            wanted = "nothing is to be written any more"
            if not self.refused and self.done < len(self.asked):
                wanted = "next is {:#x} into {:#x}".format(*reversed(self.asked[self.done]))
            raise Broken(
                f"you write {value:#x} into {address:#x}; {wanted}",
                hint="one update after the other, up to the first that is refused",
            )
        why = lie(self.monitor, *update)
        if why:
            raise Broken(
                f"the guest asks for {value:#x} in {address:#x}, and you write it: {why}", hint=_RULES
            )
        self.refused = not self.tables.update(*update)
        self.done += not self.refused
        return not self.refused


_RULES: Final = "go through the rules in the lesson for this entry, one by one"


def _is_kernel_table(monitor: ParavirtualMonitor, address: int) -> bool:
    layout = monitor.layout
    return layout.tables <= address - monitor.tables.base < layout.free_start


def lie(monitor: ParavirtualMonitor, address: int, value: int) -> str:
    """Say what is not in order about an entry, by all rules but a table's fitness; "" for nothing."""
    tables = monitor.tables
    assert isinstance(tables, DirectTables)
    if address & 3 or not tables.owns(address):
        return "there is no entry of the guest's"
    use = tables.frames.use(address)
    if use is Use.PLAIN:
        return "that frame is no table"
    if use is Use.DIRECTORY and (address & 0xFFF) >> 2 >= KERNEL_BASE >> 22:
        return "that entry of the directory is for all address spaces"
    if not value & P:
        return ""
    if not tables.owns(value):
        return f"the frame at {value & FRAME:#x} is not the guest's"
    if value & (PWT | PCD | PAT) or (use is Use.TABLE and value & G):
        return "it has a flag that no guest may set"
    if use is Use.TABLE and value & US and _is_kernel_table(monitor, address):
        return "with it a program of the guest's reaches its kernel"
    if use is Use.TABLE and value & RW and tables.frames.use(value) is not Use.PLAIN:
        return f"with it the guest can write to its {tables.frames.use(value).name.lower()}"
    return ""


class WithStudent(ParavirtualMonitor):
    """vlab's monitor, in which ``student`` serves some of the hypercalls."""

    student: Student


def console_write(monitor: ParavirtualMonitor, address: int, length: int) -> int:
    """Have the student write to the console, and compare."""
    assert isinstance(monitor, WithStudent)
    hv = Hypervisor(monitor)
    given = _answer("console_write", monitor.student.call("console_write", hv, address, length))
    raw = hv.read(address, length)
    right = EFAULT if raw is None else 0
    if given != right or hv.printed != (raw or b""):
        raise Broken(
            f"the guest writes {length} bytes from {address:#x} to its console, "
            f"{'which it does not have' if raw is None else f'which are {raw[:24]!r}'}: you print "
            f"{hv.printed[:24]!r} and return {given}; expected is {right}",
            hint="where hv.read gives None nothing is printed, and EFAULT is the answer",
        )
    for byte in hv.printed:
        monitor.board.events.output(byte)
    return given


def mmu_update(monitor: ParavirtualMonitor, address: int, count: int) -> int:
    """Have the student change page tables, and compare each entry, and what is returned."""
    assert isinstance(monitor, WithStudent)
    hv = Hypervisor(monitor)
    raw = None
    if count <= MOST_UPDATES:
        raw = hv.read(address, count * UPDATE.size)
        hv.asked = [] if raw is None else [(place, value) for place, value in UPDATE.iter_unpack(raw)]
    given = _answer("mmu_update", monitor.student.call("mmu_update", hv, address, count))
    if not hv.refused and hv.done < len(hv.asked):
        place, value = hv.asked[hv.done]
        if not lie(monitor, place, value) and hv.tables.update(place, value):
            raise Broken(
                f"update {hv.done + 1} of {count} is in order, {value:#x} into {place:#x}, and you refuse it",
                hint=_RULES,
            )
    right = hv.done or (EINVAL if count else 0)
    if raw is None:
        right = EINVAL if count > MOST_UPDATES else EFAULT
    if given != right:
        raise Broken(
            f"{hv.done} of {count} updates from {address:#x} were done; you return {given} and not {right}",
            hint="what HV_MMU_UPDATE gives back: how many were done, or why not even the first was",
        )
    hv.tables.updated()
    return given


def _answer(name: str, value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 31) <= value < 1 << 31:
        raise Broken(f"{name} returned {value!r}; the guest finds it in EAX, so it has to be a number")
    return value


def yours(trial: Trial, *names: Call) -> type[ParavirtualMonitor]:
    """Make the monitor with the student's functions for these hypercalls in it."""
    ours: Mapping[int, Hypercall] = {Call.CONSOLE_WRITE: console_write, Call.MMU_UPDATE: mmu_update}
    served = dict(TABLE)
    served.update({name: ours[name] for name in names})
    return type("Yours", (WithStudent,), {"student": trial.student, "hypercalls": served})
