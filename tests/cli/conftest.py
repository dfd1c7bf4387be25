"""A session whose guest is a Python generator, so that the command line can be tested without a machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from vlab.cli import main
from vlab.errors import UnusableInput
from vlab.vmm.silent import Silent
from vlab.vmm.stop import Stop, StopKind


class FakeConsole:
    def __init__(self) -> None:
        self.text = ""
        self._subscribers: list[Callable[[bytes], None]] = []

    def subscribe(self, callback: Callable[[bytes], None]) -> None:
        self._subscribers.append(callback)

    def write(self, text: str) -> None:
        self.text += text
        for callback in self._subscribers:
            callback(text.encode())


#: What a fake guest yields: text for its console, None to wait for a typed line, a Stop to end.
Step = str | Stop | None
Guest = Callable[["FakeVM"], Iterator[Step]]


class FakeVM:
    """Runs `guest`, a generator function; `typed` holds what was sent and not yet taken with `take`."""

    def __init__(self, name: str, program: Guest, **options: Any) -> None:
        self.options = options
        self.guest = SimpleNamespace(name=name)
        self.monitor = options.get("monitor", "hardware")
        self.paging = options.get("paging") or "nested"
        self.clock = options.get("clock", "deterministic")
        self.memory_bytes = 128 << 20
        self.interrupts_delivered = 7
        self.blocks = 1234
        self.console = FakeConsole()
        reasons = pd.Series({"IOIO": 40, "CPUID": 3, "HLT": 1})
        self.exits = SimpleNamespace(total=44, by_reason=lambda: reasons)
        self.silent: tuple[Silent, ...] = ()
        self.sent: list[str] = []
        self.typed = ""
        self.timeouts: list[float | None] = []
        self.closed = self.paused = False
        self._program = program(self)

    def __enter__(self) -> FakeVM:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def send(self, text: str) -> None:
        self.sent.append(text)
        self.typed += text

    def take(self) -> str:
        typed, self.typed = self.typed, ""
        return typed

    def run(self, until: Callable[[], bool] | None = None, *, timeout: float | None = None) -> Stop:
        self.timeouts.append(timeout)
        if until is not None and until():
            return Stop(StopKind.EXPECTED, "the text appeared")
        for step in self._program:
            if isinstance(step, Stop):
                return step
            if step is None and not self.typed:
                return Stop(StopKind.TIMEOUT, "the time ran out")
            if step is not None:
                self.console.write(step)
            if until is not None and until():
                return Stop(StopKind.EXPECTED, "the text appeared")
        return Stop(StopKind.POWERED_OFF, "the guest powered off\nat 12 ms")

    def start(self, *, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)

    def wait(self, timeout: float | None = None) -> Stop | None:
        """Do the next step of the program, as if the machine had run meanwhile."""
        step = next(self._program, Stop(StopKind.POWERED_OFF, "the guest powered off"))
        if isinstance(step, Stop):
            return step
        if step is not None:
            self.console.write(step)
        return None

    def pause(self) -> None:
        self.paused = True

    def state_hash(self) -> str:
        return "5eed"

    def save_trace(self, path: Path) -> None:
        path.write_bytes(b"trace")


@dataclass
class Result:
    status: int
    out: str
    err: str


@dataclass
class Lab:
    """The fake laboratory of one test: its guests by name, the machines that were made, the command line."""

    guests: dict[str, Guest] = field(default_factory=dict)
    machines: list[FakeVM] = field(default_factory=list)
    command: Callable[..., Result] = field(init=False)

    def make(self, guest: str, **options: Any) -> FakeVM:
        if guest not in self.guests:
            raise UnusableInput(f"guest: there is no guest named {guest!r}")
        self.machines.append(FakeVM(guest, self.guests[guest], **options))
        return self.machines[-1]


@pytest.fixture
def vlab_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line as a function: arguments in; status, standard output and standard error out."""

    def command(*arguments: str | Path) -> Result:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return command


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, vlab_command: Callable[..., Result]) -> Lab:
    """A laboratory whose session is fake: `lab.guests["x"] = generator`, then `lab.command("run", "x")`."""
    laboratory = Lab()
    session = ModuleType("vlab.session")
    session.VM = laboratory.make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlab.session", session)
    laboratory.command = vlab_command
    return laboratory
