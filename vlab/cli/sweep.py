"""`vlab sweep`: shadow against nested page tables, over working sets and rates of page-table updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import INPUT_FILE, WRITABLE_FILE, say, write_json
from vlab.errors import UnusableInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlab.compare.crossover import Crossover
    from vlab.compare.ept_shape import Micro
    from vlab.compare.sweep import Point
    from vlab.compare.sweep_report import Report
    from vlab.compare.walk_costs import Processor

__all__ = ["sweep"]

_SHADES = ((4.0, "bold "), (1.5, ""), (0.0, "dim "))


@click.command()
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write all figures to FILE.")
@click.option("--quick", is_flag=True, help="Fewer working sets and rates: a quarter of a minute.")
@click.option("--processor", metavar="NAME", help="The processor of the map (the first of the table).")
@click.option("--walks", type=INPUT_FILE, metavar="FILE", help="TLBs and costs of walks, in place of vlab's.")
@click.option("--costs", type=INPUT_FILE, metavar="FILE", help="Costs of exits, laid over vlab's.")
def sweep(
    json_file: Path | None, quick: bool, processor: str | None, walks: Path | None, costs: Path | None
) -> int:
    """Compare shadow and nested page tables: who wins, and where.

    Shadow tables are walked in one dimension, and every page-table update of the guest costs exits. Nested
    tables need no exits, and a TLB miss walks in two dimensions. A small guest touches a working set and
    edits the page tables behind it, under both. Exits, and memory references of a walk, are counted from the
    runs. TLB misses come from a model that follows the guest's accesses; cycles from tables of costs for a
    few processors (vlab/compare/walk_costs.toml and costs.toml, which can be edited).

    \b
    In the map, a working set to a row, an update rate to a column:
      N 2.5    nested tables win: shadow ones take 2.5 times the cycles
      S 3.0    shadow tables win: nested ones take 3 times the cycles
      =        no difference

    docs/SHADOW_NESTED.md explains the results.

    \b
    Exit status: 0 when the expected shapes come out, 1 otherwise.
    """
    from rich.console import Console

    from vlab.compare import sweep_report
    from vlab.compare.walk_costs import read_processors
    from vlab.costs.table import load

    processors = read_processors(walks, load(costs))
    shown = _choose(processors, processor)
    console = Console(highlight=False)
    with _progress() as tell:
        found = sweep_report.measure(processors, sweep_report.QUICK if quick else sweep_report.FULL, tell)
    _print(console, found, shown)
    if json_file:
        write_json(json_file, _as_json(found))
    return _verdict(console, found)


def _choose(processors: tuple[Processor, ...], name: str | None) -> Processor:
    known = {each.name: each for each in processors}
    if name is not None and name not in known:
        raise UnusableInput(f"processor: there is no {name!r}; choose one of {', '.join(known)}")
    return processors[0] if name is None else known[name]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show what runs now, in a terminal."""
    from rich.console import Console

    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield lambda _text: None
        return
    with errors.status("beginning") as status:
        yield lambda text: status.update(f"running sweep {text}")


def _print(console: Console, found: Report, shown: Processor) -> None:
    for title, table in (
        (f"Who takes fewer cycles on {shown.title}? Page-table updates a touch", _map(found, shown)),
        ("Nested tables win from one update in so many touches on", _crossovers(found)),
        (f"The shape of Bhatia (2009), on {shown.title}; shadow : nested", _micros(found, shown)),
    ):
        console.print(title, style="bold", markup=False)
        console.print(table)
        console.print()


def _new_table(*headings: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _map(found: Report, shown: Processor) -> Table:
    rates = [f"1/{touches:,}" for touches in found.extent.scan]
    table = _new_table("pages", "of reach", "misses", *rates, "no updates")
    for row in found.grid:
        pages = row[-1].workload.pages
        reach, misses = f"{pages / shown.reach:.2g} x", f"{row[-1].miss_ratio(shown.name):.0%}"
        table.add_row(f"{pages:,}", reach, misses, *(_cell(point.gain(shown.name)) for point in row))
    return table


def _cell(gain: float) -> str:
    from vlab.compare.sweep_report import TIE

    if abs(gain - 1) <= TIE:
        return "[dim]=[/]"
    winner, times, colour = ("N", gain, "green") if gain > 1 else ("S", 1 / gain, "blue")
    shade = next(shade for least, shade in _SHADES if times >= least)
    return f"[{shade}{colour}]{winner} {times:.{1 if times < 99 else 0}f}[/]"


def _crossovers(found: Report) -> Table:
    names = [each.name for each in found.processors]
    table = _new_table("pages", *names, f"{names[0]}, 2 MiB nested")
    large = {each.pages: each for each in found.crossovers_large}
    for pages in found.extent.pages:
        cells = [_line(each) for each in found.crossovers if each.pages == pages]
        table.add_row(f"{pages:,}", *cells, _line(large[pages]) if pages in large else "")
    return table


def _line(crossover: Crossover) -> str:
    if crossover.rate is None:
        return "never"
    return f"{crossover.touches:,.0f}" if crossover.rate else "any"


def _micros(found: Report, shown: Processor) -> Table:
    table = _new_table()
    for heading in ("microbenchmark", "nested"):
        table.add_column(heading, no_wrap=True)
    for heading in ("references", "exits", "modelled", "timed here"):
        table.add_column(heading, justify="right", no_wrap=True)
    for micro in (found.shape.editing, *found.shape.missing):
        point = micro.point
        table.add_row(
            micro.name,
            micro.nested.removeprefix("nested, "),
            f"{point.shadow.walk.references} : {point.nested.walk.references}",
            f"{_exits_a_touch(point):.2f} : 0" if any(point.shadow.exits.values()) else "0 : 0",
            _cell(point.gain(shown.name)),
            "-" if micro.wall is None else _cell(micro.wall),
        )
    return table


def _exits_a_touch(point: Point) -> float:
    return sum(point.shadow.exits.values()) / (point.rounds * point.workload.touches)


def _verdict(console: Console, found: Report) -> int:
    for conclusion in found.conclusions():
        if conclusion.holds:
            console.print(f"- {conclusion.text}", markup=False)
        else:
            say(f"not so: {conclusion.text}")
    return 0 if found.holds else 1


def _as_json(found: Report) -> dict[str, object]:
    names = [each.name for each in found.processors]
    large = [_crossover_as_json(each) | {"nested_page_bytes": 2 << 20} for each in found.crossovers_large]
    return {
        "processors": [_processor_as_json(each) for each in found.processors],
        "grid": [_point_as_json(point, names) for row in found.grid for point in row],
        "crossovers": [_crossover_as_json(each) | {"nested_page_bytes": 4096} for each in found.crossovers]
        + large,
        "microbenchmarks": [
            _micro_as_json(each, names) for each in (found.shape.editing, *found.shape.missing)
        ],
        "published_gains": [_crossover_as_json(each) for each in found.shape.figures],
        "conclusions": [{"text": each.text, "holds": each.holds} for each in found.conclusions()],
        "runs": found.runs,
    }


def _processor_as_json(processor: Processor) -> dict[str, object]:
    figures = {**processor.cycles, "tlb": processor.tlb_source}
    return {
        "name": processor.name,
        "title": processor.title,
        "reach_pages": processor.reach,
        "exit_cycles": {reason: processor.exit_cycles(reason) for reason in ("PF", "INVLPG", "CR")},
        "figures": {
            name: {"cycles": figure.cycles, "sure": figure.sure.name.lower(), "source": figure.source}
            for name, figure in figures.items()
        },
    }


def _point_as_json(point: Point, names: list[str]) -> dict[str, object]:
    workload = point.workload
    return {
        "pages": workload.pages,
        "large": workload.large,
        "updates_per_touch": workload.rate,
        "touches": point.rounds * workload.touches,
        "exits": {"shadow": dict(point.shadow.exits), "nested": dict(point.nested.exits)},
        "shadow_fills": point.shadow.fills,
        "page_table_write_exits": point.shadow.writes,
        "references_per_walk": {
            "shadow": point.shadow.walk.references,
            "nested": point.nested.walk.references,
        },
        "tlb_misses": {name: point.lookups[name].misses for name in names},
        "cycles_per_touch": {
            name: dict(zip(("shadow", "nested"), point.cycles[name], strict=True)) for name in names
        },
        "gain": {name: point.gain(name) for name in names},
    }


def _crossover_as_json(crossover: Crossover) -> dict[str, object]:
    return {
        "pages": crossover.pages,
        "processor": crossover.processor,
        "gain": crossover.gain,
        "updates_per_touch": crossover.rate,
        "between": [crossover.least, crossover.most],
    }


def _micro_as_json(micro: Micro, names: list[str]) -> dict[str, object]:
    return {
        "name": micro.name,
        "nested": micro.nested,
        "timed_gain": micro.wall,
        **_point_as_json(micro.point, names),
    }
