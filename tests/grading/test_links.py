"""The rules for what passes between machine and student code, and the desk that trusts no request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.grading.facade import Facade, Part
from vlab.grading.links import Desk, Holdings, Message
from vlab.grading.values import MAX_BITS, MAX_DEPTH, MAX_VALUES, Malformed, Plain, Unfit, pack, unpack


def nothing(_value: object) -> Plain:
    return None


def no_reference(plain: dict[str, Plain]) -> object:
    raise Malformed(f"holds {plain}")


def there_and_back(value: object) -> object:
    return unpack(json.loads(json.dumps(pack(value, nothing))), no_reference)


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=9)
    | st.binary(max_size=9)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_plain_data_survives_the_way(value: object) -> None:
    assert there_and_back(value) == value


@given(values)
def test_whatever_json_arrives_is_read_or_refused(plain: Any) -> None:
    try:
        text = json.loads(json.dumps(plain, default=lambda data: data.hex()))
        unpack(text, no_reference)
    except Malformed:
        pass


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_the_bounds_are_kept_to_the_last_value() -> None:
    assert there_and_back(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(Unfit, match="nested more than 32 deep"):
        pack(nested(MAX_DEPTH + 1), nothing)
    assert there_and_back([0] * (MAX_VALUES - 1)) == [0] * (MAX_VALUES - 1)
    with pytest.raises(Unfit, match="more than 65536 values at once"):
        pack([0] * MAX_VALUES, nothing)
    assert there_and_back(bytes(2 << 20)) == bytes(2 << 20)
    for large in (
        bytes((2 << 20) + 1),
        "x" * ((2 << 20) + 1),
        "\u00e9" * (1 << 20),
        [2**MAX_BITS - 1] * 60_000,
    ):
        with pytest.raises(Unfit, match="more than 2 MiB at once"):
            pack(large, nothing)


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (nested(MAX_DEPTH + 1), "nested more than 32 deep"),
        ([0] * MAX_VALUES, "more than 65536 values at once"),
        (1 << MAX_BITS, "holds a number of 4097 bits"),
        ({"b": 3}, "bytes that are no text"),
        ({"b": "*"}, "not in base 64"),
        ({"b": "\u00e9"}, "not in base 64"),
        ({"d": []}, "a dict that is none"),
        ({}, "holds {}"),
        ({"f": "0"}, "holds {'f': '0'}"),
    ],
)
def test_what_no_side_of_ours_would_write_is_malformed(plain: Plain, why: str) -> None:
    with pytest.raises(Malformed, match=why.replace("{", r"\{")):
        unpack(plain, no_reference)


class Lamp(Facade):
    offers = ("light",)
    fields = ("colour",)
    read_only = ("watts",)
    secret = "s"

    def __init__(self) -> None:
        self.colour, self.watts = "red", 5

    def light(self) -> str:
        return "on"


def desk_with(*facades: Facade) -> Desk:
    def part(number: int) -> Part:
        raise LookupError(number)

    desk = Desk(part, lambda _part: None)
    for each in facades:
        desk.pack(each)
    return desk


def test_the_desk_does_what_a_facade_offers() -> None:
    lamp = Lamp()
    desk = desk_with(lamp)
    assert desk.answer(["ask", 0, "call", "light", [], {}]) == ["value", "on"]
    assert desk.answer(["ask", 0, "get", "watts", [], {}]) == ["value", 5]
    assert desk.answer(["ask", 0, "set", "colour", ["blue"], {}]) == ["value", None]
    assert desk.answer(["ask", 0, "get", "colour", [], {}]) == ["value", "blue"]


@pytest.mark.parametrize(
    "request_",
    [
        [],
        ["ask"],
        ["ask", 0, "call", "light"],
        ["ask", "0", "call", "light", [], {}],
        ["ask", None, "call", "light", [], {}],
        ["ask", True, "call", "light", [], {}],
        ["ask", -1, "call", "light", [], {}],
        ["ask", 1, "call", "light", [], {}],
        ["ask", 10**30, "call", "light", [], {}],
        ["ask", 0.0, "call", "light", [], {}],
        ["ask", 0, "call", "secret", [], {}],
        ["ask", 0, "call", "__init__", [], {}],
        ["ask", 0, "call", "__class__", [], {}],
        ["ask", 0, "call", "watts", [], {}],
        ["ask", 0, "get", "light", [], {}],
        ["ask", 0, "get", "__dict__", [], {}],
        ["ask", 0, "get", "__class__.__init__", [], {}],
        ["ask", 0, "set", "watts", [1], {}],
        ["ask", 0, "set", "light", [1], {}],
        ["ask", 0, "set", "colour", [], {}],
        ["ask", 0, "del", "colour", [], {}],
        ["ask", 0, "call", ["light"], [], {}],
        ["ask", 0, "call", "light", {}, []],
        ["ask", 0, "call", "light", [{"f": 9}], {}],
        ["ask", 0, "call", "light", [{"p": 0}], {}],
        ["ask", 0, "call", "light", [], {"x": {"p": -1}}],
    ],
)
def test_the_desk_refuses_every_other_request(request_: Message) -> None:
    lamp = Lamp()
    with pytest.raises(Malformed):
        desk_with(lamp).answer(request_)
    assert (lamp.colour, lamp.watts) == ("red", 5)


def test_a_facade_has_one_number_and_is_described_once() -> None:
    lamp, desk = Lamp(), desk_with()
    assert desk.pack(lamp) == {"f": 0, "is": ["lamp", ["light"], ["colour"], ["watts"]]}
    assert desk.pack([lamp, Lamp()]) == [
        {"f": 0},
        {"f": 1, "is": ["lamp", ["light"], ["colour"], ["watts"]]},
    ]


def test_a_facades_name_comes_from_its_class() -> None:
    class VirtualCpu(Facade):
        pass

    assert desk_with().pack(VirtualCpu()) == {"f": 0, "is": ["virtual_cpu", [], [], []]}


def test_private_names_are_not_forwarded_even_when_they_are_offered() -> None:
    class Odd(Facade):
        offers = ("__class_getitem__", "_private", "fine")

    holdings = Holdings(lambda _request: ["value", None])
    stand_in = holdings.unpack(desk_with().pack(Odd()))
    assert not hasattr(stand_in, "_private")
    assert stand_in.fine() is None  # type: ignore[attr-defined]
