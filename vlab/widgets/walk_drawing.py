"""The drawing of a page walk: the divided address, the tables one below the other or as a grid, the end."""

from __future__ import annotations

from textwrap import wrap
from typing import Final
from xml.etree.ElementTree import Element

from vlab.isa.paging import PagingMode, Step, Translation
from vlab.widgets import svg
from vlab.widgets.walk_facts import (
    GUEST,
    NESTED,
    SHADOW,
    Part,
    Shown,
    WalkFacts,
    entry_name,
    flags_of,
    is_leaf,
    split,
)

WIDTH: Final = 780
_LINE: Final = 17
_CELL_WIDTH, _CELL_HEIGHT, _CELL_GAP, _HEADER = 118, 62, 10, 134
_STEP_HEIGHT, _STEP_GAP = 66, 16
_COLOUR: Final = {GUEST: "var(--vlab-guest)", NESTED: "var(--vlab-nested)", SHADOW: "var(--vlab-shadow)"}
_DASH: Final = {GUEST: None, NESTED: "6 3", SHADOW: "2 3"}


def draw(facts: WalkFacts) -> str:
    """Draw the whole walk."""
    walk = facts.walk
    title = f"Page walk of linear address {walk.linear:#x}, {walk.mode.value} translation"
    steps = tuple(reference.step for reference in walk.references)
    parts: list[Element] = [svg.text(8, 20, title, font_weight="bold")]
    parts.append(divided(split(walk.linear, walk.mode, steps), 8, 30, WIDTH - 16))
    y = 96
    if facts.kind == SHADOW:
        drawn, y = _side_by_side(facts, y)
    elif facts.kind == NESTED:
        drawn, y = _grid(facts, y)
    else:
        drawn, y = _ladder(facts, facts.rows[0], 8, y, WIDTH - 16)
    parts += drawn
    for line in facts.outcome():
        for words in wrap(line, 112, subsequent_indent="    "):
            y += _LINE
            parts.append(svg.text(8, y, words, xml_space="preserve"))
    return svg.document(WIDTH, y + 12, title, *parts)


def draw_inner(facts: WalkFacts, row: int) -> str:
    """Draw the nested walk of one row of the grid by itself."""
    shown = [each for each in facts.rows[row] if each.kind == NESTED]
    address = shown[0].of
    title = f"Nested walk of guest-physical {address:#x}"
    steps = tuple(each.step for each in shown)
    ladder, y = _ladder(facts, shown, 8, 96, WIDTH - 16)
    parts = divided(split(address, PagingMode.LONG, steps), 8, 30, WIDTH - 16)
    return svg.document(WIDTH, y, title, svg.text(8, 20, title, font_weight="bold"), parts, *ladder)


def divided(parts: list[Part], x: int, y: int, width: int) -> Element:
    """Draw an address as the fields that the walk makes of it."""
    weights = [max(part.hi - part.lo + 1, 9) for part in parts]
    unit = width / sum(weights)
    group = svg.group(class_="vlab-split")
    at = float(x)
    for part, weight in zip(parts, weights, strict=True):
        wide, middle = weight * unit, at + weight * unit / 2
        name = part.name if part.level is not None else "sign"
        group.append(
            svg.group(
                svg.box(at, y, wide - 3, 26, class_="panel"),
                svg.text(middle, y + 18, f"{part.value:#x}", class_="code", text_anchor="middle"),
                svg.text(middle, y + 41, f"{part.bits} {name}", class_="faint small", text_anchor="middle"),
                class_="vlab-part",
                data_level=None if part.level is None else part.level,
            )
        )
        at += wide
    return group


def _ladder(facts: WalkFacts, row: list[Shown], x: int, y: int, width: int) -> tuple[list[Element], int]:
    """Draw the entries of one walk, one below the other; give the drawing and where it ends."""
    drawn: list[Element] = []
    for number, shown in enumerate(row):
        drawn.append(_step(facts, shown, x, y, width))
        if number + 1 < len(row):
            middle = x + 60
            drawn.append(_arrow(middle, y + _STEP_HEIGHT, middle, y + _STEP_HEIGHT + _STEP_GAP))
        y += _STEP_HEIGHT + _STEP_GAP
    return drawn, y


def _step(facts: WalkFacts, shown: Shown, x: int, y: int, width: int) -> Element:
    step = shown.step
    digits = 2 + 2 * step.entry_size
    stopped = "  stopped here" if shown.label == facts.stopped else ""
    return _reference(
        facts,
        shown,
        _frame(shown, x, y, width, _STEP_HEIGHT),
        *_badge(shown, x + 18, y + 22),
        svg.text(x + 38, y + 20, f"{shown.name}{_page(step)}{stopped}", font_weight="bold"),
        svg.text(x + 38, y + 38, f"[{step.index:#x}] of the table at {step.table:#x}"),
        svg.text(x + 38, y + 56, f"{step.entry:#0{digits}x}  {flags_of(step)}", class_="code small"),
    )


def _page(step: Step) -> str:
    if not is_leaf(step) or step.level == 1:
        return ""
    return " (maps a large page)"


def _side_by_side(facts: WalkFacts, y: int) -> tuple[list[Element], int]:
    half = WIDTH // 2 - 12
    shadow, guest = facts.rows
    right = WIDTH - half - 8
    head = [
        svg.text(8, y + 6, "Guest's tables: the monitor reads them", style=f"fill: {_COLOUR[GUEST]}"),
        svg.text(right, y + 6, "Shadow tables: the processor walks them", style=f"fill: {_COLOUR[SHADOW]}"),
    ]
    left_drawn, left_end = _ladder(facts, guest, 8, y + 16, half)
    right_drawn, right_end = _ladder(facts, shadow, right, y + 16, half)
    if not guest:
        left_drawn = [svg.text(8, y + 40, "None: the guest's paging is off.", class_="faint")]
    return [*head, *left_drawn, *right_drawn], max(left_end, right_end, y + 56)


def _grid(facts: WalkFacts, y: int) -> tuple[list[Element], int]:
    """Draw the two-dimensional walk: a row for each guest table, and one for the address in the end."""
    drawn: list[Element] = []
    for column, name in enumerate(("nPML4E", "nPDPE", "nPDE", "nPTE", "guest")):
        middle = _column(column) + _CELL_WIDTH / 2
        drawn.append(svg.text(middle, y + 6, name, class_="faint", text_anchor="middle"))
    y += 14
    references = facts.walk.references
    for number, row in enumerate(facts.rows):
        final = number == len(references)
        name = "the address" if final else f"guest {entry_name(references[number].step)}"
        drawn += [
            svg.text(8, y + 24, name, font_weight="bold"),
            svg.text(8, y + 42, f"gPA {row[0].of:#x}", class_="code small"),
        ]
        drawn += _cells(facts, row, y)
        if final:
            drawn += _destination(facts, y)
        elif number + 1 < len(facts.rows):
            drawn.append(
                _arrow(_column(4) + 20, y + _CELL_HEIGHT, _column(4) + 20, y + _CELL_HEIGHT + _CELL_GAP)
            )
        y += _CELL_HEIGHT + _CELL_GAP
    return drawn, y


def _cells(facts: WalkFacts, row: list[Shown], y: int) -> list[Element]:
    drawn: list[Element] = []
    nested = [shown for shown in row if shown.kind == NESTED]
    for shown in row:
        drawn.append(_cell(facts, shown, _column(shown.column), y))
    middle = y + _CELL_HEIGHT / 2
    for column in range(len(nested), 4):
        large = bool(nested) and is_leaf(nested[-1].step)
        note = "not needed:" if large else "not reached"
        drawn.append(svg.text(_column(column) + 24, middle, note, class_="faint small"))
        if large:
            drawn.append(svg.text(_column(column) + 24, middle + 14, "large page", class_="faint small"))
    for shown in nested[:-1]:
        right = _column(shown.column) + _CELL_WIDTH
        drawn.append(_arrow(right, middle, right + _CELL_GAP, middle))
    return drawn


def _cell(facts: WalkFacts, shown: Shown, x: float, y: int) -> Element:
    step = shown.step
    stopped = shown.label == facts.stopped
    return _reference(
        facts,
        shown,
        _frame(shown, x, y, _CELL_WIDTH, _CELL_HEIGHT),
        *_badge(shown, x + 16, y + 18),
        svg.text(x + 32, y + 23, f"{shown.name}", font_weight="bold"),
        svg.text(x + 8, y + 41, f"[{step.index:#x}]", class_="code small"),
        svg.text(x + 8, y + 55, "stopped here" if stopped else flags_of(step), class_="code small"),
    )


def _destination(facts: WalkFacts, y: int) -> list[Element]:
    host = facts.walk.host
    arrived = isinstance(facts.walk.last_result, Translation) and host is not None
    return [
        svg.box(_column(4), y, _CELL_WIDTH, _CELL_HEIGHT, class_="panel"),
        svg.text(_column(4) + 8, y + 23, "host-physical" if arrived else "no translation"),
        svg.text(_column(4) + 8, y + 41, f"{host:#x}" if arrived else "", class_="code small"),
    ]


def _column(number: int) -> float:
    return _HEADER + number * (_CELL_WIDTH + _CELL_GAP)


def _reference(facts: WalkFacts, shown: Shown, *children: Element) -> Element:
    return svg.group(
        svg.title(facts.title(shown)),
        *children,
        class_="vlab-reference",
        data_label=shown.label,
        data_row=shown.row,
        data_column=shown.column,
    )


def _frame(shown: Shown, x: float, y: int, width: float, height: int) -> Element:
    """A box whose edge tells the kind of table by colour and by dashes."""
    return svg.box(
        x,
        y,
        width,
        height,
        class_="vlab-frame",
        style=f"fill: var(--vlab-paper); stroke: {_COLOUR[shown.kind]}; stroke-width: 1.5",
        stroke_dasharray=_DASH[shown.kind],
    )


def _badge(shown: Shown, x: float, y: float) -> list[Element]:
    """The number of a reference: white on the colour of its kind."""
    disc = svg.node("circle", cx=x, cy=y, r=11, style=f"fill: {_COLOUR[shown.kind]}")
    return [
        disc,
        svg.text(
            x, y + 4.5, shown.label, text_anchor="middle", font_weight="bold",
            style="fill: var(--vlab-paper); font-size: 12px",
        ),
    ]  # fmt: skip


def _arrow(x1: float, y1: float, x2: float, y2: float) -> Element:
    """A short arrow, to the right or down."""
    right = x2 > x1
    tip = (
        f"{x2:g},{y2:g} {x2 - 5:g},{y2 - 4:g} {x2 - 5:g},{y2 + 4:g}"
        if right
        else f"{x2:g},{y2:g} {x2 - 4:g},{y2 - 5:g} {x2 + 4:g},{y2 - 5:g}"
    )
    return svg.group(
        svg.line(x1, y1, x2, y2, style="stroke: var(--vlab-faint)"),
        svg.node("polygon", points=tip, style="fill: var(--vlab-faint)"),
    )
