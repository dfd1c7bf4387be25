"""The numbers of the hypercall interface, as ``guests/sources/wren/hypercall.h`` explains them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from vlab.isa.blocks import Block, at

VECTOR: Final = 0x82
"""Of the INT that makes a hypercall."""
HEADER_MAGIC: Final = 0x6E657257
VERSION: Final = 1

KERNEL_BASE: Final = 0xC0000000
"""Where the guest's physical memory begins in every address space."""
MONITOR_BASE: Final = 0xFC000000
"""Where the monitor's own part of every address space begins."""
LONGEST_MEMORY: Final = MONITOR_BASE - KERNEL_BASE

KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA = 0x19, 0x21, 0x2B, 0x33
EVENT_VECTOR: Final = 32
EVENT_TIMER, EVENT_CONSOLE = 0, 4


class Call(IntEnum):
    """The hypercalls."""

    SET_TRAP_TABLE = 1
    SET_KERNEL_STACK = 2
    LOAD_CR3 = 3
    PIN = 4
    UNPIN = 5
    MMU_UPDATE = 6
    UPDATE_VA_MAPPING = 7
    FLUSH_PAGE = 8
    FLUSH_ALL = 9
    IRET = 10
    DELIVER_EVENTS = 11
    BLOCK = 12
    YIELD = 13
    CONSOLE_WRITE = 14
    CONSOLE_READ = 15
    SET_TIMER = 16
    SHUTDOWN = 17
    DISK_READ = 18


class Error(IntEnum):
    """What a hypercall gives that was refused."""

    EINVAL = -1
    EFAULT = -2
    EBUSY = -3
    ENOSYS = -4


class StartInfo(Block):
    """What the guest is told when it starts; addresses are linear."""

    SIZE = 28

    magic = at(0x00, 4, "6E657257h")
    memory_size = at(0x04, 4, "bytes of guest-physical memory")
    machine_base = at(0x08, 4, "machine address of guest-physical 0")
    directory = at(0x0C, 4, "the first page directory")
    free_start = at(0x10, 4, "guest-physical address from which on memory is unused")
    shared_info = at(0x14, 4, "the page that guest and monitor share")
    command_line = at(0x18, 4, "text with a NUL at its end")


class SharedInfo(Block):
    """The page that guest and monitor write to, both."""

    SIZE = 24

    interrupts_on = at(0x00, 4, "the guest's interrupt flag")
    events_pending = at(0x04, 4, "bit n: event n waits")
    fault_address = at(0x08, 4, "of the last #PF delivered")
    time = at(0x10, 8, "nanoseconds since the start, as of the last entry to the guest")


def call_name(number: int) -> str:
    """Give a hypercall's name as the header has it, without its prefix."""
    return Call(number).name if number in Call.__members__.values() else f"{number:#x}"
