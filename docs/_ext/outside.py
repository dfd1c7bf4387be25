"""Pages that lie outside docs/, and links to what lies there.

A page whose first line is ``<!-- shows FILE -->`` shows that file, by its place in the repository. Links to
such a file lead to its page, from everywhere; a link to another file outside docs/, which the site does not
have, becomes its text alone.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SHOWS: Final = re.compile(r"\A<!-- shows ([\w./]+) -->")
_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\(([^):#\s]+)(#[\w-]+)?\)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Have pages rewritten before they are parsed."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def shown(docs: Path) -> dict[str, str]:
    """Give for each file that a page shows that page, as paths from the top of the repository."""
    found = {}
    for page in docs.rglob("*.md"):
        match = _SHOWS.match(page.read_text(encoding="utf-8"))
        if match:
            found[match[1]] = f"docs/{page.relative_to(docs).as_posix()}"
    return found


def rewritten(text: str, folder: str, page: str, pages: dict[str, str], root: Path) -> str:
    """Turn the links of a text that was written in ``folder`` into links of ``page``."""

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        place = os.path.normpath(os.path.join(folder, target))  # noqa: PTH118
        place = pages.get(place, place)
        if place.startswith("docs/"):
            return f"[{words}]({os.path.relpath(place, os.path.dirname(page))}{anchor})"  # noqa: PTH120
        if not (root / place).exists():
            raise ValueError(f"{page}: the link to {target} leads nowhere: there is no {place}")
        return words

    return _LINK.sub(link, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    docs = Path(app.srcdir)
    page = f"docs/{name}.md"
    match = _SHOWS.match(source[0])
    written = match[1] if match else page
    text = (docs.parent / written).read_text(encoding="utf-8") if match else source[0]
    if match:
        app.env.note_dependency(str(docs.parent / written))
    folder = os.path.dirname(written)  # noqa: PTH120
    source[0] = rewritten(text, folder, page, shown(docs), docs.parent)
