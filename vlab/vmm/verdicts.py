"""Verdicts: the closed union of what a handler says should happen after an exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from vlab.machine.faults import Event
from vlab.vmm.stop import Stop


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on: the handler has done what there was to do, and RIP is where the guest continues."""


@dataclass(frozen=True, slots=True)
class Inject:
    """Deliver this event to the guest, then go on."""

    event: Event


@dataclass(frozen=True, slots=True)
class Idle:
    """The guest waits for an interrupt."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop the virtual machine."""

    stop: Stop


Verdict: TypeAlias = Resume | Inject | Idle | End
RESUME: Final = Resume()
IDLE: Final = Idle()
