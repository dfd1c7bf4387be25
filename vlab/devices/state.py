"""What a device remembers: a frozen, versioned dataclass, its JSON form, and its display.

A state's fields are int, bool, str, bytes, None, tuples of these and nested states. A field that holds a
register is annotated with its declaration, `lcr: Annotated[int, LineControl] = 0`, and is then displayed bit
by bit. Showing a register goes through here, never through `read`: reading a chip has side effects.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from vlab.errors import UnusableInput
from vlab.isa.fields import Register

Plain: TypeAlias = "int | str | bytes | tuple[Plain, ...] | DeviceState | None"
Json: TypeAlias = "int | str | list[Json] | dict[str, Json] | None"


class UnusableState(UnusableInput):
    """A saved state that this version of the device cannot take; the message names both sides."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceState:
    """Base of every device's state. Raise VERSION whenever a field changes its name, type or meaning."""

    VERSION: ClassVar[int] = 1


class Shown(NamedTuple):
    """One line of a device's display: a name (`channels[0].count`), a value, its register if it is one."""

    name: str
    value: Plain
    register: Register | None


D = TypeVar("D", bound=DeviceState)

_hints: dict[type[DeviceState], dict[str, Any]] = {}  # asking Python takes half a millisecond


def encode(state: DeviceState) -> dict[str, Json]:
    """Return a state as JSON: a type, a version and fields; bytes become hex, tuples become lists."""
    values: dict[str, Json] = {}
    for field in dataclasses.fields(state):
        values[field.name] = _encode_value(getattr(state, field.name))
    return {"type": type(state).__name__, "version": state.VERSION, "fields": values}


def _encode_value(value: Plain) -> Json:
    if isinstance(value, DeviceState):
        return encode(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_encode_value(item) for item in value]
    return value


def decode(cls: type[D], data: Mapping[str, Json]) -> D:
    """Return the state that `encode` wrote.

    Raises UnusableState when the type, the version or a field is not the one that `cls` declares.
    """
    name = cls.__name__
    if data.get("type") != name:
        raise UnusableState(
            f"{name}: the saved state is of type {data.get('type')!r}; give it to that device"
        )
    if data.get("version") != cls.VERSION:
        raise UnusableState(
            f"{name}: saved as version {data.get('version')!r}, this vlab reads version {cls.VERSION}; "
            "take the snapshot again, or restore it with the vlab that took it"
        )
    fields = data.get("fields")
    hints = get_type_hints(cls)
    wanted = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(fields, dict) or set(fields) != set(wanted):
        found = sorted(fields) if isinstance(fields, dict) else fields
        raise UnusableState(
            f"{name}: the saved fields are {found!r}, expected {sorted(wanted)!r}; take the snapshot again"
        )
    return cls(**{key: _decode_value(hints[key], fields[key], f"{name}.{key}") for key in wanted})


def _decode_value(hint: object, value: Json, where: str) -> Plain:
    """Return `value` as the annotation `hint` says; `where` names the field in an error."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode_value(inner, value, where)
    if get_origin(hint) is tuple:
        return _decode_tuple(arguments, value, where)
    if isinstance(hint, type):
        if issubclass(hint, DeviceState) and isinstance(value, dict):
            return decode(hint, value)
        if hint is bytes and isinstance(value, str):
            return _decode_bytes(value, where)
        if hint in (int, bool, str) and type(value) is hint:
            return value
    raise UnusableState(f"{where}: saved value {value!r} is not of type {hint}; take the snapshot again")


def _decode_bytes(value: str, where: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise UnusableState(
            f"{where}: saved value {value!r} is not bytes in hexadecimal; take the snapshot again"
        ) from None


def _decode_tuple(hints: tuple[object, ...], value: Json, where: str) -> tuple[Plain, ...]:
    if not isinstance(value, list):
        raise UnusableState(f"{where}: saved value {value!r} is not a list; take the snapshot again")
    wanted = hints[:1] * len(value) if hints[1:] == (...,) else hints
    if len(wanted) != len(value):
        raise UnusableState(
            f"{where}: saved list has {len(value)} items, expected {len(wanted)}; take the snapshot again"
        )
    return tuple(
        _decode_value(hint, item, f"{where}[{n}]")
        for n, (hint, item) in enumerate(zip(wanted, value, strict=True))
    )


def describe(state: DeviceState) -> list[Shown]:
    """Return the state for display, in declared order, nested states and tuples of states flattened."""
    return list(_shown(state, ""))


def _shown(state: DeviceState, prefix: str) -> Iterator[Shown]:
    cls = type(state)
    hints = _hints.get(cls)
    if hints is None:
        hints = _hints[cls] = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(state):
        value: Plain = getattr(state, field.name)
        name = prefix + field.name
        if isinstance(value, DeviceState):
            yield from _shown(value, f"{name}.")
        elif isinstance(value, tuple) and any(isinstance(item, DeviceState) for item in value):
            for index, item in enumerate(value):
                if isinstance(item, DeviceState):
                    yield from _shown(item, f"{name}[{index}].")
        else:
            yield Shown(name, value, _decoded(hints[field.name], value))


def _decoded(hint: object, value: Plain) -> Register | None:
    if get_origin(hint) is Annotated and isinstance(value, int):
        for kind in get_args(hint)[1:]:
            if isinstance(kind, type) and issubclass(kind, Register):
                return kind(value)
    return None
