"""What student code may touch of the machine: named methods and fields of an object, and nothing else.

A facade lives where the machine is. Student code holds a stand-in for it (`vlab.grading.links.StandIn`) that
forwards the offered names and knows no others, so that the same cell does the same in a notebook and in a
jail, and a method that is not offered cannot be reached by any trick of Python's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from reprlib import repr as shorten
from typing import ClassVar, TypeAlias, Union

Value: TypeAlias = Union[
    bool,
    int,
    float,
    str,
    bytes,
    list["Value"],
    tuple["Value", ...],
    dict[str, "Value"],
    "Facade",
    "Part",
    None,
]
"""What passes between the machine's side and a student's: plain data, facades one way, parts the other.

Sequences arrive as lists."""


class Facade:
    """An object for student code. ``offers``: its methods. ``fields``: attributes to read and to assign.

    ``read_only``: attributes to read.
    """

    offers: ClassVar[tuple[str, ...]] = ()
    fields: ClassVar[tuple[str, ...]] = ()
    read_only: ClassVar[tuple[str, ...]] = ()


def unsigned(name: str, value: object, bits: int = 64) -> int:
    """Take what student code gives for a number without sign. name: of the argument. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise ValueError(
            f"{name}: {shorten(value)} is no number of {bits} bits; give a whole number from 0 to "
            f"{(1 << bits) - 1:#x}"
        )
    return int(value)


class Function(Facade):
    """A function of ours as a facade: student code calls it."""

    offers = ("__call__",)

    def __init__(self, function: Callable[..., Value]) -> None:
        self._function = function

    def __call__(self, *arguments: Value) -> Value:
        """Call it."""
        return self._function(*arguments)


class Part(ABC):
    """An object that student code made, held by the machine's side. See `student.Student.make`."""

    @abstractmethod
    def call(self, method: str, *arguments: Value) -> Value:
        """Call a method of it. Raises StudentError."""

    @abstractmethod
    def get(self, attribute: str) -> Value:
        """Read an attribute of it. Raises StudentError."""
