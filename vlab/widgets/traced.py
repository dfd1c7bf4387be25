"""What the views of a recorded run share: the trace of a VM, of its exits, or of a file, sent over once.

The trace goes to the browser as the bytes of a .vlabtrace file and is animated there. While a VM runs,
nothing of it goes over; when it stops, a short one does by itself, and a long one when its reader asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import traitlets

from vlab.errors import UnusableInput, VlabError
from vlab.session import VM
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFile, dump
from vlab.widgets.view import LiveView, View, owner_of

AUTOMATIC: Final = 100_000
"""Records up to which a trace goes over whenever the VM stops."""
_NO_TRACE: Final = "the trace level {!r} keeps no single exits; make the VM with trace='full'"


class TracedView(LiveView):
    """A view of what was recorded of ``subject``: a VM, which it follows, its exits, or a loaded trace.

    ``trace``: the bytes. ``live``: whether there is a VM. ``running``: whether it runs now. ``waiting``: how
    many records are not in ``trace`` yet. ``note``: why there is no trace. ``problem``: why the last wish
    was not carried out.
    """

    trace = traitlets.Bytes(help="a .vlabtrace file").tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    waiting = traitlets.Int(0).tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, subject: VM | Exits | TraceFile, **traits: Any) -> None:
        self._sent: tuple[int, int] | None = None
        self.metadata: Mapping[str, Any] = {}
        if isinstance(subject, VM):
            self.metadata = _described(subject)
            super().__init__(subject, live=True, **traits)
        else:
            exits, self.metadata = _recorded(subject)
            View.__init__(self, **traits)
            self._send_trace(exits)
        self.on_msg(self._asked)

    @property
    def vm(self) -> VM:
        """The virtual machine. Raises UnusableInput when there is none, or none any more."""
        if not self.live:
            raise UnusableInput("this view shows a recorded trace; there is no VM behind it")
        return super().vm

    # --- while there is a VM ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the VM: whether it runs, and what was recorded."""
        vm = self.vm
        exits = vm.exits
        with self.hold_sync():
            self.running = vm.busy
            self.look(vm)
            source = exits.source
            records = source.total + sum(source.event_counts) - source.dropped
            if source.level != "full" and not records:
                self.note = _NO_TRACE.format(source.level)
            elif not self.has_news(exits):
                self.waiting = 0
            elif self.running or records > AUTOMATIC:
                self.waiting = records
            else:
                self._send_trace(exits)

    def look(self, vm: VM) -> None:
        """Set the traits of a subclass."""

    def has_news(self, exits: Exits) -> bool:
        """Whether the browser has another trace than this one."""
        return exits.source.version != self._sent

    def _send_trace(self, exits: Exits) -> None:
        """Send the trace as it is now."""
        source = exits.source
        if source.level != "full" and not len(source.rows(1)):
            self.note = _NO_TRACE.format(source.level)
            return
        version = source.version
        data = dump(exits, dict(self.metadata), durations=True, compression=1)
        with self.hold_sync():
            self.trace, self.note, self.waiting = data, "", 0
        self._sent = version

    # --- what its reader asks for -------------------------------------------------------------------------

    def _asked(self, _widget: object, message: Any, _buffers: object) -> None:
        wish = message if isinstance(message, dict) else {}
        try:
            self.carry_out(wish)
        except VlabError as error:
            self.problem = str(error)
        else:
            self.problem = ""

    def carry_out(self, wish: Mapping[str, Any]) -> None:
        """Do what a message of the browser asks for; raises VlabError. ``fetch``: send the trace now."""
        if wish.get("do") == "fetch":
            self._send_trace(self.vm.exits)


def _described(vm: VM) -> dict[str, Any]:
    return {"guest": vm.guest.name, "monitor": vm.monitor, "paging": vm.paging, "clock": vm.clock}


def _recorded(subject: object) -> tuple[Exits, Mapping[str, Any]]:
    """Give the exits, and what is known of the run they are from."""
    if isinstance(subject, TraceFile):
        return subject.exits, subject.metadata
    if isinstance(subject, Exits):
        owner = owner_of(subject)
        return subject, {} if owner is None else _described(owner)
    raise UnusableInput(
        f"subject: {subject!r} has no exits to show; give a VM, its vm.exits, or what vlab.trace.load gave"
    )
