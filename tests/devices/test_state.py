"""The saved form of a device: JSON and back, refusals, and the display."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import pytest

from vlab.devices.serial_registers import LineControl
from vlab.devices.state import DeviceState, UnusableState, decode, describe, encode


@dataclass(frozen=True, slots=True)
class Inner(DeviceState):
    VERSION: ClassVar[int] = 3

    level: bool
    at: int | None


@dataclass(frozen=True, slots=True)
class Outer(DeviceState):
    VERSION: ClassVar[int] = 2

    lcr: Annotated[int, LineControl]
    memory: bytes
    name: str
    pair: tuple[int, str]
    numbers: tuple[int, ...]
    inner: Inner
    channels: tuple[Inner, ...]
    last: Annotated[int | None, LineControl] = None


STATE = Outer(
    lcr=0x83,
    memory=b"\x00\xff",
    name="com1",
    pair=(1, "x"),
    numbers=(1, 1 << 70, -1),
    inner=Inner(True, None),
    channels=(Inner(False, 7), Inner(True, 8)),
)


def saved(**changes: Any) -> dict[str, Any]:
    """Return the JSON form of STATE with some fields changed."""
    data: dict[str, Any] = json.loads(json.dumps(encode(STATE)))
    data["fields"] |= changes
    return data


def test_a_state_goes_through_json_and_back_unchanged() -> None:
    assert decode(Outer, saved()) == STATE
    assert decode(Outer, saved(last=5)) == replace(STATE, last=5)


def test_the_json_names_the_type_and_the_version_at_every_level() -> None:
    data = saved()
    assert (data["type"], data["version"]) == ("Outer", 2)
    assert data["fields"]["memory"] == "00ff"
    assert data["fields"]["inner"] == {
        "type": "Inner",
        "version": 3,
        "fields": {"level": True, "at": None},
    }


def test_another_version_is_refused_and_both_are_named() -> None:
    with pytest.raises(UnusableState) as refusal:
        decode(Outer, saved() | {"version": 1})
    assert str(refusal.value) == (
        "Outer: saved as version 1, this vlab reads version 2; "
        "take the snapshot again, or restore it with the vlab that took it"
    )
    assert refusal.value.exit_status == 2


def test_another_version_of_a_nested_state_is_refused() -> None:
    inner = saved()["fields"]["inner"] | {"version": 4}
    with pytest.raises(UnusableState, match="Inner: saved as version 4, this vlab reads version 3"):
        decode(Outer, saved(inner=inner))


def test_the_state_of_another_device_is_refused() -> None:
    with pytest.raises(UnusableState, match="Outer: the saved state is of type 'Inner'"):
        decode(Outer, encode(STATE.inner))


def test_a_missing_or_a_strange_field_is_refused() -> None:
    data = saved(extra=1)
    with pytest.raises(UnusableState, match=r"Outer: the saved fields are \[.*'extra'.*\], expected \["):
        decode(Outer, data)
    with pytest.raises(UnusableState, match="Outer: the saved fields are None, expected"):
        decode(Outer, {"type": "Outer", "version": 2})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lcr": "8"}, "Outer.lcr: saved value '8' is not of type <class 'int'>; take the snapshot again"),
        ({"lcr": True}, "Outer.lcr: saved value True is not of type <class 'int'>; take the snapshot again"),
        (
            {"memory": "0g"},
            "Outer.memory: saved value '0g' is not bytes in hexadecimal; take the snapshot again",
        ),
        ({"numbers": 1}, "Outer.numbers: saved value 1 is not a list; take the snapshot again"),
        ({"pair": [1]}, "Outer.pair: saved list has 1 items, expected 2; take the snapshot again"),
        (
            {"numbers": [1, None]},
            "Outer.numbers[1]: saved value None is not of type <class 'int'>; take the snapshot again",
        ),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UnusableState) as refusal:
        decode(Outer, saved(**changes))
    assert str(refusal.value) == text


def test_describe_flattens_nested_states_and_decodes_registers() -> None:
    lines = {line.name: line for line in describe(STATE)}
    assert list(lines) == [
        "lcr",
        "memory",
        "name",
        "pair",
        "numbers",
        "inner.level",
        "inner.at",
        "channels[0].level",
        "channels[0].at",
        "channels[1].level",
        "channels[1].at",
        "last",
    ]
    assert lines["channels[1].at"].value == 8
    register = lines["lcr"].register
    assert isinstance(register, LineControl)
    assert (register.DLAB, register.WLS) == (1, 3)
    assert lines["name"].register is None
    assert lines["last"].register is None
