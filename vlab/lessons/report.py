"""The marks of a self-check, with the trace of what failed a click away."""

from __future__ import annotations

from typing import Any, ClassVar

import ipywidgets
import traitlets

from vlab.errors import UnusableInput
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.trace.file import TraceFile, loads
from vlab.widgets.showing import view_of
from vlab.widgets.view import View


class ReportTable(View):
    """The table of ``mark``. It sends ``{"open": NAME}`` for an invariant whose trace is wanted."""

    script: ClassVar[str] = "report.js"
    styles: ClassVar[tuple[str, ...]] = ("report.css",)

    title = traitlets.Unicode().tag(sync=True)
    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    earned = traitlets.Float().tag(sync=True)
    points = traitlets.Float().tag(sync=True)

    def __init__(self, mark: ExerciseMark) -> None:
        super().__init__(
            title=mark.title,
            rows=[_row(each) for each in mark.invariants],
            earned=mark.earned,
            points=mark.points,
        )
        self.mark = mark

    def picture(self) -> None:
        """Words say it better."""

    def words(self) -> str:
        """Tell the marks, and why some are missing."""
        lines = [f"{self.title}: {self.earned:g} of {self.points:g} marks"]
        for each in self.mark.invariants:
            verdict = "holds" if each.holds else "waits" if each.waits else "broken"
            lines.append(f"  {verdict:6} {each.earned:g}/{each.points:g}  {each.says}")
            lines += [
                f"         {text}" for text in (each.why, each.hint and f"look at: {each.hint}") if text
            ]
        return "\n".join(lines)


def _row(each: InvariantMark) -> dict[str, Any]:
    return {
        "name": each.name, "says": each.says, "points": each.points, "earned": each.earned, "why": each.why,
        "hint": each.hint, "holds": each.holds, "waits": each.waits, "trace": each.trace is not None,
    }  # fmt: skip


class Report(ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """The marks of one exercise. Where an invariant broke on a guest, its trace opens below."""

    def __init__(self, mark: ExerciseMark) -> None:
        self.mark = mark
        self.table = ReportTable(mark)
        self.table.on_msg(self._asked)
        super().__init__([self.table])

    @property
    def earned(self) -> float:
        """The marks that were earned."""
        return self.mark.earned

    def trace(self, invariant: str) -> TraceFile:
        """Give the trace that shows how an invariant breaks. Raises UnusableInput when there is none."""
        found = next((each for each in self.mark.invariants if each.name == invariant), None)
        if found is None or found.trace is None:
            there = ", ".join(each.name for each in self.mark.invariants if each.trace) or "none has one"
            raise UnusableInput(f"invariant: {invariant!r} has no trace; those with one: {there}")
        return loads(found.trace)

    def _asked(self, _widget: Any, message: Any, _buffers: Any) -> None:
        if isinstance(message, dict) and isinstance(message.get("open"), str):
            self.children = (self.table, view_of(self.trace(message["open"])))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return super()._repr_mimebundle_(**options) | self.table.stand_ins()
