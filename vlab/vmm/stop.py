"""Why a virtual machine stopped, in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StopKind(StrEnum):
    """The reasons for which a run ends."""

    EXPECTED = "expected"  # what the caller waited for happened
    PAUSED = "paused"
    TIMEOUT = "timeout"
    EXIT = "exit"  # the guest wrote its status to the debug-exit port
    POWERED_OFF = "powered-off"
    RESET = "reset"
    HALTED = "halted"  # HLT with interrupts disabled: nothing can wake it
    TRIPLE_FAULT = "triple-fault"
    FAILED = "failed"  # the guest did what this monitor cannot carry out


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a run. ``story``: one or more lines. ``exit_code``: what the guest wrote to port F4h."""

    kind: StopKind
    story: str
    exit_code: int | None = None

    @property
    def final(self) -> bool:
        """Whether the guest is over: running on would bring nothing."""
        return self.kind not in (StopKind.EXPECTED, StopKind.PAUSED, StopKind.TIMEOUT)

    @property
    def headline(self) -> str:
        """The first line of the story."""
        return self.story.partition("\n")[0]

    def __str__(self) -> str:
        return self.story
