"""An audit hook (PEP 578): what student code must not do fails with a sentence that says so.

It is there on every platform and explains; where the kernel has no layer of its own, it is all there is, and
code that gets at the C level of Python gets around it. The hook keeps what it needs in its own cells, since
student code can change every module that it can reach.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib.abc import MetaPathFinder
from typing import Any, Final

from vlab.grading.jail.endings import MAX_REFUSALS, TOO_OFTEN

GRADED: Final = "while you are graded"
_FILES = f"files cannot be written or changed {GRADED}"
_PROCESSES = f"no other process can be started {GRADED}"
_SIGNALS = f"no process can be signalled {GRADED}"
_THREADS = f"threads cannot be started {GRADED}: do the work in the call itself"
_NETWORK = f"there is no network {GRADED}"
_LIBRARIES = f"C libraries cannot be called {GRADED}"
_SYSTEM = f"the system cannot be changed {GRADED}"

#: By the event's name up to its first dot.
GROUPS: Final = {
    "socket": _NETWORK, "urllib": _NETWORK, "ftplib": _NETWORK, "http": _NETWORK, "smtplib": _NETWORK,
    "imaplib": _NETWORK, "poplib": _NETWORK, "telnetlib": _NETWORK, "nntplib": _NETWORK,
    "subprocess": _PROCESSES, "pty": _PROCESSES, "webbrowser": _PROCESSES, "_winapi": _PROCESSES,
    "ctypes": _LIBRARIES, "shutil": _FILES, "tempfile": _FILES, "sqlite3": _FILES, "fcntl": _FILES,
    "winreg": _SYSTEM, "msvcrt": _SYSTEM, "resource": _SYSTEM, "syslog": _SYSTEM,
}  # fmt: skip

EVENTS: Final = {
    "builtins.input": f"nobody answers input() {GRADED}",
    "_thread.start_new_thread": _THREADS, "_thread.start_joinable_thread": _THREADS,
    "signal.pthread_kill": _SIGNALS, "os.kill": _SIGNALS, "os.killpg": _SIGNALS,
    "gc.get_objects": f"objects that are not yours cannot be looked for {GRADED}",
    "gc.get_referrers": f"objects that are not yours cannot be looked for {GRADED}",
} | dict.fromkeys(
    ["os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile"],
    _PROCESSES,
) | dict.fromkeys(
    ["os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
     "os.chown", "os.chflags", "os.lockf", "os.utime", "os.setxattr", "os.removexattr", "os.mkfifo",
     "os.mknod"],
    _FILES,
)  # fmt: skip

#: What of vlab.isa is an answer to exercises: the page walker, and which instructions are sensitive.
WITHHELD: Final = frozenset(("vlab.isa.paging", "vlab.isa.sensitive", "vlab.isa.sensitive_forms"))

#: Flags of open that do more than read.
CHANGING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def reason_for_import(name: str) -> str | None:
    """Say why a module is not to be imported, None when it may be."""
    top, _, rest = name.partition(".")
    if top in ("ctypes", "_ctypes"):
        return _LIBRARIES
    withheld = name in WITHHELD or (top == "vlab" and rest and rest != "isa" and not rest.startswith("isa."))
    if withheld:
        hint = "" if rest.startswith("grading") else ": write that part yourself"
        return f"{name} is not there {GRADED}{hint}"
    return None


class Finder(MetaPathFinder):
    """Refuses imports before anything is looked for: not all ways to import are seen by the hook."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Find nothing. Raises ImportError for what is not to be imported."""
        why = reason_for_import(fullname)
        if why is not None:
            raise ImportError(why, name=fullname)


def _reason_for_path(roots: tuple[str, ...]) -> Callable[[Any], str | None]:
    """Judge a path that is to be read. Its own methods and those of modules are not asked."""
    exact, text, data, windows, separator = type, str, bytes, os.name == "nt", os.sep

    def reason(path: Any) -> str | None:
        if exact(path) is data:
            path = text(path, "utf-8", "replace")
        if exact(path) is not text:
            return f"descriptors cannot be opened {GRADED}"
        plain = path.replace("/", "\\").casefold() if windows else path
        if f"{separator}.." not in plain and "-packages" not in plain:
            for root in roots:
                if plain == root or plain.startswith(root + separator):
                    return None
        return f"{path!r} cannot be read {GRADED}: only Python's own library can"

    return reason


def guard(roots: Iterable[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """Make the hook. roots: files, and directories with all below them, that can be read."""
    windows = os.name == "nt"
    of_path = _reason_for_path(tuple(each.casefold() if windows else each for each in roots))
    of_import = reason_for_import
    events, groups, changing, files = dict(EVENTS), dict(GROUPS), CHANGING, _FILES
    leave, status, most, refusals = os._exit, TOO_OFTEN, MAX_REFUSALS, 0
    refuse, refuse_import = PermissionError, ImportError

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal refusals
        error: type[Exception] = refuse
        if event == "import":
            why, error = of_import(arguments[0]), refuse_import
        elif event == "open":
            why = files if arguments[2] & changing else of_path(arguments[0])
        elif event in ("os.listdir", "os.scandir"):
            why = of_path(arguments[0])
        else:
            why = events.get(event) or groups.get(event.partition(".")[0])
        if why is not None:
            refusals += 1
            if refusals > most:
                leave(status)
            raise error(why)

    return hook


def install(roots: Iterable[str]) -> None:
    """Have everything that this process does from now on looked at. It cannot be taken back."""
    sys.meta_path.insert(0, Finder())
    sys.addaudithook(guard(roots))
