"""`vlab trace`: what a recorded run consists of, and its way into Perfetto."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import INPUT_FILE, WRITABLE_FILE

if TYPE_CHECKING:
    from rich.table import Table

    from vlab.trace.file import TraceFile
    from vlab.trace.summary import Summary

__all__ = ["trace"]


@click.command()
@click.argument("file", type=INPUT_FILE)
@click.option("--perfetto", type=WRITABLE_FILE, metavar="OUT", help="Write OUT for ui.perfetto.dev instead.")
def trace(file: Path, perfetto: Path | None) -> None:
    """Sum up FILE, a trace that `vlab run --trace FILE` recorded.

    \b
    Examples:
      vlab run selftest --trace selftest.vlabtrace
      vlab trace selftest.vlabtrace
      vlab trace selftest.vlabtrace --perfetto selftest.json
    """
    from vlab.trace.file import load

    loaded = load(file)
    if perfetto:
        _export(loaded, file, perfetto)
    else:
        _summarize(loaded)


def _export(loaded: TraceFile, file: Path, out: Path) -> None:
    from vlab.trace.perfetto import export

    count = export(out, loaded.exits, title=str(loaded.metadata.get("guest", file.stem)))
    click.echo(f"{count:,} events written to {out}; open it at ui.perfetto.dev or chrome://tracing")


def _summarize(loaded: TraceFile) -> None:
    from rich.console import Console

    from vlab.trace.summary import summarize

    summary = summarize(loaded.exits)
    console = Console(highlight=False, soft_wrap=True)
    for name, value in loaded.metadata.items():
        console.print(f"{name}: {value}", markup=False)
    for line in _figures(summary):
        console.print(line, markup=False)
    shares = [(each.name, f"{each.count:,}", f"{each.share:.1%}") for each in summary.reasons]
    console.print(_table("exits by reason", ("reason", "exits", "share"), shares))
    handlers = [(each.name, f"{each.count:,}", f"{each.share:.1%}") for each in summary.handlers]
    console.print(_table("exits by handler", ("handler", "exits", "share"), handlers))
    places = [(f"{each.rip:#x}", f"{each.count:,}", each.reason) for each in summary.places]
    console.print(_table("where exits happen most", ("rip", "exits", "mostly"), places))
    vectors = [(f"{vector:#04x}", f"{count:,}") for vector, count in summary.vectors]
    console.print(_table("interrupts and exceptions delivered", ("vector", "times"), vectors))


def _figures(summary: Summary) -> Iterable[str]:
    seconds = (summary.end_ns - summary.start_ns) / 1e9
    yield f"exits: {summary.total:,} in {seconds:.6f} s of virtual time"
    yield f"exits per virtual second: {summary.exits_per_second:,.0f}"
    yield f"interrupts delivered: {summary.interrupts:,}; device accesses: {summary.accesses:,}"
    if summary.dropped:
        yield f"records overwritten because the trace was full: {summary.dropped:,}"
    yield f"digest: {summary.digest}"


def _table(title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in {"exits", "share", "times"} else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
