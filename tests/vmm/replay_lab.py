"""What the tests of snapshots and replay share: a guest that is always busy, its whole state."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import vlab
from vlab.guests.programs import guest, timer
from vlab.vmm.stop import StopKind

ECHO = bytes.fromhex(
    "66 BA FD 03"  # again: mov dx, 3FDh
    "EC A8 01 74 FB"  # wait: in al, dx; test al, 1; jz wait
    "66 BA F8 03 EC"  # mov dx, 3F8h; in al, dx
    "3C 71 74 03"  # cmp al, 'q'; je over
    "EE EB EB"  # out dx, al; jmp again
    "E6 F4 EB FE"  # over: out F4h, al; jmp $
)
"""Echoes what is typed and ends at a q."""


class Outcome(NamedTuple):
    """All that two equal runs agree on, but the trace itself."""

    exits: tuple[int, ...]
    interrupts: int
    time_ns: int
    state: str
    console: str


def outcome(vm: vlab.VM) -> Outcome:
    counts = tuple(vm.exits.source.counts)
    return Outcome(counts, vm.interrupts_delivered, vm.virtual_time_ns, vm.state_hash(), vm.console.text)


def echo(directory: Path, **options: object) -> vlab.VM:
    """A guest that echoes what is typed while a timer interrupts it, in little memory."""
    options = {"memory": "4M", "trace": "full", **options}
    return vlab.VM(guest(directory, timer(ECHO, hertz=1000), "echo"), **options)  # type: ignore[arg-type]


def run_for(vm: vlab.VM, ns: int) -> vlab.Stop:
    """Run until so much virtual time has passed."""
    end = vm.virtual_time_ns + ns
    return vm.run(lambda vm: vm.virtual_time_ns >= end, timeout=60)


def finish(vm: vlab.VM) -> vlab.Stop:
    """Run to the guest's own end."""
    stop = vm.run(timeout=120)
    assert stop.kind is StopKind.EXIT, stop
    return stop
