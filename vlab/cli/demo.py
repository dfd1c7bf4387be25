"""`vlab demo`: the bundled guests under every monitor, and whether all of them saw the same thing happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json
from vlab.compare.record import RunRecord, guest_failed, top_reasons
from vlab.compare.side_by_side import NOT_EQUIVALENT, OTHER_TIME, compared, image_for, run_once
from vlab.vmm.stop import StopKind

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlab.compare.side_by_side import Finished
    from vlab.costs.table import Costs

__all__ = ["demo"]

#: The guests of the demo with what is added to their command line, and the one whose runs --json describes.
GUESTS = {"hello": None, "rings": None, "longmode": None, "selftest": None, "wren": "selftest"}
KERNEL = "wren"

#: What a real kernel stumbles over there: it keeps its interrupt flag by PUSHF and POPF.
STUMBLING_BLOCKS = ("pushf", "popf")

#: Digits of the result's hash in the table; all of them are in the JSON.
SHORT = 6


@click.command()
@click.option(
    "--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help=f"Write the runs of {KERNEL} to FILE."
)
def demo(json_file: Path | None) -> int:
    """Run the bundled guests under every monitor, and compare.

    Popek and Goldberg ask three things of a monitor; the first is equivalence: a guest must not be able to
    tell where it runs. Here each guest's console, ending and final state must be the same under every monitor
    and paging as on the bare machine.

    Under paravirtual there is only the teaching kernel, in the form that knows its monitor. That is another
    image, so its final state is its own, and only console and ending are compared. So they are under
    binary-translation, where the kernel's code is another, and the guest's time with it.

    Under trap-emulate they cannot all be: some sensitive instructions of x86 do not trap, and the teaching
    kernel must fail for that very reason.

    \b
      result  a hash of console and ending, the same where those are the same
      alone   share of the guest's basic blocks that ran without the monitor:
              blocks minus exits, over blocks. An exit counts as one block,
              however much the monitor then does
      Mcyc    millions of cycles that blocks and exits would take on the default
              processor of the cost table, as `vlab nanobench` models them; '-'
              where it could not have run them so

    Exit status: 0 when all agree that should and the kernel fails where it must, 1 otherwise.
    """
    from rich.console import Console

    from vlab.costs.table import load
    from vlab.vmm.monitors import available

    ways, costs = available(), load()
    results: dict[str, list[Finished]] = {}
    errors = Console(stderr=True, highlight=False)
    for guest, append in GUESTS.items():
        results[guest] = []
        for monitor, paging in ways:
            image = image_for(guest, monitor)
            if image is None:
                continue
            with _progress(errors, f"{image} under {monitor}/{paging}"):
                finished = run_once(image, monitor, paging, append)
                results[guest].append(compared(finished, results[guest]))
    Console(highlight=False).print(_table(results, costs))
    if json_file:
        write_json(json_file, [finished.as_dict(costs) for finished in results[KERNEL]])
    return _verdict(results)


def _word(finished: Finished) -> str:
    if not finished.differs:
        return "[green]yes[/]"
    return "[red]no[/]" if finished.expected_to_agree else "[yellow]no, as expected[/]"


@contextmanager
def _progress(console: Console, what: str) -> Iterator[None]:
    """Show what runs now: a live line in a terminal, a line each otherwise."""
    if console.is_terminal:
        with console.status(f"running {what}"):
            yield
    else:
        say(f"running {what}")
        yield


def _table(results: dict[str, list[Finished]], costs: Costs) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=0)
    for heading in ("monitor", "paging"):
        table.add_column(heading, no_wrap=True)
    table.add_column("agrees")
    for heading in ("result", "alone", "exits", "Mcyc", "secs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("mostly")
    for guest, runs in results.items():
        table.add_row(f"[bold]{' '.join(part for part in (guest, GUESTS[guest]) if part)}[/]")
        for finished in runs:
            run, alone, cycles = finished.record, finished.share_alone, finished.cycles(costs)
            table.add_row(
                run["monitor"],
                run["paging"],
                _word(finished),
                finished.result_hash[:SHORT],
                "-" if alone is None else f"{alone:.1%}",
                f"{run['exits']['total']:,}",
                "-" if cycles is None else f"{cycles.total / 1e6:,.1f}",
                f"{run['wall_seconds']:.2f}",
                top_reasons(run["exits"], 2),
            )
        table.add_section()
    return table


def _verdict(results: dict[str, list[Finished]]) -> int:
    wrong = []
    for guest, runs in results.items():
        complaints = [text for finished in runs if (text := _complaint(finished, runs[0]))]
        for text in complaints:
            say(text)
        if complaints:
            wrong.append(guest)
    if wrong:
        say(f"Equivalence is not shown for {', '.join(wrong)}.")
        return 1
    others = {
        each.record["monitor"] for runs in results.values() for each in runs if not each.expected_to_agree
    }
    names = "".join(f" but {name} ({NOT_EQUIVALENT[name]})" for name in sorted(others))
    for each in results[KERNEL]:
        if not each.expected_to_agree:
            click.echo(f"{KERNEL} under {_way(each.record)}: {each.silent[0].describe()}.")
    for each in results[KERNEL]:
        if each.record["guest"] != KERNEL or each.record["monitor"] in OTHER_TIME:
            click.echo(f"{_way(each.record)} runs {each.record['guest']}: console and ending are the same.")
    click.echo(f"Equivalence holds: {len(results)} guests, each the same under every monitor{names}.")
    return 0


def _complaint(finished: Finished, first: Finished) -> str | None:
    """Say what is wrong with a run; a guest that fails everywhere in the same way shows nothing either."""
    who = f"{finished.record['guest']} under {_way(finished.record)}"
    if not finished.expected_to_agree:
        return _undocumented(finished, who)
    if not finished.differs:
        failed = finished.stop.kind is StopKind.TIMEOUT or guest_failed(finished.stop)
        return f"{who} did not succeed: {finished.stop.headline}" if failed else None
    text = f"{who} differs from {_way(first.record)} in its {' and '.join(finished.differs)}"
    consoles = first.record["console"].splitlines(), finished.record["console"].splitlines()
    for number, (expected, got) in enumerate(zip(*consoles, strict=False), 1):
        if expected != got:
            return f"{text}; console line {number} is {got!r} instead of {expected!r}"
    return text


def _undocumented(finished: Finished, who: str) -> str | None:
    """Say how a kernel that must fail did it otherwise than by the instructions that are known to fail it."""
    if finished.record["guest"] != KERNEL:
        return None
    if not finished.differs:
        return f"{who} should have failed, and did not"
    if not finished.silent or not finished.silent[0].text.startswith(STUMBLING_BLOCKS):
        return f"{who} failed, and not over PUSHF or POPF: {finished.stop.headline}"
    return None


def _way(run: RunRecord) -> str:
    return f"{run['monitor']}/{run['paging']}"
