"""Lesson 04: what it reveals, and decisions that no processor would survive."""

from __future__ import annotations

import pytest

from tests.labs.running import broken, exercises, marked, solution
from vlab.guests.programs import Code

SORT, BOOK = (each.values[1] for each in exercises("04"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("return None", "instructions and returned None; one for each, please"),
        ("return []", "instructions and returned 0 answers; one for each, please"),
        ("return ['keep' for _ in block]", "sort says 'keep' for `"),
        ("return [1 for _ in block]", "sort says 1 for `"),
        ("return ['copy' for _ in block]", "is to be copied: from the cache it leads somewhere else"),
        (
            "return ['rewrite' for _ in block]",
            "is to be rewritten, and no other code does the same in its place",
        ),
        ("return ['out' for _ in block]", "is to be called out, and the monitor has no emulation of it"),
    ],
)
def test_what_cannot_be_translated_so_is_told(line: str, why: str) -> None:
    found = broken(marked(SORT, f"def sort(block):\n    {line}\n"))
    assert why in found["transfers"], found
    assert "kernel" in found


def edited(old: str, new: str) -> dict[str, str]:
    cell = solution("04", "book")
    assert old in cell
    return broken(marked(BOOK, cell.replace(old, new)))


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("return 4711", "find gives 4711; no translation has that number"),
        ("return 'first'", "find gives 'first'; no translation has that number"),
        ("return True", "find gives True; no translation has that number"),
        ("return 1 if self.numbers else None", "find gives 1; that is the translation of 0x"),
    ],
)
def test_a_translation_of_something_else_is_not_executed(new: str, why: str) -> None:
    found = edited("return number if number in self.staying else None", new)
    assert why in found["again"], found


def test_a_book_that_finds_nothing_is_slow_and_right() -> None:
    found = edited("return number if number in self.staying else None", "return None")
    assert "changed" not in found
    assert "blocks were translated, and there are" in found["again"]


def test_answers_other_than_true_and_false_are_told() -> None:
    assert (
        "chain returned 1; it has to say True or False"
        in edited("return source in self.staying and target in self.staying", "return 1")["chained"]
    )
    assert (
        "expect returned None; it has to say True or False"
        in edited("return source not in self.dropped", "return None")["again"]
    )


def test_code_with_relative_distances_is_where_it_should_be() -> None:
    code = Code(0x1000).add("start", b"\xe8").relative("end").add(b"\xe9").relative("start").add("end")
    assert code.finish() == b"\xe8\x05\0\0\0\xe9\xf6\xff\xff\xff"
