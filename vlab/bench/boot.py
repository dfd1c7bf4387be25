"""Booting the teaching kernel under each monitor, beside the bare machine: from power-on to the prompt.

What is timed is the time by the wall of ``VM.run`` up to the prompt: the guest's whole boot with all that its
monitor does, from the first instruction on. Building the computer and reading the image come before power-on,
and take the same under every monitor; counted in, they would bring every ratio nearer to 1.

Every monitor has a line, in the order of ``monitors.available()``. The paravirtual kernel is the same source
built for its monitor. Under trap-and-emulate the kernel does not come to its shell, and its line says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from vlab.bench.registry import Bar, Function, Measurement, NotMeasured, Say, at_most, bench
from vlab.bench.timing import alternate, quiet, quiet_ratio
from vlab.session import VM
from vlab.vmm import monitors
from vlab.vmm.stop import Stop, StopKind

REPETITIONS = 40
PATIENCE: Final = 60.0
"""Seconds after which a boot is given up."""
PROMPT: Final = "$ "
BARE: Final = ("none", "direct")
BARS: Final[dict[tuple[str, str], Bar]] = {
    ("hardware", "nested"): at_most(1.3),
    ("binary-translation", "shadow"): at_most(4),
}


@dataclass(frozen=True, slots=True)
class Boot:
    """How a boot ended, what it had written by then, and what it took: seconds by the wall, exits."""

    stop: Stop
    console: str
    wall: float
    exits: int


def boot(monitor: str, paging: str) -> Boot:
    """Boot the teaching kernel to its prompt; a virtual machine of its own each time."""
    kernel = "wren-paravirt" if monitor == "paravirtual" else "wren"
    with VM(kernel, monitor=monitor, paging=paging) as vm:
        began = time.perf_counter()
        stop = vm.run(until=PROMPT, timeout=PATIENCE)
        return Boot(stop, vm.console.text, time.perf_counter() - began, vm.exits.total)


def over_bare(say: Say, monitor: str, paging: str) -> Measurement:
    """Compare boots under a monitor with boots on the bare machine; each side's quiet ones count.

    Raises NotMeasured, with the guest's last words, where the kernel does not come to its prompt.
    """
    first = boot(monitor, paging)
    if first.stop.kind is not StopKind.EXPECTED:
        said = (first.console.splitlines() or ["nothing"])[-1]
        raise NotMeasured(f"the kernel does not come to its shell; its last words: {said}")
    ours, theirs = alternate(
        say,
        REPETITIONS,
        (f"{monitor}/{paging}", lambda: boot(monitor, paging).wall),
        ("bare", lambda: boot(*BARE).wall),
    )
    note = f"{quiet(ours) * 1e3:.1f} ms over {quiet(theirs) * 1e3:.1f} ms; {first.exits:,} exits"
    return Measurement(quiet_ratio(ours, theirs), note)


def _line(monitor: str, paging: str) -> Function:
    def measure(say: Say) -> Measurement:
        return over_bare(say, monitor, paging)

    measure.__doc__ = f"From power-on to wren's shell under {monitor}/{paging}, over the bare machine."
    return measure


for _way in monitors.available():
    if _way != BARE:
        bench(f"boot-{'-'.join(_way)}", unit="ratio", bar=BARS.get(_way))(_line(*_way))
