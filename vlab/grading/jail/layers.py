"""All that holds student code, put on in the right order, and said in plain words."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vlab.grading.jail import audit, descriptors, landlock, limits, preload, privileges, seccomp
from vlab.grading.jail.limits import Bounds
from vlab.grading.jail.system import LINUX


@dataclass(frozen=True, slots=True)
class Walls:
    """What a jail is made of here.

    rules: a descriptor of Landlock's, or None. roots: paths for the hook. empty: address space, bytes.
    """

    rules: int | None
    filtered: bool
    roots: tuple[str, ...]
    empty: int


def survey() -> Walls:
    """Look what this computer offers, and prepare it once for many processes."""
    files, listed = preload.readable()
    rules = landlock.ruleset(files, listed) if landlock.version() else None
    roots = (*preload.library(), *map(str, preload.own()))
    return Walls(rules, seccomp.available(), roots, limits.address_space())


def confine(walls: Walls, bounds: Bounds) -> None:
    """Confine this process, for good. Raises OSError when a layer does not hold.

    Its descriptors have been stripped; `descriptors.KEPT` is that of the rules, if there are any.
    """
    privileges.drop()
    if walls.rules is not None:
        landlock.restrict(descriptors.KEPT)
        os.close(descriptors.KEPT)
    limits.restrict(bounds, walls.empty)
    if walls.filtered:
        seccomp.restrict()
    audit.install(walls.roots)
    preload.forget()


def _of_landlock() -> str:
    abi = landlock.version()
    if not abi:
        return "files: no Landlock here; only the audit hook keeps them from being read"
    network = ", no TCP" if abi >= 4 else ""
    signals = ", no signals to others" if abi >= 6 else ""
    return f"files: Landlock, ABI {abi}: reading Python's own library and vlab.isa{network}{signals}"


def _of_seccomp() -> str:
    if seccomp.available():
        return "system calls: a seccomp filter: no network, processes, threads, signals, or writing of files"
    return "system calls: no filter here; only the audit hook keeps processes and the network away"


def _of_limits() -> str:
    if limits.AVAILABLE:
        memory = ", address space" if LINUX else " (memory is not limited here)"
        return f"resources: limits of processor time, file size 0, open files, processes{memory}"
    return "resources: no limits here but the time on the wall"


def _of_process() -> str:
    if os.name != "posix":
        return "process: its own, started afresh, without environment; descriptors as Python leaves them"
    gone = "no capabilities, no new privileges, ends with its maker; " if LINUX else ""
    return f"process: its own, forked; {gone}no environment, no descriptors but the one to answer on"


LAYERS: Final[tuple[Callable[[], str], ...]] = (_of_process, _of_limits, _of_landlock, _of_seccomp)


def confinement() -> list[str]:
    """Say what holds student code on this computer, one sentence for each layer, missing ones included."""
    return [*(layer() for layer in LAYERS), "Python: an audit hook that explains each refusal"]
