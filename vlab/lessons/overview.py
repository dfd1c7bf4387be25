"""The learner's dashboard: each lesson with its marks and predictions. It needs no network and no server."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from vlab.grading import catalogue
from vlab.lessons.progress import Done

_HEAD = ("Lesson", "Exercises", "Marks", "Predictions that came true", "Hints used")


@dataclass(frozen=True, slots=True, repr=False)
class Overview:
    """Progress in every lesson. done: by the lesson's digits."""

    done: Mapping[str, Done]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Give a row a lesson, under the names of the dashboard's columns."""
        found = []
        for files in catalogue.lessons():
            done = self.done.get(files.id, Done())
            exercises = files.exercises()
            full = {each.ident: each.points for each in exercises}
            solved = sum(done.earned.get(name, 0.0) >= points for name, points in full.items())
            earned = sum(done.earned.get(name, 0.0) for name in full)
            found.append(
                (
                    f"{files.id} {files.title}",
                    f"{solved} of {len(exercises)} solved",
                    f"{earned:g} of {sum(full.values()):g}",
                    f"{sum(done.right.values())} of {len(done.right)}",
                    str(sum(done.hints.values())),
                )
            )
        return found

    def __repr__(self) -> str:
        table = [_HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in _HEAD)
        body = "".join(
            f"<tr><th scope='row'>{html.escape(row[0])}</th>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
