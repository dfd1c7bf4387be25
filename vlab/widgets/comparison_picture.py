"""A comparison drawn as a table with bars, for places without a kernel."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from vlab.widgets import svg
from vlab.widgets.comparison_data import Cell, Column, Group, Table

_WIDTHS: Final = {
    "way": 176, "agrees": 132, "result": 66, "alone": 84, "exits": 270, "cycles": 150, "time": 96,
    "work": 120, "over": 100,
}  # fmt: skip
_ROW, _HEAD, _CHARACTER = 38, 24, 5.9


def draw(table: Table, generation: str) -> str:
    """Draw all groups, one below the other."""
    width = sum(_WIDTHS[column.key] for column in table.columns) + 16
    parts = [_hatching()]
    title = dict(table.generations).get(generation, generation)
    parts.append(svg.text(10, 20, f"Cycles: modelled for {title}", class_="small faint"))
    y = 26
    for group in table.groups:
        parts.append(_group(group, table, generation, y, width))
        y += 2 * _HEAD + _ROW * len(group.rows) + 10
    for note in table.notes:
        parts.append(svg.text(10, y + 14, note, class_="small"))
        y += 18
    paper = svg.box(0, 0, width, y + 4, class_="paper")
    label = "Monitors compared: " + ", ".join(group.name for group in table.groups)
    return svg.document(width, y + 4, label, paper, *parts, styles=("marks.css",))


def _hatching() -> Element:
    stripe = svg.node("path", d="M0 6L6 0", style="stroke: var(--vlab-monitor); stroke-width: 2")
    return svg.node(
        "defs",
        svg.node("pattern", stripe, id="vlab-hatched", width=6, height=6, patternUnits="userSpaceOnUse"),
    )


def _group(group: Group, table: Table, generation: str, top: int, width: int) -> Element:
    parts: list[Element] = [svg.text(10, top + 17, group.name, style="font-weight: 600")]
    x = 10
    for column in table.columns:
        parts.append(svg.text(x, top + _HEAD + 16, column.title, class_="faint"))
        cells = [row.cell(column.key, generation) for row in group.rows]
        most = max((each.value for each in cells if isinstance(each.value, int | float)), default=0.0)
        for place, cell in enumerate(cells):
            parts.append(_cell(cell, column, x, top + 2 * _HEAD + place * _ROW, most))
        x += _WIDTHS[column.key]
    for place in range(len(group.rows)):
        y = top + 2 * _HEAD + place * _ROW - 2
        parts.append(svg.line(8, y, width - 8, y, class_="edge"))
    return svg.group(*parts)


def _cell(cell: Cell, column: Column, x: int, y: int, most: float) -> Element:
    room = _WIDTHS[column.key] - 14
    parts: list[Element] = [svg.text(x, y + 13, cell.text)]
    if cell.note:
        fits = int(room / _CHARACTER)
        parts.append(svg.text(x, y + 31, svg.cut(cell.note, fits), class_="small faint"))
    if column.bars and isinstance(cell.value, int | float) and most:
        left, scale = float(x), room / most
        segments = [(part.amount, part.colour) for part in cell.parts] or [(cell.value, "guest")]
        for amount, colour in segments:
            wide = amount * scale
            parts.append(
                svg.node("rect", x=left, y=y + 17, width=wide, height=4, style=f"fill: {_fill(colour)}")
            )
            left += wide
    return svg.group(*parts)


def _fill(colour: str) -> str:
    return {"guest": "var(--vlab-guest)", "exits": "url(#vlab-hatched)"}.get(colour, colour)


def tell(table: Table, generation: str) -> str:
    """Write the table as text."""
    lines = [f"cycles: modelled for {dict(table.generations).get(generation, generation)}"]
    for group in table.groups:
        rows = [[column.title.lower() for column in table.columns]]
        rows += [[row.cell(column.key, generation).text for column in table.columns] for row in group.rows]
        widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
        lines += ["", group.name]
        for number, row in enumerate(rows):
            cells = (
                text.ljust(wide) if place < 2 or not table.columns[place].bars else text.rjust(wide)
                for place, (text, wide) in enumerate(zip(row, widths, strict=True))
            )
            named = group.rows[number - 1].cells["exits"].note if number else "mostly"
            mostly = ", ".join(named.split(", ")[:2])
            lines.append(f"  {'  '.join(cells)}  {mostly}".rstrip())
    return "\n".join([*lines, *([""] if table.notes else []), *table.notes])
