"""What the trace records of one kind of exit have in common, looked up instead of worked out at each exit."""

from __future__ import annotations

from vlab.machine.core import LiveCore
from vlab.trace.recorder import Origin, Recorder
from vlab.vmm.exits import CODE, QUALIFIERS, Exit, Qualifier


class Origins(dict[int, Origin]):
    """The origins of one kind of exit, by a digest of the processor's mode; each made when first asked for.

    The digest is any number that differs where mode or privilege level do.
    """

    def __init__(self, kind: type[Exit], handler: int, core: LiveCore, recorder: Recorder) -> None:
        super().__init__()
        self._reason, self._handler, self._core, self._recorder = CODE[kind], handler, core, recorder

    def __missing__(self, digest: int) -> Origin:
        """Make the origin for the mode that the processor is in, whose digest this is."""
        core = self._core
        origin = self._recorder.origin(self._reason, self._handler, core.mode_code, core.cpl)
        self[digest] = origin
        return origin


Kinds = dict[type[Exit], tuple[Qualifier, Origins]]


def kinds(handlers: dict[type[Exit], int], core: LiveCore, recorder: Recorder) -> Kinds:
    """Give, for each kind of exit that has a handler, how its numbers are read and where it comes from."""
    return {
        kind: (QUALIFIERS[kind], Origins(kind, handler, core, recorder)) for kind, handler in handlers.items()
    }
