"""The public face: a virtual machine in one object.

import vlab
vm = vlab.VM("linux", monitor="hardware", paging="nested", memory="128M")
vm.run(until="# ")
vm.exits.by_reason()
vm.walk(0xffffffff81000000)
"""

from __future__ import annotations

import _thread
import atexit
import functools
import hashlib
import weakref
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from vlab.errors import UnusableInput
from vlab.guests.catalogue import Guest, find
from vlab.isa.state import CpuState
from vlab.machine.machine import Machine as HardwareMachine
from vlab.trace.exits import Exits
from vlab.trace.recorder import Level
from vlab.vmm import factory, story
from vlab.vmm.console import Console
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.runner import Runner
from vlab.vmm.stop import Stop, StopKind
from vlab.vmm.walks import GuestWalk

if TYPE_CHECKING:
    from vlab.devices.vga_text import VgaText

__all__ = ["VM", "Machine", "Stop", "StopKind"]

Until = str | Callable[["VM"], bool] | None


class Machine(HardwareMachine):
    """A computer that several virtual machines share: ``VM(..., machine=machine)``.

    memory: bytes or text such as "512M", for all of its guests together; the monitors' tables come on top.
    """

    def __init__(self, memory: str | int = "512M") -> None:
        size = factory.memory_size(memory)
        super().__init__(size + factory.OVERHEAD * max(1, size >> 27))


class VM:
    """A guest under a monitor.

    guest: a catalogue name or the path of an image. monitor: "none", "hardware". paging: "direct", "nested",
    "shadow" or a strategy of your own; None takes the monitor's first. memory: bytes or text such as "128M",
    None for what suits the guest. initrd, disk: files. append: added to the guest's command line. clock:
    "deterministic" or "realtime". trace: "off", "counters" or "full", with at most trace_capacity records.
    machine: a ``Machine`` to share. Raises UnusableInput, with one line that says what to do.

    Use it as a context manager, or ``close`` it, or let it go: the guest stops and its memory is given back.
    """

    def __init__(
        self,
        guest: str | PathLike[str],
        *,
        monitor: str = "hardware",
        paging: str | PagingStrategy | None = None,
        memory: str | int | None = None,
        initrd: str | PathLike[str] | None = None,
        disk: str | PathLike[str] | None = None,
        append: str | None = None,
        clock: str = "deterministic",
        trace: Level = "counters",
        trace_capacity: int = 1_000_000,
        machine: HardwareMachine | None = None,
    ) -> None:
        self.guest: Final[Guest] = find(guest if isinstance(guest, str) else Path(guest))
        settings = factory.settings(
            self.guest, monitor, paging, memory, initrd, disk, append, clock, trace, trace_capacity
        )
        self._monitor, self.loaded = factory.build(settings, machine)
        self.console: Final = Console()
        self.debug_console: Final = Console()
        self._runner: Final = Runner(self._monitor, partial(_release, self._monitor, machine is None))
        self._exits = Exits(self._monitor.recorder)
        self._wire()
        self._finalizer = weakref.finalize(self, _let_go, self._runner, machine is None)
        _mind_the_exit()

    def _wire(self) -> None:
        monitor, console = self._monitor, self.console
        watch: list[int] = [-1]
        self._watch = watch

        def output(byte: int) -> None:
            console.write(byte)
            monitor.note_activity()
            if byte == watch[0]:
                monitor.wake()

        console.on_problem = monitor.raise_later
        monitor.board.events.output = output
        monitor.board.events.debug_output = self.debug_console.write

    # --- running ----------------------------------------------------------------------------------------

    def run(self, until: Until = None, *, timeout: float | None = None, exits: int | None = None) -> Stop:
        """Run the guest and say why it stopped.

        until: text to appear on the console after what earlier calls waited for, or a predicate of the VM
        that is asked between blocks of guest code. timeout: seconds of wall time. exits: stop after so many
        more.
        """
        self._check_open()
        if exits is not None and self._monitor.recorder.level == "off":
            raise UnusableInput("exits: nothing counts exits at trace level 'off'; make the VM with trace='counters'")
        return self._runner.run(self._reached(until), timeout, exits)

    def step(self) -> Stop:
        """Run to the end of the next exit. Raises UnusableInput on the bare machine, which has none."""
        if self.monitor == "none":
            raise UnusableInput("step: the bare machine has no exits to step over; use monitor='hardware'")
        return self.run(exits=1)

    def start(self, until: Until = None, *, timeout: float | None = None) -> None:
        """Run in the background; ``wait``, ``pause`` and everything that reads the machine work meanwhile."""
        self._check_open()
        self._runner.start(self._reached(until), timeout)

    def wait(self, timeout: float | None = None) -> Stop | None:
        """Wait for the background run to end; None if it still runs after ``timeout`` seconds."""
        return self._runner.wait(timeout)

    def pause(self) -> Stop | None:
        """Stop the background run; the guest can be started again."""
        return self._runner.pause()

    def resume(self) -> None:
        """Run on in the background after a pause."""
        self.start()

    @property
    def running(self) -> bool:
        """Whether the guest runs in the background."""
        return self._runner.running

    def send(self, text: str | bytes) -> None:
        r"""Type into the serial console. Write ``\n`` where you would press Enter."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        self._check_open()
        monitor = self._monitor

        def arrive() -> None:
            monitor.note_activity()
            monitor.board.serial.receive(data)

        monitor.post(arrive)

    def _reached(self, until: Until) -> Callable[[], bool]:
        if until is None:
            return lambda: False
        if not isinstance(until, str):
            return partial(_holds, until, weakref.ref(self))
        if not until:
            raise UnusableInput("until: the text to wait for is empty; give at least one character")
        wanted = until.encode()
        self._watch[0] = wanted[-1]
        return partial(self.console.appeared, wanted)

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise UnusableInput("this VM is closed; make a new one")

    # --- looking ----------------------------------------------------------------------------------------

    @property
    def exits(self) -> Exits:
        """The exits so far: ``by_reason()``, ``frame()``, indexing."""
        return self._exits

    @property
    def monitor(self) -> str:
        """The monitor's name."""
        return self._monitor.name

    @property
    def paging(self) -> str:
        """The paging strategy's name."""
        return self._monitor.paging_name

    @property
    def clock(self) -> str:
        """The clock's name."""
        return self._monitor.clock.name

    @property
    def memory_bytes(self) -> int:
        """The guest's memory in bytes."""
        return self._monitor.memory.size

    @property
    def virtual_time_ns(self) -> int:
        """Virtual nanoseconds since power-on."""
        return self._monitor.clock.now()

    @property
    def blocks(self) -> int | None:
        """Basic blocks that the machine's processor entered, None where nothing counts them."""
        stops = self._monitor.processor.engine.stops
        return stops.words[0] if stops.counts else None

    @property
    def interrupts_delivered(self) -> int:
        """External interrupts that the guest took."""
        return self._monitor.interrupts_delivered

    @property
    def machine(self) -> HardwareMachine:
        """The computer underneath."""
        return self._monitor.machine

    @property
    def memory(self) -> memoryview:
        """The guest's RAM, from guest-physical address 0; writable."""
        return self._monitor.memory.ram

    @property
    def screen(self) -> VgaText:
        """The VGA text screen: ``text()``, ``image()``, ``png()``."""
        return self._monitor.board.vga

    def registers(self) -> CpuState:
        """The guest's registers, as the guest sees them."""
        self._check_open()
        return self._runner.call(self._monitor.guest_state)

    def walk(self, linear: int) -> GuestWalk:
        """Walk the page tables for a guest-linear address, as the hardware does."""
        self._check_open()
        return self._runner.call(lambda: self._monitor.walk(linear))

    def disassemble(self, count: int = 8) -> list[str]:
        """The next instructions."""
        self._check_open()
        return self._runner.call(lambda: self._monitor.on_processor(story.disassemble, count))

    def state_hash(self) -> str:
        """Digest of the guest: registers and all of its memory. Equal states have equal hashes."""
        self._check_open()
        return self._runner.call(lambda: _digest(self._monitor))

    def save_trace(self, path: str | PathLike[str]) -> None:
        """Write the trace to a .vlabtrace file. Raises TraceFileError."""
        from vlab.trace.file import save

        described = {
            "guest": self.guest.name, "monitor": self.monitor, "paging": self.paging,
            "memory_bytes": self.memory_bytes, "clock": self.clock,
        }  # fmt: skip
        self._runner.call(lambda: save(path, self._exits, described, durations=self.clock == "realtime"))

    # --- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the guest and give its memory back. Harmless when called again, or while it runs.

        From what the run itself calls (a predicate, a handler), it comes about when that returns.
        """
        self._finalizer.detach()
        self._runner.close()

    def __enter__(self) -> VM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if not self._finalizer.alive else "running" if self.running else "paused"
        way, size = f"{self.monitor}/{self.paging}", f"{self.memory_bytes >> 20} MiB"
        return f"<VM {self.guest.name!r} under {way}, {size}, {state}>"


def _digest(monitor: Monitor) -> str:
    digest = hashlib.sha256(repr(monitor.guest_state()).encode())
    digest.update(monitor.memory.ram)
    return digest.hexdigest()


def _holds(condition: Callable[[VM], bool], reference: weakref.ref[VM]) -> bool:
    """Ask the condition; the run itself does not keep the VM alive, and has nothing to wait for without it."""
    vm = reference()
    return vm is None or condition(vm)


def _release(monitor: Monitor, own_machine: bool) -> None:
    """Give back what a VM has; it does not run any more."""
    machine = monitor.machine
    with machine.lock:
        monitor.close()
        if own_machine:
            machine.close()
        else:
            monitor.memory.close()


def _let_go(runner: Runner, own_machine: bool) -> None:
    """Close a VM that nobody refers to, from wherever the garbage was collected: never wait there."""
    if _leaving or (own_machine and not runner.busy):
        runner.close()
    else:
        _thread.start_new_thread(runner.close, ())


_leaving = False
"""Whether Python is about to end: no thread may begin then, and all guests must stop before."""


@functools.cache
def _mind_the_exit() -> None:
    """Note the end of Python before ``weakref`` does, which calls what is registered in reverse order."""

    def leave() -> None:
        global _leaving
        _leaving = True

    atexit.register(leave)
