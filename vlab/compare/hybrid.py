"""The hybrid: an unmodified kernel with one paravirtual device driver, beside full and para-virtualization.

The teaching kernel reads a file from a disk. Three ways to have it read:

- ``full``: the kernel as it is, with the driver that every PC needs. The ATA disk is emulated register by
  register, and the processor moves each word of each sector through a port.
- ``hybrid``: the same kernel, the same monitor, the same disk, and another driver: a command says which
  sectors are to go where, and when the OUT is done, they are there.
- ``para``: the kernel that knows its monitor; a hypercall reads sectors.

Each way reads two files, a large one and a small one, and what is shown is the difference: opening the disk,
starting the program and ending the machine are in both. The guest's sum over the file proves that every byte
arrived; here it is worked out a second time.
"""

from __future__ import annotations

import io
import random
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from vlab.session import VM
from vlab.vmm import monitors
from vlab.vmm.stop import StopKind

REPETITIONS = 3
SECTORS = 256
"""Of the large file; the small one has one."""
SECTOR: Final = 512
PATIENCE: Final = 60.0
"""Seconds after which a run is given up."""
GREETING: Final = "wren: hello"
KINDS: Final = {"full": "ata", "hybrid": "vlab", "para": "vlab"}
"""The driver of each kind."""
CANNOT: Final = ("trap-emulate",)
"""Monitors under which the kernel does not come to its first program."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to have a guest read: its kind, monitor and paging. Kind ``full`` or ``hybrid`` with monitor
    ``none`` is the bare machine with the same driver.
    """

    kind: str
    monitor: str
    paging: str

    @property
    def guest(self) -> str:
        """The kernel."""
        return "wren-paravirt" if self.kind == "para" else "wren"

    @property
    def driver(self) -> str:
        """The driver's name on the kernel's command line."""
        return KINDS[self.kind]


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading ``sectors`` took: exits by reason, seconds by the wall (of the fastest of a few runs).

    right: the guest read what is on the disk.
    """

    way: Way
    sectors: int
    exits: dict[str, int]
    seconds: float
    right: bool
    console: str

    @property
    def total(self) -> int:
        """All exits."""
        return sum(self.exits.values())


@dataclass(frozen=True, slots=True)
class _Run:
    exits: dict[str, int]
    seconds: float
    right: bool
    console: str


def ways() -> list[Way]:
    """Give all ways there are: each monitor in full and as a hybrid, then the paravirtual ones."""
    able = [way for way in monitors.available() if way[0] not in CANNOT]
    unmodified = [way for way in able if way[0] != "paravirtual"]
    return [Way(kind, *way) for way in unmodified for kind in ("full", "hybrid")] + [
        Way("para", *way) for way in able if way[0] == "paravirtual"
    ]


def measure(say: Say = lambda _words: None) -> list[Reading]:
    """Have the kernel read in every way."""
    contents = {"large": random.Random(1).randbytes(SECTORS * SECTOR), "small": bytes(range(256)) * 2}
    with TemporaryDirectory(prefix="vlab-hybrid-") as directory:
        disk = Path(directory) / "disk.tar"
        disk.write_bytes(archive(contents))
        found = []
        for way in ways():
            say(f"{way.kind}: {way.guest} under {way.monitor}/{way.paging}")
            found.append(_read(way, disk, contents))
        return found


def archive(contents: dict[str, bytes]) -> bytes:
    """Make a tar file, which is what the kernel's disks hold; the same contents give the same bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in contents.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return file.getvalue()


def checksum(data: bytes) -> int:
    """Work out what the kernel's program ``sum`` prints."""
    value = 0
    for byte in data:
        value = value * 31 + byte & 0xFFFFFFFF
    return value


def _read(way: Way, disk: Path, contents: dict[str, bytes]) -> Reading:
    runs = {
        name: [_run(way, disk, name, data) for _ in range(REPETITIONS)] for name, data in contents.items()
    }
    large, small = runs["large"][0], runs["small"][0]
    exits = {
        reason: count - small.exits.get(reason, 0)
        for reason, count in large.exits.items()
        if count != small.exits.get(reason, 0)
    }
    large_time, small_time = (min(run.seconds for run in each) for each in runs.values())
    right = all(run.right for name in runs for run in runs[name])
    return Reading(way, SECTORS - 1, exits, max(0.0, large_time - small_time), right, large.console)


def _run(way: Way, disk: Path, name: str, data: bytes) -> _Run:
    append = f"disk={way.driver} sum={name}"
    with VM(way.guest, monitor=way.monitor, paging=way.paging, disk=disk, append=append) as vm:
        vm.run(until=GREETING, timeout=PATIENCE)
        before = _counts(vm)
        began = time.perf_counter()
        stop = vm.run(timeout=PATIENCE)
        seconds = time.perf_counter() - began
        console = vm.console.text.replace("\r", "")
        exits = {reason: count - before.get(reason, 0) for reason, count in _counts(vm).items()}
    expected = f"{GREETING}\nsum: {name} has {len(data)} bytes, {checksum(data):x}\n"
    right = stop.kind is StopKind.EXIT and stop.exit_code == 0 and console == expected
    return _Run(exits, seconds, right, console)


def _counts(vm: VM) -> dict[str, int]:
    return {str(reason): int(count) for reason, count in vm.exits.by_reason().items()}


def complaints(readings: list[Reading]) -> list[str]:
    """Say what is not as it must be: the bytes that arrived, and the order of full, hybrid and para."""
    found = [
        f"{_name(each.way)} did not read what is on the disk; its console: {each.console!r}"
        for each in readings
        if not each.right
    ]
    exits = {each.way: each.total for each in readings}
    for way, total in exits.items():
        if way.kind != "full" or way.monitor == "none":
            continue
        hybrid = exits[Way("hybrid", way.monitor, way.paging)]
        if hybrid * 100 > total:
            found.append(
                f"{_name(way)} took {total:,} exits and the hybrid {hybrid:,}: "
                "a paravirtual driver should take less than a hundredth"
            )
    return found


def _name(way: Way) -> str:
    return f"{way.kind}: {way.guest} under {way.monitor}/{way.paging}"
