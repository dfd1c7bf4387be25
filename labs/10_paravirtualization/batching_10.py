"""What must hold of the student's batching: it is made into a kernel's code, which then runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from guests_10 import END, PAGES, RW, P, Program, linear, open_guest, run_program

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, unsigned
from vlab.grading.trial import Trial
from vlab.machine.memory import PAGE
from vlab.vmm.paravirtual.interface import Call

MOST_IN_ONE: Final = 64
_WORKED_ON: Final = range(PAGES, PAGES + 80 * PAGE, PAGE)
_FRAMES: Final = range(PAGES + 96 * PAGE, END, PAGE)


class Kernel(Facade):
    """A guest's kernel that is being written: each call of a hypercall becomes one in its code."""

    offers = ("mmu_update", "flush_page", "flush_all")

    def __init__(self, program: Program) -> None:
        self._program = program
        self.calls = 0

    def mmu_update(self, updates: Sequence[Sequence[int]]) -> None:
        """Change entries: pairs of entry address and value, from 1 to 64."""
        if not isinstance(updates, list | tuple) or not 0 < len(updates) <= MOST_IN_ONE:
            size = len(updates) if isinstance(updates, list | tuple) else updates
            raise Broken(
                f"the kernel's buffer holds from 1 to {MOST_IN_ONE} updates; you give it {size!r}",
                hint=f"cut what waits into pieces of {MOST_IN_ONE}",
            )
        pairs = []
        for each in updates:
            if not isinstance(each, list | tuple) or len(each) != 2:
                raise ValueError(f"updates: {each!r} is no pair of entry address and value")
            pairs.append((unsigned("entry", each[0], 32), unsigned("value", each[1], 32)))
        self._program.update(*pairs)
        self.calls += 1

    def flush_page(self, address: int) -> None:
        """Have the processor forget one address."""
        self._program.call(Call.FLUSH_PAGE, unsigned("address", address, 32))
        self.calls += 1

    def flush_all(self) -> None:
        """Have the processor forget all addresses."""
        self._program.call(Call.FLUSH_ALL, 0)
        self.calls += 1


@dataclass(frozen=True, slots=True)
class Step:
    """What the kernel does next: map ``page`` to ``frame``, or touch ``page`` where frame is 0."""

    page: int
    frame: int = 0


def script(rng: Random, rounds: int, most: int) -> list[Step]:
    """Make a kernel's work: in each round two lots of up to ``most`` changes, with touches of other pages
    behind either, and of changed ones at the end.
    """
    steps = []
    for _ in range(rounds):
        pages = rng.sample(_WORKED_ON, 2 * most + 8)
        changed, others = pages[: 2 * most], pages[2 * most :]
        for lot in (changed[:most], changed[most:]):
            lot = rng.sample(lot, rng.randrange(most // 2, most))
            steps += [Step(page, rng.choice(_FRAMES)) for page in lot]
            steps += [Step(page, rng.choice(_FRAMES)) for page in rng.sample(lot, 2)]  # once more
            steps += [Step(page) for page in rng.sample(others, 3)]
        steps += [Step(page) for page in rng.sample(lot, 3)]
    return steps


def budgets(steps: Sequence[Step]) -> tuple[int, int]:
    """Give the hypercalls of two policies: to send what waits at any touch, or where it is touched."""
    found = []
    for lazy in (False, True):
        calls, waiting, pages = 0, 0, set[int]()
        for step in [*steps, None]:
            if step is not None and step.frame:
                waiting += 1
                pages.add(step.page)
            elif waiting and (step is None or not lazy or step.page in pages):
                calls += -(-waiting // MOST_IN_ONE) + 1
                waiting = 0
                pages.clear()
        found.append(calls)
    return found[0], found[1]


def _batched(trial: Trial, steps: Sequence[Step]) -> int:
    """Run a kernel with the student's batching; give its hypercalls for page tables."""
    vm, place = open_guest(trial, "paravirtual")
    marks = {gpa: trial.rng.getrandbits(30) for gpa in range(PAGES, END, PAGE)}
    for gpa, mark in marks.items():
        vm.memory[gpa : gpa + 4] = struct.pack("<I", mark)
    program, batching = Program(), trial.student.make("Batching")
    kernel = Kernel(program)
    for page in {step.page for step in steps}:
        program.read(linear(page))  # so that the TLB has it
    mapped: dict[int, int] = {}
    touches: list[tuple[int, int, int]] = []
    for number, step in enumerate([*steps, None]):
        if step is None:
            batching.call("finish", kernel)
        elif step.frame:
            mapped[step.page] = step.frame
            value = place.base + step.frame | P | RW
            batching.call("change", kernel, linear(step.page), place.entry(step.page), value)
        else:
            batching.call("use", kernel, linear(step.page))
        for page in mapped if step is None else () if step.frame else (step.page,):
            touches.append((number, page, program.results))
            program.read(linear(page))
    results = run_program(trial, vm, program)
    frames: dict[int, int] = {}
    for number, page, place_of_result in touches:
        for step in steps[:number]:
            if step.frame:
                frames[step.page] = step.frame
        wanted, seen = frames.get(page, page), results[place_of_result]
        if seen != marks[wanted]:
            real = next((f"{gpa:#x}" for gpa, mark in marks.items() if mark == seen), "somewhere else")
            raise Broken(
                f"after step {number + 1} of {len(steps)} the kernel touches {linear(page):#x}, which is to "
                f"be the frame {wanted:#x}, and sees {real}",
                hint="before a touch: the entries that wait have to be written, and old translations flushed",
                vm=vm,
            )
    return kernel.calls


def touches_are_right(trial: Trial) -> None:
    """Changes and touches, in some rounds."""
    _batched(trial, script(trial.rng, 3, 6))


def long_lists(trial: Trial) -> None:
    """More changes at once than one call takes."""
    rng = trial.rng
    pages = rng.sample(_WORKED_ON, rng.randrange(MOST_IN_ONE + 2, len(_WORKED_ON)))
    _batched(trial, [*(Step(page, rng.choice(_FRAMES)) for page in pages), Step(pages[0])])


def _within(trial: Trial, which: int, hint: str) -> None:
    steps = script(trial.rng, 4, 16)
    budget = budgets(steps)[which]
    calls = _batched(trial, steps)
    changes = sum(bool(step.frame) for step in steps)
    if calls > budget:
        raise Broken(
            f"your kernel makes {calls} hypercalls for {changes} changes and {len(steps) - changes} touches; "
            f"{budget} are enough",
            hint=hint,
        )


def waits_for_a_touch(trial: Trial) -> None:
    """The hypercalls of a kernel that sends what waits at any touch."""
    _within(trial, 0, "let changes wait until something is touched, and send them in one call")


def waits_for_its_touch(trial: Trial) -> None:
    """Those of one that sends it where it is touched."""
    _within(trial, 1, "a page that did not change can be touched while the others wait")
