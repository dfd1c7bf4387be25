"""Exits drawn for places without a kernel: the same timeline and bars as the live view has, as one SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from vlab.widgets import marks, svg
from vlab.widgets.exits_data import MOST_BARS, Span, heights
from vlab.widgets.units import milliseconds

PARTS: Final = 400
"""How many bins the drawn timeline has."""
_WIDTH, _LEFT, _LANE, _ROW = 760, 110, 26, 20


@dataclass(frozen=True, slots=True)
class Ranking:
    """Amounts by reason with a title, the largest first; digits: how many behind the point.

    short: a title for where there is less room.
    """

    title: str
    short: str
    amounts: Sequence[tuple[str, float]]
    digits: int = 0

    def spoken(self) -> str:
        """Tell the largest ones in a sentence."""
        named = [f"{name} {amount:,.{self.digits}f}" for name, amount in self.amounts[:MOST_BARS]]
        return f"{self.title}: {', '.join(named) or 'none'}"


def draw(
    summary: str,
    lanes: Sequence[str],
    span: Span,
    counts: npt.NDArray[np.int64],
    selection: Span | None,
    rankings: Sequence[Ranking],
) -> str:
    """Draw a timeline, where there are lanes, and bars side by side under it."""
    parts = [svg.text(8, 20, summary)]
    y = 34
    if lanes:
        parts.append(_timeline(y, lanes, span, counts, selection))
        y += _LANE * len(lanes) + 34
    width = (_WIDTH - 8) // max(len(rankings), 1)
    tallest = 0
    for place, ranking in enumerate(rankings):
        parts.append(_bars(8 + place * width, y, width - 12, ranking))
        tallest = max(tallest, min(len(ranking.amounts), MOST_BARS + 1))
    height = y + 26 + _ROW * tallest + 8
    paper = svg.box(0, 0, _WIDTH, height, class_="paper")
    return svg.document(_WIDTH, height, summary, paper, *parts, styles=("marks.css",))


def _timeline(
    top: int, lanes: Sequence[str], span: Span, counts: npt.NDArray[np.int64], selection: Span | None
) -> Element:
    wide = _WIDTH - _LEFT - 16
    scale = wide / counts.shape[1]
    parts: list[Element] = []
    for place, (name, row) in enumerate(zip(lanes, heights(counts), strict=True)):
        base = top + _LANE * (place + 1)
        parts.append(svg.text(_LEFT - 8, base - 6, marks.labelled(name), text_anchor="end"))
        parts.append(svg.line(_LEFT, base, _LEFT + wide, base, class_="edge"))
        found = np.flatnonzero(row)
        tall = -(_LANE - 6) * row
        steps = "".join(
            f"M{_LEFT + part * scale:.1f} {base}v{tall[part]:.1f}h{max(scale, 1):.1f}V{base}"
            for part in found.tolist()
        )
        title = svg.title(f"{name}: {int(counts[place].sum()):,} exits")
        parts.append(svg.node("path", title, d=steps, style=f"fill: {marks.colour(name)}"))
    bottom = top + _LANE * len(lanes)
    if selection is not None:
        ends = [_LEFT + wide * (at - span.start) / span.length for at in (selection.start, selection.end)]
        left, right = (min(max(end, float(_LEFT)), float(_LEFT + wide)) for end in ends)
        parts.append(
            svg.node(
                "rect", svg.title("selected"), x=left, y=top, width=max(right - left, 1.0),
                height=bottom - top, class_="now", style="fill: none; stroke-dasharray: 4 3",
            )
        )  # fmt: skip
    parts.append(svg.text(_LEFT, bottom + 16, milliseconds(span.start), class_="small"))
    middle = "virtual time; height: exits in a bin, logarithmic"
    parts.append(svg.text(_LEFT + wide / 2, bottom + 16, middle, text_anchor="middle", class_="small faint"))
    parts.append(
        svg.text(_LEFT + wide, bottom + 16, milliseconds(span.end), text_anchor="end", class_="small")
    )
    return svg.group(*parts)


def _bars(left: int, top: int, width: int, ranking: Ranking) -> Element:
    parts = [svg.text(left, top + 14, ranking.title, style="font-weight: 600")]
    room = width - 110 - 100
    most = max((amount for _, amount in ranking.amounts), default=0.0) or 1.0
    for place, (name, amount) in enumerate(ranking.amounts[:MOST_BARS]):
        y = top + 24 + _ROW * place
        parts.append(svg.text(left + 96, y + 13, marks.labelled(name), text_anchor="end"))
        wide = max(room * amount / most, 1.0)
        fill = f"fill: {marks.colour(name)}"
        parts.append(svg.node("rect", x=left + 104, y=y + 2, width=wide, height=_ROW - 6, style=fill))
        parts.append(svg.text(left + 110 + wide, y + 13, f"{amount:,.{ranking.digits}f}"))
    rest = len(ranking.amounts) - MOST_BARS
    if rest > 0:
        y = top + 24 + _ROW * MOST_BARS
        parts.append(svg.text(left, y + 13, f"and {rest} more reasons", class_="small faint"))
    return svg.group(*parts)
