"""Edits of page tables of every kind, at every level, by every means: the shadow agrees with the walker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from tests.vmm.table_edits_lab import (
    LOW,
    OFFSET,
    OTHER_ROOT,
    ROOT,
    WORDS,
    Edit,
    EditSubject,
    edits,
    writers,
)
from tests.vmm.test_shadow_differential import ACCESSES, BASE, STEP
from vlab.isa.paging import Access, PagingMode
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import VARIANTS, ShadowPaging

SEED = 1
FLUSHES = ("none", "invlpg", "cr3", "another cr3")
READ = Access()
LEVELS = {PagingMode.LEGACY: 2, PagingMode.PAE: 3, PagingMode.LONG: 4}


@pytest.fixture(scope="module")
def subjects() -> Iterator[dict[str, EditSubject]]:
    machine = Machine(32 << 20)
    made = {"nested": EditSubject(machine, NestedPaging())}
    made |= {variant: EditSubject(machine, ShadowPaging(variant, frames=96)) for variant in VARIANTS}
    yield made
    for subject in made.values():
        subject.close()
    machine.close()


class Player:
    """Makes one edit after the other, takes each back, and looks at what accesses make of both."""

    def __init__(self, subject: EditSubject, mode: PagingMode, seed: int) -> None:
        self.subject, self.mode = subject, mode
        self.random = Random(seed)
        self.covered: Counter[str] = Counter()
        self.outcomes: Counter[object] = Counter()
        subject.open(mode)

    def writer(self, linear: int) -> str:
        names = [name for name in writers(self.mode) if name not in LOW or linear < 1 << 32]
        return self.random.choice(names)

    def play(self, edit: Edit, flush: str) -> None:
        r, subject, mode = self.random, self.subject, self.mode
        linear = BASE[mode] + r.randrange(4) * STEP[mode] + r.randrange(4) * PAGE + OFFSET
        gpa = subject.entry_of(linear, edit.level)
        before = subject.read_entry(gpa)
        for value in (edit.of(before), before):
            self.check(linear, r.choice(ACCESSES), "at first")
            old = subject.expected(linear + WORDS, READ)[0]
            self.write(linear, gpa, edit.level, value, flush)
            if flush == "none":
                self.stale(linear, old)
                subject.flush("cr3", linear)
            for access in r.sample(ACCESSES, 2):
                self.check(linear, access, f"{edit.name} at level {edit.level}, {flush}")
            before |= subject.read_entry(gpa) & 0x60 if value == before else 0

    def write(self, linear: int, gpa: int, level: int, value: int, flush: str) -> None:
        """Write the entry by some means and flush."""
        subject = self.subject
        name, route = self.random.choice(list(subject.routes(linear, level).items()))
        above = [subject.entry_of(linear, each) for each in range(level + 1, LEVELS[self.mode] + 1)]
        if "as a table" in name and not all(subject.read_entry(each) & 1 for each in above):
            name, route = next(iter(subject.routes(linear, level).items()))
        writer = self.writer(route[0])
        self.covered[name] += 1
        self.covered[writer] += 1
        if flush == "another cr3":
            subject.load_cr3(OTHER_ROOT)
        subject.write_entry(gpa, value, writer, route)
        assert subject.read_entry(gpa) | 0x60 == value | 0x60, f"{writer} through {name}"
        subject.flush(flush, linear)

    def stale(self, linear: int, old: tuple[object, ...]) -> None:
        """Without a flush the old translation may live on, if there was one: what is absent is not cached."""
        subject = self.subject
        new = subject.expected(linear + WORDS, READ)[0]
        seen = subject.touch(linear + WORDS, READ)
        was_absent = old[0] == "fault" and not old[2] & 1  # type: ignore[operator]
        assert seen in ((new,) if was_absent else (new, old)), f"{seen}, not {new}; before {old}"
        self.covered["stale" if seen != new else "at once"] += seen == new or not was_absent

    def check(self, linear: int, access: Access, when: str) -> None:
        """Access, and compare what comes of it: the outcome, the byte, and the tables' bits."""
        subject = self.subject
        linear += 0 if access.fetch else WORDS
        frame = subject.data_frame(linear, access)
        if frame is not None:
            subject.memory.ram[frame] = self.random.randrange(0x80)
        outcome, tables = subject.expected(linear, access)
        if outcome == ("unknown",):
            return
        seen = subject.touch(linear, access)
        if frame is not None and access.write:
            assert subject.memory.ram[frame] == 0x5A, f"{linear:#x} is written elsewhere; {when}"
        assert seen == outcome, f"{access}: {seen}, and by the tables {outcome}; {when}"
        if tables is not None and subject.tables != tables:
            places = [n for n in range(0, len(tables), 4) if subject.tables[n : n + 4] != tables[n : n + 4]]
            raise AssertionError(
                f"{access}: accessed or dirty bits at {[hex(ROOT + n) for n in places]}; {when}"
            )
        self.outcomes[outcome[2] if outcome[0] == "fault" else outcome[0]] += 1


@pytest.mark.parametrize("mode", [PagingMode.LEGACY, PagingMode.PAE, PagingMode.LONG])
@pytest.mark.parametrize("variant", ["nested", *VARIANTS])
def test_edits_of_every_kind_take_effect_as_the_walker_says(
    subjects: dict[str, EditSubject], variant: str, mode: PagingMode
) -> None:
    player = Player(subjects[variant], mode, SEED)
    for round_ in range(2):
        for edit in edits(mode):
            for flush in FLUSHES:
                try:
                    player.play(edit, flush)
                except AssertionError as problem:
                    where = f"seed {SEED}, round {round_}, {edit}, {flush}"
                    raise AssertionError(f"{where}: {problem}") from problem
    assert all(player.covered[name] > 5 for name in writers(mode)), player.covered
    assert len([name for name in player.covered if "map" in name or "page" in name]) >= 3
    assert player.outcomes["done"] > 100, player.outcomes
    assert len(player.outcomes) >= 8, "and faults with many error codes"
    assert player.covered["at once"], "what is absent is not remembered"
