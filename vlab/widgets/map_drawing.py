"""The drawing of a memory map: three columns of boxes, higher for more memory, and bands that join them."""

from __future__ import annotations

from math import log2
from typing import Final
from xml.etree.ElementTree import Element

from vlab.widgets import svg
from vlab.widgets.map_facts import HOST, PHYSICAL, VIRTUAL, Band, Box, MapFacts
from vlab.widgets.units import rough_size, size_text

WIDTH: Final = 780
_LEFT: Final = {VIRTUAL: 8, PHYSICAL: 285, HOST: 562}
_BOX_WIDTH: Final = 210
_TOP: Final = 62
_HOLE: Final = 1 << 47
"""From here to as far below the top of 64 bits no address is canonical (AMD APM vol. 2, rev. 3.42, 5.3.1)."""
_NAMES: Final = {VIRTUAL: "guest-virtual", PHYSICAL: "guest-physical", HOST: "host frames"}
_COLOUR: Final = {
    "user": "var(--vlab-user)", "kernel": "var(--vlab-kernel)", "mixed": "var(--vlab-changed)",
    "RAM": "var(--vlab-guest)", "ROM": "var(--vlab-kernel)", "window": "var(--vlab-hardware)",
    "monitor": "var(--vlab-monitor)", "machine": "var(--vlab-hardware)", "free": "var(--vlab-edge)",
}  # fmt: skip
_LEGEND: Final = (
    "RW writable, RO read-only (dashed edge); X executable, NX not (striped side); U user, S supervisor;",
    "D dirty (corner); ×2 frames that have a second address (double edge). Heights grow with the logarithm.",
)


class _Layout:
    """Where each box is: ``y`` and ``height`` by its key."""

    def __init__(self, facts: MapFacts) -> None:
        self.boxes = facts.boxes
        self.y: dict[str, float] = {}
        self.height: dict[str, float] = {}
        self.heads: list[Element] = []
        self.bottom = float(_TOP)
        for column in (VIRTUAL, PHYSICAL, HOST):
            self._place(column, facts)

    def _place(self, column: int, facts: MapFacts) -> None:
        y, before = float(_TOP), None
        for box in facts.column(column):
            if column != HOST and len(facts.looks) > 1 and (before is None or before.owner != box.owner):
                y += 4 if before is None else 14
                name = f"VM {box.owner + 1}: {facts.looks[box.owner].name}"
                self.heads.append(svg.text(_LEFT[column], y + 8, name, class_="small", font_weight="bold"))
                y += 14
            elif before is not None:
                y += self._gap(column, before, box, y)
            self.y[box.key], self.height[box.key] = y, _height(box)
            y += _height(box)
            before = box
        self.bottom = max(self.bottom, y)

    def _gap(self, column: int, before: Box, box: Box, y: float) -> float:
        """Give the room between two boxes, and say how much is missing there."""
        missing = box.start - before.end
        if missing <= 0 or column == HOST:
            return 3
        hole = before.end <= _HOLE <= box.start and box.column == VIRTUAL
        words = "··· not canonical" if hole else f"··· {rough_size(missing)}"
        middle = _LEFT[column] + _BOX_WIDTH / 2
        self.heads.append(svg.text(middle, y + 12, words, class_="faint small", text_anchor="middle"))
        return 17

    def at(self, key: str, address: int) -> float:
        """Give the height of an address in the drawing."""
        box = self.boxes[key]
        part = (address - box.start) / max(1, box.size)
        return self.y[key] + min(1.0, max(0.0, part)) * self.height[key]


def _height(box: Box) -> float:
    return min(110.0, 34 + 4 * max(0.0, log2(max(box.size, 1) / 65536)))


def draw(facts: MapFacts) -> str:
    """Draw it."""
    layout = _Layout(facts)
    names = " and ".join(look.name for look in facts.looks)
    title = f"Memory map of {names}"
    shown: list[Element] = [svg.text(8, 20, title, font_weight="bold")]
    for column, name in _NAMES.items():
        shown.append(svg.text(_LEFT[column], 46, name, class_="faint"))
    bands = [band for band in facts.bands if band.source in layout.y and band.target in layout.y]
    shown += [_band(layout, band) for band in bands]
    shown += layout.heads
    shown += [_box(layout, box) for box in facts.boxes.values()]
    y = layout.bottom + 8
    for line in _LEGEND:
        y += 16
        shown.append(svg.text(8, y, line, class_="faint small"))
    return svg.document(WIDTH, y + 12, title, *shown)


def _band(layout: _Layout, band: Band) -> Element:
    source, target = layout.boxes[band.source], layout.boxes[band.target]
    x1, x2 = _LEFT[source.column] + _BOX_WIDTH, _LEFT[target.column]
    top, bottom = layout.at(band.source, band.first), layout.at(band.source, band.last)
    to_top, to_bottom = layout.at(band.target, band.to_first), layout.at(band.target, band.to_last)
    bottom, to_bottom = max(bottom, top + 1.5), max(to_bottom, to_top + 1.5)
    middle = (x1 + x2) / 2
    path = (
        f"M{x1},{top:.1f} C{middle},{top:.1f} {middle},{to_top:.1f} {x2},{to_top:.1f} "
        f"V{to_bottom:.1f} C{middle},{to_bottom:.1f} {middle},{bottom:.1f} {x1},{bottom:.1f} Z"
    )
    return svg.node(
        "path",
        d=path,
        class_="vlab-band",
        style=f"fill: {_COLOUR[source.kind]}; fill-opacity: 0.28; stroke: {_COLOUR[source.kind]}; "
        "stroke-opacity: 0.6; stroke-width: 0.7",
        data_source=band.source,
        data_target=band.target,
        data_from=f"{band.to_first:#x}",
        data_to=f"{band.to_last:#x}",
    )


def _box(layout: _Layout, box: Box) -> Element:
    x, y, height = _LEFT[box.column], layout.y[box.key], layout.height[box.key]
    colour = _COLOUR[box.kind]
    dashed = "5 3" if "RO" in box.marks else "1 3" if box.kind == "free" else None
    children = [
        svg.title(name_of(box)),
        svg.box(
            x, y, _BOX_WIDTH, height, class_="vlab-frame", stroke_dasharray=dashed,
            style=f"fill: var(--vlab-paper); stroke: {colour}; stroke-width: 1.5",
        ),
        svg.node("rect", x=x, y=y, width=7, height=height, rx=3, style=f"fill: {colour}"),
    ]  # fmt: skip
    if "NX" in box.marks:
        children += [
            svg.line(x, y + step, x + 7, y + step - 5, style="stroke: var(--vlab-paper); stroke-width: 2")
            for step in range(8, int(height), 7)
        ]
    if "×2" in box.marks:
        children.append(
            svg.box(
                x + 3,
                y + 3,
                _BOX_WIDTH - 6,
                height - 6,
                style=f"fill: none; stroke: {colour}; stroke-width: 0.8",
            )
        )
    if "D" in box.marks:
        right = x + _BOX_WIDTH
        corner = f"{right - 10},{y:.1f} {right},{y:.1f} {right},{y + 10:.1f}"
        children.append(svg.node("polygon", points=corner, style=f"fill: {colour}"))
    children += _words(box, x, y)
    return svg.group(*children, class_="vlab-box", data_key=box.key, data_column=box.column)


def _words(box: Box, x: float, y: float) -> list[Element]:
    """Two lines: where it is and how large; what it is, and its marks."""
    place, size, marks = f"{box.start:#x}", size_text(box.size), " ".join(box.marks)
    left, right = x + 13, x + _BOX_WIDTH - 12
    if box.column == HOST:
        return [
            svg.text(left, y + 14, box.label, class_="small"),
            svg.text(left, y + 28, f"{place}, {size}", class_="faint small"),
        ]
    if box.column == PHYSICAL:
        return [
            svg.text(left, y + 14, place, class_="code small"),
            svg.text(right, y + 14, size, class_="faint small", text_anchor="end"),
            svg.text(left, y + 28, box.label, class_="faint small"),
            svg.text(right, y + 28, marks, class_="small", text_anchor="end", font_weight="bold"),
        ]
    size, _, ranges = box.label.partition(" in ")
    return [
        svg.text(left, y + 14, place, class_="code small"),
        svg.text(right, y + 14, size, class_="faint small", text_anchor="end"),
        svg.text(left, y + 28, marks, class_="small", font_weight="bold"),
        svg.text(right, y + 28, ranges, class_="faint small", text_anchor="end"),
    ]


def name_of(box: Box) -> str:
    """Name a box in one line, for a screen reader."""
    last = box.end - 1
    marks = f", {' '.join(box.marks)}" if box.marks else ""
    return f"{_NAMES[box.column]} {box.start:#x} to {last:#x}: {box.label}{marks}"
