"""`vlab guests`: what can be booted, and how to get more."""

from __future__ import annotations

from pathlib import Path

import click

from vlab.cli.output import EXISTING_FILE, WRITABLE_FILE, write_json

__all__ = ["guests"]


@click.group(invoke_without_command=True)
@click.pass_context
def guests(context: click.Context) -> None:
    """List the guests, fetch Linux, or add an image of your own.

    \b
    Examples:
      vlab guests
      vlab guests fetch linux
      vlab guests add ./kernel.elf
    """
    if context.invoked_subcommand is None:
        context.invoke(list_guests)


@guests.command("list")
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write the list to FILE.")
def list_guests(json_file: Path | None) -> None:
    """List the guests that `vlab run` knows by name."""
