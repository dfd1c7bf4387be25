"""The inspector drawn for places without a kernel: an exit decoded, its neighbours, the guest after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from vlab.trace.events import ExitEvent
from vlab.trace.exits import Exits
from vlab.widgets import qualification, svg
from vlab.widgets.units import milliseconds

BESIDE: Final = 3
"""How many exits before and after the one that is drawn are listed."""
_WIDTH, _LEFT, _MIDDLE, _ROW = 800, 12, 410, 18
_LETTERS: Final = 54
"""How many letters fit into half of the width."""
_LEAST: Final = 12
"""Letters of a meaning that are worth showing."""
_BOLD: Final = "font-weight: 600"
_CHANGED: Final = "font-weight: 600; fill: var(--vlab-changed)"


@dataclass(frozen=True, slots=True)
class Near:
    """An exit among its neighbours: its number, and those around it with theirs."""

    number: int
    events: tuple[tuple[int, ExitEvent], ...]

    @property
    def event(self) -> ExitEvent:
        """The exit itself."""
        return next(event for number, event in self.events if number == self.number)

    @classmethod
    def newest(cls, exits: Exits) -> Near | None:
        """Take the newest exit; None where none was kept."""
        if not exits.total or (exits.source.level != "full" and not len(exits.source.rows(1))):
            return None
        events = tuple(exits[-1 - BESIDE :])
        total = exits.total
        return cls(total, tuple(enumerate(events, total - len(events) + 1))) if events else None

    @classmethod
    def numbered(cls, exits: Exits, number: int) -> Near:
        """Take an exit by its number, which must be among those that were kept."""
        base = exits.total - len(exits)
        first = max(number - base - 1 - BESIDE, 0)
        events = tuple(exits[first : number - base + BESIDE])
        return cls(number, tuple(enumerate(events, base + first + 1)))


def decoded(event: ExitEvent) -> list[qualification.Decoded]:
    """Decode a qualification, without those flags that are clear."""
    found = qualification.decode(event.reason, *event.qualification)
    return [each for each in found if not each.is_flag or each.text == "1"]


def meaning(event: ExitEvent) -> str:
    """Tell in a sentence what the exit's reason is."""
    return str(qualification.tables().get(event.reason, {}).get("meaning", ""))


def draw(near: Near | None, total: int, section: str, seen: Mapping[str, Any], note: str) -> str:
    """Draw an exit, and under it the guest where it stands.

    total: the number of the last exit. section: where to read about the exit. seen: see `place.describe`;
    may be empty. note: why there is no exit.
    """
    parts: list[Element] = []
    y, label = 26, note or "no exit is recorded"
    if near is None:
        parts.append(svg.text(_LEFT, y, svg.cut(label, 2 * _LETTERS)))
    else:
        event = near.event
        label = f"Exit {near.number:,} of {total:,}: {event.reason}"
        said = meaning(event)
        parts.append(
            svg.text(_LEFT, y, svg.cut(f"{label}. {said}" if said else label, 2 * _LETTERS - 6), style=_BOLD)
        )
        y = max(
            _facts(parts, y, event, section),
            _qualification(parts, y + _ROW, event),
        )
        y = _neighbours(parts, y + 8, near)
    if seen:
        y = _place(parts, y + 14, seen)
    height = y + 10
    paper = svg.box(0.5, 0.5, _WIDTH - 1, height - 1, class_="paper")
    return svg.document(_WIDTH, height, label, paper, *parts)


def _facts(parts: list[Element], y: int, event: ExitEvent, section: str) -> int:
    took = f"{event.duration:,} ns of wall time" if event.duration else ""
    rows = [
        ("time", milliseconds(event.time, 6)), ("RIP", f"{event.rip:#x}"), ("ring", str(event.ring)),
        ("mode", event.mode.value), ("handler", event.handler), ("took", took), ("manual", section),
    ]  # fmt: skip
    for name, said in rows:
        if said:
            y += _ROW
            parts.append(svg.text(_LEFT, y, name, class_="faint"))
            parts.append(svg.text(_LEFT + 74, y, svg.cut(said, 44), class_="code" if name == "RIP" else None))
    return y


def _qualification(parts: list[Element], y: int, event: ExitEvent) -> int:
    parts.append(svg.text(_MIDDLE, y, "Qualification; flags that are clear are left out", class_="faint"))
    found = decoded(event)
    if not found:
        parts.append(svg.text(_MIDDLE, y + _ROW, "this reason has none"))
        return y + _ROW
    for each in found:
        y += _ROW
        value = svg.cut(f"{each.name} = {each.text}", _LETTERS)
        line = [svg.title(f"{each.bits}: {each.meaning}"), svg.node("tspan", value, style=_BOLD)]
        if (room := _LETTERS - len(value)) > _LEAST:
            line.append(svg.node("tspan", svg.cut(each.meaning, room), dx=8, class_="small faint"))
        parts.append(svg.node("text", *line, x=_MIDDLE, y=y))
    return y


def _neighbours(parts: list[Element], y: int, near: Near) -> int:
    parts.append(svg.line(_LEFT, y + 2, _WIDTH - _LEFT, y + 2, class_="edge"))
    for number, event in near.events:
        here = number == near.number
        told = qualification.summary(event.reason, *event.qualification)
        y += _ROW
        style = _BOLD if here else None
        parts.append(svg.text(_LEFT, y, "▸" if here else "", style=style))
        parts.append(svg.text(_LEFT + 90, y, f"{number:,}", text_anchor="end", style=style))
        parts.append(svg.text(_LEFT + 104, y, event.reason, style=style))
        parts.append(svg.text(_LEFT + 210, y, svg.cut(told, 62), style=style))
        where = f"{event.rip:#x}"
        parts.append(svg.text(_WIDTH - _LEFT, y, where, text_anchor="end", class_="code", style=style))
    return y


def _place(parts: list[Element], y: int, seen: Mapping[str, Any]) -> int:
    y += _ROW
    parts.append(svg.line(_LEFT, y - 16, _WIDTH - _LEFT, y - 16, class_="edge"))
    where = f"after exit {seen['number']:,}" if seen["number"] else "at the start"
    parts.append(svg.text(_LEFT, y, f"The guest, {where}: {seen['mode']}", style=_BOLD))
    compared = seen["before"] is not None
    head = f"Registers; ≠ marks changes since exit {seen['before']:,}" if compared else "Registers"
    parts.append(svg.text(_LEFT, y + _ROW, head, class_="faint"))
    parts.append(svg.text(_MIDDLE, y + _ROW, "Code", class_="faint"))
    return max(
        _registers(parts, y + _ROW, seen["registers"]), _code(parts, y + _ROW, seen["code"], seen["handler"])
    )


def _registers(parts: list[Element], y: int, registers: Sequence[Sequence[str]]) -> int:
    for name, value, before, _ in registers:
        y += _ROW
        style = _CHANGED if before else None
        parts.append(svg.text(_LEFT, y, name, style=style))
        parts.append(svg.text(_LEFT + 60, y, value, class_="code", style=style))
        if before:
            parts.append(svg.text(_LEFT + 206, y, f"≠ was {before}", class_="code", style=style))
    return y


def _code(
    parts: list[Element], y: int, code: Sequence[Sequence[str]], handler: Mapping[str, str] | None
) -> int:
    digits = max((len(address) for address, _, _ in code), default=0)
    for address, text, mark in code:
        y += _ROW
        style = _BOLD if mark else None
        parts.append(svg.text(_MIDDLE, y, address, class_="code faint", style=style))
        left = _MIDDLE + 8 * digits + 12
        room = max((_WIDTH - left - 8 * len(mark) - 24) // 8, 8)
        parts.append(svg.text(left, y, svg.cut(text, room), class_="code", style=style))
        if mark:
            parts.append(svg.text(_WIDTH - _LEFT, y, f"◂ {mark}", text_anchor="end", style=style))
    if handler:
        y += _ROW + 6
        parts.append(svg.text(_MIDDLE, y, svg.cut(f"Served by {handler['name']}", _LETTERS)))
        y += _ROW
        parts.append(svg.text(_MIDDLE, y, svg.cut(handler["file"], _LETTERS), class_="small faint"))
    return y
