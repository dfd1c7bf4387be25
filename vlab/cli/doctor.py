"""`vlab doctor`: what works on this computer, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

from vlab import __version__
from vlab.compare.record import guest_failed
from vlab.errors import VlabError
from vlab.paths import cache_directory
from vlab.vmm.stop import StopKind

__all__ = ["Finding", "doctor", "findings"]

#: What a Linux guest with 128 MiB wants together with the emulator and a notebook, bytes.
COMFORTABLE_MEMORY = 512 << 20

REINSTALL = "install vlab again: python -m pip install --force-reinstall vlab"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it works, what was found, and how to get it where it does not.

    What is not `needed` only limits what one can do.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""
    needed: bool = True

    def lines(self) -> Iterator[str]:
        """Give the lines to print: one, and the remedy below it where something is wrong."""
        word = "ok" if self.works else "missing" if self.needed else "without"
        yield f"{word:8} {self.name:11} {self.detail}"
        if self.remedy and not self.works:
            yield f"{'':20} -> {self.remedy}"


@click.command(short_help="Say what works here, and how to get what is missing.")
def doctor() -> int:
    """Say what works on this computer, what is missing, and how to get it.

    \b
    Each line starts with one of:
      ok        it works
      missing   vlab does not work without it
      without   vlab works, but something does not, and the line says what

    Exit status: 0 when nothing is missing, 1 otherwise.
    """
    status = 0
    for finding in findings():
        for line in finding.lines():
            click.echo(line)
        if finding.needed and not finding.works:
            status = 1
    return status


def findings() -> Iterator[Finding]:
    """Look at everything in turn; a check that fails itself is a finding, not an error."""
    checks = {
        "python": _python,
        "packages": _packages,
        "machine": _machine,
        "helper": _helper,
        "programs": _programs,
        "guests": _guests,
        "room": _room,
        "grading": _grading,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except (VlabError, OSError, ImportError) as error:
            yield Finding(name, False, " ".join(str(error).split()), REINSTALL)


def _python() -> Iterator[Finding]:
    yield Finding("vlab", True, f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("python", True, f"{platform.python_version()} at {sys.executable}")
    yield Finding("platform", True, f"{platform.platform()}, {os.cpu_count()} processors")


def _packages() -> Iterator[Finding]:
    for name in ("unicorn", "capstone", "numpy", "pandas"):
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", REINSTALL)
    lab = find_spec("jupyterlab") is not None
    detail = "installed" if lab else "not installed; needed for `vlab lab`"
    yield Finding("jupyterlab", lab, detail, "make lab, or python -m pip install 'vlab[lab]'", needed=False)


def _machine() -> Iterator[Finding]:
    from vlab.session import VM

    began = time.monotonic()
    with VM("hello") as vm:
        stop = vm.run(timeout=30)
    works = stop.kind is not StopKind.TIMEOUT and not guest_failed(stop)
    detail = f"the guest 'hello' ran in {time.monotonic() - began:.2f} s and ended by {stop.kind}"
    yield Finding("machine", works, detail, "report this line to the project")


def _helper() -> Iterator[Finding]:
    from vlab.machine import helper

    remedy = (
        "without it results come later, and a guest that executes LOCK BT of a register ends vlab; "
        "it wants a C compiler and the cache below"
    )
    yield Finding("helper", helper.load() is not None, helper.status(), remedy, needed=False)


def _grading() -> Iterator[Finding]:
    from vlab.grading.jail.layers import confinement

    for wall in confinement():
        name, _, detail = wall.partition(": ")
        yield Finding("jail", True, f"{name}: {detail}")


def _programs() -> Iterator[Finding]:
    yield _program(
        "compiler", ("cc", "gcc", "clang"), "the compiled helper, for full speed", "sudo apt install gcc"
    )
    yield _program("assembler", ("as",), "rebuilding the bundled guests", "sudo apt install binutils")
    yield _program(
        "qemu", ("qemu-system-x86_64",), "comparing in `vlab bench`", "sudo apt install qemu-system-x86"
    )
    remedy = "elsewhere than on Debian and Ubuntu, `vlab guests add` takes a kernel that you bring"
    yield _program("apt", ("apt-get",), "`vlab guests fetch linux`", remedy)


def _program(name: str, candidates: tuple[str, ...], purpose: str, remedy: str) -> Finding:
    for candidate in candidates:
        path = shutil.which(candidate)
        if path:
            return Finding(name, True, f"{path}: {_version_of(path)}", needed=False)
    return Finding(name, False, f"not found; needed for {purpose}", remedy, needed=False)


def _version_of(path: str) -> str:
    try:
        run = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "does not run"
    return (run.stdout or run.stderr).strip().partition("\n")[0]


def _guests() -> Iterator[Finding]:
    from vlab.guests import catalogue

    linux = catalogue.find("linux")
    detail = f"{linux.kernel}" if linux.available else "not on this computer"
    yield Finding("linux", linux.available, detail, linux.how_to_get, needed=False)


def _room() -> Iterator[Finding]:
    yield _cache(cache_directory())
    memory = _available_memory()
    if memory is not None:
        remedy = f"close other programs: a Linux guest and a notebook want {COMFORTABLE_MEMORY >> 20} MiB"
        works = memory >= COMFORTABLE_MEMORY
        yield Finding("memory", works, f"{memory >> 20:,} MiB available", remedy, needed=False)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    detail = "your keys can go to a guest" if terminal else "none here: type to a guest with --send"
    yield Finding("terminal", terminal, detail, "run vlab in a terminal window", needed=False)


def _cache(cache: Path) -> Finding:
    """Look whether the cache, or the directory it will be made in, can be written to, and how full it is."""
    place = next(parent for parent in (cache, *cache.parents) if parent.exists())
    size = free = 0
    with suppress(OSError):
        free = shutil.disk_usage(place).free
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    detail = f"{cache}: {size >> 20:,} MiB used, {free >> 20:,} MiB free"
    remedy = "set VLAB_CACHE to a directory that you can write to; without it nothing can be fetched"
    writable = place.is_dir() and os.access(place, os.W_OK)
    return Finding("cache", writable, detail, remedy, needed=False)


def _available_memory() -> int | None:
    """Return what can still be had, bytes, under the container's limit if there is one; None if not known."""
    known: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        known += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        known.append(max(0, int(limit) - int(used)))
    return min(known, default=None)
