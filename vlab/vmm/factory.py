"""Putting a virtual machine together: machine, memory, board, firmware, guest, monitor."""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput
from vlab.guests.catalogue import Guest
from vlab.guests.firmware import rom
from vlab.guests.firmware.tables import tables
from vlab.guests.loaders import Loaded, load
from vlab.guests.store import read_input
from vlab.machine.clock import Clock, DeterministicClock, RealtimeClock
from vlab.machine.machine import Machine
from vlab.trace.recorder import Level, Recorder
from vlab.vmm import monitors
from vlab.vmm.board import EPOCH, REPLACEABLE, Board, Makers
from vlab.vmm.exits import REASONS
from vlab.vmm.guest_memory import ROM_BASE, GuestMemory
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.paravirtual import header, start
from vlab.vmm.paravirtual.header import Header
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor
from vlab.vmm.tenant import Parts

CLOCKS: Final = ("deterministic", "realtime")
OVERHEAD: Final = 16 << 20
"""Bytes that a monitor may need for tables beside its guest's memory."""

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECTOR: Final = 512
_MIN, _MAX = 2 << 20, 3 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run a guest: what the command line's options and ``VM``'s arguments say."""

    guest: Guest
    monitor: monitors.Choice
    paging: str | PagingStrategy | None
    memory_bytes: int
    initrd: bytes | None
    disk: bytes | None
    cmdline: str
    clock: str
    trace: Level
    trace_capacity: int
    devices: Makers


def settings(
    guest: Guest,
    monitor: monitors.Choice,
    paging: str | PagingStrategy | None,
    memory: str | int | None,
    initrd: str | PathLike[str] | None,
    disk: str | PathLike[str] | None,
    append: str | None,
    clock: str,
    trace: Level,
    trace_capacity: int,
    devices: Makers | None,
) -> Settings:
    """Read and check what the user asked for. Raises UnusableInput."""
    return Settings(
        guest=guest,
        monitor=monitor,
        paging=paging,
        memory_bytes=guest.memory_default if memory is None else memory_size(memory),
        initrd=guest.read_initrd() if initrd is None else read_input("initrd", Path(initrd)),
        disk=None if disk is None else read_input("disk", Path(disk)),
        cmdline=" ".join(filter(None, (guest.cmdline, append))),
        clock=clock,
        trace=trace,
        trace_capacity=trace_capacity,
        devices=makers(devices),
    )


def makers(devices: Makers | None) -> Makers:
    """Check which chips the user brings. Raises UnusableInput."""
    for name, maker in (devices or {}).items():
        if name not in REPLACEABLE:
            raise UnusableInput(
                f"devices: no chip {name!r} can be brought along; choose from {', '.join(REPLACEABLE)}"
            )
        if not callable(maker):
            raise UnusableInput(
                f"devices: {maker!r} for {name} makes no chip; give a class, or a function of the same wires"
            )
    return dict(devices or {})


def memory_size(size: str | int, name: str = "memory") -> int:
    """Give a size in bytes: a number, or text such as "128M". Raises UnusableInput."""
    if isinstance(size, int):
        count = size
    else:
        match = re.fullmatch(r"\s*([0-9]{1,15})\s*([KMG]?)(i?B)?\s*", str(size), re.IGNORECASE)
        if match is None:
            raise UnusableInput(
                f"{name}: {size!r} is not a size; "
                "write a number of bytes with an optional K, M or G, such as 128M"
            )
        count = int(match[1]) * _UNITS[match[2].upper()]
    if not _MIN <= count <= _MAX:
        way = "more" if count < _MIN else "less"
        raise UnusableInput(f"{name}: {size!r} is not between 2M and 3G; ask for {way}")
    return -(-count // 4096) * 4096


def build(
    settings: Settings, machine: Machine | None, loaded: Loaded | None = None
) -> tuple[Monitor, Loaded]:
    """Make a virtual machine on ``machine``, or on a new one of its own, with its guest loaded.

    loaded: leave the memory empty, for it comes from a snapshot of the guest that was loaded like this.
    """
    if settings.clock not in CLOCKS:
        raise UnusableInput(f"clock: there is no {settings.clock!r}; choose {' or '.join(CLOCKS)}")
    _check_strategy(settings.paging)
    paging = monitors.choose(settings.monitor, settings.paging)
    # Rings are watched where blocks are counted, and a guest at CPL 1 must not get out of its own.
    counting = settings.clock == "deterministic" or monitors.technique(settings.monitor) not in (
        "none",
        "hardware",
    )
    own = machine is None
    if machine is None:
        machine = Machine(settings.memory_bytes + OVERHEAD, counting=counting)
    elif machine.closed:
        raise UnusableInput("machine: it is closed; make a new vlab.Machine()")
    elif counting and not machine.processor.engine.stops.counts:
        raise UnusableInput("clock: this machine was made without a block counter; use clock='realtime'")
    try:
        memory = GuestMemory(machine, settings.memory_bytes)
        try:
            if loaded is None:
                loaded = _load(settings, settings.guest.read_kernel(), memory)
            clock = _clock(settings.clock, machine)
            board = Board(
                clock,
                memory.ram,
                disk=_disk(loaded.disk),
                epoch=_epoch(settings.clock),
                makers=settings.devices,
            )
            recorder = Recorder(REASONS, level=settings.trace, capacity=settings.trace_capacity)
            monitor = monitors.make(settings.monitor, paging, Parts(machine, memory, board, clock, recorder))
        except BaseException:
            memory.close()
            raise
    except BaseException:
        if own:
            machine.close()
        raise
    monitor.boot(loaded.start)
    machine.users += 1
    if not isinstance(paging, str):
        _SERVED[id(paging)] = monitor
    return monitor, loaded


def _check_strategy(paging: object) -> None:
    """Catch what is easily mistaken in a notebook: the class for its object, and one object for two VMs."""
    if isinstance(paging, type):
        name = paging.__name__
        raise UnusableInput(f"paging: {name} is a class; give an object of it, paging={name}()")
    user = _SERVED.get(id(paging))
    if user is not None and not user.closed:
        raise UnusableInput("paging: this strategy serves another VM already; make a new one for each VM")


_SERVED: Final[weakref.WeakValueDictionary[int, Monitor]] = weakref.WeakValueDictionary()
"""Which monitor a strategy of the user's serves, by the strategy's identity; the monitor keeps it alive."""


def loading(settings: Settings, memory: GuestMemory) -> Callable[[], Callable[[], None]]:
    """Give a function that reads the guest's image once more and gives one that loads it into cleared memory.

    The first raises UnusableInput when the image is not the one that there is now.
    """
    stamp = _stamp(settings.guest)

    def read() -> Callable[[], None]:
        kernel = settings.guest.read_kernel()
        if _stamp(settings.guest) != stamp:
            raise UnusableInput(
                f"guest: {settings.guest.kernel} was changed after this VM had read it, "
                "so there is no way back to its start; make a new VM"
            )

        def fill() -> None:
            memory.power_on()
            _load(settings, kernel, memory)

        return fill

    return read


def _stamp(guest: Guest) -> tuple[int, int] | None:
    """Give what changes when the guest's image does."""
    if guest.kernel is None or not guest.kernel.exists():
        return None
    status = guest.kernel.stat()
    return status.st_mtime_ns, status.st_size


def _load(settings: Settings, kernel: bytes, memory: GuestMemory) -> Loaded:
    found = _paravirtual_header(settings, kernel)
    loaded = load(
        kernel,
        memory.ram,
        cmdline=settings.cmdline,
        initrd=settings.initrd,
        disk=settings.disk,
        name=settings.guest.name,
    )
    memory.ram[ROM_BASE : ROM_BASE + 0x10000] = rom()
    for gpa, content in tables(memory.size, apic=True):
        memory.ram[gpa : gpa + len(content)] = content
    if found is None:
        return loaded
    direct = settings.paging in (None, "direct")
    state = start.build(found, memory, settings.cmdline, settings.guest.name, direct=direct)
    return replace(loaded, start=state)


def _paravirtual_header(settings: Settings, kernel: bytes) -> Header | None:
    """Give the header that a paravirtual guest must have; None for any other monitor."""
    if monitors.technique(settings.monitor) != ParavirtualMonitor.name:
        return None
    if settings.initrd is not None:
        raise UnusableInput("initrd: a paravirtual guest has no use for it; leave --initrd out")
    return header.find(kernel, settings.guest.name)


def _clock(name: str, machine: Machine) -> Clock:
    if name == "deterministic":
        return DeterministicClock(machine.processor.engine.stops.words)
    return RealtimeClock()


def _epoch(clock: str) -> int:
    return EPOCH if clock == "deterministic" else int(time.time())


def _disk(contents: bytes | None) -> bytearray | None:
    """Give the disk as whole sectors."""
    if contents is None:
        return None
    return bytearray(contents) + bytes(-len(contents) % _SECTOR)
