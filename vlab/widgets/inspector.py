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
from vlab.trace.events import MODES, ExitEvent
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFile
from vlab.widgets import place, qualification, techniques
from vlab.widgets.traced import TracedView

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NOWHERE: Final = -1
_PATIENCE: Final = 10.0
"""Seconds of wall time that a step waits for an exit."""


class Inspector(TracedView):
    """The exits of ``subject``, one at a time: a VM, ``vm.exits``, or what ``vlab.trace.load`` gave.

    ``here``: how many exits the guest has had where it stands. ``stuck``: why it cannot be taken elsewhere,
    empty when it can. ``place``: what there is to see there; see `place.describe`.
    """

    script: ClassVar[str] = "inspector.js"
    styles: ClassVar[tuple[str, ...]] = ("inspector.css",)

    tables = traitlets.Dict(help="how qualifications decode").tag(sync=True)
    modes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sections = traitlets.Dict(help="where to read about each reason").tag(sync=True)
    here = traitlets.Int(_NOWHERE).tag(sync=True)
    stuck = traitlets.Unicode().tag(sync=True)
    place = traitlets.Dict().tag(sync=True)

    def __init__(self, subject: VM | Exits | TraceFile) -> None:
        self._turn = threading.Lock()
        self._times: npt.NDArray[np.unsignedinteger] | None = None
        self._base = 0
        self._shown: tuple[int, CpuState] | None = None
        self._position: tuple[int, int] | None = None
        self._last: ExitEvent | None = None
        super().__init__(subject, tables=qualification.tables(), modes=[mode.value for mode in MODES])
        monitor = self.metadata.get("monitor")
        self.sections = techniques.sections(str(monitor or "hardware"))

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
        event = last_exit(vm.exits)
        self.place = place.describe(vm, state, event, before, stop)
        self._shown, self._position, self._last = (number, state), (number, vm.virtual_time_ns), event
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
        if len(table):
            self._last = exits[-1]

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
            recorded = self._base + (0 if self._times is None else len(self._times))
            if number > recorded:
                raise UnusableInput(
                    f"number: exit {number:,} is not in the trace; it ends with {recorded:,}, so step there"
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
            if self.has_news(vm.exits):
                self._send_trace(vm.exits)

    # --- without a browser --------------------------------------------------------------------------------

    def picture(self) -> None:
        """Words say it better."""

    def words(self) -> str:
        """Tell the last exit, decoded, and what is to be seen of the guest there."""
        if self._last is None:
            return self.note or "no exit is recorded"
        last = self._last
        lines = [str(last), f"  {qualification.tables().get(last.reason, {}).get('meaning', '')}"]
        lines += [
            f"  {each.bits}: {each.name} = {each.text} ({each.meaning})"
            for each in qualification.decode(last.reason, *last.qualification)
            if not each.is_flag or each.text == "1"
        ]
        return "\n".join([*lines, *place.tell(self.place)])


def last_exit(exits: Exits) -> ExitEvent | None:
    """Give the newest exit in a trace, None where it has none."""
    if exits.source.level != "full" and not len(exits.source.rows(1)):
        return None
    newest = exits[-1:]
    return newest[0] if len(newest) else None


def _why_stuck(vm: VM) -> str:
    """Tell why the guest cannot be taken elsewhere."""
    if vm.monitor == "none":
        return "the bare machine has no exits to go to; use monitor='hardware'"
    if vm.clock != "deterministic":
        return f"under the {vm.clock} clock a guest does not do the same twice; use clock='deterministic'"
    return "this VM runs; pause() or wait() for it first" if vm.busy else ""
