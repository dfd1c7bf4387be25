"""The papers, reproduced: the student's cost model, and the student's search for the crossover.

Guests are run and their exits counted anew for each try; `vlab.costs.model` and `vlab.compare.sweep` say what
the model should make of them. Cost tables are those of the package with every figure times chance, so that no
number of theirs can be written into an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from vlab.compare.crossover import workload_at
from vlab.compare.sweep import WINDOW, Counted, cycles_a_touch
from vlab.compare.tlb import Lookups, Picks, Workload, simulate
from vlab.compare.walk_costs import FIGURES, Processor, TlbLevel, read_processors
from vlab.compare.walk_counts import SmallNestedPaging, nested_walk, shadow_walk
from vlab.costs.model import of_operation
from vlab.costs.operations import OPERATIONS
from vlab.costs.readings import Reading, Way
from vlab.costs.table import BLOCK, OTHER, TRANSITION, Costs, Figure, Generation, load
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Function, Value
from vlab.grading.trial import Trial
from vlab.guests.programs import SCRATCH, count_down, image, leave
from vlab.session import VM
from vlab.vmm.exits import REASONS
from vlab.vmm.paging.shadow import ShadowPaging

_CARRIED_OUT: Final = frozenset(each.name for each in OPERATIONS if each.carried_out)
_CLOSE: Final = 1e-6

# --- operations as tiny guests ------------------------------------------------------------------------------

BODIES: Final = {
    "in": b"\xe4\x80",  # in al, 80h
    "cr": b"\x0f\x20\xd8\x0f\x22\xd8",  # mov eax, cr3; mov cr3, eax
    "callret": b"\xe8\x05\x00\x00\x00\x90\x90\xeb\x02\x90\xc3\x90",  # call, over two nops to a ret
    "cpuid": b"\x51\x0f\xa2\x59",  # push ecx; cpuid; pop ecx
    "invlpg": b"\x0f\x01\x3d" + SCRATCH.to_bytes(4, "little"),  # invlpg [SCRATCH]
}
"""One operation each; the table has no figures of their own for the last two."""
SHADOWED: Final = Way("hardware", "shadow")
NESTED: Final = Way("hardware", "nested")
TRANSLATED: Final = Way("binary-translation", "shadow")
TRAPPED: Final = Way("trap-emulate", "shadow")


@dataclass(frozen=True, slots=True)
class Run:
    """What was counted of one run with so many operations."""

    count: int
    exits: Mapping[str, int]
    blocks: int

    def told(self) -> dict[str, Value]:
        """Give it as the student's functions get it."""
        return {"count": self.count, "exits": dict(self.exits), "blocks": self.blocks}


def count(trial: Trial, way: Way, operation: str, times: int) -> Run:
    """Run a guest that does an operation so many times, and count from its power-on to its end."""
    vm = trial.vm(
        image(count_down(times, BODIES[operation]) + leave(0)),
        monitor=way.monitor, paging=way.paging, memory="2M",
    )  # fmt: skip
    before = vm.blocks or 0
    trial.run(vm)
    return Run(times, _by_reason(vm), (vm.blocks or 0) - before)


def two_runs(trial: Trial, way: Way, operation: str) -> tuple[Run, Run]:
    """Run it with fewer and with more operations, of this student's own numbers."""
    few = trial.rng.randrange(3, 9)
    more = few + trial.rng.randrange(8, 24)
    return count(trial, way, operation, few), count(trial, way, operation, more)


def _by_reason(vm: VM) -> dict[str, int]:
    return {str(reason): int(number) for reason, number in vm.exits.by_reason().items() if number}


def reading_of(few: Run, many: Run) -> Reading:
    """Give what one operation took."""
    more = many.count - few.count
    exits = {
        reason: (many.exits.get(reason, 0) - few.exits.get(reason, 0)) / more
        for reason in {**few.exits, **many.exits}
    }
    return Reading(
        {reason: each for reason, each in exits.items() if each}, None, (many.blocks - few.blocks) / more
    )


# --- a table of costs, made by chance -----------------------------------------------------------------------


def shuffled(rng: Random) -> tuple[Costs, Generation]:
    """Give the table with the figures of one generation times chance, each by itself."""
    costs = load()
    old = costs.generations[rng.choice(list(costs.generations))]

    def other(figures: Mapping[str, Figure]) -> dict[str, Figure]:
        return {
            name: replace(figure, cycles=round(figure.cycles * rng.uniform(0.5, 2)) + 1)
            for name, figure in figures.items()
        }

    new = replace(
        old,
        nested=True,
        guest=other(old.guest),
        hardware=other(old.hardware),
        software=other(old.software),
        translated=other(old.translated),
    )
    return costs, new


class Table(Facade):
    """What things cost on one processor, for one monitor: cycles."""

    read_only = ("transition", "block")
    offers = ("exit", "inside", "native", "translated")

    def __init__(self, costs: Costs, generation: Generation, monitor: str) -> None:
        self._generation, self._technique = generation, costs.techniques.get(monitor)
        self._figures = generation.exits("hardware" if self._technique is None else self._technique.exits)

    @property
    def transition(self) -> float:
        """The way from the guest to the monitor and back."""
        return self._figures[TRANSITION].cycles

    @property
    def block(self) -> float:
        """A basic block of the guest's."""
        return self._generation.guest[BLOCK].cycles

    def exit(self, reason: str) -> float:
        """What the monitor does for an exit of that reason, without the way there."""
        return self._figures.get(_reason(reason), self._figures[OTHER]).cycles

    def inside(self, reason: str) -> bool:
        """Whether translated code serves that reason by itself, without the way to the monitor."""
        return self._technique is not None and _reason(reason) in self._technique.inside

    def native(self, operation: str) -> float | None:
        """What the operation takes by itself, None where nobody measured it."""
        found = self._generation.guest.get(operation)
        return None if found is None else found.cycles

    def translated(self, operation: str) -> float:
        """What the operation takes more as translated code; 0 under the other monitors."""
        if self._technique is None or not self._technique.translated:
            return 0
        found = self._generation.translated.get(operation)
        return 0 if found is None else found.cycles


def _reason(reason: object) -> str:
    if not isinstance(reason, str) or reason not in REASONS:
        raise ValueError(f"reason: {reason!r} is no exit reason, such as 'PF' or 'IOIO'")
    return reason


# --- the cost model -----------------------------------------------------------------------------------------


def _amount(name: str, value: Value) -> float:
    """Take a number that the student's function returned."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Broken(f"{name} returned {value!r}; it has to return a number of cycles")
    return float(value)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= _CLOSE * max(1.0, abs(other))


def _rates(trial: Trial, way: Way, operation: str) -> None:
    few, many = two_runs(trial, way, operation)
    given = trial.student.call("rates", few.told(), many.told())
    where = f"{operation}, {few.count} and {many.count} times under {way.name}"
    if not isinstance(given, dict) or not isinstance(given.get("exits"), dict):
        raise Broken(
            f'{where}: rates returned {given!r}; it has to return {{"exits": {{...}}, "blocks": ...}}'
        )
    expected = reading_of(few, many)
    exits = given["exits"]
    assert isinstance(exits, dict)
    for reason in {**expected.exits, **exits}:
        mine, right = _amount("rates", exits.get(reason, 0)), expected.exits.get(reason, 0.0)
        if not _near(mine, right):
            raise Broken(
                f"{where}: {few.exits.get(reason, 0)} and {many.exits.get(reason, 0)} exits of {reason} are "
                f"{right:g} for one operation; rates says {mine:g}",
                hint="what came before and after the operations is in both runs",
            )
    if not _near(_amount("rates", given.get("blocks")), expected.blocks or 0.0):
        raise Broken(
            f"{where}: {few.blocks} and {many.blocks} blocks are {expected.blocks:g} for one operation; "
            f"rates says {given.get('blocks')!r}",
            hint="blocks are counted as exits are: by the difference",
        )


def _rates_hold(trial: Trial) -> None:
    for way, operation in ((SHADOWED, "cr"), (SHADOWED, "in"), (TRANSLATED, "invlpg"), (NESTED, "cr")):
        _rates(trial, way, operation)


def _costed(trial: Trial, cases: Sequence[tuple[Way, str]], hint: str) -> None:
    """Count each case anew, and compare the student's cycles with the model's, for a table by chance."""
    for way, operation in cases:
        few, many = two_runs(trial, way, operation)
        reading = reading_of(few, many)
        costs, generation = shuffled(trial.rng)
        expected = of_operation(costs, generation, operation, way, reading)
        assert expected is not None, (way, operation)
        one: dict[str, Value] = {
            "operation": operation,
            "exits": dict(reading.exits),
            "blocks": reading.blocks,
            "carried_out": operation in _CARRIED_OUT and reading.total >= 1,
        }
        given = _amount("cycles", trial.student.call("cycles", Table(costs, generation, way.monitor), one))
        if not _near(given, expected.total):
            exits = ", ".join(f"{each:g} {reason}" for reason, each in reading.exits.items()) or "no exits"
            raise Broken(
                f"{operation} under {way.name} ({exits}; {reading.blocks:g} blocks) takes "
                f"{expected.total:,.0f} cycles with this table: {expected.guest:,.0f} the guest's own and "
                f"{expected.exits:,.0f} for exits; cycles says {given:,.0f}",
                hint=hint,
            )


def _exits_charged(trial: Trial) -> None:
    cases = [(SHADOWED, "cpuid"), (TRAPPED, "invlpg"), (SHADOWED, "invlpg")]
    _costed(trial, cases, "each exit is the way there and back, and the work that its reason asks for")


def _inside_charged(trial: Trial) -> None:
    _costed(
        trial, [(TRANSLATED, "invlpg")],
        "what translated code serves by itself makes no way to the monitor: costs.inside(reason)",
    )  # fmt: skip


def _own_charged(trial: Trial) -> None:
    cases = [(SHADOWED, "callret"), (NESTED, "invlpg"), (TRANSLATED, "callret"), (NESTED, "cr")]
    _costed(
        trial, cases,
        "the guest's own part: the native figure and what translation adds, or by basic blocks where "
        "costs.native gives None",
    )  # fmt: skip


def _carried_out(trial: Trial) -> None:
    cases = [(SHADOWED, "in"), (TRAPPED, "cr"), (SHADOWED, "cr")]
    _costed(trial, cases, "what the monitor has carried out, the processor did not do: the guest's part is 0")


def _hidden_model(trial: Trial) -> None:
    choice = trial.rng.choice
    _rates(trial, choice((SHADOWED, TRAPPED)), choice(("in", "cr")))
    cases = [
        (choice((SHADOWED, TRAPPED)), choice(("in", "cr"))),
        (choice((SHADOWED, TRAPPED)), "invlpg"),
        (TRANSLATED, choice(("invlpg", "cr"))),
        (NESTED, choice(list(BODIES))),
    ]
    _costed(trial, cases, "read the four other sentences again, for these guests")


# --- shadow against nested ----------------------------------------------------------------------------------

MEMORY: Final = "8M"
LIMIT: Final = 256
"""Touches for each update, at most, that the crossover is looked for at."""
MOST_RUNS: Final = 14
CLOSE_ENOUGH: Final = 1.25
_TOUCHES: Final = 768


@dataclass(slots=True)
class Lab:
    """The guest `sweep` over both kinds of tables, on a processor that chance made.

    pages: its working set. known: cycles that were measured, by touches for each update.
    """

    trial: Trial
    processor: Processor
    pages: int
    known: dict[int, tuple[float, float]]
    nested: Counted | None = None
    """What was counted over nested tables, once for all rates: nothing exits there, and a walk is a walk."""

    def measure(self, touches: Value) -> Value:
        """Give cycles a touch over shadow and over nested tables, with one update in so many touches."""
        if isinstance(touches, bool) or not isinstance(touches, int) or not 1 <= touches <= LIMIT:
            raise Broken(f"measure was called with {touches!r}; touches are a number from 1 to {LIMIT}")
        if touches not in self.known:
            if len(self.known) == MOST_RUNS:
                raise Broken(
                    f"after {MOST_RUNS} measurements you want another one, of {touches}",
                    hint="halve the range each time, and halve it by its ratio: sqrt(often * seldom)",
                )
            shadow, nested = (self.cycles(touches, way) for way in ("shadow", "nested"))
            self.known[touches] = shadow, nested
        return list(self.known[touches])

    def cycles(self, touches: int, way: str) -> float:
        """Model the cycles a touch over one kind of tables, of what was counted."""
        workload = workload_at(self.pages, touches)
        rounds, counted, lookups = self.count(workload, way)
        return cycles_a_touch(self.processor, workload, rounds, counted, lookups)

    def count(self, workload: Workload, way: str) -> tuple[int, Counted, Lookups]:
        """Count the exits of so many rounds, by the difference of two runs, and the TLB's misses."""
        rounds = max(4, min(32, _TOUCHES // workload.touches))
        before = rounds // 2
        counted = self.nested if way == "nested" else None
        if counted is None:
            counted = self._difference(workload, way, before, rounds)
        if way == "nested":
            self.nested = counted
        levels = self.processor.small
        return rounds, counted, simulate(workload, before, rounds, levels, counted.walk.page_size)

    def _difference(self, workload: Workload, way: str, before: int, rounds: int) -> Counted:
        few, many = (self._run(workload, way, each) for each in (before, before + rounds))
        exits = {
            reason: many.exits.get(reason, 0) - few.exits.get(reason, 0) for reason in ("PF", "INVLPG", "NPF")
        }
        return Counted(exits, many.fills - few.fills, many.writes - few.writes, many.walk)

    def _run(self, workload: Workload, way: str, rounds: int) -> Counted:
        shadow = ShadowPaging() if way == "shadow" else None
        vm = self.trial.vm(
            "sweep", paging=shadow or SmallNestedPaging(), memory=MEMORY, trace="counters",
            append=workload.command_line(rounds),
        )  # fmt: skip
        self.trial.run(vm)
        picks = Picks(workload)
        for _ in picks.rounds(rounds):
            pass
        if f"picked {picks.digest:016x}" not in vm.console.text:
            raise ValueError(f"the model does not follow the guest: {vm.console.text!r}")
        walk = nested_walk(vm, WINDOW) if shadow is None else shadow_walk(vm, shadow, WINDOW)
        fills = shadow.fills - shadow.space.released if shadow else 0
        counted = Counted(_by_reason(vm), fills, shadow.space.released if shadow else 0, walk)
        self.trial.vms.remove(vm)
        vm.close()
        return counted


def lab_of(trial: Trial, *, reach: int = 8, factor: float = 1.0) -> Lab:
    """Make a processor by chance. reach: entries of its TLB. factor: what its exits cost of the table's."""
    rng = trial.rng
    old = rng.choice(read_processors())
    cycles = {
        name: replace(old.cycles[name], cycles=round(old.cycles[name].cycles * rng.uniform(1, 1.5), 1))
        for name in FIGURES
    }
    exits = {
        name: replace(each, cycles=round(each.cycles * factor * rng.uniform(0.8, 1.2), 1))
        for name, each in old.generation.hardware.items()
    }
    processor = replace(
        old,
        small=(TlbLevel(reach // 2, 4), TlbLevel(reach, 4, rng.randrange(5, 10))),
        cycles=cycles,
        generation=replace(old.generation, hardware=exits),
    )
    return Lab(trial, processor, rng.randrange(30, 36), {})


class Prices(Facade):
    """What a processor takes, in cycles."""

    read_only = ("touch", "update", "hit", "last_reference", "upper_reference")
    offers = ("exit",)

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __getattr__(self, name: str) -> float:
        if name == "hit":
            return self._processor.small[-1].hit
        if name not in FIGURES:
            raise AttributeError(name)
        return self._processor.cycles[name].cycles

    def exit(self, reason: str) -> float:
        """What one exit takes: there, the work, and back."""
        return self._processor.exit_cycles(_reason(reason))


def _touch_costed(trial: Trial, way: str, touches: int, hint: str) -> None:
    lab = lab_of(trial)
    workload = workload_at(lab.pages, touches)
    rounds, counted, lookups = lab.count(workload, way)
    run: dict[str, Value] = {
        "touches": rounds * workload.touches,
        "updates": rounds * workload.updates,
        "hits": lookups.hits[-1],
        "misses": lookups.misses,
        "fills": counted.fills,
        "exits": {reason: each for reason, each in counted.exits.items() if each},
        "last": counted.walk.last,
        "upper": counted.walk.upper,
    }
    given = _amount("a_touch", trial.student.call("a_touch", Prices(lab.processor), run))
    expected = cycles_a_touch(lab.processor, workload, rounds, counted, lookups)
    if not _near(given, expected):
        told = ", ".join(f"{name} {each!r}" for name, each in run.items() if name != "exits")
        raise Broken(
            f"over {way} tables ({told}; exits {counted.exits}) a touch takes {expected:,.1f} cycles; "
            f"a_touch says {given:,.1f}",
            hint=hint,
        )


def _misses_costed(trial: Trial) -> None:
    hint = "a miss is a walk: run['last'] references at one price and run['upper'] at the other"
    for way in ("nested", "shadow"):
        _touch_costed(trial, way, 0, hint)


def _updates_costed(trial: Trial) -> None:
    hint = "exits cost what costs.exit says, an update costs its own; after a fill the processor walks again"
    _touch_costed(trial, "shadow", trial.rng.randrange(2, 12), hint)


def _found(trial: Trial, lab: Lab) -> None:
    """Have the student look for the crossover, and measure at what was found."""
    given = trial.student.call("crossover", Function(lab.measure))
    if isinstance(given, str):
        raise Broken(
            f"crossover returned {given!r}, and neither way wins at every rate here: "
            f"{_sides(lab, 1)}; {_sides(lab, LIMIT)}",
            hint=f"measure at 1 and at {LIMIT} first: who wins there?",
        )
    if not isinstance(given, list) or len(given) != 2 or not all(_possible(each) for each in given):
        raise Broken(
            f"crossover returned {given!r}; it has to return two numbers from 1 to {LIMIT}, or a word"
        )
    often, seldom = (each for each in given if isinstance(each, int))
    lab.known = {each: lab.known[each] for each in (often, seldom) if each in lab.known}
    if not _wins(lab, often) or _wins(lab, seldom):
        raise Broken(
            f"at the first rate nested tables win, at the second shadow tables; here: "
            f"{_sides(lab, often)}; {_sides(lab, seldom)}",
            hint="keep two rates all the time: one where nested tables win, and one where they do not",
        )
    if not often < seldom or (seldom > CLOSE_ENOUGH * often and seldom != often + 1):
        raise Broken(
            f"one update in {often} and one in {seldom} touches are more than a quarter apart",
            hint="go on until seldom <= 1.25 * often, or nothing is between them",
        )


def _possible(touches: Value) -> bool:
    return isinstance(touches, int) and not isinstance(touches, bool) and 1 <= touches <= LIMIT


def _wins(lab: Lab, touches: int) -> bool:
    lab.measure(touches)
    shadow, nested = lab.known[touches]
    return nested <= shadow


def _sides(lab: Lab, touches: int) -> str:
    lab.known = {each: lab.known[each] for each in (touches,) if each in lab.known}
    lab.measure(touches)
    shadow, nested = lab.known[touches]
    return (
        f"with one update in {touches} touches {shadow:,.1f} cycles over shadow tables and {nested:,.1f} "
        "over nested ones"
    )


def _line_found(trial: Trial) -> None:
    _found(trial, lab_of(trial, factor=trial.rng.uniform(0.6, 1.2)))


def _sides_told(trial: Trial) -> None:
    """A TLB that holds everything, and a processor whose exits cost next to nothing."""
    for word, options in (("nested", {"reach": 64}), ("shadow", {"factor": 0.001})):
        lab = lab_of(trial, **options)
        given = trial.student.call("crossover", Function(lab.measure))
        if given != word:
            raise Broken(
                f"crossover returned {given!r} and {word} tables win, or do no worse, at every rate: "
                f"{_sides(lab, 1)}; {_sides(lab, LIMIT)}",
                hint=f"measure at 1 and at {LIMIT} first: who wins there? In a draw it is nested",
            )


# --- the exercises ------------------------------------------------------------------------------------------

Check = Callable[[Trial], None]


def _invariants(*rows: tuple[str, float, str, Check]) -> tuple[Invariant, ...]:
    return tuple(Invariant(*row, hidden=row[0] == "hidden") for row in rows)


EXERCISES: Final = (
    Exercise(
        "cost-model",
        "From counts to cycles",
        defines=("rates", "cycles"),
        invariants=_invariants(
            ("rates", 2, "an operation is the difference of two runs, over how many more", _rates_hold),
            ("exits", 3, "an exit is the way there and back and the work for its reason", _exits_charged),
            ("inside", 1, "what translated code serves by itself makes no such way", _inside_charged),
            ("own", 2, "the guest's own part is its native figure, or its basic blocks", _own_charged),
            ("carried_out", 2, "what the monitor carries out costs the guest nothing", _carried_out),
            ("hidden", 1, "all of that on guests and tables that you have not seen", _hidden_model),
        ),
        hints=(
            "A run has a beginning and an end that no operation is to blame for. Two runs have the same.",
            (
                'Sum over one["exits"].items(): costs.exit(reason) for each, and costs.transition unless '
                "costs.inside(reason)."
            ),
            (
                'The guest\'s part: 0 if one["carried_out"], else costs.native(...) + costs.translated(...), '
                'or one["blocks"] * costs.block where native gives None.'
            ),
        ),
    ),
    Exercise(
        "crossover",
        "Shadow against nested tables",
        defines=("a_touch", "crossover"),
        invariants=_invariants(
            ("misses", 2, "a TLB miss costs a walk, each of its references at its own price", _misses_costed),
            ("updates", 2, "an update costs its exits, and a fill walks once more", _updates_costed),
            (
                "line", 3,
                f"your two rates enclose the crossover, a quarter apart, after {MOST_RUNS} runs at most",
                _line_found,
            ),
            ("sides", 2, "where one way wins at every rate, you say which", _sides_told),
            ("hidden", 1, "all of that on processors that you have not seen", _line_found),
        ),
        hints=(
            "Cycles first, for the whole run; divide by run['touches'] at the very end.",
            "Walks: misses + fills. Each is last * last_reference + upper * upper_reference.",
            (
                f"Begin with measure(1) and measure({LIMIT}). Keep `often`, where nested tables win, and "
                "`seldom`, where they do not, and try the middle by ratio: round((often * seldom) ** 0.5)."
            ),
        ),
    ),
)  # fmt: skip
