"""`vlab bench`: speed and memory against their bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from vlab.bench.registry import Bench, Result

__all__ = ["bench"]


@click.command()
@click.option("--only", metavar="NAME", help="Measure one thing instead of all.")
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write the results to FILE.")
def bench(only: str | None, json_file: Path | None) -> int:
    """Measure speed and memory, and compare with the bar of each.

    A bar is on a ratio of two measurements taken side by side, or on memory, so it means the same on any
    computer. What cannot be measured here says what is missing.

    \b
    Exit status: 0 when all bars that could be measured hold, 1 when one does not.
    """
    from vlab.bench.registry import measure

    results = []
    for entry in _chosen(only):
        say(f"{entry.name}: {entry.about}")
        results.append(measure(entry, lambda words: say(f"  {words}")))
        click.echo(_line(results[-1]))
    if json_file:
        write_json(json_file, [result.as_json() for result in results])
    return 1 if any(result.holds is False for result in results) else 0


def _chosen(only: str | None) -> list[Bench]:
    from vlab.bench.registry import benches

    known = benches()
    if only is None:
        return list(known.values())
    if only not in known:
        raise click.UsageError(
            f"--only: there is no benchmark {only!r}; there are: {', '.join(known) or 'none'}"
        )
    return [known[only]]


def _line(result: Result) -> str:
    if result.value is None:
        return f"{result.name}: not measured: {result.note}"
    verdict = {True: "holds", False: "DOES NOT HOLD", None: ""}[result.holds]
    bar = f", {result.bar}: {verdict}" if result.bar else ""
    note = f"  ({result.note})" if result.note else ""
    return f"{result.name}: {result.value:.4g} {result.unit}{bar}{note}"
