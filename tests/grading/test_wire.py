"""The wire to a jail: messages arrive whole, late ones and malformed ones are three plain exceptions."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.grading.values import Malformed
from vlab.grading.wire import MAX_MESSAGE, Closed, Late, Wire, parse


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def soon() -> float:
    return time.monotonic() + 5


def test_messages_arrive_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = map(Wire.of_socket, ends)
    here.send(["one", 1, None, "\u00e9\ud800"])
    here.send(["two"])
    assert there.receive(soon()) == ["one", 1, None, "\u00e9\ud800"]
    assert there.receive(soon()) == ["two"]


def test_a_message_may_come_in_drops(ends: tuple[socket.socket, socket.socket]) -> None:
    data = struct.pack(">I", 8) + b'["slow"]'

    def drip() -> None:
        for byte in data:
            ends[0].send(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    assert Wire.of_socket(ends[1]).receive(soon()) == ["slow"]
    thread.join()


def test_a_large_message_arrives_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = map(Wire.of_socket, ends)
    thread = threading.Thread(target=here.send, args=(["x" * 3_000_000], soon()))
    thread.start()
    assert there.receive(soon()) == ["x" * 3_000_000]
    thread.join()


def test_what_does_not_come_in_time_is_late(ends: tuple[socket.socket, socket.socket]) -> None:
    wire = Wire.of_socket(ends[1])
    for sent in (b"", b"\0\0", b"\0\x08[1"):
        ends[0].send(sent) if sent else None
        with pytest.raises(Late):
            wire.receive(time.monotonic() + 0.02)
    with pytest.raises(Late):
        wire.receive(time.monotonic() - 1)


def test_what_is_not_taken_in_time_is_late(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(Late):
        Wire.of_socket(ends[0]).send(["x" * 4_000_000], time.monotonic() + 0.05)


def test_an_end_that_is_gone_is_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    wire = Wire.of_socket(ends[1])
    ends[0].send(b"\0\0\0\x08[1")
    ends[0].close()
    with pytest.raises(Closed):
        wire.receive(soon())
    with pytest.raises(Closed):
        wire.send(["x"], soon())


def test_a_length_beyond_the_bound_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].send(struct.pack(">I", MAX_MESSAGE + 1))
    with pytest.raises(Malformed, match="sent a message of 4194305 bytes, more than 4 MiB"):
        Wire.of_socket(ends[1]).receive(soon())


def test_a_message_beyond_the_bound_is_not_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ValueError, match=r"a message of \d+ bytes is longer than 4194304"):
        Wire.of_socket(ends[0]).send(["x" * MAX_MESSAGE])


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"{}", b"[]", b"1", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'["a",' + b"9" * 5000 + b"]",
     b'{"a": 1}', b'["a"] x'],
)  # fmt: skip
def test_what_is_no_message_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed, match="sent something that is no message"):
        parse(text)


@given(st.binary(max_size=200))
def test_whatever_bytes_arrive_there_are_three_ways_it_ends(data: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(data)
        one.close()
        wire = Wire.of_socket(other)
        with pytest.raises((Closed, Malformed)):
            while True:
                wire.receive(soon())
