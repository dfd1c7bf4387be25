"""What a virtual machine is displayed as in a notebook: how it is, what can be done with it, its console.

The screen and the registers are looked at only while somebody has them open, so that a guest pays for no more
than is seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary
from xml.etree.ElementTree import Element

import ipywidgets
import traitlets

from vlab.errors import UnusableInput
from vlab.isa.control import DECLARED
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Mode
from vlab.pace import Pace
from vlab.vmm.snapshot import Snapshot
from vlab.vmm.stop import StopKind
from vlab.widgets import svg
from vlab.widgets.kinds import described
from vlab.widgets.screen import Screen
from vlab.widgets.standing import standing
from vlab.widgets.terminal import Terminal
from vlab.widgets.units import milliseconds
from vlab.widgets.view import LiveView

if TYPE_CHECKING:
    from vlab.session import VM

_PATIENCE: Final = 5.0
"""Seconds of wall time that a step waits for an exit."""
_WIDTH, _LINE, _LINES = 640, 18, 10  # of the drawing, in pixels and lines of the console

_of: WeakKeyDictionary[VM, Dashboard] = WeakKeyDictionary()


class Dashboard(LiveView):
    """All about ``vm`` at a glance, and its console. ``snapshots``: those that were taken with its button."""

    script: ClassVar[str] = "dashboard.js"
    styles: ClassVar[tuple[str, ...]] = ("register_rows.css", "dashboard.css")

    name = traitlets.Unicode(help="of the guest").tag(sync=True)
    about = traitlets.Unicode(help="monitor, paging, memory, clock").tag(sync=True)
    state = traitlets.Unicode("paused", help="running, paused or ended").tag(sync=True)
    why = traitlets.Unicode(help="the story of the last stop").tag(sync=True)
    exits = traitlets.Int(0).tag(sync=True)
    rate = traitlets.Float(0, help="exits a second of wall time, while it runs").tag(sync=True)
    time = traitlets.Int(0, help="virtual ns").tag(sync=True)
    stuck = traitlets.Unicode(help="why it cannot be stepped, empty when it can").tag(sync=True)
    said = traitlets.Unicode(help="what came of the last button").tag(sync=True)
    problem = traitlets.Unicode(help="why the last button did nothing").tag(sync=True)
    taken: traitlets.List[str] = traitlets.List(traitlets.Unicode(), help="the snapshots").tag(sync=True)
    terminal = traitlets.Instance(Terminal).tag(sync=True, **ipywidgets.widget_serialization)
    screen = traitlets.Instance(Screen, allow_none=True).tag(sync=True, **ipywidgets.widget_serialization)
    kinds = traitlets.Dict(help="the bits of each kind of register").tag(sync=True)
    registers: traitlets.List[list[str]] = traitlets.List(help="name, kind and value of each").tag(sync=True)

    def __init__(self, vm: VM) -> None:
        self._guard = threading.Lock()
        self.snapshots: list[Snapshot] = []
        self._pace = Pace()
        self._registers_open = False
        terminal = Terminal(vm)
        way = f"{vm.monitor}/{vm.paging}"
        super().__init__(
            vm, terminal=terminal, name=vm.guest.name, stuck=_stuck(vm),
            about=f"under {way}, {vm.memory_bytes >> 20} MiB, {vm.clock} clock",
            kinds={kind.__name__: described(kind) for kind in DECLARED.values()},
        )  # fmt: skip
        self.on_msg(self._asked)
        self.observe(self._let_go, "alive")

    def _let_go(self, _change: object) -> None:
        self.snapshots.clear()

    # --- following --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the VM: counters, and what is open."""
        vm = self.vm
        state, why = standing(vm)
        with self._guard, self.hold_sync():
            self.state, self.why = state, why
            self.exits, self.time = vm.exits.total, vm.virtual_time_ns
            self.rate = round(self._pace.at(time.monotonic(), self.exits, state == "running"), 1)
            if self._registers_open:
                self.registers = _rows(vm.registers())

    # --- buttons ----------------------------------------------------------------------------------------

    def _asked(self, _widget: object, message: Mapping[str, Any], _buffers: object) -> None:
        """Do what a button in a browser asks for, and say what came of it."""
        self.problem = ""
        try:
            self.said = self._do(self.vm, str(message.get("kind")), message)
            self.refresh()
            self.terminal.refresh()
        except Exception as problem:  # of the VM, or of what the run called: it is the user's to read
            self.problem = str(problem) or type(problem).__name__

    def _do(self, vm: VM, what: str, message: Mapping[str, Any]) -> str:
        match what:
            case "run":
                vm.start()
            case "pause":
                vm.pause()
            case "step":
                return _step(vm)
            case "back":
                return vm.step_back().story
            case "snapshot":
                self.snapshots.append(vm.snapshot())
                now = f"after exit {vm.exits.total:,}, {milliseconds(vm.virtual_time_ns)}"
                label = f"{len(self.snapshots)}: {now}"
                self.taken = [*self.taken, label]
                return f"snapshot {label}"
            case "restore":
                number = int(message["number"])
                vm.restore(self.snapshots[number])
                return f"back at snapshot {self.taken[number]}"
            case "open":
                self._open(vm, str(message.get("part")), bool(message.get("open")))
            case _:
                raise UnusableInput(f"dashboard: there is no button {what!r}; load the page again")
        return ""

    def _open(self, vm: VM, part: str, wanted: bool) -> None:
        """Look at a part only while it is open."""
        if part == "registers":
            self._registers_open = wanted
        elif wanted and self.screen is None:
            self.screen = Screen(vm)
        elif not wanted and self.screen is not None:
            screen, self.screen = self.screen, None
            screen.close()

    # --- elsewhere --------------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the facts and the end of the console."""
        lines = [line for line in self.terminal.lines() if line][-_LINES:]
        facts = self._facts()
        top = 34 + _LINE * len(facts)
        height = top + _LINE * max(1, len(lines)) + 20
        parts: list[Element] = [
            svg.box(0.5, 0.5, _WIDTH - 1, height - 1, class_="paper"),
            svg.text(12, 24, self.name, font_weight="bold"),
            svg.text(_WIDTH - 12, 24, self.state, text_anchor="end"),
            svg.box(12, top, _WIDTH - 24, height - top - 12, class_="panel"),
        ]
        parts += [svg.text(12, 24 + _LINE * n, fact, class_="faint") for n, fact in enumerate(facts, 1)]
        parts += [
            svg.text(20, top + _LINE * n, line[:76], class_="code", xml_space="preserve")
            for n, line in enumerate(lines, 1)
        ]
        return svg.document(_WIDTH, height, f"The virtual machine {self.name}, {self.state}", *parts)

    def words(self) -> str:
        """Give the VM's repr, and why it stands still."""
        vm = self._vm()
        facts = self._facts() if vm is None else [repr(vm), *self._facts()[1:]]
        return "\n".join(facts)

    def _facts(self) -> list[str]:
        facts = [self.about, f"{self.exits:,} exits, {milliseconds(self.time)} of virtual time"]
        return [*facts, self.why.partition("\n")[0]] if self.why else facts


def dashboard_of(vm: VM) -> Dashboard:
    """Give the dashboard of ``vm``, the same each time: many places in a notebook cost no more than one."""
    found = _of.get(vm)
    if found is None or not found.alive or found.comm is None:
        found = _of[vm] = Dashboard(vm)
    return found


def _stuck(vm: VM) -> str:
    """Say why there is nothing to step by; empty when there is."""
    if vm.monitor == "none":
        return "the bare machine has no exits to step over"
    return "nothing counts exits at trace level 'off'" if vm.exits.source.level == "off" else ""


def _step(vm: VM) -> str:
    stop = vm.run(exits=1, timeout=_PATIENCE)
    if stop.kind is StopKind.TIMEOUT:
        return f"no exit in {_PATIENCE:g} seconds"
    return f"after exit {vm.exits.total:,}" if stop.kind is StopKind.EXPECTED else stop.headline


def _rows(state: CpuState) -> list[list[str]]:
    """Give the registers: name, kind where its bits have names, value."""
    digits = 16 if state.mode is Mode.LONG64 else 8
    mask = (1 << 4 * digits) - 1
    general = GENERAL_REGISTERS if state.mode is Mode.LONG64 else GENERAL_REGISTERS[:8]
    rows = [["mode", "", f"{state.mode.value}, CPL {state.cpl}"]]
    for name in (*general, "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"):
        kind = DECLARED.get(name)
        value = getattr(state, name) & mask
        rows.append([name, "" if kind is None else kind.__name__, f"{value:#0{digits + 2}x}"])
    for name in (*SEGMENT_REGISTERS, "ldtr", "tr"):
        segment = getattr(state, name)
        rows.append([name, "", f"{segment.selector:#06x} base {segment.base:#x} limit {segment.limit:#x}"])
    for name in ("gdtr", "idtr"):
        table = getattr(state, name)
        rows.append([name, "", f"base {table.base:#x} limit {table.limit:#x}"])
    return rows
