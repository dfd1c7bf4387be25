"""What exits took: measured, by their handlers' clocks, or modelled on a processor of the cost table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vlab.costs.model import per_exit, possible
from vlab.costs.readings import BARE
from vlab.costs.table import Costs, load
from vlab.errors import UnusableInput
from vlab.widgets.exits_data import Tally
from vlab.widgets.exits_picture import Ranking

MEASURED: Final = "handler time"


class Pricing:
    """Prices exits of a monitor. monitor: None when nobody knows which, and then nothing is modelled.

    costs: the cost table, the package's own for None. generation: a name in it, or "handler time"; None takes
    the table's default. Raises UnusableInput for another name.
    """

    def __init__(
        self, monitor: str | None, paging: str | None, costs: Costs | None, generation: str | None
    ) -> None:
        self._monitor, self._paging = monitor, paging
        self._costs = load() if costs is None else costs
        self._check(generation)
        names = [
            name
            for name, each in self._costs.generations.items()
            if monitor not in (None, BARE) and possible(self._costs, each, str(monitor), paging or "")
        ]
        default = generation or self._costs.default
        self.names: tuple[str, ...] = (MEASURED, *names)
        self.default = default if default in self.names else MEASURED

    def _check(self, generation: str | None) -> None:
        known = (MEASURED, *self._costs.generations)
        if generation is not None and generation not in known:
            raise UnusableInput(f"generation: there is no {generation!r}; choose one of {', '.join(known)}")

    def choices(self) -> list[tuple[str, str]]:
        """Name what can be chosen, each with its title."""
        found = [(MEASURED, "measured here: wall time in the handlers")]
        for name in self.names[1:]:
            found.append((name, f"modelled: {self._costs.generations[name].title}"))
        return found

    def ranking(self, choice: str, tallies: Sequence[Tally]) -> Ranking:
        """Price the exits, the dearest reason first."""
        if choice == MEASURED or choice not in self._costs.generations:
            title, short = "Wall time in handlers, ms (measured)", "Cost: wall time, ms"
            if not any(each.handler_ns for each in tallies):
                title, short = "Wall time in handlers: none was recorded", "Cost: no time recorded"
            return _ranking(title, short, [(each.reason, each.handler_ns / 1e6) for each in tallies], 3)
        generation = self._costs.generations[choice]
        amounts, sure = [], []
        for each in tallies:
            one = per_exit(self._costs, generation, str(self._monitor), each.reason)
            if one is not None:
                amounts.append((each.reason, each.count * one.cycles / 1e6))
                sure.append(one.sure)
        how = min(sure).name.lower() if sure else "nothing to price"
        title = f"Mcycles modelled on {choice} ({how})"
        return _ranking(title, f"Cost: Mcycles ({how})", amounts, 2)


def _ranking(title: str, short: str, amounts: list[tuple[str, float]], digits: int) -> Ranking:
    return Ranking(title, short, sorted(amounts, key=lambda each: (-each[1], each[0])), digits)
