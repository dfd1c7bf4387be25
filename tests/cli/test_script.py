"""The script of --after, --send and --expect: what is typed when, however the output is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.cli.script import Script


def test_a_line_is_typed_once_its_text_has_appeared() -> None:
    script = Script([("root", "login: ")])
    script.feed(b"Welcome\r\nlogin:")
    assert not script.reached
    script.feed(b" ")
    assert script.reached
    assert script.advance() == "root"
    assert script.waiting_for is None


def test_two_equal_prompts_are_two_prompts() -> None:
    script = Script([("ls", "# "), ("exit", "# ")])
    script.feed(b"# ")
    assert script.advance() == "ls"
    assert not script.reached
    script.feed(b"ls\r\nbin\r\n# ")
    assert script.advance() == "exit"


def test_texts_that_came_in_one_piece_are_taken_one_after_the_other() -> None:
    script = Script([("one", "a"), ("two", "b")], expect="c")
    script.feed(b"abc")
    assert [script.advance(), script.advance(), script.advance()] == ["one", "two", None]


def test_what_stands_before_the_last_after_does_not_satisfy_expect() -> None:
    script = Script([("uname", "# ")], expect="Linux")
    script.feed(b"Linux version 6.1\r\n# ")
    assert script.advance() == "uname"
    assert not script.reached
    script.feed(b"uname\r\nLinux\r\n")
    assert script.reached
    assert script.advance() is None


def test_text_beyond_ascii_is_found_across_a_cut_character() -> None:
    script = Script(expect="größe")
    for byte in "die größe".encode():
        script.feed(bytes([byte]))
    assert script.reached


def test_going_on_too_early_is_a_mistake_that_names_the_text() -> None:
    with pytest.raises(ValueError, match="the text 'login: ' has not appeared yet"):
        Script([("root", "login: ")]).advance()


@given(
    before=st.text("ab#", max_size=30),
    needle=st.text("ab#", min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_where_output_is_cut_makes_no_difference(before: str, needle: str, cuts: list[int]) -> None:
    output = before.encode()
    script = Script(expect=needle)
    edges = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    for start, end in pairwise(edges):
        script.feed(output[start:end])
    assert script.reached == (needle in before)
