"""The two ends of a facade: the desk where the machine is, and the stand-ins that student code holds.

A request of student code is a list of plain data: which facade by its number, what to do (``call``, ``get``,
``set``), the name, the arguments. The desk answers ``["value", ...]`` or ``["raise", kind, message]``. What
lies between the two ends, a call or a wire, they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from vlab.errors import VlabError
from vlab.grading.facade import Facade, Part, Value
from vlab.grading.student import StudentError
from vlab.grading.values import ALLOWED, Malformed, Plain, Unfit, pack, unpack

Message = list[Plain]

#: Exceptions of a facade that are meant for student code. Any other is the machine's own affair: student code
#: is made to end, and the exception goes on to the check.
MEANT: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        OverflowError,
        ZeroDivisionError,
    )
}

#: Special methods that a stand-in can have.
SPECIAL = frozenset({"__call__", "__getitem__", "__setitem__", "__len__", "__contains__"})


class Desk:
    """The machine's end: it gives facades numbers, and does what is asked of one if the facade offers it.

    ``carried``: an exception of the machine's own that student code must not catch; whoever asked the student
    raises it when the student has come to an end.
    """

    def __init__(self, part: Callable[[int], Part], number_of: Callable[[Part], int | None]) -> None:
        self._part, self._number_of = part, number_of
        self._facades: list[Facade] = []
        self._numbers: dict[int, int] = {}
        self.carried: Exception | None = None

    def pack(self, value: Value) -> Plain:
        """Write a value for student code. ValueError, for what is no `facade.Value`, is a fault of ours."""
        try:
            return pack(value, self._refer)
        except Unfit as unfit:
            raise ValueError(f"student code cannot be given {unfit}") from None

    def unpack(self, plain: Plain) -> Value:
        """Read what came from student code. Raises Malformed."""
        return cast("Value", unpack(plain, self._resolve))

    def answer(self, request: Message) -> Message:
        """Do what student code asks for. Raises Malformed for what no stand-in would ask."""
        if self.carried is not None:
            return ["raise", "RuntimeError", "the check has ended"]
        facade, act, name, arguments, keywords = self._read(request)
        try:
            result = _perform(facade, act, name, arguments, keywords)
        except StudentError as error:  # of a call back into student code
            self.carried = error
        except Malformed:
            raise
        except Exception as error:
            kind = _meant(error)
            if kind is not None:
                return ["raise", kind, _text_of(error)]
            self.carried = error
        else:
            try:
                return ["value", self.pack(result)]
            except ValueError as error:
                self.carried = RuntimeError(f"{name_of(facade)}.{name}: {error}")
        return ["raise", "RuntimeError", "the check has ended"]

    def _read(self, request: Message) -> tuple[Facade, str, str, list[Value], dict[str, Value]]:
        match request:
            case [
                "ask",
                int() as number,
                str() as act,
                str() as name,
                list() as arguments,
                dict() as keywords,
            ]:
                facade = self._facade(number)
                return (
                    facade, act, name, [self.unpack(each) for each in arguments],
                    {key: self.unpack(each) for key, each in keywords.items()},
                )  # fmt: skip
            case _:
                raise Malformed("asks for something that is no request")

    def _facade(self, number: int) -> Facade:
        if isinstance(number, bool) or not 0 <= number < len(self._facades):
            raise Malformed("asks for an object that it was never given")
        return self._facades[number]

    def _refer(self, value: object) -> Plain:
        if isinstance(value, Facade):
            number = self._numbers.get(id(value))
            if number is not None:
                return {"f": number}
            number = self._numbers[id(value)] = len(self._facades)
            self._facades.append(value)
            names: list[Plain] = [list(value.offers), list(value.fields), list(value.read_only)]
            return {"f": number, "is": [name_of(value), *names]}
        number = self._number_of(value) if isinstance(value, Part) else None
        return None if number is None else {"p": number}

    def _resolve(self, plain: dict[str, Plain]) -> object:
        match plain:
            case {"f": int() as number}:
                return self._facade(number)
            case {"p": int() as number}:
                try:
                    return self._part(number)
                except LookupError:
                    raise Malformed("names an object that nobody made") from None
            case _:
                raise Malformed("holds something that is no value")


def _perform(
    facade: Facade, act: str, name: str, arguments: list[Value], keywords: dict[str, Value]
) -> Value:
    if act == "call" and name in facade.offers:
        return cast("Value", getattr(facade, name)(*arguments, **keywords))
    if act == "get" and (name in facade.fields or name in facade.read_only):
        return cast("Value", getattr(facade, name))
    if act == "set" and name in facade.fields and len(arguments) == 1:
        setattr(facade, name, arguments[0])
        return None
    raise Malformed("asks for what the object does not offer")


def name_of(facade: Facade) -> str:
    """Name a facade as messages do: the class's name in small letters, its words apart by underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(facade).__name__).lower()


def _meant(error: Exception) -> str | None:
    if isinstance(error, VlabError):
        return "ValueError"
    return next((cls.__name__ for cls in type(error).__mro__ if MEANT.get(cls.__name__) is cls), None)


def _text_of(error: Exception) -> str:
    return error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else str(error)


class StandIn:
    """What student code holds for a facade. It forwards the offered names and has no others."""

    __slots__ = ("_vlab_holdings", "_vlab_number")
    _vlab_holdings: Holdings
    _vlab_number: int
    _vlab_name = "object"
    _vlab_offers: tuple[str, ...] = ()
    _vlab_fields: tuple[str, ...] = ()
    _vlab_read_only: tuple[str, ...] = ()

    def __init__(self, holdings: Holdings, number: int) -> None:
        object.__setattr__(self, "_vlab_holdings", holdings)
        object.__setattr__(self, "_vlab_number", number)

    def __getattr__(self, name: str) -> object:
        if name in self._vlab_fields or name in self._vlab_read_only:
            return self._vlab_holdings.ask(self, "get", name, (), {})
        raise AttributeError(f"{self._vlab_name} has no {name!r}; it has: {', '.join(self.__dir__())}")

    def __setattr__(self, name: str, value: object) -> None:
        if name in self._vlab_fields:
            self._vlab_holdings.ask(self, "set", name, (value,), {})
        elif name in self._vlab_read_only or name in self._vlab_offers:
            raise AttributeError(f"{self._vlab_name}.{name} cannot be assigned")
        else:
            assigned = ", ".join(self._vlab_fields) or "nothing"
            raise AttributeError(f"{self._vlab_name} has no {name!r} to assign; what can be: {assigned}")

    def __dir__(self) -> list[str]:
        return [*self._vlab_offers, *self._vlab_fields, *self._vlab_read_only]

    def __repr__(self) -> str:
        return f"<{self._vlab_name}: {', '.join(self.__dir__())}>"


def _forwarder(name: str) -> Callable[..., object]:
    def forward(self: StandIn, *arguments: object, **keywords: object) -> object:
        return self._vlab_holdings.ask(self, "call", name, arguments, keywords)

    forward.__name__ = name
    return forward


@lru_cache(maxsize=256)
def _stand_in_class(
    name: str, offers: tuple[str, ...], fields: tuple[str, ...], read_only: tuple[str, ...]
) -> type[StandIn]:
    body: dict[str, object] = {
        each: _forwarder(each) for each in offers if each in SPECIAL or not each.startswith("_")
    }
    body |= {
        "__slots__": (), "_vlab_name": name, "_vlab_offers": offers, "_vlab_fields": fields,
        "_vlab_read_only": read_only,
    }  # fmt: skip
    return cast("type[StandIn]", type(name, (StandIn,), body))


class Holdings:
    """Student code's end: the stand-ins that it was given, and its objects that the machine's side holds."""

    def __init__(self, send: Callable[[Message], Message]) -> None:
        self._send = send
        self._stand_ins: dict[int, StandIn] = {}
        self._parts: list[object] = []
        self._numbers: dict[int, int] = {}

    def keep(self, value: object) -> int:
        """Hold an object for the machine's side, and give its number."""
        self._parts.append(value)
        return self._numbers.setdefault(id(value), len(self._parts) - 1)

    def part(self, number: int) -> object:
        """Give such an object."""
        return self._parts[number]

    def ask(
        self,
        stand_in: StandIn,
        act: str,
        name: str,
        arguments: tuple[object, ...],
        keywords: dict[str, object],
    ) -> object:
        """Ask the machine's side. Raises TypeError for what does not pass, and what a facade refuses with."""
        try:
            packed: list[Plain] = [pack(each, self._refer) for each in arguments]
            named: dict[str, Plain] = {key: pack(each, self._refer) for key, each in keywords.items()}
        except Unfit as unfit:
            where = stand_in._vlab_name + ("" if name == "__call__" else f".{name}")
            raise TypeError(f"your code passed {unfit} to {where}: give {ALLOWED}") from None
        reply = self._send(["ask", stand_in._vlab_number, act, name, packed, named])
        if reply[0] == "value":
            return self.unpack(reply[1])
        raise MEANT.get(str(reply[1]), RuntimeError)(reply[2])

    def pack(self, value: object) -> Plain:
        """Write what student code returns. Raises TypeError with a sentence that names what does not pass."""
        try:
            return pack(value, self._refer)
        except Unfit as unfit:
            raise TypeError(f"your code returned {unfit}: give {ALLOWED}") from None

    def unpack(self, plain: Plain) -> object:
        """Read a value of the machine's side."""
        return unpack(plain, self._resolve)

    def _refer(self, value: object) -> Plain:
        if isinstance(value, StandIn):
            return {"f": value._vlab_number}
        number = self._numbers.get(id(value))
        return None if number is None else {"p": number}

    def _resolve(self, plain: dict[str, Plain]) -> object:
        if "p" in plain:
            return self._parts[cast("int", plain["p"])]
        number = cast("int", plain["f"])
        if number not in self._stand_ins:
            name, *groups = cast("list[list[str]]", plain["is"])
            offers, fields, read_only = (tuple(group) for group in groups)
            self._stand_ins[number] = _stand_in_class(str(name), offers, fields, read_only)(self, number)
        return self._stand_ins[number]
