"""What one student takes of a server: memory and processor time, measured on this computer (Linux).

    python docs/tools/measure_student.py [--linux] [--json FILE]

Starts a JupyterLab server and a kernel as a student's are, takes the kernel through what the lessons do, and
prints after each step the memory of the process and of all below it, and the processor time that the step
took. ``pss`` counts a page that several processes share as a part for each; ``rss`` counts it whole, which is
what a limit of a container sees at worst. The figures in docs/teaching/jupyterhub.md are from here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
SETTLE: Final = 1.0
WATCHED: Final = 5.0
"""Seconds of wall time in which a VM that stands idle is watched."""

STEPS: Final = (
    ("kernel, nothing imported", "pass"),
    ("import vlab, its views and pandas", "import vlab, pandas, vlab.widgets.dashboard"),
    (
        "wren to its shell, every exit recorded",
        'vm = vlab.VM("wren", trace="full"); vm.run(until="$ "); vm.exits.frame(); vm',
    ),
    (
        "wren's self-test, shadow paging",
        'with vlab.VM("wren", paging="shadow", append="selftest") as s: s.run()',
    ),
    (
        "three VMs side by side",
        """more = [vlab.VM("wren", monitor=m) for m in ("hardware", "binary-translation")]
for each in more: each.run(until="$ ")""",
    ),
    (
        "a VM that waits at its prompt, running for 5 s",
        f"vm.start()\nimport time; time.sleep({WATCHED})\nvm.pause()",
    ),
    ("all VMs closed", "for each in [vm, *more]: each.close()\nimport gc; gc.collect()"),
)
LINUX: Final = (
    (
        "Linux with 128 MiB to its shell, every exit recorded",
        'linux = vlab.VM("linux", memory="128M", trace="full"); linux.run(until="# ", timeout=300)',
    ),
    ("Linux waits at its prompt for 5 s", f"linux.start()\ntime.sleep({WATCHED})\nlinux.pause()"),
    ("Linux closed", "linux.close(); gc.collect()"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """step: what was done. rss, pss, peak: MiB. cpu, wall: seconds that the step took."""

    step: str
    rss: float
    pss: float
    peak: float
    cpu: float
    wall: float


def tree(pid: int) -> list[int]:
    """Give a process and all processes below it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
            below.setdefault(parent, []).append(int(entry.name))

    def walk(each: int) -> Iterator[int]:
        yield each
        for child in below.get(each, ()):
            yield from walk(child)

    return list(walk(pid))


def memory(pid: int, name: str) -> int:
    """Give "Rss" or "Pss" of a process and all below it, in bytes."""
    total = 0
    for each in tree(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue  # it ended meanwhile
        match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
        total += int(match[1]) * 1024 if match else 0
    return total


def processor_time(pid: int) -> float:
    """Give the seconds of processor time of a process and all below it."""
    ticks = 0
    for each in tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> int:
    """Give the most that a process had in memory so far, in bytes."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def reading(step: str, pid: int, cpu: float, wall: float) -> Reading:
    """Look at a process now."""
    rss, pss = memory(pid, "Rss"), memory(pid, "Pss")
    return Reading(step, rss / MIB, pss / MIB, peak(pid) / MIB, cpu, wall)


def server() -> Reading:
    """Measure a JupyterLab server that nobody uses yet."""
    with tempfile.TemporaryDirectory() as folder:
        own = {
            name: f"{folder}/{name}" for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }
        line = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
            "--ServerApp.port_retries=50", f"--ServerApp.root_dir={folder}",
        ]  # fmt: skip
        started = time.perf_counter()
        process = subprocess.Popen(
            line, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not list(Path(folder).glob("JUPYTER_RUNTIME_DIR/jpserver-*.json")):
                if process.poll() is not None or time.perf_counter() - started > 60:
                    raise SystemExit("JupyterLab did not start here: pip install 'vlab[lab]'")
                time.sleep(0.1)
            wall = time.perf_counter() - started
            time.sleep(SETTLE)
            return reading("JupyterLab server", process.pid, processor_time(process.pid), wall)
        finally:
            process.terminate()
            process.wait(20)


def kernel(steps: tuple[tuple[str, str], ...]) -> Iterator[Reading]:
    """Take a kernel through the steps."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        pid = int(manager.provisioner.process.pid)
        for step, code in steps:
            before, started = processor_time(pid), time.perf_counter()
            answer = client.execute_interactive(code, timeout=600, output_hook=lambda _message: None)
            wall = time.perf_counter() - started
            if answer["content"]["status"] != "ok":
                raise SystemExit(f"{step}: {answer['content']['ename']}: {answer['content']['evalue']}")
            cpu = processor_time(pid) - before
            time.sleep(SETTLE)
            yield reading(step, pid, cpu, wall)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what one student takes of a server.")
    parser.add_argument("--linux", action="store_true", help="boot the fetched Linux guest too")
    parser.add_argument("--json", metavar="FILE", help="write the readings there as well")
    chosen = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("this reads /proc, and needs Linux")
    readings = [server(), *kernel(STEPS + (LINUX if chosen.linux else ()))]
    print(f"{'':52} {'rss':>6} {'pss':>6} {'peak':>6} {'cpu s':>6} {'wall s':>6}")
    for each in readings:
        figures = f"{each.rss:6.0f} {each.pss:6.0f} {each.peak:6.0f} {each.cpu:6.2f} {each.wall:6.2f}"
        print(f"{each.step:52} {figures}")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps([asdict(each) for each in readings], indent=1) + "\n")


if __name__ == "__main__":
    main()
