"""`vlab guests`: what can be booted, and how to get more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import INPUT_FILE, WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from vlab.guests.catalogue import Guest
    from vlab.guests.fetch import Progress

__all__ = ["guests"]


@click.group(invoke_without_command=True)
@click.pass_context
def guests(context: click.Context) -> None:
    """List the guests, fetch Linux, or add an image of your own.

    \b
    Examples:
      vlab guests
      vlab guests fetch linux
      vlab guests add ./kernel.elf --name mine
      vlab guests add ./vmlinuz --initrd ./initrd.gz
    """
    if context.invoked_subcommand is None:
        context.invoke(list_guests)


@guests.command("list")
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write the list to FILE.")
def list_guests(json_file: Path | None = None) -> None:
    """List the guests that `vlab run` knows by name."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from vlab.guests import catalogue

    known = catalogue.guests()
    table = Table(box=None, pad_edge=False)
    for heading in ("guest", "kind", "here", "what it is"):
        table.add_column(heading)
    for guest in known:
        about = guest.summary if guest.available else f"{guest.summary} ({guest.how_to_get})"
        table.add_row(escape(guest.name), str(guest.kind), "yes" if guest.available else "no", escape(about))
    Console(highlight=False).print(table)
    if json_file:
        write_json(json_file, [_as_json(guest) for guest in known])


def _as_json(guest: Guest) -> dict[str, object]:
    return {
        "name": guest.name,
        "kind": str(guest.kind),
        "available": guest.available,
        "kernel": None if guest.kernel is None else str(guest.kernel),
        "initrd": None if guest.initrd is None else str(guest.initrd),
        "command_line": guest.cmdline,
    }


@guests.command()
@click.argument("name")
@click.option("--again", is_flag=True, help="Fetch it even if it is here, for a newer kernel.")
def fetch(name: str, again: bool) -> None:
    """Fetch NAME, which is linux, into your cache directory.

    The kernel and a static busybox come from the packages of Debian or Ubuntu, as an ordinary user, and are
    verified. Elsewhere the message says how to add a kernel of your own.
    """
    from vlab.guests.fetch import fetch as fetch_guest

    with _progress() as progress:
        guest = fetch_guest(name, progress, again=again)
    click.echo(f"{guest.name} is here: vlab run {guest.name}")


@guests.command()
@click.argument("path", type=INPUT_FILE)
@click.option("--name", help="The name for `vlab run`.  [default: the file's name without its suffix]")
@click.option("--initrd", type=INPUT_FILE, metavar="F", help="The initial RAM disk that it boots with.")
@click.option("--append", metavar="STR", help="The command line that it boots with.")
def add(path: Path, name: str | None, initrd: Path | None, append: str | None) -> None:
    """Enter the image at PATH into the list of guests; the file stays where it is."""
    from vlab.guests import catalogue

    guest = catalogue.add(path, name, initrd, append)
    click.echo(f"{guest.name} ({guest.kind}) is in the list: vlab run {guest.name}")


@guests.command()
@click.argument("name")
def remove(name: str) -> None:
    """Take NAME, which you added, out of the list of guests; its files stay."""
    from vlab.guests import catalogue

    catalogue.remove(name)
    click.echo(f"{name} is no longer in the list")


@contextmanager
def _progress() -> Iterator[Progress]:
    """Give a progress callback: a bar in a terminal, a line for each new label otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        labels: list[str] = []

        def announce(done: int, total: int, label: str) -> None:
            if label not in labels:
                labels.append(label)
                say(label)

        yield announce
        return

    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console) as bars:
        task = bars.add_task("", total=None)

        def show(done: int, total: int, label: str) -> None:
            bars.update(task, description=label, completed=done, total=total or None)

        yield show
