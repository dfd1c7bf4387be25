"""The hypercalls, one small function each: what a guest may ask for, and how it is refused.

Each takes the monitor and the values of EBX and ECX, and gives what EAX is to hold, as a signed number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vlab.devices.paravirtual_disk import SECTOR
from vlab.vmm.paravirtual.interface import KERNEL_DATA, Call, Error

if TYPE_CHECKING:
    from vlab.vmm.paravirtual.monitor import ParavirtualMonitor

_UPDATE: Final = struct.Struct("<II")
_DISK_READ: Final = struct.Struct("<III")
_MOST_UPDATES: Final = 1 << 16
_MOST_SECTORS: Final = 128
_LONGEST_TEXT: Final = 1 << 20

Hypercall = Callable[["ParavirtualMonitor", int, int], int]


def set_trap_table(monitor: ParavirtualMonitor, table: int, _second: int) -> int:
    """Have traps go where the table says."""
    taken = monitor.traps.load(table)
    if taken is None:
        return Error.EFAULT
    return 0 if taken else Error.EINVAL


def set_kernel_stack(monitor: ParavirtualMonitor, ss: int, esp: int) -> int:
    """Have traps from ring 3 use this stack."""
    if ss != KERNEL_DATA:
        return Error.EINVAL
    monitor.traps.kernel_stack = esp
    return 0


def load_cr3(monitor: ParavirtualMonitor, directory: int, _second: int) -> int:
    """Change to another address space."""
    if not monitor.tables.is_directory(directory):
        return Error.EINVAL
    monitor.tables.load(directory)
    return 0


def pin(monitor: ParavirtualMonitor, directory: int, _second: int) -> int:
    """Make a frame a directory."""
    return 0 if monitor.tables.pin(directory) else Error.EINVAL


def unpin(monitor: ParavirtualMonitor, directory: int, _second: int) -> int:
    """Make a directory a plain frame."""
    if directory == monitor.tables.loaded:
        return Error.EBUSY
    return 0 if monitor.tables.unpin(directory) else Error.EINVAL


def mmu_update(monitor: ParavirtualMonitor, updates: int, count: int) -> int:
    """Change entries of page tables, up to the first that is refused."""
    if count > _MOST_UPDATES:
        return Error.EINVAL
    raw = monitor.space.read_argument(updates, count * _UPDATE.size)
    if raw is None:
        return Error.EFAULT
    update, result = monitor.tables.update, count
    for done, (address, entry) in enumerate(_UPDATE.iter_unpack(raw)):
        if not update(address, entry):
            result = done or Error.EINVAL
            break
    monitor.tables.updated()
    return result


def update_va_mapping(monitor: ParavirtualMonitor, linear: int, entry: int) -> int:
    """Change the entry that maps an address, and flush the address."""
    tables = monitor.tables
    address = tables.entry_address(linear)
    if address is None or not tables.update(address, entry):
        return Error.EINVAL
    tables.updated()
    return flush_page(monitor, linear, 0)


def flush_page(monitor: ParavirtualMonitor, linear: int, _second: int) -> int:
    """Flush an address."""
    monitor.tables.flush_page(linear)
    return 0


def flush_all(monitor: ParavirtualMonitor, _first: int, _second: int) -> int:
    """Flush all addresses."""
    monitor.tables.flush()
    return 0


def deliver_events(_monitor: ParavirtualMonitor, _first: int, _second: int) -> int:
    """Nothing more to do: events are delivered at the end of every trap."""
    return 0


def block(monitor: ParavirtualMonitor, _first: int, _second: int) -> int:
    """Sleep until an event."""
    monitor.shared.interrupts_on = 1
    monitor.halted = not monitor.shared.events_pending
    return 0


def give_way(monitor: ParavirtualMonitor, _first: int, _second: int) -> int:
    """Let others run."""
    monitor.end_turn()
    return 0


def console_write(monitor: ParavirtualMonitor, text: int, length: int) -> int:
    """Write to the console."""
    raw = monitor.space.read_argument(text, length) if length <= _LONGEST_TEXT else None
    if raw is None:
        return Error.EFAULT
    for byte in raw:
        monitor.board.events.output(byte)
    return 0


def console_read(monitor: ParavirtualMonitor, place: int, length: int) -> int:
    """Read what was typed."""
    if not monitor.space.is_kernels(place, length):
        return Error.EFAULT
    typed = monitor.events.waiting_input(length)
    if not monitor.space.write(place, typed):
        return Error.EFAULT
    monitor.events.drop_input(len(typed))
    return len(typed)


def set_timer(monitor: ParavirtualMonitor, low: int, high: int) -> int:
    """Set the alarm."""
    monitor.events.set_timer(high << 32 | low)
    return 0


def shutdown(monitor: ParavirtualMonitor, status: int, _second: int) -> int:
    """End the guest."""
    monitor.board.events.debug_exit(status & 0xFF)
    return 0


def disk_read(monitor: ParavirtualMonitor, request: int, _second: int) -> int:
    """Read sectors of the disk into the guest's memory."""
    raw, disk = monitor.space.read_argument(request, _DISK_READ.size), monitor.board.disk
    if raw is None:
        return Error.EFAULT
    sector, count, place = _DISK_READ.unpack(raw)
    if disk is None or not 0 < count <= _MOST_SECTORS or sector + count > disk.capacity:
        return Error.EINVAL
    if not monitor.space.is_kernels(place, count * SECTOR):
        return Error.EFAULT
    return 0 if monitor.space.write(place, disk.load(sector, count)) else Error.EFAULT


TABLE: Final[dict[int, Hypercall]] = {
    Call.SET_TRAP_TABLE: set_trap_table,
    Call.SET_KERNEL_STACK: set_kernel_stack,
    Call.LOAD_CR3: load_cr3,
    Call.PIN: pin,
    Call.UNPIN: unpin,
    Call.MMU_UPDATE: mmu_update,
    Call.UPDATE_VA_MAPPING: update_va_mapping,
    Call.FLUSH_PAGE: flush_page,
    Call.FLUSH_ALL: flush_all,
    Call.DELIVER_EVENTS: deliver_events,
    Call.BLOCK: block,
    Call.YIELD: give_way,
    Call.CONSOLE_WRITE: console_write,
    Call.CONSOLE_READ: console_read,
    Call.SET_TIMER: set_timer,
    Call.SHUTDOWN: shutdown,
    Call.DISK_READ: disk_read,
}
"""All but HV_IRET, which gives nothing back."""
