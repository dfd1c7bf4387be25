"""What a jail has in memory before student code comes: Python's library as far as it is likely to be used."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Final

import vlab.isa
from vlab.grading.jail.audit import WITHHELD

MODULES: Final = (
    "abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "codecs", "collections",
    "collections.abc", "colorsys", "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib",
    "enum", "fractions", "functools", "graphlib", "hashlib", "heapq", "inspect", "io", "itertools", "json",
    "keyword", "linecache", "logging", "math", "numbers", "operator", "os.path", "pathlib", "pprint", "queue",
    "random", "re", "reprlib", "secrets", "shlex", "statistics", "string", "struct", "textwrap", "threading",
    "time", "timeit", "traceback", "types", "typing", "unittest", "uuid", "warnings", "weakref", "zlib",
)  # fmt: skip


def isa_modules() -> list[str]:
    """Name every module of `vlab.isa` that student code may have."""
    found = (f"vlab.isa.{each.name}" for each in pkgutil.iter_modules(vlab.isa.__path__))
    return ["vlab.isa", *(name for name in found if name not in WITHHELD)]


def load() -> None:
    """Import all of it, and let imports find nothing else than Python's own library and what is loaded."""
    for name in (*MODULES, *isa_modules()):
        importlib.import_module(name)
    sys.path[:] = library()
    sys.dont_write_bytecode = True


def library() -> list[str]:
    """Give the directories of Python's own library, as ``sys.path`` should hold them."""
    paths = sysconfig.get_paths()
    found = [paths["stdlib"], paths["platstdlib"]]
    found += [each for each in sys.path if Path(each).name == "lib-dynload" or each.endswith("DLLs")]
    return [each for each in dict.fromkeys(map(os.path.abspath, found)) if Path(each).is_dir()]


def readable() -> tuple[list[Path], list[Path]]:
    """Give what can be read, and the directories that can be listed: the library without third parties'."""
    listed = [Path(each) for each in library()]
    files = [each for root in listed for each in root.iterdir() if not each.name.endswith("-packages")]
    return [*files, *own()], listed


def own() -> list[Path]:
    """Give the files of vlab's that can be read."""
    isa = Path(vlab.isa.__path__[0])
    return [isa / f"{name.rpartition('.')[2]}.py" for name in isa_modules() if name != "vlab.isa"]


def forget() -> None:
    """Take from ``sys.modules`` what student code is not to import: the jail itself, and ctypes."""
    for name in list(sys.modules):
        ours = name.startswith("vlab.") and not f"{name}.".startswith("vlab.isa.")
        if ours or name.partition(".")[0] in ("ctypes", "_ctypes"):
            del sys.modules[name]
    package: ModuleType = sys.modules["vlab"]
    for name in ("grading", "errors"):
        with suppress(AttributeError):
            delattr(package, name)
