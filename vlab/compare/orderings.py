"""What must hold between the techniques, on any computer: the orderings of Adams and Agesen (ASPLOS 2006).

Those about exits are counted, and depend on the monitors alone. Those about cycles depend on the cost table
too. Nothing is asserted of wall time, which is the emulator's as much as the monitor's. A check that needs a
monitor, an operation or a generation that is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vlab.costs import model
from vlab.costs.operations import NAMES
from vlab.costs.readings import BARE, KERNEL, Results, Way
from vlab.costs.table import Costs, Generation

#: The monitor that must fail: its guest's kernel finds that its interrupt flag is not its own.
_MUST_FAIL: Final = "trap-emulate"
_TIMER: Final = 0.25
"""Exits per operation that may be the timer's, which comes between the operations."""
_EQUAL: Final = 1.05
_MIX: Final = "forkwait"
"""The operation that decides between techniques: all the others are in it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One ordering. claim: what must hold. holds: whether it does. detail: by which figures."""

    claim: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A software technique against the best of hardware assistance, on one generation.

    software, hardware: cycles of ``forkwait``. cheaper: the operations that software does in fewer cycles.
    """

    generation: str
    software_way: Way
    hardware_way: Way
    software: float
    hardware: float
    cheaper: tuple[str, ...]

    @property
    def software_wins(self) -> bool:
        """Whether software takes fewer cycles."""
        return self.software < self.hardware


def is_hardware(way: Way) -> bool:
    """Whether a way has the processor's help."""
    return way.monitor == "hardware"


def is_software(way: Way) -> bool:
    """Whether a way is a monitor that does without."""
    return way.monitor not in (BARE, "hardware")


def _is_bare(way: Way) -> bool:
    return way.monitor == BARE


def _is_shadow(way: Way) -> bool:
    return is_hardware(way) and way.paging != "nested"


def _is_nested(way: Way) -> bool:
    return is_hardware(way) and way.paging == "nested"


def check(results: Results, costs: Costs) -> list[Check]:
    """Check everything that these results and this table have figures for."""
    refused = [each for each in results.refused if each.way.monitor != _MUST_FAIL]
    words = "; ".join(f"{each.way.name}: {each.why}" for each in refused)
    runs = Check(f"the kernel runs under every monitor but {_MUST_FAIL}", not refused, words or "it does")
    return [runs, *_counted(results), *_modelled(results, costs)]


# --- counted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """A claim about the exits of some operations in some ways: at least and at most so many for each."""

    claim: str
    ways: Callable[[Way], bool]
    operations: tuple[str, ...]
    least: float = 0.0
    most: float = math.inf


_RULES: Final = (
    _Rule("on the bare machine nothing is an exit", _is_bare, NAMES, most=0),
    _Rule(
        "with hardware assistance a system call, a call and a division by zero stay in the guest",
        is_hardware,
        ("syscall", "callret", "divzero"),
        most=0,
    ),
    _Rule("with hardware assistance a port is an exit, nested paging or not", is_hardware, ("in",), 1, 1),
    _Rule(
        "over shadow tables a page fault is two exits or more: the guest's own, and its shadow's",
        _is_shadow,
        ("pgfault",),
        least=2,
    ),
    _Rule(
        "over shadow tables writes of CR3 and of page tables are exits", _is_shadow, ("cr", "ptemod"), least=1
    ),
    _Rule(
        "over nested tables the guest's paging is its own",
        _is_nested,
        ("cr", "pgfault", "ptemod", "forkwait"),
        most=0,
    ),
    _Rule(
        "without hardware assistance a system call and a division by zero go by way of the monitor",
        is_software,
        ("syscall", "divzero"),
        least=1,
    ),
    _Rule("without it a call and its return are no exit either", is_software, ("callret",), most=0),
)


def _counted(results: Results) -> Iterator[Check]:
    for rule in _RULES:
        readings = {
            f"{name} {way.name}": results.of(name, way).total
            for name in rule.operations
            if name in results.operations
            for way in results.some(rule.ways)
        }
        if readings:
            wrong = {
                name: exits
                for name, exits in readings.items()
                if not rule.least - _TIMER < exits < rule.most + _TIMER
            }
            shown = wrong or readings
            yield Check(
                rule.claim, not wrong, ", ".join(f"{name}: {exits:.2f}" for name, exits in shown.items())
            )


# --- modelled -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Modelled:
    """The cycles of all operations on one generation."""

    results: Results
    costs: Costs
    generation: Generation

    def __call__(self, name: str, way: Way) -> float | None:
        """Give the cycles of an operation, None where there is no figure."""
        if name not in self.results.operations:
            return None
        reading = self.results.of(name, way)
        cycles = model.of_operation(self.costs, self.generation, name, way, reading)
        return None if cycles is None else cycles.total

    def some(self, name: str, kind: Callable[[Way], bool]) -> dict[str, float]:
        """Give the cycles in all ways of a kind, by their names."""
        pairs = ((way.name, self(name, way)) for way in self.results.some(kind))
        return {way: cycles for way, cycles in pairs if cycles is not None}


def _modelled(results: Results, costs: Costs) -> Iterator[Check]:
    every = [_Modelled(results, costs, generation) for generation in costs.generations.values()]
    yield from _like_native("with hardware assistance", is_hardware, ("syscall", "callret"), every)
    yield from _like_native("over nested tables", _is_nested, ("pgfault", "ptemod"), every)
    for name in ("in", "pgfault", "ptemod"):
        yield from _worst(every[0], name)
    for name in ("syscall", "divzero"):
        yield from _dearer_in_software(every[0], name)
    yield from _beats_native(every[0])
    yield from _flips(verdicts(results, costs), every[0], every[-1])


def _like_native(
    where: str, kind: Callable[[Way], bool], names: tuple[str, ...], every: list[_Modelled]
) -> Iterator[Check]:
    """Claim that operations take as long there as on the bare machine, on every generation that has it."""
    for name in names:
        wrong: list[str] = []
        right: list[str] = []
        for modelled in every:
            native = next(iter(modelled.some(name, _is_bare).values()), None)
            for way, cycles in modelled.some(name, kind).items():
                if native is not None:
                    near = native / _EQUAL <= cycles <= native * _EQUAL
                    text = f"{modelled.generation.name} {way}: {cycles:,.0f}, native {native:,.0f}"
                    (right if near else wrong).append(text)
        if wrong or right:
            yield Check(f"{where} {name} takes what it takes natively", not wrong, "; ".join(wrong or right))


def _worst(oldest: _Modelled, name: str) -> Iterator[Check]:
    """Claim that hardware over shadow tables is the dearest on the oldest generation."""
    shadow = oldest.some(name, _is_shadow)
    others = oldest.some(name, lambda way: not is_hardware(way))
    if shadow and len(others) > 1:
        holds = min(shadow.values()) > max(others.values())
        words = ", ".join(f"{way} {cycles:,.0f}" for way, cycles in (shadow | others).items())
        claim = f"on {oldest.generation.name} hardware over shadow tables is the dearest way of {name}"
        yield Check(claim, holds, words)


def _dearer_in_software(oldest: _Modelled, name: str) -> Iterator[Check]:
    """Claim that what hardware assistance leaves to the guest is dearer under every software monitor."""
    hardware, software = oldest.some(name, is_hardware), oldest.some(name, is_software)
    if hardware and software:
        words = ", ".join(f"{way} {cycles:,.0f}" for way, cycles in (software | hardware).items())
        yield Check(
            f"on {oldest.generation.name} {name} is dearer in software than with hardware assistance",
            min(software.values()) > max(hardware.values()),
            words,
        )


def _beats_native(oldest: _Modelled) -> Iterator[Check]:
    """Claim that a port is cheaper where a monitor has a model of the chip, and the guest is the same."""
    native = next(iter(oldest.some("in", _is_bare).values()), None)
    for way in oldest.results.some(is_software):
        cycles = oldest("in", way)
        if native is not None and cycles is not None and way.kernel == KERNEL:
            yield Check(
                f"on {oldest.generation.name} {way.name} beats the bare machine on in",
                cycles < native,
                f"{cycles:,.0f}, native {native:,.0f}",
            )


def _flips(found: list[Verdict], oldest: _Modelled, newest: _Modelled) -> Iterator[Check]:
    """Claim that each software technique wins on the oldest generation, and loses on the newest."""
    first, last = oldest.generation.name, newest.generation.name
    for way in dict.fromkeys(each.software_way for each in found):
        by = {each.generation: each for each in found if each.software_way == way}
        if first in by and last in by and first != last:
            words = "; ".join(
                f"{name}: {by[name].software:,.0f} against {by[name].hardware:,.0f} of "
                f"{by[name].hardware_way.name}"
                for name in (first, last)
            )
            yield Check(
                f"{way.name} wins {_MIX} on {first}, and hardware assistance on {last}",
                by[first].software_wins and not by[last].software_wins,
                words,
            )


# --- verdicts -----------------------------------------------------------------------------------------------


def verdicts(results: Results, costs: Costs) -> list[Verdict]:
    """Judge every software technique on every generation, by ``forkwait``."""
    found = []
    for generation in costs.generations.values():
        modelled = _Modelled(results, costs, generation)
        rivals = [
            (cycles, way) for way in results.some(is_hardware) if (cycles := modelled(_MIX, way)) is not None
        ]
        if not rivals:
            continue
        theirs, rival = min(rivals, key=lambda pair: pair[0])
        for way in results.some(is_software):
            ours = modelled(_MIX, way)
            if ours is not None:
                pairs = ((name, modelled(name, way), modelled(name, rival)) for name in results.operations)
                cheaper = tuple(
                    name
                    for name, one, other in pairs
                    if one is not None and other is not None and one < other
                )
                found.append(Verdict(generation.name, way, rival, ours, theirs, cheaper))
    return found
