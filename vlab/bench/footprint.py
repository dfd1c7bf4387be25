"""A process that runs virtual machines and looks at its own memory.

`python -m vlab.bench.footprint linux` boots Linux to user space and prints, as one JSON object in bytes, the
`peak` of the process and `guest`, the part of the guest's memory that is in use. `idle N` has N halted
machines share one computer: `one` is what the process takes with the first, `all` with all of them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from vlab.bench.linux import MEMORY_MIB, PATIENCE
from vlab.bench.loops import idle_loop
from vlab.guests.initramfs import MARKER
from vlab.session import VM, Machine

SUPPORTED: Final = sys.platform == "linux"
_STATUS, _MAPS = Path("/proc/self/status"), Path("/proc/self/smaps")
_GUEST: Final = "16M"
_SETTLE: Final = 0.3
"""Seconds in which a new machine comes to its HLT."""


def status(name: str) -> int:
    """Give a field of /proc/self/status in bytes: VmHWM is the peak, VmRSS what is resident now."""
    match = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert match is not None, f"{_STATUS} has no {name}"
    return int(match[1]) * 1024


def resident(address: int) -> int:
    """Give the bytes of the mapping at ``address`` that are in memory."""
    inside = False
    for line in _MAPS.read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"address: no mapping holds {address:#x}")


def linux() -> dict[str, int]:
    """Boot Linux to user space."""
    with VM("linux", memory=f"{MEMORY_MIB}M") as vm:
        vm.run(until=MARKER, timeout=PATIENCE)
        return {"peak": status("VmHWM"), "guest": resident(vm.machine.memory.address)}


def idle(count: int) -> dict[str, int]:
    """Let ``count`` machines halt on one computer."""
    with ExitStack() as stack:
        path = stack.enter_context(idle_loop().file())
        computer = Machine(f"{16 * count}M")
        stack.callback(computer.close)
        taken = []
        for _ in range(count):
            vm = stack.enter_context(VM(path, memory=_GUEST, machine=computer))
            vm.start()
            time.sleep(_SETTLE)
            taken.append(status("VmRSS"))
        return {"one": taken[0], "all": taken[-1]}


if __name__ == "__main__":
    print(json.dumps(linux() if sys.argv[1] == "linux" else idle(int(sys.argv[2]))))
