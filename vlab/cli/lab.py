"""`vlab lab`: JupyterLab with vlab importable."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import click

from vlab.cli.output import say
from vlab.errors import VlabError

__all__ = ["lab"]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTER ARGUMENTS]...")
def lab(arguments: tuple[str, ...]) -> int:
    """Open JupyterLab in this directory, on the Python that runs vlab.

    \b
    Examples:
      vlab lab
      vlab lab --no-browser --port 8899
    """
    if find_spec("jupyterlab") is None:
        raise VlabError("JupyterLab is not installed here: run `make lab`, or `pip install 'vlab[lab]'`")
    line = command(arguments)
    if os.name != "nt":
        # JupyterLab takes over this process, so that Ctrl-C is its own affair: it asks before it shuts down.
        os.execv(line[0], line)
    return subprocess.call(line)


def command(arguments: tuple[str, ...]) -> list[str]:
    """Return the command line that starts JupyterLab with `arguments`; root needs one more."""
    line = [sys.executable, "-m", "jupyterlab", *arguments]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in arguments:
        say("vlab: you are root, so JupyterLab gets --allow-root")
        line.append("--allow-root")
    return line
