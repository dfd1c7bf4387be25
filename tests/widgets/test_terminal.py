"""The serial terminal: it sends what is new, as much as a terminal keeps, and types for its reader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

import vlab
from tests.widgets.waiting import wait_for
from vlab.errors import UnusableInput
from vlab.widgets.terminal import KEPT, Terminal


class Heard(Terminal):
    """A terminal that keeps what it sends."""

    def __init__(self, vm: vlab.VM) -> None:
        self.sent: list[tuple[dict[str, Any], bytes]] = []
        super().__init__(vm)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, bytes(buffers[0])))


@pytest.fixture
def vm() -> Iterator[vlab.VM]:
    with vlab.VM("wren") as vm:
        yield vm


def say(terminal: Terminal, message: dict[str, Any], *buffers: bytes) -> None:
    """Give the terminal a message as a browser would."""
    terminal._handle_custom_msg(message, [memoryview(each) for each in buffers])


def test_only_what_is_new_is_sent_with_its_place(vm: vlab.VM) -> None:
    terminal = Heard(vm)
    for text in (b"one ", b"two"):
        for byte in text:
            vm.console.write(byte)
        terminal.refresh()
    terminal.refresh()
    assert terminal.sent == [
        ({"kind": "output", "start": 0, "again": False}, b"one "),
        ({"kind": "output", "start": 4, "again": False}, b"two"),
    ]
    assert (terminal.tail, terminal.place) == (b"one two", 7)


def test_of_much_output_only_the_end_is_sent(vm: vlab.VM) -> None:
    terminal = Heard(vm)
    vm.console.data += b"a"
    terminal.refresh()
    vm.console.data += b"x" * 3 * KEPT + b"end"
    terminal.refresh()
    message, piece = terminal.sent[-1]
    assert len(piece) == KEPT
    assert piece.endswith(b"xend")
    assert message["start"] == 4 + 3 * KEPT - KEPT
    assert terminal.tail == piece
    assert terminal.place == len(vm.console.data)


def test_output_goes_by_itself_and_not_as_a_trait_but_a_new_page_gets_all(vm: vlab.VM) -> None:
    terminal = Terminal(vm)
    assert not terminal._should_send_property("tail", b"")
    assert terminal._should_send_property("state", "paused")
    vm.console.data += b"words"
    terminal.refresh()
    assert terminal.get_state()["tail"] == b"words"


def test_another_past_is_written_from_its_start(vm: vlab.VM) -> None:
    terminal = Heard(vm)
    vm.console.data += b"wren: hello"
    terminal.refresh()
    vm.console.truncate(5)
    for byte in b" good day":  # as long as before, and longer
        vm.console.write(byte)
    terminal.refresh()
    assert terminal.sent[-2:] == [
        ({"kind": "output", "start": 0, "again": True}, b""),
        ({"kind": "output", "start": 0, "again": False}, b"wren: good day"),
    ]


def test_a_past_that_was_empty_for_a_moment_is_written_again_in_full(vm: vlab.VM) -> None:
    terminal = Heard(vm)
    vm.console.data += b"wren: hello"
    terminal.refresh()
    vm.console.truncate(0)  # a step back runs the guest once more from its start
    terminal.refresh()
    vm.console.data += b"wren: hello"
    terminal.refresh()
    assert terminal.sent[-2:] == [
        ({"kind": "output", "start": 0, "again": True}, b""),
        ({"kind": "output", "start": 0, "again": False}, b"wren: hello"),
    ]


def test_what_is_typed_reaches_the_guest_and_its_echo_comes_back_soon(vm: vlab.VM) -> None:
    vm.run(until="$ ", timeout=60)
    terminal = Terminal(vm)
    assert (terminal.state, terminal.why) == ("paused", "what was waited for has happened")
    say(terminal, {"kind": "run"})
    wait_for(lambda: terminal.state == "running")
    say(terminal, {"kind": "keys", "view": "a", "answer": False}, b"echo abc def\r")
    wait_for(lambda: "\nabc def\n" in "\n".join(terminal.lines()))
    vm.pause()
    wait_for(lambda: terminal.state == "paused")


def test_one_view_alone_answers_what_the_guest_asks_its_terminal(vm: vlab.VM) -> None:
    terminal = Terminal(vm)
    typed: list[bytes] = []
    vm.send = typed.append  # type: ignore[method-assign, assignment]
    say(terminal, {"kind": "focus", "view": "a"})
    say(terminal, {"kind": "keys", "view": "b", "answer": True}, b"\x1b[1;1R")
    say(terminal, {"kind": "keys", "view": "b", "answer": False}, b"key")
    say(terminal, {"kind": "keys", "view": "a", "answer": True}, b"\x1b[2;2R")
    say(terminal, {"kind": "left", "view": "a"})
    say(terminal, {"kind": "keys", "view": "b", "answer": True}, b"\x1b[3;3R")
    assert typed == [b"key", b"\x1b[2;2R", b"\x1b[3;3R"]


def test_the_end_is_told_and_a_button_that_cannot_work_says_why(vm: vlab.VM) -> None:
    with vlab.VM("hello") as ended:
        ended.run(timeout=20)
        terminal = Terminal(ended)
        assert (terminal.state, terminal.why) == ("ended", "the guest ended with status 0 (success)")
    terminal = Terminal(vm)
    assert (terminal.state, terminal.why) == ("paused", "the guest has not run yet")
    vm.start()
    say(terminal, {"kind": "run"})
    assert terminal.problem == "run: this VM runs already; pause() or wait() for it first"
    vm.pause()
    say(terminal, {"kind": "run"})
    assert terminal.problem == ""
    vm.close()
    say(terminal, {"kind": "run"})
    assert terminal.problem == "this VM is closed; make a new one"


def test_the_picture_and_the_words_are_the_last_lines_without_escapes(vm: vlab.VM) -> None:
    vm.console.data += b"\x1b[1;32mgreen\x1b[0m <a>\r\n10%\r20%\r\n" + "naïve\n".encode() + b"$ "
    terminal = Terminal(vm)
    assert terminal.words() == "green <a>\n20%\nnaïve\n$"
    picture = terminal.picture()
    ElementTree.fromstring(picture)
    assert "green &lt;a&gt;" in picture
    vm.console.data += b"\n".join(b"line %d" % n for n in range(100))
    terminal.refresh()
    assert terminal.words().split("\n")[-24:] == [f"line {n}" for n in range(76, 100)]
    data, _ = terminal._repr_mimebundle_()
    assert "line 99" in data["image/svg+xml"]
    assert "line 99" in data["text/plain"]


def test_a_terminal_needs_a_virtual_machine() -> None:
    with pytest.raises(UnusableInput, match=r"vm: 'wren' is no virtual machine; make one with vlab\.VM"):
        Terminal("wren")  # type: ignore[arg-type]


def test_a_refresh_costs_a_chattering_guest_next_to_nothing(vm: vlab.VM) -> None:
    terminal = Terminal(vm)
    vm.console.data += b"x" * 10_000_000
    terminal.refresh()
    began = time.process_time()
    for _ in range(50):
        vm.console.data += b"y" * 1000
        terminal.refresh()
    assert (time.process_time() - began) / 50 < 0.005
