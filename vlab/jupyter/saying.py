"""How magics speak: a mistake in one sentence, without Python's traceback; a result as a rich display."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vlab.errors import VlabError

_Problem = TypeVar("_Problem", bound=BaseException)


def quietly(problem: _Problem, sentence: str) -> _Problem:
    """Have IPython show ``sentence`` for an exception, and nothing else; the cell counts as failed."""

    def render() -> list[str]:
        return sentence.split("\n")

    problem._render_traceback_ = render  # type: ignore[attr-defined]
    return problem


@contextmanager
def polite() -> Iterator[None]:
    """Show the mistakes of the block as the sentences that they are."""
    try:
        yield
    except VlabError as error:
        raise quietly(error, str(error)) from None


STYLE = (  # the doubled class outweighs JupyterLab's own rules for HTML in outputs
    "<style>.vlab-said.vlab-said{font-size:var(--jp-code-font-size,13px)}"
    ".vlab-said.vlab-said pre{margin:4px 0;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;"
    "font-family:var(--jp-code-font-family,monospace)}"
    ".vlab-said.vlab-said table{border-collapse:collapse;margin:4px 0;width:auto;"
    "font-family:var(--jp-code-font-family,monospace)}"
    ".vlab-said.vlab-said td,.vlab-said.vlab-said th{white-space:nowrap;"
    "padding:1px 10px;text-align:left;border:0}"
    ".vlab-said.vlab-said th{font-weight:600;border-bottom:1px solid var(--jp-border-color1,#999)}"
    ".vlab-said.vlab-said .wide{overflow-x:auto}"
    ".vlab-said.vlab-said .changed{font-weight:700}"
    ".vlab-said.vlab-said .dim{color:var(--jp-ui-font-color2,#666);font-weight:400}"
    ".vlab-said.vlab-said pre.story{border:0;border-left:4px solid var(--jp-warn-color0,#b26a00);"
    "padding:2px 0 2px 8px}"
    ".vlab-said.vlab-said h4{margin:10px 0 2px;font-size:inherit;font-weight:600}</style>"
)
"""The look of all that magics show, by the colours of JupyterLab's theme."""


@dataclass(frozen=True, slots=True, repr=False)
class Said:
    """Something to display: ``words`` in a terminal, ``body`` (HTML that is safe) in a notebook."""

    words: str
    body: str

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return f'{STYLE}<div class="vlab-said" data-lm-suppress-shortcuts="true">{self.body}</div>'


def lines(text: str) -> Said:
    """Give plain text to display as it is."""
    return Said(text, pre(text))


def headline(text: str, more: str = "") -> Said:
    """Give a line in bold type. more: behind it, in brackets."""
    if not more:
        return Said(text, f"<p><strong>{html.escape(text)}</strong></p>")
    return Said(f"{text} ({more})", f"<p><strong>{html.escape(text)}</strong> ({html.escape(more)})</p>")


def together(parts: Sequence[Said]) -> Said:
    """Show several things under each other."""
    return Said("\n".join(part.words for part in parts), "".join(part.body for part in parts))


def best(value: object) -> object:
    """Give something as it is if the notebook has a view for it, and otherwise its words."""
    from IPython.core.getipython import get_ipython

    formatter = getattr(get_ipython(), "display_formatter", None)
    try:
        if formatter is not None:
            formatter.mimebundle_formatter.lookup(value)
            return value
    except KeyError:  # what IPython says of a type that it does not know
        pass
    return lines(str(value))


def pre(text: str, style: str = "") -> str:
    """Give text as an HTML block that keeps its lines."""
    kind = f' class="{style}"' if style else ""
    return f"<pre{kind}>{html.escape(printable(text))}</pre>"


def printable(text: str) -> str:
    """Replace what a terminal would obey and a page cannot show."""
    return "".join(
        each if each in "\n\t" or each.isprintable() else "·" for each in text.replace("\r\n", "\n")
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Said:
    """Give a table."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    plain = [
        "  ".join(f"{each:{width}}" for each, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows
    )
    top = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in head)
    return Said(
        "\n".join(plain),
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{cells}</tbody></table></div>',
    )
