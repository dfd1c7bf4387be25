"""A clean process with Python's library in memory that forks a jail on request: a fresh start each, in 2 ms.

It is asked over a Unix socket: ``["start", memory_bytes, seconds]`` with a descriptor for the jail, answered
with its process number; ``["end", number, gently]``, answered with its exit status, 0 when it had to be
killed. Only then is the number given back to the system, so that it never means another process. When nobody
asks any more it ends, and all jails with it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from vlab.grading.jail import inmate, privileges
from vlab.grading.jail.layers import survey
from vlab.grading.jail.limits import Bounds
from vlab.grading.jail.preload import load
from vlab.grading.wire import Closed, Wire, parse

#: Seconds that a jail which ends by itself is given to do so.
GRACE: Final = 0.25


class Server:
    """The zygote's work."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._wire = Wire.of_socket(control)
        self._walls = survey()
        self._jails: set[int] = set()

    def serve(self) -> None:
        """Do what is asked until nobody asks any more."""
        try:
            while True:
                self._once()
        except Closed:
            for pid in self._jails:
                self._kill(pid)

    def _once(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        except ConnectionError:  # it ended with an answer of ours unread
            raise Closed from None
        if not data:
            raise Closed
        match parse(data):
            case ["start", int() as memory_bytes, int() | float() as seconds]:
                pid = self._start(Bounds(memory_bytes, float(seconds)), descriptors[0])
                self._wire.send(["started", pid])
            case ["end", int() as pid, bool() as gently]:
                self._wire.send(["ended", self._end(pid, gently=gently)])

    def _start(self, bounds: Bounds, way_out: int) -> int:
        pid = os.fork()
        if not pid:
            try:
                privileges.end_with_maker()
                inmate.serve(self._walls, bounds, way_out)
            finally:
                os._exit(1)
        os.close(way_out)
        self._jails.add(pid)
        return pid

    def _end(self, pid: int, *, gently: bool) -> int:
        """See to it that a jail has ended, and give its exit status; 0 when it had to be killed."""
        if pid not in self._jails:
            return 0
        until = time.monotonic() + (GRACE if gently else 0)
        done, status = os.waitpid(pid, os.WNOHANG)
        while not done and time.monotonic() < until:
            time.sleep(0.001)
            done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            self._kill(pid)
            os.waitpid(pid, 0)
        self._jails.discard(pid)
        return os.waitstatus_to_exitcode(status) if done else 0

    def _kill(self, pid: int) -> None:
        """Kill a jail and what is left of its process group."""
        for send in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                send(pid, signal.SIGKILL)


def main(control: int) -> None:
    """Be a zygote. control: a descriptor of a connected Unix stream socket."""
    load()
    gc.collect()
    gc.disable()
    gc.freeze()  # what is shared with the jails stays shared
    Server(socket.socket(fileno=control)).serve()
