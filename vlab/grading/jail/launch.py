"""Starting jails: from a zygote where processes can fork, each in a fresh Python where they cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Protocol, Self

from vlab.errors import VlabError
from vlab.grading.jail.limits import Bounds
from vlab.grading.values import Malformed
from vlab.grading.wire import Closed, Wire

CAN_FORK: Final = hasattr(os, "fork") and hasattr(socket, "send_fds")

#: What of our environment a new Python needs to start at all.
NEEDED: Final = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


class NoJail(VlabError):
    """The jail cannot be used on this computer, or broke. It says nothing of the student."""


class _Starter(Protocol):
    def start(self, end: socket.socket, bounds: Bounds) -> int: ...
    def end(self, jail: int, *, gently: bool) -> int: ...
    def close(self) -> None: ...


class Zygote:
    """Starts jails. One for each process that grades, and for all its threads; it is started when first used.

    A process that grades does well to hold itself to one processor before (``os.sched_setaffinity``): the two
    sides never compute at once, and a request between them takes a third of the time.

    fork: False for a fresh Python for each student, which is slow, and all there is on Windows.
    """

    def __init__(self, *, fork: bool = CAN_FORK) -> None:
        self._fork = fork
        self._starter: _Starter | None = None
        self._lock = threading.Lock()

    def start(self, end: socket.socket, bounds: Bounds) -> int:
        """Start a jail that answers on a socket; give its number. Raises NoJail."""
        with self._lock:
            for attempt in range(2):
                try:
                    if self._starter is None:
                        self._starter = _Forked() if self._fork else _Fresh()
                    return self._starter.start(end, bounds)
                except (Closed, OSError, Malformed) as error:
                    self._drop()
                    if attempt:
                        raise NoJail(f"the process that starts jails does not start: {error}") from error
        raise AssertionError

    def end(self, jail: int, *, gently: bool = False) -> int:
        """End a jail, and give its exit status, a signal as its number below zero.

        gently: it is ending by itself; give it a moment. The status is 0 when it had to be killed.
        """
        with self._lock:
            if self._starter is None:
                return 0
            try:
                return self._starter.end(jail, gently=gently)
            except (Closed, OSError, Malformed):
                self._drop()
                return 0

    def close(self) -> None:
        """End it, and all its jails."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._starter is not None:
            self._starter.close()
            self._starter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _python(module: str, *arguments: object) -> list[str]:
    """Give the command that calls ``main`` of a module of ours in a Python without anybody else's modules."""
    root = str(Path(__file__).resolve().parents[3])
    code = (
        f"import sys; sys.path.append({root!r}); "
        f"from vlab.grading.jail.{module} import main; main{tuple(arguments)!r}"
    )
    executable = sys.executable
    if os.name == "nt":  # in a virtual environment it only starts another, which would outlive it
        executable = getattr(sys, "_base_executable", executable)
    return [executable, "-I", "-S", "-X", "utf8", "-c", code]


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in NEEDED if name in os.environ}


class _Forked:
    """A zygote process."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(self._control.close)
            self._process = subprocess.Popen(
                _python("zygote", theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            undo.pop_all()
        self._wire = Wire.of_socket(self._control)

    def start(self, end: socket.socket, bounds: Bounds) -> int:
        text = f'["start",{bounds.memory_bytes},{bounds.seconds!r}]'
        socket.send_fds(self._control, [text.encode("ascii")], [end.fileno()])
        return self._number()

    def end(self, jail: int, *, gently: bool) -> int:
        self._control.sendall(f'["end",{jail},{"true" if gently else "false"}]'.encode("ascii"))
        return self._number()

    def _number(self) -> int:
        number = self._wire.receive()[1]
        if not isinstance(number, int):
            raise Malformed("gave no number")
        return number

    def close(self) -> None:
        self._control.close()  # which ends it
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Fresh:
    """A new Python for each jail."""

    def __init__(self) -> None:
        self._jails: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, end: socket.socket, bounds: Bounds) -> int:
        shares = os.name == "nt"
        passed = -1 if shares else end.fileno()
        process = subprocess.Popen(
            _python("inmate", passed, bounds.memory_bytes, bounds.seconds),
            stdin=subprocess.PIPE if shares else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
            pass_fds=() if shares else (passed,),
        )
        if process.stdin is not None:
            with process.stdin:
                process.stdin.write(end.share(process.pid))  # type: ignore[attr-defined,unused-ignore]
        self._jails[process.pid] = process
        return process.pid

    def end(self, jail: int, *, gently: bool) -> int:
        process = self._jails.pop(jail, None)
        if process is None:
            return 0
        if gently:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(0.25)
        process.kill()
        process.wait()
        return 0

    def close(self) -> None:
        for jail in list(self._jails):
            self.end(jail, gently=False)
