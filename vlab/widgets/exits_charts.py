"""The charts of exits: a timeline with a lane for each reason, and bars with a number beside each.

They are bqplot's; what they show is set here from arrays that are never longer than a chart is wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import bqplot
import numpy as np
import numpy.typing as npt

from vlab.comms import heard_where_sent
from vlab.widgets import marks
from vlab.widgets.exits_data import MOST_BARS, Span, heights

BINS: Final = 1_000
"""Parts of the time in sight and half as much to either side of it, for the way of a drag."""
_ROOM: Final = 0.82
"""The part of a lane that its highest bin fills."""
_LANE, _AROUND = 30, 50  # pixels
_NS: Final = 1e6
_PLAIN: Final = {"font-size": "12px"}


class Timeline:
    """Exits over virtual time: a lane a reason, in which the height tells how many exits a bin has."""

    def __init__(self) -> None:
        self.time = bqplot.LinearScale(min=0.0, max=1.0)
        self._lane = bqplot.LinearScale(min=0.0, max=1.0)
        scales = {"x": self.time, "y": self._lane}
        self._exits = bqplot.Lines(
            x=[], y=[], scales=scales, stroke_width=1.0, fill="inside", fill_opacities=[0.55], apply_clip=True
        )
        self._selected = bqplot.Lines(
            x=[], y=[], scales=scales, stroke_width=1.5, line_style="dashed", fill="inside",
            fill_opacities=[0.15], colors=["var(--vlab-focus)"], fill_colors=["var(--vlab-focus)"],
            visible=False,
        )  # fmt: skip
        self._across = bqplot.Axis(
            scale=self.time, label="virtual time, ms", tick_values=[], grid_lines="none", label_offset="32px"
        )
        self._names = bqplot.Axis(
            scale=self._lane, side="left", tick_values=[], tick_labels={}, grid_lines="none",
            tick_style=_PLAIN,
        )  # fmt: skip
        self.brush = bqplot.interacts.BrushIntervalSelector(scale=self.time, color="#1976d2")
        self.drag = bqplot.interacts.PanZoom(scales={"x": [self.time]})
        for heard in (self.time, self.brush):
            heard_where_sent(heard.comm)
        self.figure = _figure(
            [self._exits, self._selected], [self._across, self._names],
            {"top": 8, "bottom": 42, "left": 110, "right": 20},
        )  # fmt: skip
        self.figure.add_class("vlab-exits-timeline")
        self.figure.interaction = self.drag

    def show(self, lanes: Sequence[str], span: Span, counts: npt.NDArray[np.int64]) -> None:
        """Show the counts of the bins of a span, a row for each lane, the first on top."""
        high = heights(counts)
        edges = np.linspace(span.start, span.end, counts.shape[1] + 1) / _NS
        across = np.concatenate(([edges[0]], np.repeat(edges, 2)[1:-1], [edges[-1]]))
        base = np.arange(len(lanes) - 1, -1, -1, dtype=np.float32)[:, None]
        steps = np.repeat(high * np.float32(_ROOM), 2, axis=1) + base
        outline = np.concatenate((base, steps, base), axis=1)
        colours = [marks.colour(name) for name in lanes]
        with self._exits.hold_sync():
            self._exits.x, self._exits.y = across, outline
            self._exits.colors = self._exits.fill_colors = colours or ["var(--vlab-faint)"]
        self._name(lanes)

    def _name(self, lanes: Sequence[str]) -> None:
        count = max(len(lanes), 1)
        places = [count - 1 - place + _ROOM / 2 for place in range(len(lanes))]
        labels = {str(place): marks.labelled(name) for place, name in zip(places, lanes, strict=True)}
        if labels != self._names.tick_labels:
            with self._names.hold_sync():
                self._names.tick_values = np.array(places)
                self._names.tick_labels = labels
            with self._lane.hold_sync():
                self._lane.min, self._lane.max = -0.08, float(count)
            self.figure.layout.height = f"{_LANE * count + _AROUND}px"

    def look_at(self, span: Span) -> None:
        """Bring a span into sight."""
        with self.time.hold_sync():
            self.time.min, self.time.max = span.start / _NS, span.end / _NS
        places, digits = ticks(span)
        with self._across.hold_sync():
            self._across.tick_values, self._across.tick_format = places, f",.{digits}f"

    def select(self, span: Span | None) -> None:
        """Show what is selected."""
        with self._selected.hold_sync():
            if span is not None:
                start, end, top = span.start / _NS, span.end / _NS, self._lane.max
                self._selected.x = np.array([start, start, end, end, start])
                self._selected.y = np.array([-0.08, top, top, -0.08, -0.08])
            self._selected.visible = span is not None


class Bars:
    """A bar for each reason, the longest on top, with its number beside its name."""

    def __init__(self) -> None:
        self._reasons = bqplot.OrdinalScale(domain=[])
        self._amount = bqplot.LinearScale(min=0.0, max=1.0)
        self._bars = bqplot.Bars(
            x=[], y=[], scales={"x": self._reasons, "y": self._amount}, orientation="horizontal", padding=0.3
        )
        names = bqplot.Axis(scale=self._reasons, side="left", grid_lines="none", tick_style=_PLAIN)
        self.figure = _figure([self._bars], [names], {"top": 30, "bottom": 6, "left": 172, "right": 12})
        self.figure.title_style = {"font-size": "13px"}
        self.figure.add_class("vlab-exits-bars")
        self.figure.layout.flex, self.figure.layout.width = "1 1 350px", "auto"
        self.figure.layout.min_width = "350px"

    def show(self, title: str, amounts: Sequence[tuple[str, float]], digits: int) -> None:
        """Show an amount for each reason, in this order."""
        shown = list(amounts)[:MOST_BARS][::-1]
        names = [f"{marks.labelled(name)}  {amount:,.{digits}f}" for name, amount in shown]
        most = max((amount for _, amount in shown), default=0.0)
        if names != self._reasons.domain:
            self._reasons.domain = names
        with self._bars.hold_sync():
            self._bars.x = np.array(names)
            self._bars.y = np.array([amount for _, amount in shown], float)
            self._bars.colors = [marks.colour(name) for name, _ in shown] or ["var(--vlab-faint)"]
        self._amount.max = most or 1.0
        rest = len(amounts) - len(shown)
        self.figure.title = f"{title}; {rest} more reasons" if rest > 0 else title
        self.figure.layout.height = f"{24 * max(len(shown), 2) + 40}px"


def ticks(span: Span) -> tuple[npt.NDArray[np.float64], int]:
    """Give round times in a span, in ms, some six of them, and how many digits they need."""
    length = span.length / _NS
    power = math.floor(math.log10(length / 6))
    step = next(each for each in (1, 2, 5, 10) if each * 10.0**power >= length / 6) * 10.0**power
    first, last = math.ceil(span.start / _NS / step), math.floor(span.end / _NS / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return np.arange(first, last + 1, dtype=np.float64) * np.float64(step), digits


def _figure(shown: list[bqplot.Mark], axes: list[bqplot.Axis], margin: dict[str, int]) -> bqplot.Figure:
    return bqplot.Figure(
        marks=shown, axes=axes, animation_duration=0, padding_x=0.0, padding_y=0.0, fig_margin=margin,
        min_aspect_ratio=0.01, max_aspect_ratio=1000.0, background_style={"fill": "transparent"},
        layout={"width": "100%", "height": "200px", "min_width": "0"},
        display_toolbar=False,
    )  # fmt: skip
