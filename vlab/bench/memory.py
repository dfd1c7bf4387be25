"""How much memory virtual machines take, beside the RAM that their guests have touched."""

from __future__ import annotations

import json
import subprocess
import sys

from vlab.bench import footprint
from vlab.bench.linux import linux
from vlab.bench.registry import Measurement, NotMeasured, Say, at_most, bench

MACHINES = 8
MB = 1_000_000


@bench("memory-peak", unit="MB", bar=at_most(120))
def memory_peak(say: Say) -> Measurement:
    """What a process that boots Linux takes at its peak, without the RAM that the guest touched."""
    linux()
    say("one boot")
    found = probe("linux")
    peak, guest = found["peak"], found["guest"]
    return Measurement(
        (peak - guest) / MB, f"{peak / MB:.0f} MB, of which {guest / MB:.0f} MB are the guest's"
    )


@bench("memory-idle-vms", unit="MB", bar=at_most(40))
def memory_idle_vms(say: Say) -> Measurement:
    """What each of eight idle virtual machines on one machine takes, beyond the first."""
    say(f"{MACHINES} machines that halt")
    found = probe("idle", str(MACHINES))
    one, everything = found["one"], found["all"]
    note = f"{one / MB:.0f} MB with one, {everything / MB:.0f} MB with {MACHINES}"
    return Measurement((everything - one) / (MACHINES - 1) / MB, note)


def probe(*arguments: str) -> dict[str, int]:
    """Have a process of its own measure itself. Raises NotMeasured where the system does not tell."""
    if not footprint.SUPPORTED:
        raise NotMeasured("only Linux tells a process's peak memory and what a mapping has touched")
    command = [sys.executable, "-m", "vlab.bench.footprint", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NotMeasured(f"the measured process failed: {result.stderr.strip()[-300:]}")
    found: dict[str, int] = json.loads(result.stdout)
    return found
