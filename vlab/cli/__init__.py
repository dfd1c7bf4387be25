"""The command line: `vlab COMMAND`. Each command is a module of its own; here errors become one line each."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import click

from vlab import __version__
from vlab.cli import (
    bench,
    course,
    demo,
    doctor,
    grade,
    guests,
    hybrid,
    lab,
    matrix,
    nanobench,
    run,
    sweep,
    trace,
)
from vlab.cli.output import say
from vlab.errors import UnusableInput, VlabError

__all__ = ["cli", "main"]

INTERRUPTED = 130
BUG = 70

#: What standard output can come to, from which no command recovers.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="vlab")
@click.pass_context
def cli(context: click.Context) -> None:
    """Boot real guests under virtual machine monitors that you can read, and see every exit.

    \b
    Start here:
      vlab demo                 the bundled guests under every monitor, compared
      vlab run hello            one guest, its serial console in this terminal
      vlab guests fetch linux   get a Linux kernel and a shell (Debian and Ubuntu)
      vlab doctor               what works here, what is missing and how to get it

    Each command explains itself: vlab run --help
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    run.run, demo.demo, matrix.matrix, nanobench.nanobench, sweep.sweep, hybrid.hybrid, guests.guests,
    trace.trace, bench.bench, course.course, grade.grade, doctor.doctor, lab.lab,
):  # fmt: skip
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake of the user's is one line on standard error."""
    try:
        status = cli.main(arguments, prog_name="vlab", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        say(f"{context.command_path if context else 'vlab'}: {_one_line(error.format_message())}")
        return error.exit_code
    except VlabError as error:
        say(f"vlab: {_one_line(str(error))}")
        return error.exit_status
    except (click.Abort, KeyboardInterrupt):
        say("vlab: interrupted")
        return INTERRUPTED
    except OSError as error:
        if error.errno not in NO_ROOM:
            return _report_bug(error)
        say(f"vlab: the output cannot be written: {error.strerror}; make room, or send it elsewhere")
        return UnusableInput.exit_status
    except Exception as error:
        return _report_bug(error)
    return status if isinstance(status, int) else 0


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _report_bug(error: Exception) -> int:
    if os.environ.get("VLAB_DEBUG"):
        raise error
    say(f"vlab: {type(error).__name__}: {_one_line(str(error))}")
    say(
        "This is a bug in vlab, not in your guest. Please report it to the project, with the output of "
        "`vlab doctor` and of the same command under VLAB_DEBUG=1."
    )
    return BUG
