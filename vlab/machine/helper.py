"""Builds and loads the optional compiled helper (helper.c).

It is compiled at first use with the C compiler that is there and kept in the user's cache directory under a
name made of the source's digest and the platform. `VLAB_HELPER=off` leaves it out.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

from vlab.paths import cache_directory

_COMPILERS: Final = ("cc", "gcc", "clang")
_FLAGS: Final = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
_WITHOUT: Final = "guests run more slowly, and one that executes LOCK BT of a register ends this process"
"""What is missed without the helper: see docs/MACHINE.md."""


@functools.cache
def load() -> ctypes.CDLL | None:
    """Give the helper, built now if need be; None when it cannot be had (``status`` says why)."""
    return _load()[0]


def status() -> str:
    """Say in one line whether the helper is in use, and if not, how to get it."""
    return _load()[1]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("VLAB_HELPER", "").lower() in ("off", "0", "no"):
        return None, f"off, as VLAB_HELPER says; {_WITHOUT}"
    source = resources.files("vlab.machine").joinpath("helper.c").read_bytes()
    digest = hashlib.sha256(source).hexdigest()[:16]
    name = f"helper-{digest}-{sys.platform}-{platform.machine().lower()}{_suffix()}"
    path = cache_directory() / "helper" / name
    if not path.exists() and (problem := _build(source, path)):
        return None, problem
    try:
        library = ctypes.CDLL(str(path))
    except OSError as refusal:
        return None, f"cannot be loaded ({refusal}); delete {path} to have it rebuilt"
    library.vlab_control_size.restype = ctypes.c_uint64
    return library, f"in use ({path})"


def _suffix() -> str:
    return ".dll" if sys.platform == "win32" else ".so"


def _build(source: bytes, path: Path) -> str:
    """Compile ``source`` into ``path`` and give "", or say why that did not work."""
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return f"not there: no C compiler (cc, gcc or clang); {_WITHOUT}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            (Path(work) / "helper.c").write_bytes(source)
            built = Path(work) / path.name
            command = [compiler, *_FLAGS, "-o", str(built), str(Path(work) / "helper.c")]
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if result.returncode:
                return f"not there: {compiler} failed: {(result.stderr.strip().splitlines() or ['?'])[-1]}"
            built.replace(path)  # atomic: another process may be building the same file
    except (OSError, subprocess.TimeoutExpired) as refusal:
        return f"not there: {refusal}"
    return ""
