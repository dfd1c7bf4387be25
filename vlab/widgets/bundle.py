"""One ES module of several: what a widget sends to the browser cannot import files beside it.

Our modules import by name from files in the same folder and nowhere else, one import to a line::

    import { node, hex } from "./common.js";

`module` puts each file that is needed in front of those that need it, once, without its imports and exports.
So the same files serve here and in the JupyterLab extension, whose bundler follows the imports itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).with_name("static")

_IMPORT: Final = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_STRAY: Final = re.compile(r"^import\b|\bimport\(", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(async function|function|class|const|let)\b)", re.MULTILINE)


@cache
def module(name: str) -> str:
    """Give the ES module in static/``name`` with all that it imports in one text.

    Raises ValueError for an import of another form, FileNotFoundError for one that is not there.
    """
    *below, top = _in_order(name, ())
    return "".join(_EXPORT.sub("", _without_imports(each)) for each in below) + _without_imports(top)


@cache
def style(*names: str) -> str:
    """Give the style sheets static/``names``, behind the common one."""
    return "".join((STATIC / name).read_text(encoding="utf-8") for name in ("common.css", *names))


def _in_order(name: str, above: tuple[str, ...]) -> Iterator[str]:
    """Give the files that ``name`` needs, each before what needs it, and then itself."""
    if name in above:
        raise ValueError(f"{' -> '.join((*above, name))}: these modules import each other")
    seen: dict[str, None] = {}
    for needed in _IMPORT.findall(_read(name)):
        seen.update(dict.fromkeys(_in_order(needed, (*above, name))))
    yield from seen
    yield name


def _without_imports(name: str) -> str:
    text = _IMPORT.sub("", _read(name))
    stray = _STRAY.search(text)
    if stray:
        line = text[: stray.start()].count("\n") + 1
        raise ValueError(f'{name}, near line {line}: write imports as import {{ name }} from "./file.js";')
    return text


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
