"""Directives for tables that are made from declarations: registers and control blocks, exits, monitors.

``{registers}`` with dotted names of classes, one to a line, gives a table of fields for each. ``{exits}``
gives the vocabulary of exits with its qualifications, ``{ways}`` which monitor goes with which paging, and
``{lessons}`` the lessons by the headers of their sources.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import yaml
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

_PROMISE: Final = re.compile(r"you can:?\*\*:?\n\n((?:[-*] .*\n(?:  .*\n)*)+)")
"""What a student is able to do after a lesson: the list under such a line."""


class Registers(SphinxDirective):
    """Tables of the fields of registers and blocks."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Have `vlab.isa.reference` write them."""
        from vlab.isa.reference import markdown

        found = []
        for name in self.content:
            module, _, cls = name.strip().rpartition(".")
            found.append(getattr(import_module(module), cls))
        text = markdown(*found).replace("\n### ", "\n## ").replace("### ", "## ", 1)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Exits(SphinxDirective):
    """The table of exits."""

    columns: ClassVar = ("reason", "class", "qualification", "what happened")

    def run(self) -> list[nodes.Node]:
        """Read them from the union."""
        from vlab.vmm.exits import EXIT_TYPES, REASONS

        rows = []
        for reason, kind in zip(REASONS, EXIT_TYPES, strict=True):
            words = " ".join((kind.__doc__ or "").split()).replace("|", "\\|")
            fields = ", ".join(f"`{field}`" for field in kind.__dataclass_fields__) or "none"
            rows.append((f"`{reason}`", f"`{kind.__name__}`", fields, words))
        return self.parse_text_to_nodes(_table(self.columns, rows))


class Ways(SphinxDirective):
    """The table of monitors."""

    def run(self) -> list[nodes.Node]:
        """Read them from `vlab.vmm.monitors`."""
        from vlab.vmm.monitors import available

        ways: dict[str, list[str]] = {}
        for monitor, paging in available():
            ways.setdefault(monitor, []).append(f'`"{paging}"`')
        rows = [(f'`"{monitor}"`', ", ".join(pagings)) for monitor, pagings in ways.items()]
        return self.parse_text_to_nodes(_table(("monitor", "paging, its default first"), rows))


class Lessons(SphinxDirective):
    """The table of lessons, and what each promises."""

    def run(self) -> list[nodes.Node]:
        """Read the sources in labs/."""
        rows, promises = [], []
        for source in sorted((Path(self.env.srcdir).parent / "labs").glob("[0-9][0-9]_*/lesson.md")):
            self.env.note_dependency(str(source))
            _, header, text = source.read_text(encoding="utf-8").split("---\n", 2)
            told = yaml.safe_load(header)["vlab"]
            linux = "yes" if told.get("needs_linux") else ""
            rows.append(
                (told["lesson"], str(told["title"]), str(told["minutes"]), linux, f"`{source.parent.name}`")
            )
            promise = _PROMISE.search(text)
            if promise:
                promises.append(f"**{told['lesson']} {told['title']}**\n\n{promise[1]}")
        table = _table(("lesson", "title", "minutes", "needs Linux", "in labs/"), rows)
        return self.parse_text_to_nodes("\n\n".join([table, *promises]))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *rows))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directives."""
    app.add_directive("registers", Registers)
    app.add_directive("exits", Exits)
    app.add_directive("ways", Ways)
    app.add_directive("lessons", Lessons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
