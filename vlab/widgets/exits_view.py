"""All exits of a run: over virtual time, by reason, by what they cost, and one by one.

A trace may have a million of them. What goes to the browser are counts of at most a thousand bins, made again
for each stretch of time that is looked at.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import ipywidgets
import traitlets

from vlab.errors import UnusableInput
from vlab.trace.exits import Exits
from vlab.trace.file import TraceFile
from vlab.widgets import marks
from vlab.widgets.composite import Composite
from vlab.widgets.exits_charts import BINS, Bars, Timeline
from vlab.widgets.exits_cost import Pricing
from vlab.widgets.exits_data import Span, Tally, counted, kept
from vlab.widgets.exits_moves import SHORTEST, moved, span_of
from vlab.widgets.exits_parts import PAGE, ExitsBar, ExitsTable
from vlab.widgets.exits_picture import PARTS, Ranking, draw
from vlab.widgets.later import Later
from vlab.widgets.units import milliseconds
from vlab.widgets.view import owner_of
from vlab.widgets.watching import watch

if TYPE_CHECKING:
    from vlab.costs.table import Costs
    from vlab.session import VM

_PAUSE: Final = 0.15
"""Seconds without a movement after which what is in sight is counted again."""
_PATIENT: Final = 25
"""How much longer than reading a trace took it is left alone while its guest runs."""


class ExitsView(Composite):
    """The exits of ``subject``: a VM, which it follows, ``vm.exits``, or a trace that was loaded.

    monitor, paging: under which they happened, for the model of cycles; a VM and a trace file know. costs: a
    cost table (`vlab.costs.table.load`). generation: the processor of it to begin with, or "handler time".
    Raises UnusableInput for anything else.
    """

    alive = traitlets.Bool(True, help="whether there still is a virtual machine").tag(sync=False)

    def __init__(
        self,
        subject: VM | Exits | TraceFile,
        *,
        monitor: str | None = None,
        paging: str | None = None,
        costs: Costs | None = None,
        generation: str | None = None,
    ) -> None:
        vm, exits, known = _parts(subject)
        self._vm = None if vm is None else weakref.ref(vm)
        self._guard = threading.RLock()
        self._prices = Pricing(monitor or known[0], paging or known[1], costs, generation)
        self._timeline, self._by_reason, self._by_cost = Timeline(), Bars(), Bars()
        self._bar = ExitsBar(label="Exits", choices=self._prices.choices(), choice=self._prices.default)
        self._table = ExitsTable(label="Exits one by one")
        self._span = Span(0, 1_000)
        self._selection: Span | None = None
        self._follows, self._moved_here, self._again = True, False, 0.0
        self._lanes: tuple[str, ...] = ()
        pair = ipywidgets.Box(
            [self._by_reason.figure, self._by_cost.figure], layout={"width": "100%", "flex_flow": "row wrap"}
        )
        super().__init__(self._bar, self._timeline.figure, pair, self._table)
        self._read(exits)
        self._draw()
        self._listen()
        if vm is not None:
            watch(vm, self)

    # --- following ---------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the VM: at its counters each time, at its trace as often as that costs little."""
        vm = self._vm() if self._vm is not None else None
        if vm is None or vm.closed:
            return
        with self._guard:
            if not vm.running or time.monotonic() >= self._again:
                self._read(vm.exits)
                self._draw()
            elif self._whole:
                self._counted = counted(vm.exits.source)
                self._draw_bars()
                self._tell()

    @traitlets.observe("alive")
    def _gone(self, _change: object) -> None:
        self._bar.alive = self.alive

    def _read(self, exits: Exits) -> None:
        began, source = time.monotonic(), exits.source
        self._counted, self._kept = counted(source), kept(exits)
        self._level, self._dropped = source.level, source.dropped
        self._lanes = self._kept.lanes()
        if self._follows:
            self._span = self._kept.span
        self._again = time.monotonic() + _PATIENT * (time.monotonic() - began)

    # --- moving ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Hear of what is done in the browser."""
        self._settled = Later(self._settle, _PAUSE)
        self._brushed = Later(self._brush, _PAUSE)
        self._timeline.time.observe(self._dragged, ["min", "max"])
        self._timeline.brush.observe(lambda _change: self._brushed.ask(), "selected")
        self._bar.on_msg(self._told)
        self._table.on_msg(self._told)
        self._bar.observe(self._chosen_cost, "choice")

    def _dragged(self, _change: object) -> None:
        if not self._moved_here:
            self._settled.ask()

    def _settle(self) -> None:
        """Count anew what was dragged into sight."""
        with self._guard:
            scale = self._timeline.time
            span = Span.of_milliseconds(scale.min, scale.max)
            self._go(span.within(self._kept.span, SHORTEST))

    def _brush(self) -> None:
        """Take over what was brushed."""
        ends = self._timeline.brush.selected
        if ends is None or len(ends) != 2 or not ends[0] < ends[1]:
            self._select(None)
        else:
            self._select(Span.of_milliseconds(max(ends[0], 0), ends[1]))

    def _told(self, _widget: object, content: Any, _buffers: object) -> None:
        """Do what a button or a key in the browser asks for."""
        action, page = content.get("do"), content.get("page")
        with self._guard:
            if isinstance(page, int):
                self._turn(page)
            elif action == "drag":
                self._bar.brushing = not self._bar.brushing
                tool = self._timeline.brush if self._bar.brushing else self._timeline.drag
                self._timeline.figure.interaction = tool
            elif isinstance(action, str):
                span, selection = moved(action, self._span, self._selection, self._kept.span)
                self._selection = selection
                self._go(span)
                self._bar.said = self._bar.shown

    def _chosen_cost(self, _change: object) -> None:
        with self._guard:
            self._draw_bars()

    def _go(self, span: Span) -> None:
        with self._guard:
            self._span = span
            self._follows = span == self._kept.span
            self._table.first = 0
            self._draw()

    def _select(self, span: Span | None) -> None:
        with self._guard:
            self._selection = span
            self._go(self._span)

    # --- what is shown -----------------------------------------------------------------------------------

    @property
    def visible(self) -> tuple[int, int]:
        """The time in sight, in virtual ns; set it to look elsewhere."""
        return self._span.start, self._span.end

    @visible.setter
    def visible(self, ends: tuple[int, int]) -> None:
        self._go(span_of("visible", ends).within(self._kept.span, SHORTEST))

    @property
    def selection(self) -> tuple[int, int] | None:
        """The selected time, in virtual ns, None for no selection; can be set."""
        return None if self._selection is None else (self._selection.start, self._selection.end)

    @selection.setter
    def selection(self, ends: tuple[int, int] | None) -> None:
        self._select(None if ends is None else span_of("selection", ends))

    @property
    def selected(self) -> Any:
        """The exits in the selected time, else in sight, as ``Exits``: ``.frame()``, ``.by_reason()``."""
        from vlab.trace.storage import StoredTrace

        first, last = self._kept.rows(self._chosen)
        table = self._kept.table[first:last]
        counts = {each.reason: each.count for each in self._kept.tallies(self._chosen)}
        names = self._kept.reasons
        numbers = tuple(counts.get(name, 0) for name in names)
        return Exits(StoredTrace("full", names, self._kept.handlers, numbers, (0,) * 4, 0, table))

    @property
    def _chosen(self) -> Span:
        return self._span if self._selection is None else self._selection

    @property
    def _whole(self) -> bool:
        return self._selection is None and (self._follows or not len(self._kept))

    def _tallies(self) -> list[Tally]:
        """Count what is chosen: everything that was counted, or the kept exits of a time."""
        found = self._kept.tallies(self._chosen)
        if not self._whole:
            return found
        took = {each.reason: each.handler_ns for each in found}
        return [Tally(each.reason, each.count, took.get(each.reason, 0)) for each in self._counted]

    def _rankings(self) -> tuple[Ranking, Ranking]:
        tallies = self._tallies()
        counts = Ranking(
            "Exits by reason", "Exits by reason", [(each.reason, float(each.count)) for each in tallies]
        )
        return counts, self._prices.ranking(self._bar.choice, tallies)

    def _draw(self) -> None:
        self._draw_timeline()
        self._draw_bars()
        self._turn(0 if self._vm is None else self._table.first)
        self._tell()

    def _draw_timeline(self) -> None:
        half = self._span.length // 2
        around = Span(max(0, self._span.start - half), self._span.end + half)
        self._moved_here = True
        try:
            self._timeline.look_at(self._span)
        finally:
            self._moved_here = False
        self._timeline.show(self._lanes, around, self._kept.timeline(around, self._lanes, BINS))
        self._timeline.select(self._selection)
        self._timeline.figure.layout.display = None if self._lanes else "none"

    def _draw_bars(self) -> None:
        counts, cost = self._rankings()
        self._by_reason.show(counts.short, counts.amounts, counts.digits)
        self._by_cost.show(cost.short, cost.amounts, cost.digits)
        self._bar.spoken = [each.spoken() for each in (counts, cost)]

    def _turn(self, first: int) -> None:
        """Show the page of the table that begins with this one of the chosen exits."""
        start, end = self._kept.rows(self._chosen)
        first = max(0, min(first, (end - start - 1) // PAGE * PAGE))
        rows = self._kept.page(start + first, min(start + first + PAGE, end))
        with self._table.hold_sync():
            self._table.rows, self._table.first, self._table.total = rows, first, end - start
            self._table.signs = {name: [marks.sign(name), marks.colour(name)] for name in self._lanes}
        self._table.layout.display = None if len(self._kept) else "none"

    def _tell(self) -> None:
        bar = self._bar
        with bar.hold_sync():
            bar.summary, bar.problem, bar.shown = self._headline(), self._problem(), self._range()
            bar.records, bar.selected = bool(len(self._kept)), self._selection is not None

    def _headline(self) -> str:
        total = sum(each.count for each in self._counted)
        text = f"{total:,} exits"
        if self._counted:
            first = self._counted[0]
            text += f", most often {first.reason} ({first.count / total:.1%})"
        if self._dropped:
            text += f"; the last {len(self._kept):,} are kept, {self._dropped:,} older records were dropped"
        return text

    def _problem(self) -> str:
        if len(self._kept) or self._level == "full":
            return ""
        if self._level == "off":
            return 'Nothing counts exits at trace level "off": make the VM with VM(..., trace="full").'
        return (
            'No timeline at trace level "counters": make the VM with VM(..., trace="full") to see each exit.'
        )

    def _range(self) -> str:
        if not len(self._kept):
            return ""
        first, last = self._kept.rows(self._span)
        ends = f"{milliseconds(self._span.start)} to {milliseconds(self._span.end)}"
        text = f"In sight: {ends}, {last - first:,} exits"
        if self._selection is not None:
            first, last = self._kept.rows(self._selection)
            ends = f"{milliseconds(self._selection.start)} to {milliseconds(self._selection.end)}"
            text += f". Selected: {ends}, {last - first:,} exits; bars and table are of these"
        return f"{text}. Height in a lane: exits in a bin, logarithmic."

    def picture(self) -> str:
        """Draw timeline and bars."""
        with self._guard:
            counts = self._kept.timeline(self._span, self._lanes, PARTS)
            return draw(self._headline(), self._lanes, self._span, counts, self._selection, self._rankings())

    def words(self) -> str:
        """Tell how many exits there were, of which reasons, and what they cost."""
        with self._guard:
            counts, cost = self._rankings()
            costs = dict(cost.amounts)
            lines = [text for text in (self._headline(), self._problem(), self._range(), cost.title) if text]
            for name, amount in counts.amounts:
                price = f"{costs[name]:>14,.{cost.digits}f}" if name in costs else ""
                lines.append(f"{name:<12}{amount:>12,.0f}{price}")
            return "\n".join(lines)


def _parts(subject: object) -> tuple[VM | None, Exits, tuple[str | None, str | None]]:
    """Find the VM to follow, if there is one, the exits, and the monitor and paging that they come from."""
    from vlab.session import VM

    if isinstance(subject, TraceFile):
        known = subject.metadata.get("monitor"), subject.metadata.get("paging")
        monitor, paging = (each if isinstance(each, str) else None for each in known)
        return None, subject.exits, (monitor, paging)
    if isinstance(subject, Exits):
        vm = owner_of(subject)
        if vm is None or vm.exits is not subject:  # a part of a VM's exits stays as it is
            return None, subject, (None, None)
        subject = vm
    if isinstance(subject, VM):
        return subject, subject.exits, (subject.monitor, subject.paging)
    raise UnusableInput(
        f"subject: {subject!r} has no exits to show; give a VM, vm.exits or what vlab.trace.load gave"
    )
