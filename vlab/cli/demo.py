"""`vlab demo`: the bundled guests under every monitor, and whether all of them saw the same thing happen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json
from vlab.cli.record import RunRecord, guest_failed, record, top_reasons
from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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

#: What a real kernel stumbles over there: it keeps its interrupt flag by PUSHF and POPF.
STUMBLING_BLOCKS = ("pushf", "popf")

#: Wall time that no bundled guest comes near, in seconds; one that does hangs, and that is a result.
PATIENCE = 60.0


class ComparedRun(RunRecord):
    """A run beside the same guest's run on the bare machine."""

    agrees: bool
    expected_to_agree: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """One run: its record, how it ended, what went by in silence, what differs from the first run."""

    record: RunRecord
    stop: Stop
    silent: tuple[Silent, ...] = ()
    differs: tuple[str, ...] = ()


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
    image, so its final state is its own, and only console and ending are compared.

    Under trap-emulate they cannot all be: some sensitive instructions of x86 do not trap, and the teaching
    kernel must fail for that very reason.

    Exit status: 0 when all agree that should and the kernel fails where it must, 1 otherwise.
    """
    from rich.console import Console

    from vlab.vmm.monitors import available

    ways = available()
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
    Console(highlight=False).print(_table(results))
    if json_file:
        write_json(json_file, [_compared(finished) for finished in results[KERNEL]])
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
        or finished.record["state_hash"] == first.record["state_hash"],
    }
    differs = tuple(name for name, agrees in same.items() if not agrees)
    return replace(finished, differs=differs)


def _ending(stop: Stop) -> tuple[StopKind, int | None]:
    return stop.kind, stop.exit_code


def _compared(finished: Finished) -> ComparedRun:
    return {**finished.record, "agrees": not finished.differs, "expected_to_agree": _expected(finished)}


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


def _table(results: dict[str, list[Finished]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    for heading in ("guest", "monitor", "paging", "agrees"):
        table.add_column(heading, no_wrap=True)
    for heading in ("exits", "irqs", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("mostly")
    for runs in results.values():
        for finished in runs:
            run = finished.record
            table.add_row(
                run["guest"],
                run["monitor"],
                run["paging"],
                _word(finished),
                f"{run['exits']['total']:,}",
                f"{run['interrupts_delivered']:,}",
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
        if each.record["guest"] != KERNEL:
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
