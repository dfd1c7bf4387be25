"""What the tests of an otter assignment ask: does an invariant hold, going by the marks that vlab gave?

The marks are those that `vlab.course.otter_plugin` puts into the notebook that otter executes.
"""

from __future__ import annotations

from collections.abc import Mapping

from vlab.grading.result import ExerciseMark

__all__ = ["must_hold"]


def must_hold(marks: Mapping[str, Mapping[str, object]] | None, exercise: str, invariant: str) -> None:
    """Raise AssertionError with the explanation when an invariant does not hold.

    marks: by exercise, as ``ExerciseMark.to_json`` gives them; None when the plugin did not run.
    """
    if marks is None or exercise not in marks:
        raise AssertionError(
            "there are no marks of vlab's here; "
            "otter_config.json must name the plugin vlab.course.otter_plugin.VlabPlugin"
        )
    mark = ExerciseMark.from_json(marks[exercise])
    found = next(each for each in mark.invariants if each.name == invariant)
    if not found.holds:
        hint = f"\nHint: {found.hint}" if found.hint else ""
        raise AssertionError(f"{found.why}{hint}")
