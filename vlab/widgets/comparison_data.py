"""Results of comparisons as rows and columns: guests or single operations, under one monitor a row.

Takes what `vlab.compare.side_by_side.side_by_side` gives and `vlab demo --json` writes, a list of runs, and
what `vlab.compare.nanobench_report.report` gives and `vlab nanobench --json` writes, or its ``Results``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final

from vlab.costs.model import Cycles, of_operation, of_run
from vlab.costs.readings import BARE, Reading, Results, Way, share_alone
from vlab.costs.table import Costs, Generation
from vlab.errors import UnusableInput
from vlab.widgets import marks

_HINT: Final = "give what side_by_side('wren') or a nanobench report gives, or the name of their JSON"
_PARAVIRTUAL: Final = "-paravirt"
_HASH: Final = 6
_SHOWN: Final = 0.1
"""Exits per operation below this are the timer's."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an amount: its name, its sign and its colour or pattern."""

    name: str
    amount: float
    sign: str
    colour: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in the table. value: what it is sorted by, and its bar's length; None for nothing."""

    text: str
    value: float | str | None
    note: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column. bars: whether an amount has a bar."""

    key: str
    title: str
    about: str
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One monitor. cycles: by the name of the processor."""

    way: str
    cells: Mapping[str, Cell]
    cycles: Mapping[str, Cell]

    def cell(self, key: str, generation: str) -> Cell:
        """Give what stands in a column."""
        return self.cycles.get(generation, _NONE) if key == "cycles" else self.cells[key]


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one guest or operation."""

    name: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Table:
    """All of it. generations: the processors of the cost table, names and titles. notes: what follows."""

    columns: tuple[Column, ...]
    groups: list[Group]
    generations: list[tuple[str, str]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give it as what JSON can hold."""
        return asdict(self)


_NONE: Final = Cell("-", None)
_WAY: Final = Column("way", "Monitor", "the monitor and its paging")
_EXITS: Final = Column("exits", "Exits", "how often the guest left for its monitor, by reason", True)
RUN_COLUMNS: Final = (
    _WAY,
    Column("agrees", "As bare", "whether console, ending and state are those of the bare machine"),
    Column("result", "Result", "a hash of console and ending, the same where those are the same"),
    Column("alone", "Alone", "share of the guest's basic blocks that ran without the monitor", True),
    _EXITS,
    Column("cycles", "Mcycles", "millions of cycles on the chosen processor, modelled", True),
    Column("time", "Seconds", "wall time on this computer", True),
)
OPERATION_COLUMNS: Final = (
    _WAY,
    _EXITS,
    Column("cycles", "Cycles", "cycles of one operation on the chosen processor, modelled", True),
    Column("work", "Instructions", "the monitor's own, in Python's virtual machine, for one operation", True),
    Column("time", "µs", "processor time of one operation on this computer, the fastest of several", True),
    Column("over", "Over bare", "that time over the bare machine's", True),
)


def table_of(results: object, costs: Costs) -> Table:
    """Make the table of results in any of their forms. Raises UnusableInput for anything else."""
    if isinstance(results, str | PathLike):
        results = _loaded(Path(results))
    if isinstance(results, Results):
        return _operations(_readings(results), costs, [f"{r.way.name}: {r.why}" for r in results.refused])
    try:
        if isinstance(results, Mapping):
            return _operations(_reported(results["operations"]), costs, _notes(results))
        if isinstance(results, Sequence) and results:
            return _runs(list(results), costs)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UnusableInput(f"results: these are no results of a comparison ({problem!r}); {_HINT}") from None
    raise UnusableInput(f"results: {results!r} are no results of a comparison; {_HINT}")


def _loaded(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableInput(f"results: '{path}' cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UnusableInput(f"results: '{path}' is no JSON: {error}; {_HINT}") from error


# --- runs ---------------------------------------------------------------------------------------------------


def _runs(runs: list[Mapping[str, Any]], costs: Costs) -> Table:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(str(run["guest"]).removesuffix(_PARAVIRTUAL), []).append(run)
    made = [Group(name, [_run(each, found[0], costs) for each in found]) for name, found in groups.items()]
    return Table(RUN_COLUMNS, made, _generations(costs))


def _run(run: Mapping[str, Any], first: Mapping[str, Any], costs: Costs) -> Row:
    way = Way(str(run["monitor"]), str(run["paging"]))
    exits, blocks = run["exits"], run["blocks"]
    total, by_reason = int(exits["total"]), {str(name): float(n) for name, n in exits["by_reason"].items()}
    alone = share_alone(total, blocks)
    hashed = run.get("result_hash")
    cells = {
        "way": Cell(way.name, way.name, _image(run, first)),
        "agrees": _agreement(run, first),
        "result": Cell(str(hashed)[:_HASH], str(hashed)) if hashed else _NONE,
        "alone": _NONE if alone is None else Cell(f"{alone:.1%}", alone),
        "exits": _exits(by_reason, f"{total:,}", 0),
        "time": Cell(f"{run['wall_seconds']:.2f}", float(run["wall_seconds"])),
    }
    cycles = {
        name: _cycles(of_run(costs, generation, way, by_reason, blocks), 1e6, 1)
        for name, generation in costs.generations.items()
    }
    return Row(way.name, cells, cycles)


def _image(run: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    return f"runs {run['guest']}" if run["guest"] != first["guest"] else ""


def _agreement(run: Mapping[str, Any], first: Mapping[str, Any]) -> Cell:
    """Say whether a run is as the first one; a plain record is compared by its console alone."""
    if run is first:
        return Cell("reference", 0.0) if run["monitor"] == BARE else Cell("first", 0.0)
    if "agrees" not in run:
        same = run["console"] == first["console"]
        return Cell("✓ same console", 1.0) if same else Cell("✗ other console", 3.0)
    if run["agrees"]:
        return Cell("✓ yes", 1.0)
    return Cell("✗ no", 3.0) if run["expected_to_agree"] else Cell("≠ no, as expected", 2.0)


# --- operations ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Taken:
    operation: str
    way: Way
    reading: Reading
    over: float | None


def _readings(results: Results) -> list[_Taken]:
    return [
        _Taken(name, way, results.of(name, way), results.slowdown(name, way))
        for name in results.operations
        for way in results.ways
    ]


def _reported(operations: Sequence[Mapping[str, Any]]) -> list[_Taken]:
    found = []
    for each in operations:
        exits, work = dict(each["exits"]["by_reason"]), each["monitor_instructions"]
        reading = Reading(exits, work, each["blocks"], each["seconds"])
        way = Way(str(each["monitor"]), str(each["paging"]))
        found.append(_Taken(str(each["operation"]), way, reading, each["over_bare"]))
    return found


def _operations(taken: list[_Taken], costs: Costs, notes: list[str]) -> Table:
    groups: dict[str, list[Row]] = {}
    for each in taken:
        reading, work, seconds = each.reading, each.reading.instructions, each.reading.seconds
        shown = {name: count for name, count in reading.exits.items() if count >= _SHOWN}
        cells = {
            "way": Cell(each.way.name, each.way.name),
            "exits": _exits(shown, f"{sum(shown.values()):,.3g}" if shown else "-", 2),
            "work": _NONE if work is None else Cell(f"{work:,.0f}", work),
            "time": _NONE if seconds is None else Cell(f"{seconds * 1e6:,.3g}", seconds),
            "over": _NONE if each.over is None else Cell(f"{each.over:,.3g}", each.over),
        }
        cycles = {
            name: _cycles(of_operation(costs, one, each.operation, each.way, reading), 1, 0)
            for name, one in costs.generations.items()
        }
        groups.setdefault(each.operation, []).append(Row(each.way.name, cells, cycles))
    made = [Group(name, rows) for name, rows in groups.items()]
    return Table(OPERATION_COLUMNS, made, _generations(costs), notes)


def _notes(report: Mapping[str, Any]) -> list[str]:
    checks, refused = report.get("checks", []), report.get("refused", [])
    wrong = [
        f"It does not hold that {each['claim']} ({each['detail']})." for each in checks if not each["holds"]
    ]
    held = [f"All {len(checks)} orderings hold."] if checks and not wrong else []
    away = [f"{each['monitor']}/{each['paging']} does not run the kernel: {each['why']}" for each in refused]
    return held + wrong + away


# --- both ---------------------------------------------------------------------------------------------------


def _exits(by_reason: Mapping[str, float], text: str, digits: int) -> Cell:
    ranking = sorted(by_reason.items(), key=lambda each: (-each[1], each[0]))
    parts = tuple(Part(name, count, marks.sign(name), marks.colour(name)) for name, count in ranking)
    named = (f"{part.sign} {part.name} {_amount(part.amount, digits)}" for part in parts)
    return Cell(text, sum(by_reason.values()), ", ".join(named), parts)


def _amount(amount: float, digits: int) -> str:
    return f"{amount:,.{digits}f}".removesuffix("0").removesuffix(".0") if digits else f"{amount:,.0f}"


def _cycles(cycles: Cycles | None, unit: float, digits: int) -> Cell:
    if cycles is None:
        return Cell("-", None, "not possible there")
    parts = (
        Part("guest", cycles.guest / unit, "", "guest"),
        Part("exits", cycles.exits / unit, "", "exits"),
    )
    note = f"{cycles.sure.name.lower()}; exits {cycles.exits / unit:,.{digits}f}"
    return Cell(f"{cycles.total / unit:,.{digits}f}", cycles.total / unit, note, parts)


def _generations(costs: Costs) -> list[tuple[str, str]]:
    def title(each: Generation) -> str:
        return f"{each.title} ({each.name})"

    return [(name, title(each)) for name, each in costs.generations.items()]
