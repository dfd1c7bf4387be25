"""The inspector: one exit at a time, and the guest taken to it.

A strip over all recorded exits is scrubbed in the browser, which has the trace and decodes it. Under the
deterministic clock the guest itself can be taken to the exit that is looked at; then its registers, its code
and the handler that served the exit are told by `place`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import traitlets

from vlab.errors import UnusableInput
from vlab.isa.state import CpuState
from vlab.session import VM
from vlab.trace.events import MODES
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFile, loads
from vlab.widgets import inspector_picture, place, qualification, techniques
from vlab.widgets.inspector_picture import Near
from vlab.widgets.traced import TracedView

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vlab.widgets.exits_view import ExitsView

_NOWHERE: Final = -1
_PATIENCE: Final = 10.0
"""Seconds of wall time that a step waits for an exit."""


class Inspector(TracedView):
    """The exits of ``subject``, one at a time: a VM, ``vm.exits``, or what ``vlab.trace.load`` gave.

    at: the exit to begin with, see ``look_at``; without it the newest. ``at``: where its cursor was put last.
    ``here``: how many exits the guest has had where it stands. ``stuck``: why it cannot be taken elsewhere,
    empty when it can. ``place``: what there is to see there; see `place.describe`.
    """

    script: ClassVar[str] = "inspector.js"
    styles: ClassVar[tuple[str, ...]] = ("inspector.css",)

    tables = traitlets.Dict(help="how qualifications decode").tag(sync=True)
    modes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sections = traitlets.Dict(help="where to read about each reason").tag(sync=True)
    at = traitlets.Int(0, help="the number of an exit to put the cursor on").tag(sync=True)
    here = traitlets.Int(_NOWHERE).tag(sync=True)
    stuck = traitlets.Unicode().tag(sync=True)
    place = traitlets.Dict().tag(sync=True)

    def __init__(self, subject: VM | Exits | TraceFile, at: int | None = None) -> None:
        self._turn = threading.Lock()
        self._times: npt.NDArray[np.unsignedinteger] | None = None
        self._base = 0
        self._shown: tuple[int, CpuState] | None = None
        self._position: tuple[int, int] | None = None
        self._last: Near | None = None
        self._looked: Near | None = None
        super().__init__(subject, tables=qualification.tables(), modes=[mode.value for mode in MODES])
        monitor = self.metadata.get("monitor")
        self.sections = techniques.sections(str(monitor or "hardware"))
        if at is not None:
            self.look_at(at)

    # --- following the VM ---------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the VM, unless it is being taken somewhere."""
        if self._turn.acquire(blocking=False):
            try:
                super().refresh()
            finally:
                self._turn.release()

    def look(self, vm: VM) -> None:
        """Look where the guest is, and at what there is to see when it stands still."""
        self.here = vm.exits.total
        self.stuck = _why_stuck(vm)
        position = vm.exits.total, vm.virtual_time_ns
        if not vm.busy and position != self._position:
            self._show(vm, self._shown, "")

    def _show(self, vm: VM, before: tuple[int, CpuState] | None, stop: str) -> None:
        """Set what there is to see here. before: a place to compare with, and its number of exits."""
        state, number = vm.registers(), vm.exits.total
        self._last = Near.newest(vm.exits)
        self.place = place.describe(vm, state, self._last.event if self._last else None, before, stop)
        self._shown, self._position = (number, state), (number, vm.virtual_time_ns)
        self.here = number

    # --- the trace ----------------------------------------------------------------------------------------

    def has_news(self, exits: Exits) -> bool:
        """Whether the guest has come further than the trace in the browser, or another way.

        Going back cuts the recorder's trace short; the browser keeps what it has, for that is the way ahead.
        """
        known, total = self._times, exits.total
        if known is None or total > self._base + len(known):
            return True
        last = exits[-1:] if total else None
        index = total - self._base - 1
        if last is None or not len(last) or index < 0:
            return False
        return bool(int(known[index]) != last[0].time)

    def _send_trace(self, exits: Exits) -> None:
        from vlab.trace.storage import exits_of

        super()._send_trace(exits)
        if exits.source.level != "full" and not self.trace:
            return
        table = exits_of(exits.source.rows())
        self._times, self._base = table["time"].copy(), exits.total - len(table)
        self._last = Near.newest(exits)
        if self._looked is not None:
            number = self._looked.number
            known = self._base < number <= self._recorded
            self._looked = Near.numbered(exits, number) if known else None

    def look_at(self, number: int) -> None:
        """Put the cursor on an exit in the trace, counted from 1; the guest stays where it is.

        A trace that is too long to go to the browser by itself goes now. Raises UnusableInput for an exit
        that is not in the trace.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise UnusableInput(f"at: {number!r} is no exit's number; give a whole number from 1 on")
        with self._turn:
            first, last = self._base + 1, self._recorded
            if self.live and not first <= number <= last:
                self._send_trace(self.vm.exits)
                first, last = self._base + 1, self._recorded
            if last < first:
                raise UnusableInput(f"at: there is no exit {number:,}; {self.note or 'no exit is recorded'}")
            if not first <= number <= last:
                raise UnusableInput(
                    f"at: exit {number:,} is not in the trace; it has exits {first:,} to {last:,}"
                )
            self._looked = Near.numbered(loads(self.trace).exits, number)
            self.at = 0  # so that the same number again is news
            self.at = number

    @property
    def _recorded(self) -> int:
        """The number of the last exit in the trace."""
        return self._base + (0 if self._times is None else len(self._times))

    # --- taking the guest somewhere -----------------------------------------------------------------------

    def carry_out(self, wish: Mapping[str, Any]) -> None:
        """Do what a message asks for: ``go`` to the state after exit ``number``, ``step``, ``back``."""
        match wish:
            case {"do": "go", "number": int(number)}:
                self.go_to(number)
            case {"do": "step"}:
                self.step()
            case {"do": "back"}:
                self.step_back()
            case _:
                super().carry_out(wish)

    def go_to(self, number: int) -> None:
        """Take the guest to the state after an exit in the trace, and show what that exit changed.

        Raises UnusableInput as ``VM.go_to``, and for an exit that is not in the trace.
        """
        with self._turn:
            if number > self._recorded:
                raise UnusableInput(
                    f"number: exit {number:,} is not in the trace; it ends with {self._recorded:,},"
                    " so step there"
                )
            self._go(self._mover(), number)

    def step(self) -> None:
        """Take the guest to the end of its next exit."""
        with self._turn:
            vm = self._mover()
            before = vm.exits.total, vm.registers()
            self._arrive(vm, before, str(vm.run(exits=1, timeout=_PATIENCE)))

    def step_back(self) -> None:
        """Take the guest to the end of the exit before, and show what that exit changed."""
        with self._turn:
            vm = self._mover()
            vm.step_back()
            self._go(vm, vm.exits.total)

    def _mover(self) -> VM:
        vm = self.vm
        if why := _why_stuck(vm):
            raise UnusableInput(why)
        return vm

    def _go(self, vm: VM, number: int) -> None:
        vm.go_to(number)  # refused, or not: before anything else changes
        before = self._before(vm, number)
        if before is not None:
            vm.go_to(number)
        total = vm.exits.total
        shared = f"exits {number:,} to {total:,} are of one block, and the guest stops behind the last"
        self._arrive(vm, before, shared if total > number else "")

    def _before(self, vm: VM, number: int) -> tuple[int, CpuState] | None:
        """Go to the stop before the one with so many exits, and see the registers; None at the start."""
        there = vm.exits.total
        try:
            vm.go_to(number - 1)
            if vm.exits.total >= there:
                vm.step_back()
        except UnusableInput:
            return None
        return vm.exits.total, vm.registers()

    def _arrive(self, vm: VM, before: tuple[int, CpuState] | None, story: str) -> None:
        with self.hold_sync():
            self._show(vm, before, story)
            self._looked, self.at = None, self.here
            if self.has_news(vm.exits):
                self._send_trace(vm.exits)

    # --- without a browser --------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the exit at the cursor, decoded, the exits around it, and the guest where it stands."""
        near = self._looked or self._last
        section = self.sections.get(near.event.reason, "") if near else ""
        return inspector_picture.draw(near, self._recorded, section, self.place, self.note)

    def words(self) -> str:
        """Tell the exit at the cursor, decoded, and what is to be seen of the guest where it stands."""
        near = self._looked or self._last
        if near is None:
            return self.note or "no exit is recorded"
        event = near.event
        lines = [str(event), f"  {inspector_picture.meaning(event)}"]
        lines += [
            f"  {each.bits}: {each.name} = {each.text} ({each.meaning})"
            for each in inspector_picture.decoded(event)
        ]
        return "\n".join([*lines, *place.tell(self.place)])


def opened(trace: TraceFile) -> Inspector | ExitsView:
    """Give the view of a loaded trace: the inspector, or the counts where no single exits were recorded."""
    from vlab.widgets.exits_view import ExitsView

    return Inspector(trace) if len(trace.exits) else ExitsView(trace)


def _why_stuck(vm: VM) -> str:
    """Tell why the guest cannot be taken elsewhere."""
    if vm.monitor == "none":
        return "the bare machine has no exits to go to; use monitor='hardware'"
    if vm.clock != "deterministic":
        return f"under the {vm.clock} clock a guest does not do the same twice; use clock='deterministic'"
    return "this VM runs; pause() or wait() for it first" if vm.busy else ""
