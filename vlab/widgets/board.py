"""The board of a virtual PC, live: its chips' registers bit by bit, its interrupt lines, what the guest asks.

What is shown comes from the chips' states, which are taken between two blocks of guest code; no register is
ever read for it. The browser gets what has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import traitlets

from vlab.devices.state import DeviceState, Shown, describe
from vlab.isa.fields import Register
from vlab.vmm.devices import shown
from vlab.widgets.accesses import KEPT, AccessLog
from vlab.widgets.board_wires import Wire, draw, wires
from vlab.widgets.kinds import described
from vlab.widgets.view import LiveView

if TYPE_CHECKING:
    from vlab.session import VM

_QUIET: Final = ("values", "accesses")
"""Traits that a browser gets whole when it asks, and otherwise change by change."""


class Board(LiveView):
    """The devices of ``vm``: what ``vm.devices`` is displayed as."""

    script: ClassVar[str] = "board.js"
    styles: ClassVar[tuple[str, ...]] = ("register_rows.css", "board.css")

    drawing = traitlets.Unicode(help="the interrupt lines as SVG").tag(sync=True)
    wires = traitlets.Dict(help="what is on each line: a word, and whether it is lit").tag(sync=True)
    chips: traitlets.List[dict[str, Any]] = traitlets.List(
        help="name, title and place of each chip, names of its registers"
    ).tag(sync=True)
    kinds = traitlets.Dict(help="the bits of each kind of register").tag(sync=True)
    values = traitlets.Dict(help="for each chip the values of its registers").tag(sync=True)
    accesses: traitlets.List[list[Any]] = traitlets.List(help="the log, oldest first").tag(sync=True)
    logged = traitlets.Int(0, help="accesses in the log, -1 without a full trace").tag(sync=True)

    def __init__(self, vm: VM) -> None:
        self._guard = threading.Lock()
        self._states: dict[str, DeviceState] = {}
        self._names: dict[str, list[tuple[str, type[Register] | None]]] = {}
        self._log: AccessLog | None = None
        self._taken = 0
        self._found: dict[str, Wire] = {}
        super().__init__(vm)
        self.on_msg(self._said)

    def _should_send_property(self, key: str, value: Any) -> bool:
        return key not in _QUIET and bool(super()._should_send_property(key, value))

    def _said(self, _widget: object, message: Mapping[str, Any], _buffers: object) -> None:
        """A browser that begins to listen asks for what there is so far."""
        if message.get("kind") == "whole":
            self.send_state(list(_QUIET))

    # --- following --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take the chips' states and the new accesses, and send what is new of them."""
        with self._guard:
            self._look(self.vm)

    def _look(self, vm: VM) -> None:
        if self._log is None:
            self._log, self._taken = AccessLog(vm.devices), vm.interrupts_delivered
        states, interrupt = vm.devices.states(), vm.devices.board.interrupt
        with self.hold_sync():
            new, again = self._new_accesses(vm, self._log)
            changes = self._changes(states)
            self._follow_wires(wires(states, interrupt, self._log.vectors, self._newly_taken(vm)))
        if changes or new or again:
            self.send({"kind": "changes", "registers": changes, "accesses": new, "again": again})

    def _new_accesses(self, vm: VM, log: AccessLog) -> tuple[list[list[Any]], bool]:
        source = vm.exits.source
        if source.level != "full" and not log.kept:
            self.logged = -1
            return [], False
        found = log.look(source)
        again = found is None
        new = [list(each) for each in (log.kept if found is None else found)]
        if new or again:
            self.accesses = (new if again else [*self.accesses, *new])[-KEPT:]
        self.logged = len(log.kept)
        return new, again

    def _changes(self, states: dict[str, DeviceState]) -> dict[str, dict[str, str]]:
        """Give the new values by chip and number of the register, and keep all."""
        values, changes = dict(self.values), {}
        for name, state in states.items():
            before = self._states.get(name)
            if state == before:
                continue
            registers = describe(state)
            names = [
                (each.name, None if each.register is None else type(each.register)) for each in registers
            ]
            fresh = [hex(each.register) if each.register is not None else shown(each) for each in registers]
            if names != self._names.get(name):
                self._names[name] = names
                self._describe(name, registers)
                values[name] = []
            old = values.get(name, [])
            new = {str(n): text for n, text in enumerate(fresh) if old[n : n + 1] != [text]}
            if new:
                changes[name] = new
                values[name] = fresh
        self._states = states
        self.values = values
        return changes

    def _describe(self, name: str, registers: list[Shown]) -> None:
        """Tell the browser of a chip whose registers it does not know."""
        kinds = {type(each.register) for each in registers if each.register is not None}
        self.kinds = self.kinds | {kind.__name__: described(kind) for kind in kinds}
        chip = self.vm.devices[name]
        told = [
            [each.name, type(each.register).__name__ if each.register is not None else ""]
            for each in registers
        ]
        told_of = {"name": name, "title": chip.title, "where": chip.where, "registers": told}
        self.chips = [*(each for each in self.chips if each["name"] != name), told_of]

    def _newly_taken(self, vm: VM) -> int:
        before, self._taken = self._taken, vm.interrupts_delivered
        return max(0, self._taken - before)

    def _follow_wires(self, found: dict[str, Wire]) -> None:
        self._found = found
        self.wires = {name: list(wire) for name, wire in found.items()}
        if not self.drawing:
            self.drawing = self.picture()

    # --- elsewhere --------------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the interrupt lines."""
        return draw(self._found)

    def words(self) -> str:
        """List the chips and their registers."""
        lines = []
        for chip in self.chips:
            lines.append(f"{chip['title']}, {chip['where']}")
            pairs = zip(chip["registers"], self.values[chip["name"]], strict=True)
            lines += [f"  {name:28} {value}" for (name, _kind_name), value in pairs]
        return "\n".join(lines)
