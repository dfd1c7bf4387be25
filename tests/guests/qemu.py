"""Running a guest in QEMU, as an opinion from outside: what works there works on a PC that is not ours."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

QEMU = shutil.which("qemu-system-x86_64")
needs_qemu = pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")
MACHINE = "-accel tcg -machine pc -m 64 -nodefaults -display none -no-reboot -serial stdio"
DEBUG_EXIT = ["-device", "isa-debug-exit,iobase=0xf4"]


@dataclass(frozen=True)
class Result:
    """The serial console, and the status that the guest wrote to port F4 (None: it ended otherwise)."""

    console: str
    status: int | None


@dataclass
class Script:
    """What to type: `(awaited, keys, text)`: when the console shows `awaited`, send keys and serial text."""

    steps: list[tuple[str, list[str], bytes]] = field(default_factory=list)


def boot(
    *arguments: str, timeout: float = 30.0, script: Script | None = None, until: str | None = None
) -> Result:
    """Run QEMU until it ends, but at most `timeout` seconds, and half a second behind the text `until`."""
    assert QEMU is not None
    with tempfile.TemporaryDirectory() as directory:
        monitor = Path(directory) / "monitor"
        command = [
            QEMU,
            *MACHINE.split(),
            *DEBUG_EXIT,
            "-monitor",
            f"unix:{monitor},server,nowait",
            *arguments,
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                return _finish(process, monitor, timeout, script or Script(), until)
            finally:
                process.kill()


def _finish(
    process: subprocess.Popen[bytes], monitor: Path, timeout: float, script: Script, until: str | None
) -> Result:
    assert process.stdin is not None
    assert process.stdout is not None
    end, console, steps = time.monotonic() + timeout, b"", list(script.steps)
    if until is not None:
        steps.append((until, [], b""))
    while steps and time.monotonic() < end and process.poll() is None:
        if select.select([process.stdout], [], [], 0.2)[0]:
            console += os.read(process.stdout.fileno(), 4096)
        awaited, keys, text = steps[0]
        if awaited.encode() in console:
            steps.pop(0)
            _send_keys(monitor, keys)
            process.stdin.write(text)
            process.stdin.flush()
    patience = 0.5 if until is not None else max(0.1, end - time.monotonic())
    try:
        rest, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        rest, _ = process.communicate()
        return Result((console + rest).decode("latin-1"), None)
    odd = process.returncode & 1 and process.returncode > 0
    return Result((console + rest).decode("latin-1"), process.returncode >> 1 if odd else None)


def _send_keys(monitor: Path, keys: list[str]) -> None:
    if not keys:
        return
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(monitor))
        line.recv(4096)
        for key in keys:
            line.sendall(f"sendkey {key} 20\n".encode())
            time.sleep(0.1)
            line.recv(4096)
