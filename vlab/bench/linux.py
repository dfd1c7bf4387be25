"""Booting Linux, beside QEMU: the same kernel, initial RAM disk, memory and command line, to user space."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vlab.bench.registry import Measurement, NotMeasured, Say, at_most, bench
from vlab.bench.timing import alternate, ratio
from vlab.guests.catalogue import Guest, find
from vlab.guests.initramfs import MARKER

REPETITIONS = 3
MEMORY_MIB = 128
PATIENCE = 300.0
"""Seconds after which a boot is given up."""


@dataclass(frozen=True, slots=True)
class Boot:
    """How long a boot took, in seconds by the wall and of processor time."""

    wall: float
    processor: float


@bench("linux-boot", unit="ratio", bar=at_most(1.2))
def linux_boot(say: Say) -> Measurement:
    """Linux from bzImage to user space: the time of `vlab run` over that of QEMU without acceleration."""
    if sys.platform == "win32":
        raise NotMeasured("only a POSIX system tells how much processor time a child took")
    guest = linux()
    commands = {"vlab": vlab_command(), "QEMU": qemu_command(guest)}
    boots: dict[str, list[Boot]] = {name: [] for name in commands}

    def timed(name: str) -> float:
        boots[name].append(boot(commands[name], MARKER))
        return boots[name][-1].wall

    ours, theirs = alternate(
        say, REPETITIONS, ("vlab", lambda: timed("vlab")), ("QEMU", lambda: timed("QEMU"))
    )
    busy = ratio(*([each.processor for each in boots[name]] for name in ("vlab", "QEMU")))
    note = f"{median(ours):.1f} s over {median(theirs):.1f} s; of processor time {busy:.2f}"
    return Measurement(ratio(ours, theirs), note)


def linux() -> Guest:
    """Give the fetched Linux guest. Raises NotMeasured without it."""
    guest = find("linux")
    if not guest.available:
        raise NotMeasured(f"the Linux guest is not on this computer; {guest.how_to_get}")
    return guest


def vlab_command() -> list[str]:
    """The command line that boots Linux in vlab and ends at user space."""
    return [
        sys.executable, "-m", "vlab.cli", "run", "linux",
        "--memory", f"{MEMORY_MIB}M", "--expect", MARKER, "--timeout", str(PATIENCE),
    ]  # fmt: skip


def qemu_command(guest: Guest) -> list[str]:
    """The command line that boots the same in QEMU. Raises NotMeasured without QEMU."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise NotMeasured("QEMU is not installed; on Debian and Ubuntu: sudo apt install qemu-system-x86")
    return [
        qemu, "-accel", "tcg", "-m", str(MEMORY_MIB), "-nographic", "-no-reboot",
        "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", guest.cmdline,
    ]  # fmt: skip


def boot(command: Sequence[str], marker: str, patience: float = PATIENCE) -> Boot:
    """Run ``command`` until it writes ``marker`` (seconds of ``patience`` at most), then end it.

    Raises NotMeasured, with the last of what it wrote, when it ends without.
    """
    began, seen = time.perf_counter(), b""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while marker.encode() not in seen:
            left = began + patience - time.perf_counter()
            piece = os.read(pipe, 65536) if select.select([pipe], [], [], max(0.0, left))[0] else b""
            if not piece:
                process.kill()
                tail = seen[-200:].decode("utf-8", "replace")
                raise NotMeasured(f"{command[0]} did not come to {marker!r}; at last it wrote {tail!r}")
            seen += piece
        wall = time.perf_counter() - began
        os.kill(process.pid, signal.SIGKILL)  # Popen.kill would reap a child that has ended, and its times
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return Boot(wall, usage.ru_utime + usage.ru_stime)
