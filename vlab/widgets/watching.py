"""Keeps views up to date while their virtual machine runs: one thread a VM, which asks a few times a second.

Asking costs the guest almost nothing, and nothing at all when no view is there. Everything is held weakly:
a VM that its user let go is gone, and its views say so.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from vlab.errors import VlabError

if TYPE_CHECKING:
    from vlab.session import VM

PERIOD: Final = 0.2
"""Seconds between two looks."""


class Watcher(Protocol):
    """Who wants to know: `LiveView`."""

    alive: bool

    def refresh(self) -> None:
        """Look at the VM."""


_watches: weakref.WeakKeyDictionary[VM, _Watch] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def watch(vm: VM, view: Watcher) -> None:
    """Have ``view`` refreshed whenever ``vm`` has moved."""
    with _guard:
        found = _watches.get(vm)
        if found is None or not found.goes_on:
            found = _watches[vm] = _Watch(vm)
        found.views.add(view)


class _Watch:
    """The thread for one VM, and its views."""

    def __init__(self, vm: VM) -> None:
        self._vm = weakref.ref(vm)
        self.views: weakref.WeakSet[Watcher] = weakref.WeakSet()
        self.goes_on = True
        threading.Thread(target=self._look, name="vlab views", daemon=True).start()

    def _look(self) -> None:
        seen: tuple[object, ...] = ()
        pause = threading.Event()
        while not pause.wait(PERIOD):
            with _guard:
                if not self.views:
                    self.goes_on = False
                    return
                views = tuple(self.views)
            now = self._moment()
            if now is None:
                break
            if now != seen:
                seen = now
                _refresh(views)
            del views
        self.goes_on = False
        for view in tuple(self.views):
            view.alive = False

    def _moment(self) -> tuple[object, ...] | None:
        """What changes when the guest moves; None when the VM is gone or closed."""
        vm = self._vm()
        if vm is None or vm.closed:
            return None
        return vm.virtual_time_ns, vm.exits.total, vm.busy, vm.last_stop, len(vm.console.data)


def _refresh(views: tuple[Watcher, ...]) -> None:
    for view in views:
        try:
            view.refresh()
        except VlabError:  # it was closed meanwhile, which the next look finds
            return
