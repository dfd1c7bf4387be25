"""The public face: a virtual machine in one object.

import vlab
vm = vlab.VM("linux", monitor="hardware", paging="nested", memory="128M")
vm.run(until="# ")
vm.exits.by_reason()
vm.walk(0xffffffff81000000)
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from vlab.errors import UnusableInput
from vlab.facts import Facts
from vlab.guests.catalogue import Guest, find
from vlab.guests.loaders import Loaded
from vlab.machine.machine import Machine as HardwareMachine
from vlab.trace.events import ExitEvent
from vlab.trace.exits import Exits
from vlab.trace.recorder import Level
from vlab.vmm import arguments, factory, monitors, snapshot_file
from vlab.vmm.board import Makers
from vlab.vmm.checkpoints import Checkpoints
from vlab.vmm.console import Console
from vlab.vmm.history import History, check_clock
from vlab.vmm.lifetime import let_go, mind_the_exit, release
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.runner import Runner
from vlab.vmm.shared_machine import Machine
from vlab.vmm.snapshot import Snapshot, Snapshots
from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from vlab.devices.vga_text import VgaText

__all__ = ["VM", "Machine", "Stop", "StopKind", "open_vms"]

Until = str | Callable[["VM"], bool] | None

_made: weakref.WeakSet[VM] = weakref.WeakSet()
_ordinals = itertools.count()


class VM(Facts):
    """A guest under a monitor.

    guest: a catalogue name or the path of an image. monitor: "none", "trap-emulate", "binary-translation",
    "paravirtual", "hardware" or a class of your own, derived from one of vlab's monitors. paging: "direct",
    "nested", "shadow" or a strategy of your own; None takes the monitor's first. memory: bytes or text such
    as "128M", None for what suits the guest. initrd, disk: files. append: added to the guest's command line.
    clock: "deterministic" or "realtime". trace: "off", "counters" or "full", with at most trace_capacity
    records.
    history: remember the way, so that going back is quick from anywhere. machine: a ``Machine`` to share.
    devices: what makes chips of your own, by name: {"serial": MyUart} is called like `Serial16550A`.
    Raises UnusableInput, with one line that says what to do.

    Use it as a context manager, or ``close`` it, or let it go: the guest stops and its memory is given back.
    """

    def __init__(
        self,
        guest: str | PathLike[str],
        *,
        monitor: monitors.Choice = "hardware",
        paging: str | PagingStrategy | None = None,
        memory: str | int | None = None,
        initrd: str | PathLike[str] | None = None,
        disk: str | PathLike[str] | None = None,
        append: str | None = None,
        clock: str = "deterministic",
        trace: Level = "counters",
        trace_capacity: int = 1_000_000,
        history: bool = False,
        machine: HardwareMachine | None = None,
        devices: Makers | None = None,
    ) -> None:
        arguments.options(
            guest=guest, monitor=monitor, paging=paging, initrd=initrd, disk=disk, append=append, clock=clock,
            trace=trace, trace_capacity=trace_capacity, history=history, machine=machine, devices=devices,
        )  # fmt: skip
        found = find(guest if isinstance(guest, str) else Path(guest))
        settings = factory.settings(
            found, monitor, paging, memory, initrd, disk, append, clock, trace, trace_capacity, devices
        )
        self._assemble(settings, machine, history)

    def _assemble(
        self,
        settings: factory.Settings,
        machine: HardwareMachine | None,
        history: bool,
        loaded: Loaded | None = None,
    ) -> None:
        if history:
            check_clock("history", settings.clock)
        self.guest: Guest = settings.guest
        self._settings = settings
        self._monitor, self.loaded = factory.build(settings, machine, loaded)
        self.console = Console()
        self.debug_console = Console()
        own, checkpoints = machine is None, Checkpoints()
        self._runner = Runner(self._monitor, partial(release, self._monitor, own, checkpoints))
        self._exits = Exits(self._monitor.recorder)
        consoles, reload = (self.console, self.debug_console), factory.loading(settings, self._monitor.memory)
        self._snapshots = Snapshots(self.guest.name, self._monitor, consoles, reload)
        self._history = History(self._monitor, self._runner, self._snapshots, checkpoints, automatic=history)
        self._wire()
        self._finalizer = weakref.finalize(self, let_go, self._runner, own)
        mind_the_exit()
        self._ordinal = next(_ordinals)
        _made.add(self)

    def _wire(self) -> None:
        monitor, console = self._monitor, self.console
        watch: list[int] = [-1]
        self._watch = watch

        def output(byte: int) -> None:
            console.write(byte)
            monitor.note_activity()
            if byte == watch[0]:
                monitor.wake()

        console.on_problem, console.on_wish = monitor.raise_later, monitor.wake
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
        if exits is not None:
            exits = arguments.whole("exits", exits, "number of exits to wait for")
        if exits is not None and self._monitor.recorder.level == "off":
            raise UnusableInput(
                "exits: nothing counts exits at trace level 'off'; make the VM with trace='counters'"
            )
        stop = self._runner.run(self._reached(until), arguments.seconds("timeout", timeout), exits)
        if exits is not None and until is None:
            self._history.note_stop(stop)
        return stop

    def step(self, exits: int = 1) -> Stop:
        """Run to the end of the next exit, or of so many. Raises UnusableInput on the bare machine, which
        has none.
        """
        if self.monitor == "none":
            raise UnusableInput("step: the bare machine has no exits to step over; use monitor='hardware'")
        return self.run(exits=exits)

    def start(self, until: Until = None, *, timeout: float | None = None) -> None:
        """Run in the background; ``wait``, ``pause`` and everything that reads the machine work meanwhile."""
        self._check_open()
        self._runner.start(self._reached(until), arguments.seconds("timeout", timeout))

    def wait(self, timeout: float | None = None) -> Stop | None:
        """Wait for the background run to end; None if it still runs after ``timeout`` seconds."""
        return self._runner.wait(arguments.seconds("timeout", timeout))

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

    @property
    def busy(self) -> bool:
        """Whether the guest runs at all: in the background, or in a call that has not returned."""
        return self._runner.busy

    def send(self, text: str | bytes) -> None:
        r"""Type into the serial console. Write ``\n`` where you would press Enter."""
        data = arguments.keys("text", text)
        self._check_open()
        self._monitor.post(partial(self._snapshots.inputs.type, data))

    def _reached(self, until: Until) -> Callable[[], bool]:
        if until is None:
            return lambda: False
        if not isinstance(until, str):
            if not callable(until):
                raise UnusableInput(f"until: {until!r} is neither text nor a function of the VM")
            return partial(_holds, until, weakref.ref(self))
        if not until:
            raise UnusableInput("until: the text to wait for is empty; give at least one character")
        wanted = arguments.keys("until", until)
        self._watch[0] = wanted[-1]
        return partial(self.console.appeared, wanted)

    def _check_open(self) -> None:
        if self.closed:
            raise UnusableInput("this VM is closed; make a new one")

    # --- there and back ---------------------------------------------------------------------------------

    def snapshot(self, earlier: Snapshot | None = None) -> Snapshot:
        """Take a snapshot of everything; the guest may be running.

        Memory pages that have not changed are shared with ``earlier``, or with the last snapshot.
        """
        self._check_open()
        arguments.snapshot("earlier", earlier, optional=True)
        return self._runner.call(partial(self._history.snapshot, earlier))

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a snapshot of this VM, or of one with the same guest, monitor, paging and memory.

        Console and trace are as they were then. What was typed after it is typed again at the same virtual
        times as the guest runs on, until ``send`` types something else. Raises UnusableInput.
        """
        self._check_open()
        arguments.snapshot("snapshot", snapshot)
        self._runner.call(partial(self._history.restore, snapshot))

    def save(self, path: str | PathLike[str]) -> None:
        """Write this moment to a file, whole or not at all; ``VM.load`` goes on from it anywhere.

        Raises UnusableInput when the file cannot be written.
        """
        snapshot_file.save(path, self.snapshot(), self._settings, self.loaded)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        paging: PagingStrategy | None = None,
        trace: Level | None = None,
        history: bool = False,
        machine: HardwareMachine | None = None,
        monitor: type[Monitor] | None = None,
        devices: Makers | None = None,
    ) -> Self:
        """Make a VM that goes on from a file that ``save`` wrote. The guest's image is not needed.

        paging, monitor, devices: what the saved VM had of the user's own. trace: another level. Raises
        UnusableInput for what is no such file, is cut short or damaged, or was written by a newer vlab.
        """
        arguments.options(
            paging=paging, trace=trace, history=history, machine=machine, devices=devices,
            monitor="hardware" if monitor is None else monitor,
        )  # fmt: skip
        saved = snapshot_file.load(path)
        vm = cls.__new__(cls)
        settings = saved.settings(paging, trace, monitor, devices)
        vm._assemble(settings, machine, history, saved.loaded)
        try:
            vm.restore(saved.snapshot(vm._monitor.board))
        except BaseException:
            vm.close()
            raise
        return vm

    def step_back(self) -> Stop:
        """Go back to the state after the previous exit: console and trace as they were then.

        The guest runs there once more from the nearest snapshot (see history) or its start; changes made by
        hand are not repeated. Raises UnusableInput at the start, and without the deterministic clock.
        """
        self._check_open()
        return self._history.step_back()

    def go_to(self, exit_number: int) -> Stop:
        """Go to the state after an exit, in the past or ahead: 1 is the first, 0 the start.

        Exits of one block can share one stop, such as port accesses; then it is the first stop with at least
        so many. Raises UnusableInput as ``step_back``, and for what is before the history begins.
        """
        self._check_open()
        exit_number = arguments.whole("exit_number", exit_number, "number of an exit", 0)
        ahead = self._history.go_to(exit_number)
        if isinstance(ahead, Stop):
            return ahead
        return self.run(exits=ahead)

    def run_back(self, predicate: Callable[[ExitEvent], bool]) -> ExitEvent | None:
        """Go back to the state after the latest earlier exit that satisfies ``predicate``; give that exit.

        None, and nothing changes, when the trace has none. Raises UnusableInput as ``step_back``, and when
        the trace level is not "full".
        """
        self._check_open()
        arguments.function("predicate", predicate, "an exit, such as lambda exit: exit.reason == 'CPUID'")
        return self._history.run_back(predicate)

    # --- looking ----------------------------------------------------------------------------------------

    @property
    def exits(self) -> Exits:
        """The exits so far: ``by_reason()``, ``frame()``, indexing."""
        return self._exits

    @property
    def memory(self) -> memoryview:
        """The guest's RAM, from guest-physical address 0; writable."""
        self._history.memory_seen = self._monitor.memory.handed_out = True
        return self._monitor.memory.ram

    @property
    def screen(self) -> VgaText:
        """The VGA text screen: ``text()``, ``image()``, ``png()``."""
        return self._monitor.board.vga

    def save_trace(self, path: str | PathLike[str]) -> None:
        """Write the trace to a .vlabtrace file. Raises TraceFileError."""
        from vlab.trace.file import save

        arguments.path("path", path)
        described = {
            "guest": self.guest.name, "monitor": self.monitor, "paging": self.paging,
            "memory_bytes": self.memory_bytes, "clock": self.clock,
        }  # fmt: skip
        self._runner.call(lambda: save(path, self._exits, described, durations=self.clock == "realtime"))

    # --- the end ----------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return not self._finalizer.alive

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
        state = "closed" if self.closed else "running" if self.running else "paused"
        way, size = f"{self.monitor}/{self.paging}", f"{self.memory_bytes >> 20} MiB"
        return f"<VM {self.guest.name!r} under {way}, {size}, {state}>"


def _holds(condition: Callable[[VM], bool], reference: weakref.ref[VM]) -> bool:
    """Ask the condition. A run does not keep its VM alive, and has nothing to wait for without it."""
    vm = reference()
    return vm is None or condition(vm)


def open_vms() -> tuple[VM, ...]:
    """Give the virtual machines of this process that are not closed, in the order of their making."""
    return tuple(sorted((vm for vm in tuple(_made) if not vm.closed), key=lambda vm: vm._ordinal))
