"""A run that is watched for hit rates: in a thread of its own, so that the reader can stop it."""

from __future__ import annotations

import threading
import weakref
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from vlab.errors import UnusableInput, VlabError
from vlab.vmm.translation.statistics import Profile

if TYPE_CHECKING:
    from vlab.session import VM
    from vlab.widgets.translation_view import TranslationView

LONGEST: Final = 60_000
"""Virtual milliseconds."""


class Profiling:
    """Watches the VM of one view, and tells the view's traits ``profiling``, ``seen`` and ``problem``.

    guard: is held while the traits are set.
    """

    def __init__(self, view: TranslationView, guard: AbstractContextManager[object]) -> None:
        self._view = weakref.ref(view)
        self._guard = guard

    def start(self, vm: VM, milliseconds: int, send: str, until: str) -> None:
        """Begin. Raises UnusableInput where the guest cannot run now."""
        if not 1 <= milliseconds <= LONGEST:
            raise UnusableInput(
                f"milliseconds: {milliseconds} is not between 1 and {LONGEST}; "
                "give the virtual time to watch for"
            )
        if vm.busy:
            raise UnusableInput("profile: the guest runs already; pause it first")
        if vm.ended is not None:
            raise UnusableInput("profile: the guest has ended; make a new VM, or go back with vm.step_back()")
        wanted = until.encode("utf-8", "replace")
        self._tell(profiling=True, problem="")
        arguments = vm, milliseconds * 1_000_000, send, wanted
        threading.Thread(target=self._watch, args=arguments, name="vlab profile", daemon=True).start()

    def _watch(self, vm: VM, duration: int, send: str, wanted: bytes) -> None:
        seen: dict[str, Any] = {}
        problem = ""
        begin, heard = vm.virtual_time_ns, len(vm.console.data)
        appeared = False

        def reached(vm: VM) -> bool:
            nonlocal appeared
            appeared = bool(wanted) and vm.console.data.find(wanted, heard) >= 0
            return appeared or vm.virtual_time_ns - begin >= duration

        try:
            statistics = vm.translation
            assert statistics is not None
            with statistics.profile() as found:
                if send:
                    vm.send(send)
                stop = vm.run(until=reached)
            seen = _told(found)
            seen["time_ns"] = vm.virtual_time_ns - begin
            seen["end"] = "the text appeared" if appeared else "the time was over"
            if not reached(vm):
                seen["end"] = stop.story
        except VlabError as error:
            problem = str(error)
        finally:
            self._tell(profiling=False, seen=seen, problem=problem)

    def _tell(self, **traits: Any) -> None:
        view = self._view()
        if view is not None:
            with self._guard, view.hold_sync():
                for name, value in traits.items():
                    setattr(view, name, value)


def _told(found: Profile) -> dict[str, Any]:
    names = ("blocks", "by_monitor", "chained", "found", "lost", "unlinked", "chain_rate", "lookup_rate")
    return {name: getattr(found, name) for name in names}
