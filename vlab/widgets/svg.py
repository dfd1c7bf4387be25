"""Drawings: SVG by a function a shape, so that one picture serves the live view, GitHub and a printed page.

A drawing is made of `xml.etree` elements. Colours are classes of the common style sheet, which follow
JupyterLab's theme; `document` puts that sheet into the picture for places without one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

from vlab.widgets.bundle import style

Number = int | float
NAMESPACE: Final = "http://www.w3.org/2000/svg"


def node(tag: str, *children: Element | str, **attributes: Number | str | None) -> Element:
    """Make an element. class_, text_anchor and so on stand for class, text-anchor; None leaves one out."""
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), _plain(value))
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(child)
            last = child
        elif last is None:
            element.text = (element.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return element


def _plain(value: Number | str) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text(x: Number, y: Number, words: str, **attributes: Number | str | None) -> Element:
    """Text whose first line begins at (x, y), unless text_anchor says otherwise."""
    return node("text", words, x=x, y=y, **attributes)


def cut(words: str, most: int) -> str:
    """Give words as text of at most so many characters."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def box(
    x: Number, y: Number, width: Number, height: Number, *children: Element, **attributes: Number | str | None
) -> Element:
    """A rectangle with round corners."""
    return node("rect", *children, x=x, y=y, width=width, height=height, rx=4, **attributes)


def line(x1: Number, y1: Number, x2: Number, y2: Number, **attributes: Number | str | None) -> Element:
    """A straight line."""
    return node("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def group(*children: Element, **attributes: Number | str | None) -> Element:
    """Several as one."""
    return node("g", *children, **attributes)


def title(words: str) -> Element:
    """What a pointer that rests on the parent is told, and a screen reader."""
    return node("title", words)


def document(
    width: Number, height: Number, label: str, *children: Element, styles: tuple[str, ...] = ()
) -> str:
    """Make the whole picture, as wide as there is room but no wider than ``width`` pixels.

    label: what a screen reader says of it. styles: sheets that its classes need beside the common one.
    """
    picture = node(
        "svg",
        node("style", style(*styles)),
        *children,
        xmlns=NAMESPACE,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width="100%",
        style=f"max-width:{_plain(width)}px",
        role="img",
        aria_label=label,
        class_="vlab-picture",
    )
    return tostring(picture, encoding="unicode")


_GAP: Final = 8
_HEAD: Final = re.compile(r'<svg [^>]*?viewBox="0 0 ([0-9.]+) ([0-9.]+)"[^>]*>')


def together(pictures: Sequence[str], columns: int) -> str:
    """Put whole pictures that ``document`` made beside and below each other, as one."""
    sizes = [(float(head[1]), float(head[2])) for head in map(_HEAD.match, pictures) if head]
    width = max(wide for wide, _ in sizes) + _GAP
    parts: list[str] = []
    top = 0.0
    for first in range(0, len(pictures), columns):
        row = slice(first, first + columns)
        for place, (picture, (wide, tall)) in enumerate(zip(pictures[row], sizes[row], strict=True)):
            size = f'width="{wide:g}" height="{tall:g}" viewBox="0 0 {wide:g} {tall:g}"'
            head = f'<svg x="{place * width:g}" y="{top:g}" {size} class="vlab-picture">'
            parts.append(_HEAD.sub(head, picture, count=1))
        top += max(tall for _, tall in sizes[row]) + _GAP
    across = width * min(columns, len(pictures)) - _GAP
    whole = f'viewBox="0 0 {across:g} {top - _GAP:g}" width="100%" style="max-width:{across:g}px"'
    return f'<svg xmlns="{NAMESPACE}" {whole}>{"".join(parts)}</svg>'
