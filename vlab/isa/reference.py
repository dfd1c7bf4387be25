"""Documentation tables made from the declarations themselves, so that they cannot disagree with the code."""

from __future__ import annotations

from collections.abc import Iterable

from vlab.isa.blocks import Block
from vlab.isa.fields import Register


def markdown(*classes: type[Register] | type[Block]) -> str:
    """Give a Markdown section for each register or block: a heading, its summary, and a table of its fields.

    Registers are listed from the highest bit down, as the manuals draw them; blocks by offset. Raises
    TypeError for a class that is neither.
    """
    return "\n".join(_section(cls) for cls in classes)


def _section(cls: type[Register] | type[Block]) -> str:
    if issubclass(cls, Register):
        size = f"{cls.WIDTH} bits"
        table = _register_table(cls)
    elif issubclass(cls, Block):
        size = f"{cls.SIZE} bytes"
        table = _block_table(cls)
    else:
        raise TypeError(f"classes: {cls!r} declares no fields; give subclasses of Register or Block")
    source = f", {cls.REFERENCE}" if cls.REFERENCE else ""
    summary = (cls.__doc__ or "").strip().partition("\n")[0]
    return f"### {cls.__name__}\n\n{summary} ({size}{source})\n\n{table}\n"


def _register_table(cls: type[Register]) -> str:
    rows = []
    for field in reversed(cls.fields()):
        values = ", ".join(f"{number} = {text}" for number, text in (field.values or {}).items())
        rows.append((field.span, f"`{field.name}`", field.meaning + (f": {values}" if values else "")))
    return _table(("Bits", "Name", "Meaning"), rows)


def _block_table(cls: type[Block]) -> str:
    rows = []
    for field in cls.fields():
        layout = f" (`{field.register.__name__}`)" if field.register is not None else ""
        rows.append((f"{field.offset:#05x}", str(field.size), f"`{field.name}`", field.meaning + layout))
    return _table(("Offset", "Bytes", "Name", "Meaning"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
