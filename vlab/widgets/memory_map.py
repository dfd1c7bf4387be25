"""Who has which memory: guest-virtual ranges, guest-physical regions and host frames, joined by bands.

For one virtual machine or several, also on one machine. The guest's tables are read once for each look.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any, ClassVar, Final

import traitlets

from vlab.errors import UnusableInput
from vlab.session import VM
from vlab.widgets.map_drawing import draw, name_of
from vlab.widgets.map_facts import HOST, PHYSICAL, VIRTUAL, Look, MapFacts, Zoom
from vlab.widgets.units import size_text
from vlab.widgets.view import View, of_type
from vlab.widgets.watching import watch

_PERIOD: Final = 1.0
"""Seconds between two looks at running guests, at least; ten times what a look takes, if that is more."""
_PATIENCE: Final = 5.0
"""Seconds after which a look goes ahead beside another one, whose guest answers nothing."""
_COLUMNS: Final = {"virtual": VIRTUAL, "physical": PHYSICAL}
_MOST_WORDS: Final = 60


class MemoryMap(View):
    """The memory map of ``vms``, one or several, followed while they run at most once a second.

    ``zoom``: a part that alone is shown, {} for all: a dictionary with "vm" (from 0), "space" ("virtual" or
    "physical"), "start" and "end" ("0x..."). ``complete``: no guest maps more ranges than are read. Raises
    UnusableInput.
    """

    script: ClassVar[str] = "memory_map.js"
    styles: ClassVar[tuple[str, ...]] = ("memory_map.css",)

    alive = traitlets.Bool(True, help="whether all virtual machines are there").tag(sync=True)
    drawing = traitlets.Unicode("").tag(sync=True)
    details = traitlets.Dict(help="of the boxes, by key").tag(sync=True)
    zoom = traitlets.Dict(help="what alone is to be shown").tag(sync=True)
    asked = traitlets.Int(0, help="how often the reader asked for a look").tag(sync=True)
    complete = traitlets.Bool(True).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, *vms: VM, **traits: Any) -> None:
        if not vms:
            raise UnusableInput("vms: none is given; give at least one, such as MemoryMap(vm)")
        hint = "make one with vlab.VM('hello')"
        self._vms = tuple(weakref.ref(of_type("vms", vm, VM, hint)) for vm in vms)
        self._facts: MapFacts | None = None
        self._next = 0.0
        self._timer: threading.Timer | None = None
        self._guard, self._looking = threading.Lock(), threading.Lock()
        super().__init__(**traits)
        self._look()
        self._followers = [_Follower(self) for _ in vms]
        for vm, follower in zip(vms, self._followers, strict=True):
            watch(vm, follower)
        self.observe(self._wished, ["zoom", "asked"])

    def refresh(self) -> None:
        """Look again, now or as soon as a second has passed since the last time."""
        with self._guard:
            wait = self._next - time.monotonic()
            if wait > 0:
                if self._timer is None:
                    self._timer = threading.Timer(wait, _look_at, (weakref.ref(self),))
                    self._timer.daemon = True
                    self._timer.start()
                return
        self._look()

    def _wished(self, _change: object) -> None:
        try:
            self._look()
        except UnusableInput as problem:
            self.problem = str(problem)

    def _look(self) -> None:
        """Read the guests' tables and draw, one thread after the other."""
        mine = self._looking.acquire(timeout=_PATIENCE)
        try:
            self._look_now()
        finally:
            if mine:
                self._looking.release()

    def _look_now(self) -> None:
        started = time.monotonic()
        with self._guard:
            self._timer = None
            self._next = started + _PERIOD
        zoom = self._read_zoom()
        looks = []
        for reference in self._vms:
            vm = reference()
            if vm is None or vm.closed:
                self.alive = False
                raise UnusableInput("a VM of this view is gone; run the cell that makes it again")
            looks.append(_look_at_vm(vm))
        self._facts = facts = MapFacts(looks, zoom)
        with self.hold_sync():
            self.problem = ""
            self.complete = all(look.space.complete for look in looks)
            self.drawing = draw(facts)
            self.details = {key: _detail(facts, key) for key in facts.boxes}
        with self._guard:
            self._next = max(self._next, started + 10 * (time.monotonic() - started))

    def _read_zoom(self) -> Zoom | None:
        """Check the trait: it comes from the reader."""
        zoom = self.zoom
        if not zoom:
            return None
        try:
            owner, column = int(zoom["vm"]), _COLUMNS[zoom["space"]]
            start, end = (int(str(zoom[name]), 0) for name in ("start", "end"))
        except (KeyError, ValueError, TypeError):
            raise UnusableInput(
                f"zoom: {zoom!r} is no part; give vm, space, start and end, or {{}}"
            ) from None
        if not 0 <= owner < len(self._vms) or start >= end:
            raise UnusableInput(f"zoom: {zoom!r} names no part of these {len(self._vms)} VMs; give another")
        return Zoom(owner, column, start, end)

    def picture(self) -> str:
        """Draw it."""
        return self.drawing

    def words(self) -> str:
        """List the boxes, column by column."""
        assert self._facts is not None
        lines = []
        for column, name in ((VIRTUAL, "virtual"), (PHYSICAL, "physical"), (HOST, "host")):
            lines.append(f"{name}:")
            for box in self._facts.column(column)[:_MOST_WORDS]:
                whose = f"VM {box.owner + 1} " if len(self._vms) > 1 and box.owner >= 0 else ""
                lines.append(f"  {whose}{name_of(box).partition(' ')[2]}")
        if not self.complete:
            lines.append("A guest maps more ranges than are read; what is missing lies behind the last one.")
        return "\n".join(lines)


class _Follower:
    """What is told when one of the virtual machines has moved, for a view that it does not keep."""

    def __init__(self, view: MemoryMap) -> None:
        self._view = weakref.ref(view)
        self._alive = True

    @property
    def alive(self) -> bool:
        """Whether there still is the virtual machine."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        self._alive = value
        view = self._view()
        if view is not None and not value:
            view.alive = False

    def refresh(self) -> None:
        """Have the view look."""
        view = self._view()
        if view is not None:
            view.refresh()


def _look_at(reference: weakref.ref[MemoryMap]) -> None:
    view = reference()
    if view is not None and view.alive:
        view._wished(None)


def _look_at_vm(vm: VM) -> Look:
    """Read one guest's tables, and find some of its shadow tables, if there are any."""
    space = vm.address_space()
    shadow = vm.walk(space.ranges[0].linear if space.ranges else 0).shadow
    tables = tuple(step.table for step in shadow.steps) if shadow is not None else ()
    return Look(vm.guest.name, vm.machine, space, tables)


def _detail(facts: MapFacts, key: str) -> dict[str, Any]:
    """Give what the browser tells of one box."""
    box = facts.boxes[key]
    zoom = None
    if box.zoom:
        space = "virtual" if box.column == VIRTUAL else "physical"
        zoom = {"vm": box.owner, "space": space, "start": f"{box.start:#x}", "end": f"{box.end:#x}"}
    return {
        "name": name_of(box),
        "facts": [["addresses", f"{box.start:#x} to {box.end - 1:#x} ({size_text(box.size)})"], *box.facts],
        "zoom": zoom,
    }
