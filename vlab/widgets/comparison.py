"""Monitors side by side: exits, cycles, time, and whether the guest could tell where it ran."""

from __future__ import annotations

from typing import Any, ClassVar

import traitlets

from vlab.costs.table import Costs, load
from vlab.widgets.comparison_data import table_of
from vlab.widgets.comparison_picture import draw, tell
from vlab.widgets.view import View


class Comparison(View):
    """Results of `vlab demo` or `vlab nanobench`, or the name of the JSON file that they wrote.

    results: what ``vlab.compare.side_by_side.side_by_side`` gives, for whole guests; what
    ``vlab.compare.nanobench_report.report`` gives, or its ``Results``, for single operations. costs: a cost
    table (`vlab.costs.table.load`). generation: the processor of it whose cycles are shown, its default for
    None. Raises UnusableInput for anything else.
    """

    script: ClassVar[str] = "comparison.js"
    styles: ClassVar[tuple[str, ...]] = ("marks.css", "comparison.css")

    table: traitlets.Dict[str, Any] = traitlets.Dict(help="columns, groups of rows, processors").tag(
        sync=True
    )
    generation = traitlets.Unicode(help="the processor whose cycles are shown").tag(sync=True)

    def __init__(self, results: object, *, costs: Costs | None = None, generation: str | None = None) -> None:
        costs = load() if costs is None else costs
        self._table = table_of(results, costs)
        chosen = costs.generation(generation).name
        super().__init__(table=self._table.as_dict(), generation=chosen)

    def picture(self) -> str:
        """Draw the table with its bars."""
        return draw(self._table, self.generation)

    def words(self) -> str:
        """Write the table as text."""
        return tell(self._table, self.generation)
