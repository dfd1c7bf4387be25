"""``%%asm`` and ``%%guest``: a cell of assembly as a guest."""

from __future__ import annotations

import html
import keyword
from dataclasses import dataclass
from functools import cache
from typing import Final

from vlab.errors import UnusableInput
from vlab.guests import catalogue
from vlab.guests.cell_image import BOOT_SECTOR, CellImage, make
from vlab.guests.kept import keep
from vlab.isa.state import CpuState, Mode
from vlab.jupyter.current import Current
from vlab.jupyter.options import Given
from vlab.jupyter.register_table import compare
from vlab.jupyter.running import Interrupted, Run, begin, each_exit, go, where
from vlab.jupyter.saying import Said, headline, table, together
from vlab.session import VM, Stop, StopKind

PATIENCE: Final = 10.0
"""Seconds of wall time that a cell's code gets, unless the cell says otherwise."""
_PROBE: Final = bytes((0xE6, 0xF4, 0xEB, 0xFE)) + bytes(506) + b"\x55\xaa"
"""A boot sector of out 0xF4, al; jmp $, which stops with the registers as the firmware leaves them."""


@dataclass(frozen=True, slots=True)
class _Start:
    """How the machine is when a cell's first instruction is about to run: what came before was firmware."""

    registers: CpuState
    counts: dict[str, int]
    exits: int = 0
    time_ns: int = 0
    written: int = 0


def asm(current: Current, given: Given, cell: str) -> Said | Interrupted:
    """Assemble a cell, run it and show what it did."""
    name = given.text("vm", "vm") or "vm"
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UnusableInput(f"%%asm --vm: {name!r} is no name for a variable; use letters, digits and '_'")
    if given.words:
        raise UnusableInput(f"%%asm: {given.words[0]!r} is no option; the code begins on the next line")
    if given.flag("until-halt") and given.count("steps") is not None:
        raise UnusableInput("%%asm: --steps and --until-halt are both given; choose one of them")
    image = make(_whole(cell), _bits(given))
    vm = VM(
        keep(image.image, f"cell{image.suffix}"),
        monitor=given.text("monitor", "hardware") or "hardware",
        paging=given.text("paging"),
        memory=given.text("memory"),
        trace="full" if given.flag("trace") else "counters",
    )
    current.names[name] = vm  # that of an earlier run of the cell goes, if nothing else holds it
    current.choose(vm)
    start = _start(vm, image.bits)
    run = begin(vm)
    run.counts, run.console_before = start.counts, start.written
    go(run, lambda: _run(vm, given, start))
    found = _result(image, run, start, given, name)
    return run.outcome(found)


def guest(given: Given, cell: str) -> Said:
    """Make a guest of a cell that ``vlab.VM`` knows by a name."""
    if len(given.words) != 1:
        raise UnusableInput(
            "%%guest: give it one name, such as %%guest mine, by which vlab.VM('mine') finds it"
        )
    name = given.words[0]
    image = make(_whole(cell), _bits(given))
    found = catalogue.remember(keep(image.image, f"{name}{image.suffix}"), name)
    size, code = len(image.image), len(image.assembled.code)
    origin = image.assembled.origin
    title = f"guest {name!r}: {found.kind.value}, {size:,} bytes; {code:,} bytes of code at {origin:#x}"
    symbols = [(symbol, f"{value:#x}") for symbol, value in image.assembled.symbols.items()]
    parts = [headline(title)]
    if symbols:
        parts.append(table(("symbol", "address"), symbols))
    hint = f"vm = vlab.VM({name!r})"
    parts.append(Said(f"boot it with {hint}", f"<p>Boot it with <code>{html.escape(hint)}</code></p>"))
    return together(parts)


def _whole(cell: str) -> str:
    """Put the line of the magic back, so that lines are counted as the notebook counts them."""
    return f"\n{cell}"


def _bits(given: Given) -> int:
    return int(given.text("bits", "16") or 16)


def _run(vm: VM, given: Given, start: _Start) -> Stop:
    steps, patience = given.count("steps"), given.seconds("timeout")
    if steps is not None:
        if vm.monitor == "none":
            raise UnusableInput(
                "%%asm --steps: the bare machine has no exits to count; choose another --monitor"
            )
        return vm.run(exits=start.exits + steps, timeout=patience)
    if given.flag("until-halt"):
        return vm.run(
            until=lambda each: each.halted and each.virtual_time_ns > start.time_ns, timeout=patience
        )
    return vm.run(timeout=PATIENCE if patience is None else patience)


def _start(vm: VM, bits: int) -> _Start:
    if bits != 16:
        return _Start(vm.registers(), {})
    return _firmware(vm.monitor, vm.paging, vm.memory_bytes)


@cache
def _firmware(monitor: str, paging: str, memory: int) -> _Start:
    """Find out how the firmware leaves the machine to a boot sector: boot one that stops at once.

    The machine does the same in each run, so this is how every boot sector finds it.
    """
    path = keep(_PROBE, "probe.img")
    with VM(path, monitor=monitor, paging=paging, memory=memory, trace="full") as vm:
        vm.run(timeout=60)
        counts = dict.fromkeys(vm.exits.source.reasons, 0)
        events = list(vm.exits)
        while events and events[-1].mode is Mode.REAL and BOOT_SECTOR <= events[-1].rip < BOOT_SECTOR + 4:
            events.pop()
        for event in events:
            counts[event.reason] += 1
        registers = vm.registers()
        registers.rip = BOOT_SECTOR
        return _Start(registers, counts, len(events), vm.virtual_time_ns, len(vm.console.data))


def _result(image: CellImage, run: Run, start: _Start, given: Given, name: str) -> Said:
    vm, after = run.vm, run.vm.registers()
    ran_out = (
        run.stop is not None
        and run.stop.kind is StopKind.HALTED
        and image.end < after.cs.base * (image.bits == 16) + after.rip <= image.end + 2
    )
    ended = "the code ran to its end" if ran_out else run.headline()
    if given.flag("until-halt") and run.stop is not None and run.stop.kind is StopKind.EXPECTED:
        ended = f"the guest waits in HLT, just before {after.rip:#x}"
    if given.count("steps") and run.stop is not None and run.stop.kind is StopKind.EXPECTED:
        ended = f"{given.count('steps')} exits done; the guest is {where(vm)}"
    if run.stop is not None and run.stop.kind is StopKind.TIMEOUT:
        ended += "; --timeout S gives it more"
    way = f"{len(image.assembled.code):,} bytes, {image.bits} bits, {vm.monitor}/{vm.paging}, as {name}"
    traced = each_exit(vm, vm.exits.total - start.exits, start.exits) if given.flag("trace") else None
    parts = (
        headline(ended, way), run.story(), compare(start.registers, after), run.console(), run.reasons(),
        traced,
    )  # fmt: skip
    return together([part for part in parts if part])
