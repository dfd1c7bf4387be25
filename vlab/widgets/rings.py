"""Rings and modes: one drawing for every monitor, in which the recorded exits are played.

Two discs of four rings: guest mode and host mode. With AMD-V the guest has a disc to itself and the monitor
is on the other; without, all are on one, and the guest's kernel has moved from ring 0 to ring 1. Below them
is what the hardware does on the way between guest and monitor. Sections are those of `techniques`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final
from xml.etree.ElementTree import Element

import traitlets

from vlab.session import VM
from vlab.trace.events import MODES
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFile
from vlab.widgets import qualification, svg, techniques
from vlab.widgets.techniques import Technique
from vlab.widgets.traced import TracedView

_WIDTH, _HEIGHT = 760, 462
_MIDDLE: Final = {"guest": 200, "host": 560}
_CENTRE_Y, _RADII = 190, (50, 84, 118, 152)
_NAME_AT: Final = (0, 28, 26, 25)
"""How far below a ring's upper edge its name is, so that it fits between the edges."""
_HARDWARE_Y, _ROW = 372, 38
_TOKEN_ANGLE: Final = math.radians(52)
_PLANES: Final = {
    "guest": ("guest mode", "between VMRUN and #VMEXIT (APM2 15.1)"),
    "host": ("host mode", "the processor without VMRUN"),
}


class Rings(TracedView):
    """Which ring and mode runs now, and how each recorded exit moves between them.

    subject: a VM, ``vm.exits``, or what ``vlab.trace.load`` gave. monitor: whose trace it is, where it does
    not say. ``place``: the part of the drawing that runs, such as "guest-0"; ``now``: the same in words.
    """

    script: ClassVar[str] = "rings.js"
    styles: ClassVar[tuple[str, ...]] = ("rings.css",)

    drawing = traitlets.Unicode(help="the picture, which the browser brings to life").tag(sync=True)
    technique = traitlets.Dict(help="places, sections and words of this monitor").tag(sync=True)
    tables = traitlets.Dict(help="how qualifications decode").tag(sync=True)
    modes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    place = traitlets.Unicode().tag(sync=True)
    now = traitlets.Unicode().tag(sync=True)

    def __init__(self, subject: VM | Exits | TraceFile, monitor: str | None = None) -> None:
        self._way = "none"
        self._asked_for = monitor
        self._exits: Exits | None = None if isinstance(subject, VM) else _exits_of(subject)
        super().__init__(
            subject, tables=qualification.tables(), modes=[mode.value for mode in MODES], drawing=""
        )  # fmt: skip
        self._set_way()
        if self._exits is not None:
            self._look_at_last(self._exits)
        self.drawing = self.picture()

    def _set_way(self) -> None:
        way = self._asked_for or self.metadata.get("monitor")
        if way is None and self._exits is not None:
            way = techniques.guess(self._exits.source)
        self.technique = techniques.as_json(str(way))
        self._way = str(way)

    # --- what runs now ------------------------------------------------------------------------------------

    def look(self, vm: VM) -> None:
        """Look which ring of which mode the guest is in."""
        self._way = vm.monitor
        state = vm.registers()
        ring = _own_ring(vm.monitor, state.cpl)
        place = techniques.technique(vm.monitor).place(ring, state.mode)
        does = "waits for an interrupt (HLT)" if vm.halted else "runs" if vm.busy else "stands still"
        self.place = place
        where = f"{_where(place)}, {state.mode.value} mode, RIP {state.rip:#x}"
        self.now = f"the guest's {_who(ring)} {does}: {where}"

    def _look_at_last(self, exits: Exits) -> None:
        if not len(exits):
            self.now = "no exit is in this trace"
            return
        last = exits[-1]
        ring = _own_ring(self._way, last.ring)
        self.place = techniques.technique(self._way).place(ring, last.mode)
        where = f"RIP {last.rip:#x}, {_where(self.place)}"
        self.now = f"the last of {len(exits):,} exits: {last.reason} at {where}"

    # --- the drawing --------------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the rings, with the one that runs marked."""
        way = techniques.technique(self._way)
        parts = [_plane(plane, way, self.place) for plane in _PLANES]
        label = f"Rings and modes under {_title(self._way)}. {way.idea} {self.now}"
        return svg.document(
            _WIDTH, _HEIGHT, label, *parts, _hardware(way),
            svg.line(0, 0, 0, 0, class_="rings-trail", data_part="trail", visibility="hidden"),
            svg.node("circle", r=9, class_="rings-token", data_part="token", visibility="hidden"),
            styles=self.styles,
        )  # fmt: skip

    def words(self) -> str:
        """Tell who is where, and what runs."""
        way = techniques.technique(self._way)
        lines = [f"{_title(self._way)}: {way.idea}"]
        lines += [f"  {_where(place)}: {who}" for place, (who, _) in _occupants(way).items()]
        return "\n".join([*lines, self.now])


def _exits_of(subject: object) -> Exits | None:
    if isinstance(subject, TraceFile):
        return subject.exits
    return subject if isinstance(subject, Exits) else None


def _own_ring(monitor: str, ring: int) -> int:
    """Give the ring that the guest means: one that knows its monitor says 1 where others say 0."""
    return 0 if monitor == "paravirtual" and ring == 1 else ring


def _title(monitor: str) -> str:
    return "the bare machine" if monitor == "none" else f"the monitor {monitor}"


def _who(ring: int) -> str:
    return "program" if ring == 3 else "kernel"


def _where(place: str) -> str:
    plane, ring = place.split("-")
    return f"ring {ring} in {_PLANES[plane][0]}"


def _occupants(way: Technique) -> dict[str, tuple[str, str]]:
    """Give, by place, who lives there, and the class that colours it."""
    found = {
        f"{way.plane}-{way.rings[3]}": ("guest programs", "user"),
        f"{way.plane}-{way.rings[0]}": ("guest kernel", "kernel"),
    }
    if way.monitor:
        found["host-0"] = ("monitor", "monitor")
    return found


def _plane(plane: str, way: Technique, now: str) -> Element:
    """Draw one disc."""
    x = _MIDDLE[plane]
    unused = bool(way.unused) and plane == "guest"
    occupants = _occupants(way)
    name, what = _PLANES[plane]
    rings = [
        _ring(plane, ring, occupants.get(f"{plane}-{ring}"), now == f"{plane}-{ring}")
        for ring in reversed(range(4))
    ]
    words = way.unused if unused else what
    return svg.group(
        svg.text(x, 16, name, text_anchor="middle", class_="rings-title"),
        svg.text(x, 31, words, text_anchor="middle", class_="faint small"),
        *rings,
        class_=f"rings-plane{' rings-unused' if unused else ''}",
    )


def _ring(plane: str, ring: int, occupant: tuple[str, str] | None, runs: bool) -> Element:
    """Draw one ring, from its outer edge inwards; the next ones are drawn over it."""
    x, radius = _MIDDLE[plane], _RADII[ring]
    who, colour = occupant or ("", "nobody")
    about = f"{who or 'nobody'}: {_where(f'{plane}-{ring}')}"
    anchor_x, anchor_y = _anchor(plane, ring)
    top = _CENTRE_Y - 6 if ring == 0 else _CENTRE_Y - radius + _NAME_AT[ring]
    low = _CENTRE_Y + 10 if ring == 0 else _CENTRE_Y + radius - 12
    parts = [
        svg.title(about),
        svg.node("circle", cx=x, cy=_CENTRE_Y, r=radius, class_=f"rings-ring rings-{colour}"),
        svg.text(x, low, f"ring {ring}", text_anchor="middle", class_="faint small"),
    ]
    if who:
        parts.append(svg.text(x, top, who, text_anchor="middle", class_="rings-who"))
    return svg.group(
        *parts,
        class_=f"rings-place{' runs' if runs else ''}",
        data_place=f"{plane}-{ring}", data_x=round(anchor_x), data_y=round(anchor_y), data_about=about,
        tabindex=0 if who else None, role="img", aria_label=about,
    )  # fmt: skip


def _anchor(plane: str, ring: int) -> tuple[float, float]:
    """Where the token stands that shows who runs: between the ring's edges, towards the other disc."""
    if ring == 0:
        return _MIDDLE[plane], _CENTRE_Y + 28
    radius = (_RADII[ring] + _RADII[ring - 1]) / 2
    side = 1 if plane == "guest" else -1
    x = _MIDDLE[plane] + side * radius * math.cos(_TOKEN_ANGLE)
    return x, _CENTRE_Y + radius * math.sin(_TOKEN_ANGLE)


def _hardware(way: Technique) -> Element:
    """Draw what the hardware does on the way out and back."""
    rows: list[Any] = []
    out, back = (
        ("when the guest leaves", "when the guest goes back")
        if way.monitor
        else ("on the way into the kernel", "on the way back")
    )
    for number, (part, when, (what, section)) in enumerate((("out", out, way.out), ("back", back, way.back))):
        y = _HARDWARE_Y + 4 + number * (_ROW + 4)
        about = f"hardware, {when}: {what} ({section})"
        row = svg.group(
            svg.title(about),
            svg.box(96, y, _WIDTH - 112, _ROW, class_="rings-act"),
            svg.text(136, y + 17, what, class_="rings-what"),
            svg.text(136, y + 31, f"{when} · {section}", class_="faint small"),
            class_="rings-place", data_place=part, data_x=116, data_y=y + _ROW // 2, data_about=about,
            tabindex=0, role="img", aria_label=about,
        )  # fmt: skip
        rows.append(row)
    return svg.group(
        svg.text(16, _HARDWARE_Y + 48, "hardware", class_="rings-title rings-aside"),
        *rows,
    )
