"""Registers as a table, before and after, with those marked that changed."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Final

from vlab.isa.control import DECLARED
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState, Mode
from vlab.jupyter.saying import Said

_CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "efer")


@dataclass(frozen=True, slots=True)
class Row:
    """A register: its name in this mode, its values as text, and what its bits are called."""

    name: str
    before: str
    after: str
    meaning: str = ""

    @property
    def changed(self) -> bool:
        """Whether the value is another one."""
        return self.before != self.after


def rows(before: CpuState, after: CpuState) -> list[Row]:
    """Give the registers worth seeing: the general ones, and of the others those that changed."""
    wide = Mode.LONG64 in (before.mode, after.mode)
    digits = 16 if wide else 8
    general = GENERAL_REGISTERS if wide else GENERAL_REGISTERS[:8]
    found = [_row(name, before, after, digits) for name in (*general, "rip", "rflags")]
    found += [row for name in _CONTROL if (row := _row(name, before, after, digits)).changed]
    for name in SEGMENT_REGISTERS:
        old, new = (f"{getattr(state, name).selector:04x}" for state in (before, after))
        if old != new:
            found.append(Row(name, old, new))
    for name in ("gdtr", "idtr"):
        old, new = (f"{(part := getattr(state, name)).base:x}:{part.limit:x}" for state in (before, after))
        if old != new:
            found.append(Row(name, old, new, "base:limit"))
    if before.mode is not after.mode:
        found.append(Row("mode", before.mode.value, after.mode.value))
    return found


def _row(name: str, before: CpuState, after: CpuState, digits: int) -> Row:
    old, new = (f"{getattr(state, name) & (1 << 4 * digits) - 1:0{digits}x}" for state in (before, after))
    shown = f"e{name[1:]}" if digits == 8 and name.startswith("r") else name
    return Row(shown, old, new, _bits(name, getattr(after, name)))


def _bits(name: str, value: int) -> str:
    """Name the bits of a register that are set."""
    kind = DECLARED.get(name)
    if kind is None:
        return ""
    found = kind(value).decode()
    return " ".join(key if part == 1 else f"{key}={part}" for key, part in found.items() if part)


def compare(before: CpuState, after: CpuState) -> Said:
    """Show registers before and after; a star and bold type mark those that changed."""
    found = rows(before, after)
    width = max(len(row.before) for row in found)
    plain = [
        f"{'*' if row.changed else ' '} {row.name:6} {row.before:{width}} {'->' if row.changed else '  '} "
        f"{row.after if row.changed else '':{width}} {row.meaning}".rstrip()
        for row in found
    ]
    body = "".join(_line(row) for row in found)
    head = "".join(f'<th scope="col">{each}</th>' for each in ("", "register", "before", "after", ""))
    return Said(
        "\n".join(plain),
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
    )


def _line(row: Row) -> str:
    mark = '<td title="changed" aria-label="changed">●</td>' if row.changed else "<td></td>"
    kind = ' class="changed"' if row.changed else ""
    cells = "".join(f"<td>{html.escape(each)}</td>" for each in (row.name, row.before, row.after))
    return f'<tr{kind}>{mark}{cells}<td class="dim">{html.escape(row.meaning)}</td></tr>'


def show(state: CpuState) -> Said:
    """Show registers as they are: the general ones, the segments, the control registers."""
    wide = state.mode is Mode.LONG64
    digits = 16 if wide else 8
    names = (*(GENERAL_REGISTERS if wide else GENERAL_REGISTERS[:8]), "rip", "rflags", *_CONTROL)
    found = [_row(name, state, state, digits) for name in names]
    for name in SEGMENT_REGISTERS:
        part = getattr(state, name)
        found.append(
            Row(name, f"{part.selector:04x}", "", f"base {part.base:x}, limit {part.limit:x}, DPL {part.dpl}")
        )
    title = f"{state.mode.value} mode, CPL {state.cpl}"
    plain = "\n".join(
        [title, *(f"{row.name:6} {row.before:{digits}} {row.meaning}".rstrip() for row in found)]
    )
    body = "".join(
        f"<tr><td>{row.name}</td><td>{row.before}</td><td class='dim'>{html.escape(row.meaning)}</td></tr>"
        for row in found
    )
    return Said(plain, f'<p>{title}</p><div class="wide"><table><tbody>{body}</tbody></table></div>')
