"""`vlab run`: one guest, its serial console here, and how it ended as the exit status."""

from __future__ import annotations

import time
from pathlib import Path

import click

from vlab.cli.driver import Driver
from vlab.cli.output import INPUT_FILE, SECONDS, WRITABLE_FILE, write_json
from vlab.cli.script import Script
from vlab.cli.terminal import interactive
from vlab.compare.record import record

__all__ = ["run"]

ENDINGS = """
\b
Exit status:
  0    --expect was seen, or the guest ended and reported no failure
  1    the guest failed: its own failure code, a triple fault, or it
       ended before the text that --after or --expect waited for
  2    an option, the image or the guest's name cannot be used
  3    the time ran out
  130  interrupted with Ctrl-C
"""

CLOCK_HELP = "Virtual time from executed code, the same in each run, or from the clock on the wall."
MONITOR_HELP = (
    "Who runs the guest: none is the bare machine, trap-emulate has traps alone, "
    "paravirtual is asked by its guest, hardware has AMD-V."
)
PAGING_HELP = "How its memory is mapped: direct, shadow or nested.  [default: the monitor's first]"


@click.command(epilog=ENDINGS, short_help="Run one guest, with its console in this terminal.")
@click.argument("guest", metavar="GUEST")
@click.option("--monitor", default="hardware", show_default=True, metavar="M", help=MONITOR_HELP)
@click.option("--paging", metavar="P", help=PAGING_HELP)
@click.option("--memory", metavar="SIZE", help="RAM, such as 128M.  [default: what suits the guest]")
@click.option("--initrd", type=INPUT_FILE, metavar="F", help="An initial RAM disk, or a Multiboot module.")
@click.option("--disk", type=INPUT_FILE, metavar="F", help="A disk image, read through the guest's BIOS.")
@click.option("--append", metavar="STR", help="Added to the guest's command line.")
@click.option(
    "--clock",
    type=click.Choice(["deterministic", "realtime"]),
    default="deterministic",
    show_default=True,
    help=CLOCK_HELP,
)
@click.option(
    "--send", "sends", multiple=True, metavar="TEXT", help="Type TEXT and Enter, once its --after is seen."
)
@click.option(
    "--after", "afters", multiple=True, metavar="TEXT", help="The text that the --send beside it waits for."
)
@click.option("--expect", metavar="TEXT", help="End with status 0 once TEXT is seen, after every --send.")
@click.option("--timeout", type=SECONDS, metavar="S", help="End after S seconds.")
@click.option("--trace", "trace_file", type=WRITABLE_FILE, metavar="FILE", help="Record every exit in FILE.")
@click.option(
    "--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write how the run went to FILE."
)
def run(
    guest: str,
    monitor: str,
    paging: str | None,
    memory: str | None,
    initrd: Path | None,
    disk: Path | None,
    append: str | None,
    clock: str,
    sends: tuple[str, ...],
    afters: tuple[str, ...],
    expect: str | None,
    timeout: float | None,
    trace_file: Path | None,
    json_file: Path | None,
) -> int:
    """Run GUEST, a name from `vlab guests` or the path of an image, with its serial console here.

    \b
    Examples:
      vlab run hello
      vlab run selftest --paging shadow --json run.json
      vlab run linux --send 'uname -a' --after '# ' --expect 'x86_64 GNU/Linux'
      vlab run ./kernel.elf --memory 32M --trace kernel.vlabtrace

    In a terminal your keys go to the guest, and Ctrl-] ends the run (so does Ctrl-A, then x). With --expect,
    or without a terminal, standard input is not read: use --send. The first --send goes with the first
    --after and so on; each text is looked for in what follows the one before. What the guest echoes counts.
    """
    from vlab.session import VM

    script = _script(sends, afters, expect)
    with VM(
        guest,
        monitor=monitor,
        paging=paging,
        memory=memory,
        initrd=initrd,
        disk=disk,
        append=append,
        clock=clock,
        trace="full" if trace_file else "counters",
    ) as vm:
        began = time.monotonic()
        driver = Driver(vm, script, timeout)
        status = driver.run(attach=interactive() and expect is None)
        if json_file:
            write_json(json_file, record(vm, driver.ending, time.monotonic() - began))
        if trace_file:
            vm.save_trace(trace_file)
    return status


def _script(sends: tuple[str, ...], afters: tuple[str, ...], expect: str | None) -> Script:
    if len(sends) != len(afters):
        raise click.UsageError(
            f"each --send needs an --after beside it; there are {len(sends)} --send and {len(afters)} --after"
        )
    if "" in afters or expect == "":
        raise click.UsageError("--after and --expect need a text to wait for, but one is empty")
    return Script(zip(sends, afters, strict=True), expect)
