"""What there is to see of a guest that stands still behind an exit: registers, code, and who served it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlab.errors import UnusableInput
from vlab.isa.control import DECLARED
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Mode
from vlab.trace.events import ExitEvent

if TYPE_CHECKING:
    from vlab.session import VM

_SHOWN: Final = 9
"""Instructions from the exit's on."""
_AFTER: Final = 4
"""Instructions from RIP on, when it is not among those."""
_PLAIN: Final = ("rip", "cr2", "cr3")


def describe(
    vm: VM, state: CpuState, event: ExitEvent | None, before: tuple[int, CpuState] | None, stop: str
) -> dict[str, Any]:
    """Give what there is to see, as plain JSON. state: the guest's registers now. event: its latest exit.

    before: exits and registers at the place to compare with. ``registers``: name, value, the value before
    where that was another, and what its bits say; ``code``: address, text, and what is there;
    ``handler``: name, file, source.
    """
    return {
        "number": vm.exits.total,
        "before": None if before is None else before[0],
        "time": vm.virtual_time_ns,
        "mode": f"{state.mode.value} mode, ring {state.cpl}{', halted' if vm.halted else ''}",
        "registers": list(_registers(state, None if before is None else before[1])),
        "code": _code(vm, state, event),
        "handler": None if event is None else _handler(vm, event),
        "stop": stop,
    }


def tell(seen: Mapping[str, Any]) -> list[str]:
    """Tell a place in a few lines."""
    if not seen:
        return []
    lines = [f"the guest is at the state after exit {seen['number']:,}: {seen['mode']}"]
    changed = [f"{name} {before} -> {value}" for name, value, before, _ in seen["registers"] if before]
    if changed:
        lines.append(f"  changed since exit {seen['before']:,}: {', '.join(changed)}")
    lines += [f"  {address} {text}{f'  <- {mark}' if mark else ''}" for address, text, mark in seen["code"]]
    if seen["handler"]:
        lines.append(f"  served by {seen['handler']['name']} ({seen['handler']['file']})")
    return lines


def _registers(state: CpuState, before: CpuState | None) -> Iterator[tuple[str, str, str, str]]:
    wide = state.mode is Mode.LONG64
    general = GENERAL_REGISTERS if wide else GENERAL_REGISTERS[:8]
    for name in (*general, *_PLAIN, *DECLARED):
        value = getattr(state, name)
        digits = 16 if wide else 8
        kind = DECLARED.get(name)
        yield (
            name, f"{value:0{digits}x}", _before(before, name, value, digits),
            "" if kind is None else " ".join(_set(kind(value).describe())),
        )  # fmt: skip
    for name in SEGMENT_REGISTERS:
        segment = getattr(state, name)
        was = None if before is None else getattr(before, name).selector
        shown = f"{was:04x}" if was is not None and was != segment.selector else ""
        yield name, f"{segment.selector:04x}", shown, f"base {segment.base:#x}"


def _before(before: CpuState | None, name: str, value: int, digits: int) -> str:
    was = value if before is None else getattr(before, name)
    return "" if was == value else f"{was:0{digits}x}"


def _set(fields: list[Any]) -> Iterator[str]:
    for field in fields:
        if field.value:
            yield field.name if field.bits.isdigit() else f"{field.name}={field.value}"


def _code(vm: VM, state: CpuState, event: ExitEvent | None) -> list[tuple[str, str, str]]:
    """Disassemble from the exit's instruction on, and at RIP."""
    now = f"{state.rip:#x}"
    start = state.rip if event is None else event.rip
    lines = _lines(vm, _SHOWN, start, {f"{start:#x}": "the exit", now: "now"} if event else {now: "now"})
    if now not in [address for address, _, _ in lines]:
        lines += [("…", "", ""), *_lines(vm, _AFTER, state.rip, {now: "now"})]
    elif event is not None and event.rip == state.rip:
        lines[0] = (*lines[0][:2], "the exit, and now")
    return lines


def _lines(vm: VM, count: int, start: int, marks: Mapping[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for line in vm.disassemble(count, at=start):
        address, _, text = line.partition(": ")
        found.append((address, text, marks.get(address, "")))
    return found


def _handler(vm: VM, event: ExitEvent) -> dict[str, str] | None:
    """Find who served an exit, and the source as its author wrote it."""
    try:
        handler = vm.handler_of(event)
    except UnusableInput:
        return None
    name = getattr(handler, "__qualname__", type(handler).__name__)
    try:
        lines, number = inspect.getsourcelines(handler)
        file = inspect.getsourcefile(handler) or ""
    except (OSError, TypeError):
        return {"name": name, "file": "its source is not to be had", "source": ""}
    return {"name": name, "file": f"{_shown(file)}, line {number}", "source": textwrap.dedent("".join(lines))}


def _shown(file: str) -> str:
    """A file of vlab by its place in it; any other by its name."""
    package = Path(__file__).parents[1]
    path = Path(file)
    if package in path.parents:
        return str(path.relative_to(package.parent))
    return path.name if path.exists() else "a cell of the notebook"
