"""`vlab nanobench`: one operation at a time under every monitor: exits, cycles and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import INPUT_FILE, WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from vlab.compare.nanobench import Say
    from vlab.compare.orderings import Check, Verdict
    from vlab.costs.readings import Reading, Results, Way
    from vlab.costs.table import Costs, Generation

__all__ = ["nanobench"]

#: Exits per operation below this are not shown: the timer's, mostly.
SHOWN = 0.1

Cell = Callable[[str, "Way"], str]


@click.command()
@click.option("--costs", type=INPUT_FILE, metavar="FILE", help="Lay FILE over the cost table (TOML).")
@click.option("--generation", metavar="NAME", help="Show the cycles of one generation of processors only.")
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write all figures to FILE.")
def nanobench(costs: Path | None, generation: str | None, json_file: Path | None) -> int:
    """Do one operation at a time under every monitor, and compare what it takes.

    The operations are those of Adams and Agesen (ASPLOS 2006): a system call, a read of a port, a write of
    CR3, a call and its return, a page fault, a division by zero, a change of a page-table entry, and fork
    with wait. The teaching kernel does each of them; what comes before and after is not counted. All of it
    takes a minute or two.

    \b
      exits         by reason, counted. Below 0.1 they are the timer's and not
                    shown
      instructions  those of the monitor itself, in Python's virtual machine,
                    counted
      cycles        what the exits would take on processors of the past, modelled
                    with a table of published and estimated figures; '-' where
                    there was no such hardware
      time          over the bare machine's, measured here: it is the emulator's
                    as much as the monitor's

    docs/NANOBENCH.md says what the figures mean, which orderings must hold, and how to change the table.

    \b
    Exit status: 0 when the orderings hold, 1 otherwise.
    """
    from rich.console import Console

    from vlab.compare.nanobench import measure
    from vlab.compare.nanobench_report import report
    from vlab.compare.orderings import check, verdicts
    from vlab.costs.table import load

    table = load(costs)
    shown = [table.generation(generation)] if generation else list(table.generations.values())
    with _progress() as progress:
        results = measure(say=progress)
    checks, found = check(results, table), verdicts(results, table)
    console = Console(highlight=False)
    for each in _tables(results, table, shown):
        console.print(each)
    for line in _conclusion(results, [each for each in found if each.generation in {g.name for g in shown}]):
        click.echo(line)
    if json_file:
        write_json(json_file, report(results, table, checks, found))
    return _judge(checks)


@contextmanager
def _progress() -> Iterator[Say]:
    """Show what runs now: a live line in a terminal, a line each otherwise."""
    from rich.console import Console

    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield say
        return
    with errors.status("") as status:
        yield status.update


# --- tables -------------------------------------------------------------------------------------------------


def _tables(results: Results, costs: Costs, generations: list[Generation]) -> Iterator[Table]:
    yield _table(results, "Exits per operation", lambda name, way: _exits(results.of(name, way)))
    yield _table(
        results,
        "Instructions of the monitor per operation",
        lambda name, way: _whole(results.of(name, way).instructions),
    )
    for each in generations:
        title = f"Cycles per operation, modelled: {each.title} ({each.name})"
        yield _table(results, title, _cycles(results, costs, each))
    yield _table(results, "Time per operation, over the bare machine's", _slowdown(results))


def _table(results: Results, title: str, cell: Cell) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column("operation", no_wrap=True)
    for way in results.ways:
        monitor = way.monitor.replace("-", "-\n")  # rich breaks lines at blanks alone
        table.add_column(f"{monitor}\n{way.paging}", justify="right")
    for name in results.operations:
        table.add_row(name, *(cell(name, way) for way in results.ways))
    return table


def _exits(reading: Reading) -> str:
    ranked = sorted(reading.exits.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:.2g}" for reason, count in ranked if count >= SHOWN) or "-"


def _cycles(results: Results, costs: Costs, generation: Generation) -> Cell:
    from vlab.costs.model import of_operation

    def cell(name: str, way: Way) -> str:
        cycles = of_operation(costs, generation, name, way, results.of(name, way))
        return _whole(None if cycles is None else cycles.total)

    return cell


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _slowdown(results: Results) -> Cell:
    def cell(name: str, way: Way) -> str:
        if way == results.ways[0] and (seconds := results.of(name, way).seconds) is not None:
            return f"{_digits(seconds * 1e6)} us"
        slowdown = results.slowdown(name, way)
        return "-" if slowdown is None else _digits(slowdown)

    return cell


def _digits(value: float) -> str:
    """Show three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# --- what follows -------------------------------------------------------------------------------------------


def _conclusion(results: Results, found: list[Verdict]) -> Iterator[str]:
    for each in found:
        winner, loser = each.software_way.name, each.hardware_way.name
        taken = f"{each.software:,.0f}", f"{each.hardware:,.0f}"
        if not each.software_wins:
            winner, loser, taken = loser, winner, taken[::-1]
        yield f"{each.generation}: {winner} does forkwait in {taken[0]} cycles, {loser} in {taken[1]}."
        cheaper = ", ".join(each.cheaper) or "nothing"
        yield f"  {each.software_way.name} is cheaper than {each.hardware_way.name} in {cheaper}."
    for refused in results.refused:
        yield f"{refused.way.name} does not run the kernel: {refused.why}"


def _judge(checks: list[Check]) -> int:
    wrong = [each for each in checks if not each.holds]
    for each in wrong:
        say(f"It does not hold that {each.claim} ({each.detail}).")
    if not wrong:
        click.echo(f"All {len(checks)} orderings hold.")
    return 1 if wrong else 0
