"""Counting the monitor's own instructions: those of Python's virtual machine, for which it is written.

What is the monitor, and what is the machine beneath it, is told by the module that the code is in. Python's
tracing function sees each instruction (bytecode) of each function that it asks to see.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import TraceFunction

_MONITOR: Final = ("vlab.vmm.",)
_HARDWARE: Final = ("vlab.machine.",)
_INSTRUMENT: Final = (
    "vlab.trace.", "vlab.session.", "vlab.compare.", "vlab.vmm.runner.", "vlab.vmm.console.",
    "vlab.vmm.monitor.", "vlab.vmm.ticker.", "vlab.vmm.bell.", "vlab.vmm.bare.",
)  # fmt: skip
"""Who records and displays, and the loop that the bare machine has too."""
_BORROWED: Final = ("vlab.machine.bus.", "vlab.machine.delivery.")
"""Parts of the machine that work for whoever calls them: the monitor has a bus, and delivers events, too."""


class Work:
    """How many instructions the monitor has executed. Not those of recorders, of the session, or of a run's
    beginning and end.
    """

    def __init__(self) -> None:
        self.instructions = 0
        self._sides: dict[CodeType, bool | None] = {}

    def _call(self, frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        """Decide about a function that is entered: ask for its instructions, or leave it alone."""
        if not self._counts(frame):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._instruction

    def _instruction(self, _frame: FrameType, event: str, _argument: object) -> TraceFunction:
        if event == "opcode":
            self.instructions += 1
        return self._instruction

    def _counts(self, frame: FrameType) -> bool:
        """Whether a function is the monitor's; one that is nobody's is its caller's."""
        sides, caller = self._sides, frame
        while caller is not None:
            code = caller.f_code
            if code not in sides:
                sides[code] = _side(str(caller.f_globals.get("__name__")))
            if (side := sides[code]) is not None:
                return side
            following = caller.f_back
            if following is None:
                break
            caller = following
        return False


def _side(module: str) -> bool | None:
    """Say on which side a module is: True the monitor's, False another's, None its caller's."""
    module += "."
    if module.startswith((*_HARDWARE, *_INSTRUMENT)):
        return None if module.startswith(_BORROWED) else False
    return True if module.startswith(_MONITOR) else None


@contextmanager
def counting() -> Iterator[Work]:
    """Count while a ``with`` statement runs, in this thread alone, at a fraction of the usual speed."""
    work, before = Work(), sys.gettrace()
    sys.settrace(work._call)
    try:
        yield work
    finally:
        sys.settrace(before)
