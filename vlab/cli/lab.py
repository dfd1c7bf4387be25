"""`vlab lab`: JupyterLab on the lessons."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from vlab.cli.output import say
from vlab.errors import VlabError
from vlab.lessons.folder import FOLDER, bring

__all__ = ["lab"]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTER ARGUMENTS]...")
def lab(arguments: tuple[str, ...]) -> int:
    """Open JupyterLab on the lessons, on the Python that runs vlab.

    The lessons' notebooks are copied to vlab-labs in this directory; those that are there already stay as
    they are, with all that you wrote into them.

    \b
    Examples:
      vlab lab
      vlab lab --no-browser --port 8899
    """
    if find_spec("jupyterlab") is None:
        raise VlabError("JupyterLab is not installed here: run `make lab`, or `pip install 'vlab[lab]'`")
    folder = bring(Path.cwd())
    if folder is not None:
        say(f"vlab: the lessons are in {folder}; what you write there stays yours")
    line = command(arguments, first_page(folder))
    if os.name != "nt":
        # JupyterLab takes over this process, so that Ctrl-C is its own affair: it asks before it shuts down.
        os.execv(line[0], line)
    return subprocess.call(line)


def first_page(folder: Path | None) -> str | None:
    """Give the page that JupyterLab opens: the first lesson, None where there are no lessons."""
    first = None if folder is None else min(folder.glob("[0-9][0-9]_*.ipynb"), default=None)
    return None if first is None else f"/lab/tree/{FOLDER}/{first.name}"


def command(arguments: tuple[str, ...], page: str | None = None) -> list[str]:
    """Return the command line that starts JupyterLab with `arguments`; root needs one more.

    page: what it opens, unless the arguments say something else.
    """
    line = [sys.executable, "-m", "jupyterlab", *arguments]
    if page is not None and not any("default_url" in each for each in arguments):
        line.append(f"--LabApp.default_url={page}")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in arguments:
        say("vlab: you are root, so JupyterLab gets --allow-root")
        line.append("--allow-root")
    return line
