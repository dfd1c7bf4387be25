from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlab.vmm.console import Console


def fill(console: Console, text: str) -> None:
    for byte in text.encode():
        console.write(byte)


def test_output_is_kept_as_bytes_and_shown_as_text() -> None:
    console = Console()
    fill(console, "naïve")
    console.write(0xFF)
    assert console.data == "naïve".encode() + b"\xff"
    assert console.text == str(console) == "naïve\N{REPLACEMENT CHARACTER}"
    assert repr(console) == "<Console: 7 bytes, ending b'na\\xc3\\xafve\\xff'>"


def test_a_text_is_found_once_in_what_follows_the_one_before() -> None:
    console = Console()
    fill(console, "ab ab")
    assert [console.appeared(b"ab") for _ in range(3)] == [True, True, False]
    fill(console, "ab")
    assert console.appeared(b"ab")


@given(st.lists(st.sampled_from([b"a", b"ab", b"ba", b"# "]), max_size=12), st.binary(max_size=3))
def test_finding_texts_in_order_is_splitting(pieces: list[bytes], wanted: bytes) -> None:
    if not wanted:
        return
    console, whole = Console(), b"".join(pieces)
    for byte in whole:
        console.write(byte)
    found = 0
    while console.appeared(wanted):
        found += 1
    assert found == whole.count(wanted)


def test_turning_back_forgets_what_was_written_and_waited_for_since() -> None:
    console = Console()
    fill(console, "one two")
    assert console.appeared(b"two")
    console.truncate(3)
    assert (console.text, console.appeared(b"one")) == ("one", False)
    fill(console, " two")
    assert console.appeared(b"two")


def test_listeners_hear_bytes_in_the_order_of_subscription() -> None:
    console, heard = Console(), []
    console.subscribe(lambda data: heard.append(("first", data)))
    leave = console.subscribe(lambda data: heard.append(("second", data)))
    fill(console, "a")
    leave()
    fill(console, "b")
    assert heard == [("first", b"a"), ("second", b"a"), ("first", b"b")]


def test_a_listener_may_leave_while_it_is_told() -> None:
    console, heard = Console(), []

    def once(data: bytes) -> None:
        heard.append(data)
        leave()

    leave = console.subscribe(once)
    console.subscribe(heard.append)
    fill(console, "xy")
    assert heard == [b"x", b"x", b"y"]


def test_what_a_listener_raises_is_passed_on_and_the_others_still_hear() -> None:
    console, heard, problems = Console(), [], []
    console.on_problem = problems.append
    trouble = ValueError("no")

    def fail(_data: bytes) -> None:
        raise trouble

    console.subscribe(fail)
    console.subscribe(heard.append)
    fill(console, "x")
    assert (heard, problems, console.text) == ([b"x"], [trouble], "x")


def test_only_true_itself_asks_for_attention() -> None:
    console, wishes = Console(), []
    console.on_wish = lambda: wishes.append(len(console.data))
    answers: list[object] = [None, 1, "yes", True, False]
    console.subscribe(lambda _data: answers[len(console.data) - 1])
    fill(console, "abcde")
    assert wishes == [4]


def test_what_is_written_again_is_not_heard_again() -> None:
    console, heard = Console(), []
    console.subscribe(heard.append)
    console.again = True
    fill(console, "a")
    console.again = False
    fill(console, "b")
    assert (console.text, heard) == ("ab", [b"b"])
