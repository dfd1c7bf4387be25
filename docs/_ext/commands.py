"""The directive ``{commands}``: every command of `vlab`, with the help that it gives in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import TYPE_CHECKING, Final

import click
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

_AS_WRITTEN: Final = "\b"
"""A paragraph that begins with this character keeps its lines."""


class Commands(SphinxDirective):
    """A section for each command, and one for each command below it."""

    def run(self) -> list[nodes.Node]:
        """Read them from click."""
        from vlab.cli import cli

        text = "\n\n".join(_sections("vlab", cli))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _sections(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"## {path}\n\n```text\n{usage}\n```"
    yield from _paragraphs(command.help or "")
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    records = [record for record in (option.get_help_record(context) for option in options) if record]
    if records:
        yield "\n\n".join(f"`{names}`\n: {words or 'No description.'}" for names, words in records)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, f"click lists {name} and has it not"
            yield from _sections(f"{path} {name}", below)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in cleandoc(text).split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0].strip() == _AS_WRITTEN:
            yield "```text\n" + "\n".join(lines[1:]) + "\n```"
        else:
            # What could be taken for markup is not meant as such.
            yield " ".join(lines).replace("*", "\\*").replace("<", "\\<").replace("[", "\\[")


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
