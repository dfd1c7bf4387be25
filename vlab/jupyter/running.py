"""Running a guest from a cell: to its end or to where the user stops it, and what there is to tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vlab.errors import VlabError
from vlab.jupyter.saying import Said, pre, quietly, table
from vlab.session import VM, Stop, StopKind
from vlab.trace.events import ExitEvent
from vlab.vmm.exits import describe

_FAULTS = (StopKind.TRIPLE_FAULT, StopKind.FAILED)
_SHOWN = 50
_CONSOLE = 20_000


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What there is to show of a run that the user interrupted."""

    found: Said
    pressed: KeyboardInterrupt


@dataclass(slots=True)
class Run:
    """One run of a guest. stop: None when the user interrupted it. counts: exits by reason before it."""

    vm: VM
    stop: Stop | None = None
    console_before: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    interrupt: KeyboardInterrupt | None = None

    @property
    def output(self) -> str:
        """What the guest wrote meanwhile."""
        return bytes(self.vm.console.data[self.console_before :]).decode("utf-8", "replace")

    def headline(self) -> str:
        """Say in a line how it ended."""
        if self.stop is None:
            return f"interrupted {where(self.vm)}; the guest is paused there"
        if self.stop.kind in (StopKind.PAUSED, StopKind.TIMEOUT):
            return f"{self.stop.story}, {where(self.vm)}"
        return self.stop.headline

    def story(self) -> Said | None:
        """Tell a fault in full; None for another end."""
        if self.stop is None or self.stop.kind not in _FAULTS:
            return None
        told = self.stop.story.partition("\n")[2]
        return Said(told, pre(told, "story")) if told else None

    def console(self) -> Said | None:
        """Show what the guest wrote."""
        text = self.output
        if not text:
            return None
        cut = (
            f"[the first {len(text) - _CONSOLE:,} characters are in vm.console.text]\n"
            if len(text) > _CONSOLE
            else ""
        )
        text = cut + text[-_CONSOLE:]
        return Said(f"console:\n{text}", f"<h4>Console</h4>{pre(text)}")

    def reasons(self) -> Said | None:
        """Count the exits of this run by reason."""
        found = [(name, count - self.counts.get(name, 0)) for name, count in counts(self.vm).items()]
        rows = [(name, f"{count:,}") for name, count in sorted(found, key=lambda pair: -pair[1]) if count > 0]
        if not rows:
            return None
        shown = table(("exit", "times"), rows)
        return Said(
            "exits: " + ", ".join(f"{name} {count}" for name, count in rows), f"<h4>Exits</h4>{shown.body}"
        )

    def outcome(self, found: Said) -> Said | Interrupted:
        """Give what there is to show, with what interrupted the run if anything did."""
        if self.interrupt is None:
            return found
        return Interrupted(found, quietly(self.interrupt, self.headline()))


def begin(vm: VM) -> Run:
    """Note how things are before a run."""
    return Run(vm, console_before=len(vm.console.data), counts=counts(vm))


def go(run: Run, action: Callable[[], Stop]) -> Run:
    """Let the guest run by ``action``; Ctrl-C and the notebook's stop button end that, not the guest."""
    try:
        run.stop = action()
    except KeyboardInterrupt as pressed:
        run.interrupt = pressed
    return run


def where(vm: VM) -> str:
    """Say at which instruction a guest is."""
    try:
        return f"at {vm.disassemble(1)[0]}"
    except VlabError:
        return "where it was"


def counts(vm: VM) -> dict[str, int]:
    """Give the number of exits so far by reason, reasons in the order of the trace's table."""
    source = vm.exits.source
    return dict(zip(source.reasons, source.counts, strict=True))


def _what(event: ExitEvent) -> str:
    return ", ".join(f"{key} {value}" for key, value in describe(event.reason, *event.qualification).items())


def each_exit(vm: VM, number: int, skipped: int = 0) -> Said | None:
    """Show the last of the ``number`` newest exits, one a line; None when none are kept."""
    kept = len(vm.exits)
    number = min(number, kept)
    if number < 1:
        return None
    shown = list(vm.exits[-min(number, _SHOWN) :])
    first = vm.exits.total - len(shown) + 1 - skipped
    rows = [
        (
            str(first + place), f"{event.time / 1e6:.6f}", event.reason, f"{event.rip:#x}", str(event.ring),
            _what(event),
            event.handler,
        )
        for place, event in enumerate(shown)
    ]  # fmt: skip
    found = table(("#", "ms", "exit", "rip", "ring", "what", "handled by"), rows)
    more = f"the last {len(shown)} of {number:,} exits" if number > len(shown) else f"{number:,} exits, each"
    return Said(f"{more}:\n{found.words}", f"<h4>{more[0].upper()}{more[1:]}</h4>{found.body}")
