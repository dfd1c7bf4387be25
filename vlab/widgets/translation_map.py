"""The translation cache drawn: how much of it is taken, what of that is in use, and who leads where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element

from vlab.vmm.translation.anatomy import Anatomy
from vlab.vmm.translation.blocks import Block
from vlab.vmm.translation.statistics import Room, Run
from vlab.widgets import svg

WIDTH: Final = 760
HEIGHT: Final = 196
_LEFT: Final = 10
_CODE: Final = 600
"""Pixels that the code's 4 MiB have; the gates have the rest."""
_GATES_AT: Final = _LEFT + _CODE + 20
_GATES: Final = WIDTH - _LEFT - _GATES_AT
_ALL_AT, _ALL_HEIGHT = 24, 16
_USED_AT, _USED_HEIGHT = 84, 44
_FULL: Final = WIDTH - 2 * _LEFT
_COLUMN: Final = 2
"""Pixels of one column of the lower bar."""
_MOST_ARCS: Final = 24


def size_of(count: int) -> str:
    """Give a number of bytes in the unit that suits it."""
    if count < 1 << 10:
        return f"{count} bytes"
    return f"{count / (1 << 10):.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.2f} MiB"


def draw(room: Room, runs: Iterable[Run], chosen: Anatomy | None) -> list[Element]:
    """Draw the cache; as elements of a drawing that is WIDTH times HEIGHT."""
    parts = [*_whole(room)]
    if room.code:
        parts += [*_zoom(room), *_used_part(room, runs)]
        if chosen is not None:
            parts += _marks(room, chosen)
    return parts


def _whole(room: Room) -> Iterable[Element]:
    """The whole cache to scale."""
    label = f"The cache: {size_of(room.code)} of {size_of(room.code_size)} hold code ({_share(room)})"
    yield svg.text(_LEFT, 16, label)
    yield svg.box(_LEFT, _ALL_AT, _CODE, _ALL_HEIGHT, class_="panel")
    used = max(1.0, _CODE * room.code / room.code_size) if room.code else 0.0
    yield svg.node("rect", x=_LEFT, y=_ALL_AT, width=used, height=_ALL_HEIGHT, class_="vlab-cache-used")
    yield svg.text(_GATES_AT, 16, f"gates: {size_of(room.gates_size)}")
    yield svg.box(_GATES_AT, _ALL_AT, _GATES, _ALL_HEIGHT, class_="panel")
    gates = max(1.0, _GATES * room.gates / room.gates_size) if room.gates else 0.0
    yield svg.node(
        "rect", svg.title(f"{size_of(room.gates)} taken"),
        x=_GATES_AT, y=_ALL_AT, width=gates, height=_ALL_HEIGHT, class_="vlab-cache-gates",
    )  # fmt: skip


def _share(room: Room) -> str:
    share = 100 * room.code / room.code_size
    return f"{share:.0f} %" if share >= 10 else f"{share:.2g} %"


def _zoom(room: Room) -> Iterable[Element]:
    """From the part of the upper bar that is taken to the lower bar."""
    right = _LEFT + max(1.0, _CODE * room.code / room.code_size)
    below = _ALL_AT + _ALL_HEIGHT
    yield svg.line(_LEFT, below, _LEFT, _USED_AT, class_="edge", stroke_dasharray="3 3")
    yield svg.line(right, below, _LEFT + _FULL, _USED_AT, class_="edge", stroke_dasharray="3 3")


def _used_part(room: Room, runs: Iterable[Run]) -> Iterable[Element]:
    """What is in use of the part that is taken, as columns: the higher, the more of it."""
    columns = _FULL // _COLUMN
    shares = [0.0] * columns
    scale = columns / room.code
    for offset, size, used in runs:
        if used:
            first, end = offset * scale, (offset + size) * scale
            column = int(first)
            while column < columns and column < end:
                shares[column] += min(end, column + 1) - max(first, column)
                column += 1
    bottom = _USED_AT + _USED_HEIGHT
    path = [f"M{_LEFT} {bottom}"]
    path += [f"V{bottom - _USED_HEIGHT * min(1.0, share):.1f}h{_COLUMN}" for share in shares]
    path.append(f"V{bottom}Z")
    words = (
        f"the same {size_of(room.code)}: in use, filled, are {sum(shares) / columns:.0%}; blank was dropped"
    )
    yield svg.text(_LEFT, _USED_AT - 6, words, class_="small")
    yield svg.node(
        "rect", x=_LEFT, y=_USED_AT, width=_FULL, height=_USED_HEIGHT, class_="panel vlab-cache-part"
    )
    yield svg.node("path", d=" ".join(path), class_="vlab-cache-used vlab-cache-part")


def _place(room: Room, block: Block) -> float:
    return _LEFT + _FULL * (block.start + block.size / 2) / room.code


def _marks(room: Room, chosen: Anatomy) -> list[Element]:
    """The chosen block, and arcs below to those that it leads to, and from those that lead to it."""
    block, here = chosen.block, _place(room, chosen.block)
    width = max(3.0, _FULL * block.size / room.code)
    bottom = _USED_AT + _USED_HEIGHT
    parts = [
        *_arcs(room, here, bottom, (way.block for way in chosen.arrivals), "vlab-cache-arrival"),
        *_arcs(room, here, bottom, (way.block for way in chosen.ways), "vlab-cache-way"),
        svg.node(
            "rect", svg.title(f"{block.rip:#x}, at {block.start:#x} in the cache"),
            x=here - width / 2, y=_USED_AT - 3, width=width, height=_USED_HEIGHT + 6, class_="vlab-cache-now",
        ),
    ]  # fmt: skip
    anchor = "start" if here < WIDTH / 4 else "end" if here > WIDTH * 3 / 4 else "middle"
    words = f"block {block.rip:#x}: solid arcs lead on, dashed arcs lead here"
    parts.append(svg.text(here, HEIGHT - 8, words, class_="small", text_anchor=anchor))
    return parts


def _arcs(
    room: Room, here: float, bottom: int, blocks: Iterable[Block | None], kind: str
) -> Iterable[Element]:
    """Arcs between the chosen block and others, with a dot at the others' ends."""
    others = list(dict.fromkeys(each for each in blocks if each is not None))
    for block in others[:_MOST_ARCS]:
        there = _place(room, block)
        depth = min(40.0, 10 + abs(there - here) / 6)
        middle = (here + there) / 2
        yield svg.node(
            "path", svg.title(f"{block.rip:#x}"), class_=f"vlab-cache-arc {kind}",
            d=f"M{here:.1f} {bottom + 3} Q{middle:.1f} {bottom + 3 + 2 * depth:.1f} {there:.1f} {bottom + 3}",
        )  # fmt: skip
        yield svg.node("circle", cx=there, cy=bottom + 3, r=3, class_=f"{kind} vlab-cache-end")
