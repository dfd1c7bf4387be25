"""Whether a guest runs, waits or is over, and why: what several views say at their top."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vlab.vmm.stop import StopKind

if TYPE_CHECKING:
    from vlab.session import VM


class Standing(NamedTuple):
    """state: "running", "paused" or "ended". why: the story; empty while it runs."""

    state: str
    why: str


def standing(vm: VM) -> Standing:
    """Say how it stands with the guest of ``vm``."""
    ended, stop = vm.ended, vm.last_stop
    if ended is not None:
        return Standing("ended", ended.story)
    if vm.busy:
        return Standing("running", "")
    if stop is None:
        begun = vm.virtual_time_ns > 0
        return Standing("paused", "" if begun else "the guest has not run yet")
    if stop.final:
        return Standing("paused", "the guest is back at an earlier moment")
    return Standing("paused", "" if stop.kind is StopKind.PAUSED else stop.story)
