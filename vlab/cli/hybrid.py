"""`vlab hybrid`: one disk, read through an emulated controller and through paravirtual ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from vlab.compare.hybrid import Reading

__all__ = ["hybrid"]


@click.command()
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write all readings to FILE.")
def hybrid(json_file: Path | None) -> int:
    """Read one disk in full virtualization, in paravirtualization, and in between.

    The teaching kernel reads a file, and what reading a sector takes is counted and timed:

    \b
      full    the kernel as it is. It moves every word of the emulated ATA disk
              through a port, and under a monitor each of them is an exit
      hybrid  the same kernel with one driver that knows of its monitor: a
              command has many sectors moved at once
      para    the kernel that knows of its monitor in everything, by hypercalls

    The table has all exits, exits and microseconds a sector, and the time over the bare machine's with the
    same driver. 'none' is the bare machine, where nothing exits: the time there is the devices' own. Times
    are those of the fastest of a few runs, and as noisy as the computer is.

    \b
    Exit status: 0 when every way reads the same bytes and the hybrid takes less
    than a hundredth of the exits, 1 otherwise.
    """
    from rich.console import Console

    from vlab.compare.hybrid import complaints, measure

    readings = measure(say)
    Console(highlight=False).print(_table(readings))
    if json_file:
        write_json(json_file, [_as_json(each) for each in readings])
    wrong = complaints(readings)
    for line in wrong:
        say(line)
    if not wrong:
        click.echo(_conclusion(readings))
    return 1 if wrong else 0


def _table(readings: list[Reading]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    for heading in ("kind", "monitor/paging", "driver"):
        table.add_column(heading, no_wrap=True)
    for heading in ("exits", "each", "us", "x bare"):
        table.add_column(heading, justify="right", no_wrap=True)
    bare = {each.way.driver: each.seconds for each in readings if each.way.monitor == "none"}
    for each in readings:
        way, base = each.way, bare.get(each.way.driver, 0.0)
        table.add_row(
            way.kind,
            f"{way.monitor}/{way.paging}",
            "hypercall" if way.kind == "para" else way.driver,
            f"{each.total:,}",
            f"{each.total / each.sectors:,.2f}",
            f"{each.seconds / each.sectors * 1e6:,.0f}",
            f"{each.seconds / base:.1f}" if base else "-",
        )
    return table


def _conclusion(readings: list[Reading]) -> str:
    """Compare the two drivers under the first monitor that has both."""
    totals = {(each.way.monitor, each.way.paging, each.way.kind): each for each in readings}
    full = next(each for each in readings if each.way.kind == "full" and each.exits)
    other = totals[full.way.monitor, full.way.paging, "hybrid"]
    times = full.total / max(1, other.total)
    return (
        f"All {len(readings)} ways read the same bytes. "
        f"Under {full.way.monitor}/{full.way.paging} one driver saves {times:,.0f} exits of {times + 1:,.0f}."
    )


def _as_json(reading: Reading) -> dict[str, object]:
    way = reading.way
    return {
        "kind": way.kind,
        "guest": way.guest,
        "monitor": way.monitor,
        "paging": way.paging,
        "driver": way.driver,
        "sectors": reading.sectors,
        "exits": {"total": reading.total, "by_reason": reading.exits},
        "exits_per_sector": reading.total / reading.sectors,
        "wall_seconds": reading.seconds,
        "right": reading.right,
        "console": reading.console,
    }
