"""Translated blocks as they go to the browser: rows of a list that is sent by the page, one in detail."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vlab.vmm.translation import select
from vlab.vmm.translation.anatomy import MEANINGS, Anatomy, Fate, Line, Way, source_of
from vlab.vmm.translation.blocks import Block
from vlab.vmm.translation.context import CONTEXTS, COUNT, Context

PAGE: Final = 50
"""Blocks on one page of the list."""
_MOST_ARRIVALS: Final = 100
"""So many of those that lead to a block are sent; a busy function has thousands."""

_CONTEXT: Final = re.compile(r"if=|ring|-bit|not plain|^tf$")
"""What is part of a context, and of no instruction."""

#: Signs beside the words and colours of fates.
SIGNS: Final[Mapping[Fate, str]] = {
    Fate.COPIED: "=", Fate.CHANGED: "≠", Fate.CALL_OUT: "☎", Fate.CHAINED: "→", Fate.UNLINKED: "⊸",
    Fate.GATE: "⇥", Fate.LOOKUP: "?", Fate.NOTHING: "∅", Fate.FAULT: "⚡", Fate.SPARE: "·",
}  # fmt: skip

ORDERS: Final[Mapping[str, Callable[[Block], int] | None]] = {
    "made": None,
    "address": lambda block: block.key,
    "size": lambda block: -block.size,
    "arrivals": lambda block: -len(block.incoming),
}
"""What the list is in the order of: of making, by address, by size, by how many ways lead to a block."""

FATES: Final = [[fate.value, SIGNS[fate], MEANINGS[fate]] for fate in Fate]
"""The legend: word, sign, meaning."""


def context_of(block: Block | Way) -> str:
    """Give the context as text: "32-bit ring 0 IF=0"."""
    return _told(block.context)


def name_of(key: int) -> str:
    """Give the address and the context that a block's key stands for."""
    return f"{key // COUNT:#x}, {_told(CONTEXTS[key % COUNT])}"


def _told(context: Context) -> str:
    return repr(context).strip("<>")


def row(block: Block) -> list[Any]:
    """Key, address, context, bytes of the guest's, bytes in the cache, instructions, ways that lead to it."""
    return [
        f"{block.key:x}", f"{block.rip:#x}", context_of(block),
        block.source, block.size, block.instructions, len(block.incoming),
    ]  # fmt: skip


class Search:
    """Finds blocks by text; remembers what the instructions of a block are called.

    ``unread``: how many blocks the last search did not come to, for its time was over.
    """

    def __init__(self) -> None:
        self._texts: dict[tuple[int, int], str] = {}
        self.unread = 0

    def find(self, blocks: Iterable[Block], wanted: str, patience: float | None = None) -> list[Block]:
        """Give the blocks that have all of ``wanted``: texts with commas between.

        Each is part of an address, of a context ("IF=0") or of the guest's instructions ("mov cr3"). An
        address with 0x finds the blocks that it is inside of, too. patience: seconds for decoding blocks that
        were not searched before; None takes the time that it takes.
        """
        found = list(blocks)
        self.unread = 0
        deadline = None if patience is None else time.monotonic() + patience
        parts = [each.strip().lower() for each in wanted.split(",") if each.strip()]
        for part in sorted(parts, key=_needs_code):
            address = _address(part)
            if address is not None:
                found = [each for each in found if _has(each, address, part)]
            elif not _needs_code(part):
                found = [each for each in found if part in context_of(each).lower()]
            else:
                found = [each for each in found if part in self._text(each, deadline)]
        return found

    def _text(self, block: Block, deadline: float | None) -> str:
        place = block.key, block.start
        text = self._texts.get(place)
        if text is None:
            if deadline is not None and time.monotonic() > deadline:
                self.unread += 1
                return ""
            code = select.texts(source_of(block), block.rip, block.context.bits, block.instructions)
            text = self._texts[place] = "\n".join((f"{block.rip:#x}", *code)).lower()
        return text

    def forget(self) -> None:
        """Let go what is remembered: the cache was emptied."""
        self._texts.clear()


def _needs_code(part: str) -> bool:
    return _address(part) is None and _CONTEXT.search(part) is None


def _address(text: str) -> int | None:
    try:
        return int(text, 16) if text.startswith("0x") else None
    except ValueError:
        return None


def _has(block: Block, address: int, text: str) -> bool:
    return f"{block.rip:#x}".startswith(text) or block.rip <= address < block.rip + block.source


def detail(anatomy: Anatomy) -> dict[str, Any]:
    """One block: what heads it, its lines, its ways out, who leads to it."""
    block = anatomy.block
    return {
        "key": f"{block.key:x}",
        "rip": f"{block.rip:#x}",
        "context": context_of(block),
        "bytes": [block.source, block.size, block.start],
        "instructions": block.instructions,
        "lines": [_line(line) for line in anatomy.lines],
        "ways": [_way(way) for way in anatomy.ways],
        "arrivals": [_way(way) for way in anatomy.arrivals[:_MOST_ARRIVALS]],
        "more": max(0, len(anatomy.arrivals) - _MOST_ARRIVALS),
    }


def _line(line: Line) -> list[Any]:
    """Address, original, fate, offset in the cache, translation, words, number of the way out or -1."""
    way = -1 if line.way is None else line.way
    return [
        f"{line.rip:#x}", line.source, line.fate.value, f"{line.offset:#x}", line.code, line.words, way,
    ]  # fmt: skip


def _way(way: Way) -> list[Any]:
    """Where it leads, how; key (or ""), address and context of the block at its other end."""
    block = way.block
    there = ["", "", ""] if block is None else [f"{block.key:x}", f"{block.rip:#x}", context_of(block)]
    return [f"{way.rip:#x}", context_of(way), way.by, *there]
