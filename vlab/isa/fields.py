"""Bit fields and registers, each declared once.

A register is a class whose attributes are its fields:

    class CR0(Register, width=64, reference="APM2 3.1.1"):
        PE = bit(0, "protection enable")
        PG = bit(31, "paging")

``CR0.PG`` is the declaration (mask, position, meaning), ``CR0(value).PG`` is the number. The decoder,
the ``repr``, the tables of the documentation and the tooltips all come from this one declaration. Two
fields that overlap, or a field outside the register, stop the import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, overload

if TYPE_CHECKING:
    from typing import Self


class Field:
    """A run of bits ``lo..hi`` (both included) of a register.

    Attributes: ``name``, ``lo``, ``hi``, ``width`` (bits), ``mask`` (in place), ``meaning`` (one line),
    ``values`` (names of particular contents, or None).
    """

    __slots__ = ("_ones", "hi", "lo", "mask", "meaning", "name", "values", "width")

    def __init__(self, lo: int, hi: int, meaning: str, values: Mapping[int, str] | None = None) -> None:
        """Declare bits ``lo..hi``; raises TypeError when the range is empty or negative."""
        if not 0 <= lo <= hi:
            raise TypeError(f"bits({lo}, {hi}): the low bit must be 0 or more and not above the high bit")
        self.name = "?"
        self.lo = lo
        self.hi = hi
        self.width = hi - lo + 1
        self.meaning = meaning
        self.values = values
        self._ones = (1 << self.width) - 1
        self.mask = self._ones << lo

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Field: ...
    @overload
    def __get__(self, instance: int, owner: type) -> int: ...
    def __get__(self, instance: int | None, owner: type) -> Field | int:
        if instance is None:
            return self
        return (instance >> self.lo) & self._ones

    def extract(self, value: int) -> int:
        """Give this field's content in the register value ``value``."""
        return (value >> self.lo) & self._ones

    def insert(self, value: int, content: int) -> int:
        """Give ``value`` with this field set to ``content``; raises ValueError when it does not fit."""
        if not 0 <= content <= self._ones:
            raise ValueError(
                f"{self.name}: {content:#x} does not fit in {self.width} bit{'s'[: self.width > 1]}"
                f" (give 0..{self._ones:#x})"
            )
        return (value & ~self.mask) | (content << self.lo)

    @property
    def span(self) -> str:
        """The position as the manuals write it: ``31`` or ``63:12``."""
        return str(self.lo) if self.lo == self.hi else f"{self.hi}:{self.lo}"

    def label(self, content: int) -> str:
        """Give the declared name of ``content``, or an empty string."""
        return self.values.get(content, "") if self.values else ""

    def __repr__(self) -> str:
        return f"<Field {self.name} bits {self.span}: {self.meaning}>"


def bit(n: int, meaning: str) -> Field:
    """Declare the single bit ``n``."""
    return Field(n, n, meaning)


def bits(lo: int, hi: int, meaning: str, values: Mapping[int, str] | None = None) -> Field:
    """Declare the bits ``lo..hi``, both included; ``values`` names particular contents."""
    return Field(lo, hi, meaning, values)


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One field of one register value, ready to show.

    ``bits`` is the position as text, ``label`` the declared name of the content or an empty string.
    """

    name: str
    bits: str
    value: int
    meaning: str
    label: str = ""


class Register(int):
    """A register value: an ``int`` that knows its fields.

    Subclasses give ``WIDTH`` (bits) and ``REFERENCE`` (section of the manual) as attributes or as the
    class keywords ``width`` and ``reference``, and may give ``FIXED``, the reserved bits that always read
    as 1, which the ``repr`` leaves out. Arithmetic gives a plain ``int``. A value that is negative or wider
    than ``WIDTH`` raises ValueError.
    """

    WIDTH: ClassVar[int] = 64
    REFERENCE: ClassVar[str] = ""
    FIXED: ClassVar[int] = 0
    _FIELDS: ClassVar[tuple[Field, ...]] = ()
    _LIMIT: ClassVar[int] = 1 << 64

    __slots__ = ()

    def __init_subclass__(cls, width: int | None = None, reference: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if width is not None:
            cls.WIDTH = width
        if reference is not None:
            cls.REFERENCE = reference
        cls._LIMIT = 1 << cls.WIDTH
        inherited = {field.name: field for field in cls._FIELDS}
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for name in own:
            if name not in inherited and (hasattr(int, name) or hasattr(Register, name)):
                raise TypeError(f"{cls.__name__}.{name}: a field cannot hide a method of Register or int")
        cls._FIELDS = _checked(cls, [*({**inherited, **own}.values())])

    def __new__(cls, value: int = 0) -> Self:
        """Make a register value; raises ValueError when ``value`` does not fit in ``WIDTH`` bits."""
        if not 0 <= value < cls._LIMIT:
            raise ValueError(f"{cls.__name__}: {value:#x} does not fit in {cls.WIDTH} bits")
        return int.__new__(cls, value)

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """Give the declared fields, from bit 0 upwards."""
        return cls._FIELDS

    @classmethod
    def reserved_mask(cls) -> int:
        """Give the bits that no field covers."""
        declared = 0
        for field in cls._FIELDS:
            declared |= field.mask
        return (cls._LIMIT - 1) & ~declared

    def replace(self, **fields: int) -> Self:
        """Give a copy with the named fields changed.

        Raises TypeError for an unknown name and ValueError for a content that does not fit.
        """
        value = int(self)
        for name, content in fields.items():
            field = getattr(type(self), name, None)
            if not isinstance(field, Field):
                known = " ".join(f.name for f in self._FIELDS)
                raise TypeError(f"{type(self).__name__} has no field {name!r}; its fields are: {known}")
            value = field.insert(value, content)
        return type(self)(value)

    def decode(self) -> dict[str, int]:
        """Give every field's content by name, from bit 0 upwards."""
        return {field.name: field.extract(self) for field in self._FIELDS}

    def describe(self) -> list[FieldValue]:
        """Give every field ready to show, from the highest bit down as the manuals draw them."""
        return [
            FieldValue(f.name, f.span, f.extract(self), f.meaning, f.label(f.extract(self)))
            for f in reversed(self._FIELDS)
        ]

    def __repr__(self) -> str:
        contents = [(field, field.extract(self)) for field in reversed(self._FIELDS)]
        parts = [_shown(field, content) for field, content in contents if content]
        if reserved := int(self) & self.reserved_mask() & ~self.FIXED:
            parts.append(f"reserved={reserved:#x}")
        return f"{type(self).__name__}({int(self):#x}{': ' if parts else ''}{' '.join(parts)})"


def _shown(field: Field, content: int) -> str:
    if field.width == 1:
        return field.name
    if label := field.label(content):
        return f"{field.name}={label}"
    return f"{field.name}={content}" if content < 10 else f"{field.name}={content:#x}"


def _checked(cls: type[Register], fields: list[Field]) -> tuple[Field, ...]:
    """Sort the fields by position and refuse overlaps and fields outside the register."""
    fields.sort(key=lambda field: field.lo)
    top: Field | None = None
    for field in fields:
        if field.hi >= cls.WIDTH:
            raise TypeError(
                f"{cls.__name__}.{field.name}: bits {field.span} are outside its {cls.WIDTH} bits"
            )
        if top is not None and field.lo <= top.hi:
            raise TypeError(
                f"{cls.__name__}: {field.name} (bits {field.span}) overlaps {top.name} (bits {top.span})"
            )
        top = field
    return tuple(fields)
