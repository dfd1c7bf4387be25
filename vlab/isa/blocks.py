"""Control blocks in memory, each declared once: a VMCB or a TSS is a class whose attributes are its fields.

    class Tss64(Block):
        SIZE = 104
        rsp0 = at(0x04, 8, "stack pointer for CPL 0")

``Tss64.rsp0`` is the declaration; ``Tss64(memory, address).rsp0`` reads the bytes, and assigning to it
writes them. A block holds no copy: it is a view, so a drawing and the hardware read the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from vlab.isa.fields import Register

if TYPE_CHECKING:
    from mmap import mmap

    ReadBuffer = bytes | bytearray | memoryview | mmap

R = TypeVar("R", bound=int)

_FORMATS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


class BlockField(Generic[R]):
    """A little-endian unsigned number of ``size`` bytes at ``offset`` in a block.

    ``register`` is the Register that decodes it, or None. Read on an instance it gives the number, as that
    Register when there is one.
    """

    __slots__ = ("_struct", "_wide", "meaning", "name", "offset", "register", "size")

    def __init__(self, offset: int, size: int, meaning: str, register: type[R] | None = None) -> None:
        """Declare ``size`` bytes at ``offset``; raises TypeError for an impossible place or register."""
        if offset < 0 or size < 1:
            raise TypeError(f"at({offset:#x}, {size}): give an offset of 0 or more and at least one byte")
        if register is not None and issubclass(register, Register) and size * 8 < register.WIDTH:
            raise TypeError(
                f"at({offset:#x}, {size}): {register.__name__} has {register.WIDTH} bits,"
                f" more than {size} bytes"
            )
        self.name = "?"
        self.offset = offset
        self.size = size
        self.meaning = meaning
        self.register = register
        self._wide = size not in _FORMATS
        self._struct = struct.Struct(_FORMATS.get(size, f"{size}s"))

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> BlockField[R]: ...
    @overload
    def __get__(self, instance: Block, owner: type) -> R: ...
    def __get__(self, instance: Block | None, owner: type) -> Any:
        if instance is None:
            return self
        value = self._struct.unpack_from(instance._buffer, instance._base + self.offset)[0]
        if self._wide:
            value = int.from_bytes(value, "little")
        return value if self.register is None else self.register(value)

    def __set__(self, instance: Block, value: int) -> None:
        try:
            stored = value.to_bytes(self.size, "little") if self._wide else value
            self._struct.pack_into(instance._buffer, instance._base + self.offset, stored)
        except (struct.error, OverflowError):
            raise ValueError(
                f"{type(instance).__name__}.{self.name}: {value:#x} does not fit"
                f" in {self.size} unsigned bytes"
            ) from None
        except TypeError:
            raise TypeError(
                f"{type(instance).__name__}.{self.name}: cannot write {value!r} into a "
                f"{type(instance._buffer).__name__}; give an int, and a block over writable memory"
            ) from None

    def __repr__(self) -> str:
        return f"<BlockField {self.name} at {self.offset:#x}, {self.size} bytes: {self.meaning}>"


@overload
def at(offset: int, size: int, meaning: str) -> BlockField[int]: ...
@overload
def at(offset: int, size: int, meaning: str, register: type[R]) -> BlockField[R]: ...
def at(offset: int, size: int, meaning: str, register: type[Any] | None = None) -> BlockField[Any]:
    """Declare a field of a block: ``size`` bytes at ``offset``, decoded by ``register`` when given."""
    return BlockField(offset, size, meaning, register)


@dataclass(frozen=True, slots=True)
class BlockValue:
    """One field of one block, ready to show; ``register`` is the decoded value or None."""

    name: str
    offset: int
    size: int
    value: int
    meaning: str
    register: Register | None = None


class Block:
    """A view of ``SIZE`` bytes at ``offset`` of a buffer; subclasses declare fields with ``at``.

    ``SIZE`` (bytes) and ``REFERENCE`` (section of the manual) are class attributes. Two fields that overlap
    or a field past ``SIZE`` raise TypeError when the class is made.
    """

    SIZE: ClassVar[int] = 0
    REFERENCE: ClassVar[str] = ""
    _FIELDS: ClassVar[tuple[BlockField[Any], ...]] = ()

    __slots__ = ("_base", "_buffer")

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        inherited = {field.name: field for field in cls._FIELDS}
        own = {name: value for name, value in vars(cls).items() if isinstance(value, BlockField)}
        for name in own:
            if hasattr(Block, name):
                raise TypeError(f"{cls.__name__}.{name}: a field cannot hide a method of Block")
        cls._FIELDS = _checked(cls, [*({**inherited, **own}.values())])

    def __init__(self, buffer: ReadBuffer, offset: int = 0) -> None:
        """View the block at ``offset`` bytes; raises ValueError when the buffer ends before the block."""
        size = memoryview(buffer).nbytes
        if offset < 0 or offset + self.SIZE > size:
            raise ValueError(
                f"{type(self).__name__} needs {self.SIZE:#x} bytes at offset {offset:#x},"
                f" but the buffer has {size:#x} bytes"
            )
        self._buffer = buffer
        self._base = offset

    @classmethod
    def fields(cls) -> tuple[BlockField[Any], ...]:
        """Give the declared fields, by offset."""
        return cls._FIELDS

    def describe(self) -> list[BlockValue]:
        """Read every field, by offset, ready to show."""
        shown = []
        for field in self._FIELDS:
            value = field.__get__(self, type(self))
            decoded = value if isinstance(value, Register) else None
            shown.append(BlockValue(field.name, field.offset, field.size, int(value), field.meaning, decoded))
        return shown

    def dump(self) -> str:
        """Give the block as text: one line per field with offset, name, value and decoded bits."""
        lines = []
        for shown in self.describe():
            text = repr(shown.register) if shown.register is not None else shown.meaning
            digits = f"{shown.value:#0{2 * shown.size + 2}x}"
            lines.append(f"{shown.offset:#05x}  {shown.name:<24} {digits}  {text}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._base:#x}>"


def _checked(cls: type[Block], fields: list[BlockField[Any]]) -> tuple[BlockField[Any], ...]:
    """Sort the fields by offset and refuse overlaps and fields past the end."""
    fields.sort(key=lambda field: field.offset)
    last: BlockField[Any] | None = None
    for field in fields:
        if field.offset + field.size > cls.SIZE:
            raise TypeError(
                f"{cls.__name__}.{field.name}: bytes {field.offset:#x}..{field.offset + field.size - 1:#x}"
                f" are past its SIZE of {cls.SIZE:#x}"
            )
        if last is not None and field.offset < last.offset + last.size:
            raise TypeError(
                f"{cls.__name__}: {field.name} (at {field.offset:#x}, {field.size} bytes) overlaps"
                f" {last.name} (at {last.offset:#x}, {last.size} bytes)"
            )
        last = field
    return tuple(fields)
