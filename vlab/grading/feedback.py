"""Feedback: one page for each student, which needs nothing but a browser.

The page says for each invariant whether it holds, with its marks, why not and what to look at; it shows the
student's cell with the lines that were named, and gives the trace that shows the failure to download. Every
text of a student's making is escaped, the page has no scripts, and its policy lets it load nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

from vlab.grading.export.numbers import number, totals, write_bytes, write_text
from vlab.grading.handed_in import visible
from vlab.grading.journal import Graded
from vlab.grading.result import ExerciseMark, InvariantMark
from vlab.grading.submission import safe_name

__all__ = ["page", "write"]

EMBEDDED: Final = 512 << 10
"""Bytes of a trace that still goes into the page; a longer one is a file beside it."""
_LINE: Final = re.compile(r"\bin line (\d+) of the cell\b")
_QUOTED: Final = re.compile(r"`([^`<>]+)`")
_STYLE: Final = """
:root { color-scheme: light dark; --soft: #5a5a5a; --rule: #c8c8c8; --good: #0a6b2d; --bad: #a31515;
  --mark: #ffe9a8; --code: #f6f6f6 }
@media (prefers-color-scheme: dark) { :root { --soft: #b4b4b4; --rule: #505050; --good: #7ddc9a;
  --bad: #ff9b91; --mark: #5c4700; --code: #262626 } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--rule); padding-top: 1rem }
table { border-collapse: collapse; width: 100% }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
tbody th { font-weight: normal }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-top: 1px solid var(--rule) }
.marks { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.good { color: var(--good); white-space: nowrap } .bad { color: var(--bad); white-space: nowrap }
.why, .hint { margin: .3rem 0 0 }
.notice { border: 2px solid var(--bad); padding: .5rem 1rem }
pre { background: var(--code); padding: .6rem 0; overflow-x: auto; font: .9rem/1.45 ui-monospace, monospace }
pre span { display: block; padding: 0 .8rem; white-space: pre }
pre .number { display: inline-block; width: 3em; padding: 0 1em 0 0; text-align: right; color: var(--soft);
  user-select: none }
pre mark { display: block; background: var(--mark); color: inherit; padding: 0 .8rem; white-space: pre;
  outline: 1px solid var(--bad) }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
"""


def write(directory: Path, results: Iterable[Graded]) -> None:
    """Write ``STUDENT-NN.html`` for each, with long traces beside. Raises UnusableInput when it cannot.

    A submission that we failed to grade gets no page.
    """
    for each in results:
        if not each.error:
            stem = "-".join(safe_name(part) for part in (each.student, each.lesson) if part)
            text, beside = page(each, stem)
            write_text(directory / f"{stem}.html", text)
            for name, content in beside.items():
                write_bytes(directory / name, content)


def page(graded: Graded, stem: str) -> tuple[str, dict[str, bytes]]:
    """Give a page, and the files that go beside it by name. stem: of the page's own name."""
    beside: dict[str, bytes] = {}
    points, earned = totals(graded.exercises)
    title = f"Lesson {graded.lesson}: {graded.student}" if graded.lesson else graded.student
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p><strong>{number(earned)} of {number(points)} points</strong></p>",
    ]
    if graded.trouble:
        body.append(f'<p class="notice" role="note">{_prose(_sentence(graded.trouble))}</p>')
    if graded.notes:
        notes = "".join(f"<li>{_text(each)}</li>" for each in graded.notes)
        body.append(f"<p>The notebook was repaired before it was graded:</p><ul>{notes}</ul>")
    if any(one.trace is not None for mark in graded.exercises for one in mark.invariants):
        body.append(
            "<p>A double click in JupyterLab opens a trace; <code>vlab trace FILE</code> sums one up.</p>"
        )
    for number_, each in enumerate(graded.exercises, 1):
        body += _exercise(each, graded.cells.get(each.ident, ""), number_, stem, beside)
    return _PAGE.format(title=_text(title), style=_STYLE, body="\n".join(body)), beside


_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


_HEADINGS: Final = (
    '<thead><tr><th scope="col">Result</th><th scope="col">What must hold</th>'
    '<th scope="col" class="marks">Points</th></tr></thead>'
)


def _text(text: str) -> str:
    return escape(visible(text))


def _prose(text: str) -> str:
    """Give a text of ours, which may quote what is not; what stands in backquotes is shown as code."""
    return _QUOTED.sub(r"<code>\1</code>", _text(text))


def _begun(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _sentence(text: str) -> str:
    return f"{_begun(text)}{'' if text.endswith(('.', '!', '?')) else '.'}"


def _exercise(mark: ExerciseMark, cell: str, place: int, stem: str, beside: dict[str, bytes]) -> list[str]:
    points, earned = totals([mark])
    rows = [
        _row(each, _trace(each, f"{stem}-{safe_name(mark.ident)}-{safe_name(each.name)}.vlabtrace", beside))
        for each in mark.invariants
    ]
    parts = [
        f'<section aria-labelledby="exercise-{place}">',
        f'<h2 id="exercise-{place}">{_text(mark.title)}: {number(earned)} of {number(points)} points</h2>',
        "<table>",
        f"<caption>What was checked in exercise {_text(mark.ident)}</caption>",
        _HEADINGS,
        f"<tbody>{''.join(rows)}</tbody>",
        "</table>",
    ]
    if cell:
        parts += [f"<h3>Your cell</h3>{_cell(cell, _lines(mark))}"]
    return [*parts, "</section>"]


def _row(mark: InvariantMark, trace: str) -> str:
    verdict = '<td class="good">✓ holds</td>' if mark.holds else '<td class="bad">✗ broken</td>'
    why = f'<p class="why">{_prose(_sentence(mark.why))}</p>' if mark.why else ""
    hint = f'<p class="hint"><em>Hint:</em> {_prose(_sentence(mark.hint))}</p>' if mark.hint else ""
    marks = f'<td class="marks">{number(mark.earned)} of {number(mark.points)}</td>'
    says = f"<strong>{_prose(_begun(mark.says))}</strong>"
    return f'<tr>{verdict}<th scope="row">{says}{why}{hint}{trace}</th>{marks}</tr>'


def _trace(mark: InvariantMark, name: str, beside: dict[str, bytes]) -> str:
    """Give the link to a trace, or nothing."""
    if mark.trace is None:
        return ""
    if len(mark.trace) > EMBEDDED:
        beside[name] = mark.trace
        target = name
    else:
        target = f"data:application/octet-stream;base64,{base64.b64encode(mark.trace).decode('ascii')}"
    size = f"{len(mark.trace) / 1000:,.1f} kB"
    return (
        f'<p class="why"><a href="{escape(target)}" download="{escape(name)}">Download the trace that shows '
        f"it</a> ({size})</p>"
    )


def _lines(mark: ExerciseMark) -> set[int]:
    """Give the numbers of the lines that explanations name."""
    return {int(found) for each in mark.invariants for found in _LINE.findall(each.why)}


def _cell(source: str, marked: set[int]) -> str:
    lines = []
    for place, line in enumerate(source.split("\n"), 1):
        inside = f'<span class="number" aria-hidden="true">{place}</span>{_text(line.expandtabs(4)) or " "}'
        if place in marked:
            lines.append(f'<mark><span class="unseen">This line was named above: </span>{inside}</mark>')
        else:
            lines.append(f"<span>{inside}</span>")
    return f'<pre tabindex="0" aria-label="Your cell"><code>{"".join(lines)}</code></pre>'
