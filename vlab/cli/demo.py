"""`vlab demo`: the bundled guests under every monitor, and whether all of them saw the same thing happen."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json
from vlab.cli.record import RunRecord, guest_failed, record, top_reasons
from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vlab.compare.costs import Costs
    from vlab.compare.model import Cycles
    from vlab.vmm.silent import Silent

__all__ = ["demo"]

#: The guests of the demo with what is added to their command line, and the one whose runs --json describes.
GUESTS = {"hello": None, "rings": None, "longmode": None, "selftest": None, "wren": "selftest"}
KERNEL = "wren"

#: The monitor whose guests must know it, and the images that do, by the guest whose source they share.
KNOWN_TO_ITS_GUESTS = "paravirtual"
PARAVIRTUAL = {"wren": "wren-paravirt"}

#: Monitors that are not equivalent, and why; what their guests do otherwise is a result and no failure.
NOT_EQUIVALENT = {"trap-emulate": "not all sensitive instructions of x86 trap"}

#: Monitors under which a guest's code, and with it its time, is another. Its memory shows that: the ticks
#: that it has counted, and what it was doing at each. Popek and Goldberg except time from equivalence, too.
OTHER_TIME = ("binary-translation",)

#: What a real kernel stumbles over there: it keeps its interrupt flag by PUSHF and POPF.
STUMBLING_BLOCKS = ("pushf", "popf")

#: Digits of the result's hash in the table; all of them are in the JSON.
SHORT = 6

#: Wall time that no bundled guest comes near, in seconds; one that does hangs, and that is a result.
PATIENCE = 60.0


class ModelledCycles(TypedDict):
    """Cycles on a processor of the cost table: the guest's own, those of exits, and how sure they are."""

    generation: str
    guest: int
    exits: int
    total: int
    sure: str


class ComparedRun(RunRecord):
    """A run beside the same guest's run on the bare machine.

    result_hash: of console and ending. share_without_monitor: of the blocks, 0 to 1. The last two are None
    where nothing counts blocks, modelled_cycles also where the processor could not have done it.
    """

    agrees: bool
    expected_to_agree: bool
    result_hash: str
    share_without_monitor: float | None
    modelled_cycles: ModelledCycles | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One run: its record, how it ended, what went by in silence, what differs from the first run."""

    record: RunRecord
    stop: Stop
    silent: tuple[Silent, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def result_hash(self) -> str:
        """What the guest did, as others see it: SHA-256 of its console and its ending, 64 bits of it."""
        kind, code = _ending(self.stop)
        return hashlib.sha256(f"{self.record['console']}\0{kind}\0{code}".encode()).hexdigest()[:16]

    @property
    def share_alone(self) -> float | None:
        """The part of the blocks, 0 to 1, that no exit interrupted; None where nothing counts blocks."""
        blocks = self.record["blocks"]
        return max(0.0, 1 - self.record["exits"]["total"] / blocks) if blocks else None

    def cycles(self, costs: Costs) -> Cycles | None:
        """Model the run on the default processor of the cost table."""
        from vlab.compare.model import of_run
        from vlab.compare.readings import Way

        run = self.record
        way = Way(run["monitor"], run["paging"])
        return of_run(costs, costs.generation(), way, run["exits"]["by_reason"], run["blocks"])


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

    from vlab.compare.costs import load
    from vlab.vmm.monitors import available

    ways, costs = available(), load()
    results: dict[str, list[Finished]] = {}
    errors = Console(stderr=True, highlight=False)
    for guest, append in GUESTS.items():
        results[guest] = []
        for monitor, paging in ways:
            image = PARAVIRTUAL.get(guest) if monitor == KNOWN_TO_ITS_GUESTS else guest
            if image is None:
                continue
            with _progress(errors, f"{image} under {monitor}/{paging}"):
                finished = _run_one(image, monitor, paging, append)
                results[guest].append(_compare(finished, results[guest]))
    Console(highlight=False).print(_table(results, costs))
    if json_file:
        write_json(json_file, [_compared(finished, costs) for finished in results[KERNEL]])
    return _verdict(results)


def _run_one(guest: str, monitor: str, paging: str, append: str | None) -> Finished:
    from vlab.session import VM

    with VM(guest, monitor=monitor, paging=paging, append=append) as vm:
        began = time.monotonic()
        stop = vm.run(timeout=PATIENCE)
        return Finished(record(vm, stop.kind, time.monotonic() - began), stop, vm.silent)


def _compare(finished: Finished, earlier: list[Finished]) -> Finished:
    """Note in what `finished` differs from the first run of the same guest, the one on the bare machine."""
    if not earlier:
        return finished
    first = earlier[0]
    same = {
        "console": finished.record["console"] == first.record["console"],
        "ending": _ending(finished.stop) == _ending(first.stop),
        "final state": finished.record["guest"] != first.record["guest"]
        or finished.record["monitor"] in OTHER_TIME
        or finished.record["state_hash"] == first.record["state_hash"],
    }
    differs = tuple(name for name, agrees in same.items() if not agrees)
    return replace(finished, differs=differs)


def _ending(stop: Stop) -> tuple[StopKind, int | None]:
    return stop.kind, stop.exit_code


def _compared(finished: Finished, costs: Costs) -> ComparedRun:
    return {
        **finished.record,
        "agrees": not finished.differs,
        "expected_to_agree": _expected(finished),
        "result_hash": finished.result_hash,
        "share_without_monitor": finished.share_alone,
        "modelled_cycles": _modelled(finished.cycles(costs), costs.default),
    }


def _modelled(cycles: Cycles | None, generation: str) -> ModelledCycles | None:
    if cycles is None:
        return None
    guest, exits, total = (round(each) for each in (cycles.guest, cycles.exits, cycles.total))
    sure = cycles.sure.name.lower()
    return {"generation": generation, "guest": guest, "exits": exits, "total": total, "sure": sure}


def _expected(finished: Finished) -> bool:
    return finished.record["monitor"] not in NOT_EQUIVALENT


def _word(finished: Finished) -> str:
    if not finished.differs:
        return "[green]yes[/]"
    return "[red]no[/]" if _expected(finished) else "[yellow]no, as expected[/]"


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
    others = {each.record["monitor"] for runs in results.values() for each in runs if not _expected(each)}
    names = "".join(f" but {name} ({NOT_EQUIVALENT[name]})" for name in sorted(others))
    for each in results[KERNEL]:
        if not _expected(each):
            click.echo(f"{KERNEL} under {_way(each.record)}: {each.silent[0].describe()}.")
    for each in results[KERNEL]:
        if each.record["guest"] != KERNEL or each.record["monitor"] in OTHER_TIME:
            click.echo(f"{_way(each.record)} runs {each.record['guest']}: console and ending are the same.")
    click.echo(f"Equivalence holds: {len(results)} guests, each the same under every monitor{names}.")
    return 0


def _complaint(finished: Finished, first: Finished) -> str | None:
    """Say what is wrong with a run; a guest that fails everywhere in the same way shows nothing either."""
    who = f"{finished.record['guest']} under {_way(finished.record)}"
    if not _expected(finished):
        return _undocumented(finished, who)
    if not finished.differs:
        failed = finished.stop.kind is StopKind.TIMEOUT or guest_failed(finished.stop)
        return f"{who} did not succeed: {finished.stop.story.splitlines()[0]}" if failed else None
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
        return f"{who} failed, and not over PUSHF or POPF: {finished.stop.story.splitlines()[0]}"
    return None


def _way(run: RunRecord) -> str:
    return f"{run['monitor']}/{run['paging']}"
