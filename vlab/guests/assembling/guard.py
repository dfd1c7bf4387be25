r"""Keeps source from reading files: what it says is all that goes into the code.

`.include` and `.incbin` are refused wherever they are written, and so is every way to put one of these words
together from the pieces that a macro is given. A piece that holds the word whole is found as it stands; a
word that comes about between two pieces needs an argument (``\name``) beside a part of the word or beside
another argument, and that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from vlab.guests.assembling.problems import AssemblyError, Problem

SIZE_MAXIMUM: Final = 1 << 20
"""Characters of source."""

_WORDS: Final = (".include", ".incbin", ".altmacro", ".mri")
_WHOLE: Final = re.compile(r"\.(include|incbin|altmacro|mri)(?![\w.$])", re.IGNORECASE)
_COMMENT: Final = re.compile(r"\s*#")
_DECLARES: Final = re.compile(r"\.(macro|irpc?)\b(.*)", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z_.$][\w.$]*")
_CLUSTER: Final = re.compile(r"(?:[\w.$]|\\\(\)|\\[A-Za-z_.$][\w.$]*)+")
_PIECE: Final = re.compile(r"\\\(\)|\\(?P<argument>[A-Za-z_.$][\w.$]*)|(?P<plain>[\w.$]+)")
_ANY: Final = "*"
_NO_FILES: Final = "{} is refused: source here reads no files; write the bytes with .byte or .ascii"
_NO_MODE: Final = "{} is refused: with it a macro could read files; do without it"
_NO_GLUE: Final = (
    "a macro's argument in {!r} touches letters that could make .include or .incbin of it; "
    "separate them, with an underscore for example"
)


def check(lines: Sequence[str]) -> None:
    """Raise AssemblyError for source that might read a file, or that is too long."""
    if sum(map(len, lines)) > SIZE_MAXIMUM:
        raise AssemblyError([Problem(f"the source is longer than {SIZE_MAXIMUM >> 20} MiB; make it shorter")])
    code = [(number, text) for number, text in enumerate(lines, 1) if not _COMMENT.match(text)]
    arguments = _arguments([text for _, text in code])
    problems = [
        Problem(message, number, column + 1, text)
        for number, text in code
        for message, column in (*_whole(text), *_glued(text, arguments))
    ]
    if problems:
        raise AssemblyError(problems)


def _whole(text: str) -> Iterator[tuple[str, int]]:
    for found in _WHOLE.finditer(text.replace("\\()", "")):
        word = found[0].lower()
        yield (_NO_FILES if word in _WORDS[:2] else _NO_MODE).format(word), text.find(found[0])


def _arguments(lines: Sequence[str]) -> frozenset[str]:
    """Give all names that a macro's argument may have; _ANY is in it where one is itself made by a macro."""
    names: set[str] = set()
    for text in lines:
        for found in _DECLARES.finditer(text):
            names.update(_NAME.findall(found[2].lower()))
            if "\\" in found[2]:
                names.add(_ANY)
    return frozenset(names)


def _glued(text: str, arguments: frozenset[str]) -> Iterator[tuple[str, int]]:
    if not arguments:
        return
    for cluster in _CLUSTER.finditer(text):
        pieces: list[str | None] = []  # None for an argument
        for piece in _PIECE.finditer(cluster[0]):
            argument, plain = piece["argument"], piece["plain"]
            if argument is not None and (argument.lower() in arguments or _ANY in arguments):
                pieces.append(None)
            elif argument is not None or plain is not None:
                pieces.append(argument or plain)
        if any(_makes(left, right) for left, right in pairwise(pieces)):
            yield _NO_GLUE.format(cluster[0]), cluster.start()


def _makes(left: str | None, right: str | None) -> bool:
    """Whether a refused word could come about where these two touch."""
    if left is None and right is None:
        return True
    part = right if left is None else left if right is None else None
    return part is not None and any(part.lower() in word for word in _WORDS)
