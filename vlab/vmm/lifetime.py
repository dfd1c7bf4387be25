"""The end of a virtual machine: closed, forgotten, or still there when Python ends."""

from __future__ import annotations

import _thread
import atexit
import functools
import threading
from typing import Final

from vlab.vmm.checkpoints import Checkpoints
from vlab.vmm.monitor import Monitor
from vlab.vmm.runner import Runner


def release(monitor: Monitor, own_machine: bool, checkpoints: Checkpoints) -> None:
    """Give back what a VM has; it does not run any more."""
    machine = monitor.machine
    with machine.lock:
        machine.users -= 1
        monitor.close()
        if own_machine:
            machine.close()
        else:
            monitor.memory.close()
        checkpoints.clear()


def let_go(runner: Runner, own_machine: bool) -> None:
    """Close a VM that nobody refers to, from wherever the garbage was collected: never wait there."""
    if _leaving.is_set() or (own_machine and not runner.busy):
        runner.close()
    else:
        _thread.start_new_thread(runner.close, ())


_leaving: Final = threading.Event()
"""Whether Python is about to end: no thread may begin then, and all guests must stop before."""


@functools.cache
def mind_the_exit() -> None:
    """Note the end of Python before ``weakref`` does, which calls what is registered in reverse order."""
    atexit.register(_leaving.set)
