"""How marks are told: as text, as HTML in nbgrader's feedback, as exceptions to otter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlab.course.marks import as_html, as_text, labs_in
from vlab.course.otter_marks import must_hold
from vlab.grading.result import ExerciseMark, InvariantMark

MARK = ExerciseMark(
    "walk",
    "Walk <tables>",
    (
        InvariantMark("up", "it goes up", 2.0, 2.0),
        InvariantMark("down", "it goes down & stops", 1.5, 0.0, "it went <b>up</b>", "look at the sign"),
    ),
)


def test_text_has_points_reasons_and_hints() -> None:
    assert as_text(MARK) == (
        "Walk <tables>: 2 of 3.5 points\n"
        "2 of 2: it goes up\n"
        "0 of 1.5: it goes down & stops\n"
        "    it went <b>up</b>\n"
        "    Hint: look at the sign"
    )


def test_html_takes_nothing_of_a_students_for_markup() -> None:
    html = as_html(MARK, ("The cell of <i>walk</i> was missing.",))
    assert "it went &lt;b&gt;up&lt;/b&gt;" in html
    assert "The cell of &lt;i&gt;walk&lt;/i&gt; was missing." in html
    assert "<b>" not in html
    assert "Walk &lt;tables&gt;: 2 of 3.5 points" in html


def test_html_is_silent_about_repairs_when_there_were_none() -> None:
    assert "repaired" not in as_html(MARK)


def test_otter_hears_of_what_does_not_hold_and_of_nothing_else() -> None:
    marks = {"walk": MARK.to_json()}
    must_hold(marks, "walk", "up")
    with pytest.raises(AssertionError) as caught:
        must_hold(marks, "walk", "down")
    assert str(caught.value) == "it went <b>up</b>\nHint: look at the sign"


@pytest.mark.parametrize("marks", [None, {}])
def test_without_the_plugin_no_test_of_otters_passes(marks: dict[str, dict[str, object]] | None) -> None:
    with pytest.raises(AssertionError, match="must name the plugin vlab"):
        must_hold(marks, "walk", "up")


def test_lessons_of_ones_own_are_named_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAB_LABS", "before")
    with labs_in(Path("meanwhile")):
        assert os.environ["VLAB_LABS"] == "meanwhile"
    assert os.environ["VLAB_LABS"] == "before"
    monkeypatch.delenv("VLAB_LABS")
    with labs_in(Path("meanwhile")), labs_in(None):
        assert os.environ["VLAB_LABS"] == "meanwhile"
    assert "VLAB_LABS" not in os.environ
