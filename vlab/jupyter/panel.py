"""The kernel's half of JupyterLab's side panel: tells it about the virtual machines here, does what it asks.

The extension opens a comm to ``TARGET``. A thread then sends the state of all VMs once a second, also while
a cell runs. What the panel asks comes back as messages; each is carried out in a thread of its own, since a
step can take long. Messages reach a kernel with subshells (ipykernel 7) even while a cell runs; other kernels
hear them after the cell. Nothing here keeps a VM alive.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from vlab.comms import heard_where_sent
from vlab.errors import UnusableInput, VlabError
from vlab.jupyter.current import Current
from vlab.pace import Pace
from vlab.session import VM, open_vms

if TYPE_CHECKING:
    from vlab.vmm.snapshot import Snapshot

TARGET: Final = "vlab.vms"
PERIOD: Final = 1.0
"""Seconds between two reports."""
LEASE: Final = 60.0
"""Seconds after which a panel that says nothing is taken for gone, such as after a reload of the page."""

Report = dict[str, object]


class Comm(Protocol):
    """A line to one panel, as ipykernel makes it."""

    def send(self, data: Mapping[str, object]) -> None:
        """Send JSON."""

    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Have ``callback`` called with each message."""

    def on_close(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Have ``callback`` called when the other side closes the line."""


_numbers: weakref.WeakKeyDictionary[VM, int] = weakref.WeakKeyDictionary()
_paces: weakref.WeakKeyDictionary[VM, Pace] = weakref.WeakKeyDictionary()
_snapshots: weakref.WeakKeyDictionary[VM, list[Snapshot]] = weakref.WeakKeyDictionary()
_count: Final = itertools.count(1)


# --- what there is --------------------------------------------------------------------------------------


def number_of(vm: VM) -> int:
    """Give the number of a VM in this kernel: from 1, in the order in which they were first asked for."""
    found = _numbers.get(vm)
    return _numbers.setdefault(vm, next(_count)) if found is None else found


def vm_of(number: int) -> VM:
    """Give the open VM with a number. Raises UnusableInput."""
    for vm in open_vms():
        if _numbers.get(vm) == number:
            return vm
    raise UnusableInput(
        f"number: there is no open virtual machine {number} in this kernel; look at the panel"
    )


def show(number: int) -> None:
    """Display the VM with this number, in the output that this runs for."""
    from IPython.display import display

    display(vm_of(number))  # type: ignore[no-untyped-call]


def snapshots(vm: VM) -> tuple[Snapshot, ...]:
    """Give the snapshots of a VM that were taken in the panel, oldest first, for ``vm.restore``."""
    return tuple(_snapshots.get(vm, ()))


def report(vm: VM, names: Mapping[int, str], now: float) -> Report:
    """What the panel shows of one VM. names: of variables by the ``id`` of their value; now: in seconds."""
    ended, total = vm.ended, vm.exits.total
    running = vm.busy
    rate = _paces.setdefault(vm, Pace()).at(now, total, running)
    return {
        "number": number_of(vm),
        "name": names.get(id(vm), ""),
        "guest": vm.guest.name,
        "monitor": vm.monitor,
        "paging": vm.paging,
        "state": "running" if running else "ended" if ended else "paused",
        "inCell": running and not vm.running,
        "ending": str(ended) if ended and not running else "",
        "exits": total,
        "rate": round(rate),
        "memory": vm.memory_bytes,
        "time": vm.virtual_time_ns,
        "canStep": vm.monitor != "none",
        "canGoBack": vm.monitor != "none" and vm.clock == "deterministic",
        "snapshots": len(_snapshots.get(vm, ())),
    }


def reports() -> list[Report]:
    """What the panel shows of all open VMs of this process."""
    names, now = _names(), time.monotonic()
    found = []
    for vm in open_vms():
        try:
            found.append((number_of(vm), report(vm, names, now)))
        except VlabError:  # it was closed meanwhile
            continue
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def _names() -> dict[int, str]:
    """Names of the user's variables that are VMs, by ``id``."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None:
        return {}
    return {id(vm): name for name, vm in Current(shell.user_ns).named().items()}


# --- what can be asked ----------------------------------------------------------------------------------


def _pause(vm: VM) -> str:
    vm.pause()
    return "paused"


def _resume(vm: VM) -> str:
    vm.start()
    return "runs on"


def _step(vm: VM) -> str:
    vm.step()
    return f"stepped; {vm.exits.total:,} exits so far"


def _step_back(vm: VM) -> str:
    vm.step_back()
    return f"went back; {vm.exits.total:,} exits so far"


def _snapshot(vm: VM) -> str:
    taken = _snapshots.setdefault(vm, [])
    taken.append(vm.snapshot())
    return f"snapshot {len(taken)} is taken; vlab.jupyter.panel.snapshots(vm) has it"


def _restore(vm: VM) -> str:
    taken = _snapshots.get(vm)
    if not taken:
        raise UnusableInput("restore: the panel has taken no snapshot of this virtual machine yet")
    vm.restore(taken[-1])
    return f"is at snapshot {len(taken)} again"


def _stop(vm: VM) -> str:
    vm.close()
    return "stopped, and its memory given back"


ACTIONS: Final[dict[str, Callable[[VM], str]]] = {
    "pause": _pause,
    "resume": _resume,
    "step": _step,
    "step-back": _step_back,
    "snapshot": _snapshot,
    "restore": _restore,
    "stop": _stop,
}


def act(action: str, number: int | None) -> str:
    """Carry out one of ACTIONS on one VM or, for None, on all; say what came of it. Raises VlabError."""
    perform = ACTIONS.get(action)
    if perform is None:
        raise UnusableInput(f"action: {action!r} is none of {', '.join(ACTIONS)}")
    if number is not None:
        vm = vm_of(number)
        return f"{vm.guest.name}: {perform(vm)}"
    touched = [perform(vm) for vm in open_vms() if action != "pause" or vm.busy]
    return f"{action}: {len(touched)} virtual machine{'' if len(touched) == 1 else 's'}"


# --- the lines ------------------------------------------------------------------------------------------


class Line:
    """The line to one panel, and the thread that reports on it."""

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        heard_where_sent(comm)
        self._heard_at = time.monotonic()
        self._over = threading.Event()
        comm.on_msg(self._heard)
        comm.on_close(lambda _message: self._over.set())
        _begin(self._work, "vlab panel")

    def _heard(self, message: dict[str, Any]) -> None:
        self._heard_at = time.monotonic()
        data = message["content"]["data"]
        if "action" in data:
            _begin(partial(self._answer, data), "vlab action")

    def _answer(self, data: Mapping[str, Any]) -> None:
        try:
            said, problem = act(data["action"], data.get("number")), False
        except VlabError as error:
            said, problem = str(error), True
        if not self._over.is_set():
            self._comm.send({"said": said, "problem": problem, "vms": reports()})

    def _work(self) -> None:
        while not self._over.is_set() and self._is_heard():
            self._comm.send({"vms": reports()})
            self._over.wait(PERIOD)

    def _is_heard(self) -> bool:
        """Whether the panel is there: it said something, or a cell runs a guest and nobody can tell."""
        if time.monotonic() - self._heard_at < LEASE:
            return True
        return any(vm.busy and not vm.running for vm in open_vms())


def _begin(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()


def opened(comm: Comm, _message: Mapping[str, Any]) -> None:
    """Begin to report to a panel; what a comm's target is called with."""
    Line(comm)
