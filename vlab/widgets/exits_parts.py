"""The parts of the view of exits that are no charts: the bar above them and the table below."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import traitlets

from vlab.widgets.composite import Frame
from vlab.widgets.exits_data import COLUMNS

PAGE: Final = 12
"""Exits on a page of the table."""
_KEYS: Final = (
    "Timeline of exits. Left and right arrows move, up and down zoom, Home shows all; Space selects, Shift"
    " with an arrow moves or resizes the selection, Enter zooms to it, Escape clears it."
)


class ExitsBar(Frame):
    """What is above the charts. ``choice``: of ``choices``, whose cost is shown."""

    script: ClassVar[str] = "exits_bar.js"
    styles: ClassVar[tuple[str, ...]] = ("marks.css", "exits.css")

    summary = traitlets.Unicode().tag(sync=True)
    shown = traitlets.Unicode(help="what time is in sight and what is selected").tag(sync=True)
    said = traitlets.Unicode(help="what a screen reader says after an action").tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)
    spoken: traitlets.List[Any] = traitlets.List(help="each chart of bars in words").tag(sync=True)
    timeline_label = traitlets.Unicode(_KEYS).tag(sync=True)
    brushing = traitlets.Bool(False, help="whether dragging selects").tag(sync=True)
    selected = traitlets.Bool(False).tag(sync=True)
    records = traitlets.Bool(False, help="whether there are single exits").tag(sync=True)
    choices: traitlets.List[Any] = traitlets.List().tag(sync=True)
    choice = traitlets.Unicode().tag(sync=True)
    alive = traitlets.Bool(True).tag(sync=True)


class ExitsTable(Frame):
    """A page of the exits in the time that is selected, or in sight."""

    script: ClassVar[str] = "exits_table.js"
    styles: ClassVar[tuple[str, ...]] = ("marks.css", "exits.css")

    columns = traitlets.List(list(COLUMNS)).tag(sync=True)
    rows: traitlets.List[Any] = traitlets.List(help="texts, as columns says").tag(sync=True)
    signs: traitlets.Dict[str, Any] = traitlets.Dict(help="sign and colour of each reason").tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)
    total = traitlets.Int(0).tag(sync=True)
    size = traitlets.Int(PAGE).tag(sync=True)
