"""A submitted notebook is repaired: the released edition again, with the student's answers in it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.grading.repair import MOST_BYTES, MOST_TEXT, repair

Json = dict[str, Any]


def code(source: str, **metadata: Any) -> Json:
    return {
        "cell_type": "code", "id": source[-8:].strip(), "metadata": metadata, "source": source,
        "outputs": [], "execution_count": None,
    }  # fmt: skip


def exercise(name: str, body: str = "raise NotImplementedError") -> Json:
    return code(f"# exercise: {name}\n{body}", vlab={"exercise": name, "role": "exercise"})


def check(name: str) -> Json:
    return code(f'lab.check("{name}")', vlab={"exercise": name, "role": "check"})


def notebook(*cells: Json) -> Json:
    return {"cells": list(cells), "metadata": {"vlab": {"lesson": "90"}}, "nbformat": 4, "nbformat_minor": 5}


RELEASED = notebook(
    code("import vlab"),
    {"cell_type": "markdown", "id": "m", "metadata": {}, "source": ["# A\n", "text"]},
    exercise("a"),
    check("a"),
    exercise("b"),
    check("b"),
)
GIVEN = {name: f"# exercise: {name}\nraise NotImplementedError" for name in "ab"}


def handed_in(a: str = "x = 1", b: str = "y = 2") -> Json:
    """Give a submission in order."""
    done = copy.deepcopy(RELEASED)
    done["cells"][2]["source"] = f"# exercise: a\n{a}"
    done["cells"][4]["source"] = f"# exercise: b\n{b}"
    return done


def answers(a: str | None = "x = 1", b: str | None = "y = 2") -> dict[str, str]:
    return {
        name: GIVEN[name] if body is None else f"# exercise: {name}\n{body}"
        for name, body in (("a", a), ("b", b))
    }


def sources(notebook: Json) -> list[str]:
    return [each["source"] for each in notebook["cells"]]


def test_a_notebook_in_order_is_taken_as_it_is_and_nothing_is_told() -> None:
    done = repair(json.dumps(handed_in()).encode(), RELEASED)
    assert done.answers == answers()
    assert done.notes == ()
    assert done.readable
    assert sources(done.notebook)[1] == "# A\ntext"


def test_the_released_edition_and_the_submission_are_left_as_they_were() -> None:
    before, given_in = copy.deepcopy(RELEASED), handed_in()
    given_in_before = copy.deepcopy(given_in)
    repair(given_in, RELEASED)
    assert (before, given_in_before) == (RELEASED, given_in)


def test_a_deleted_exercise_cell_is_back_as_it_was_handed_out() -> None:
    given_in = handed_in()
    del given_in["cells"][2]
    done = repair(given_in, RELEASED)
    assert done.answers == answers(a=None)
    assert done.notes == ("The cell of a was missing; it is marked as it was handed out.",)


def test_a_deleted_or_altered_check_cell_is_back() -> None:
    given_in = handed_in()
    given_in["cells"][5]["source"] = "print('all right')"
    del given_in["cells"][3]
    done = repair(given_in, RELEASED)
    assert sources(done.notebook)[3::2] == ['lab.check("a")', 'lab.check("b")']
    assert done.notes == (
        "The check cell of a was missing or altered; it is back.",
        "The check cell of b was missing or altered; it is back.",
    )


@pytest.mark.parametrize("empty", ["", "# later", "raise NotImplementedError", "\n\n  "])
def test_of_duplicates_the_last_that_holds_an_answer_is_marked(empty: str) -> None:
    given_in = handed_in("x = 'first'")
    given_in["cells"].insert(4, exercise("a", "x = 'second'"))
    given_in["cells"].append(exercise("a", empty))
    done = repair(given_in, RELEASED)
    assert done.answers == answers(a="x = 'second'")
    assert done.notes == ("There were 3 cells of a; the last that is not empty is marked.",)


def test_of_duplicates_without_an_answer_the_cell_is_as_it_was_handed_out() -> None:
    given_in = handed_in("")
    given_in["cells"].append(exercise("a", "# nothing"))
    done = repair(given_in, RELEASED)
    assert done.answers == answers(a=None)
    assert done.notes == ("There were 2 cells of a; none holds an answer; the cell as handed out is marked.",)


def test_moved_cells_are_back_in_their_order() -> None:
    given_in = handed_in()
    given_in["cells"].reverse()
    done = repair(given_in, RELEASED)
    assert done.answers == answers()
    assert [each["id"] for each in done.notebook["cells"]] == [each["id"] for each in RELEASED["cells"]]
    assert done.notes == ("Exercise cells were moved; they are back in their order.",)


def test_merged_cells_are_taken_apart() -> None:
    given_in = notebook(code("# exercise: a\nx = 1\n\n# exercise: b\ny = 2\n"), check("a"), check("b"))
    done = repair(given_in, RELEASED)
    assert done.answers == answers()
    assert done.notes == ("The cells of a and b had been merged; they were taken apart.",)


def test_a_cell_is_known_by_its_metadata_when_its_first_line_is_lost() -> None:
    given_in = handed_in()
    given_in["cells"][2]["source"] = "x = 1"
    assert repair(given_in, RELEASED).answers == answers()


def test_a_cell_is_known_by_nbgraders_metadata_too() -> None:
    given_in = handed_in()
    given_in["cells"][2] = code("x = 1", nbgrader={"grade_id": "exercise-a", "solution": True})
    assert repair(given_in, RELEASED).answers == answers()


def test_the_first_line_goes_before_the_metadata() -> None:
    given_in = handed_in()
    given_in["cells"][2]["metadata"] = {"vlab": {"exercise": "b"}}
    assert repair(given_in, RELEASED).answers == answers()


def test_a_check_cell_is_no_answer_whatever_its_metadata_says() -> None:
    given_in = handed_in()
    given_in["cells"][3]["metadata"]["nbgrader"] = {"grade_id": "a", "grade": True, "solution": False}
    assert repair(given_in, RELEASED).answers == answers()


def test_metadata_may_be_missing_altogether() -> None:
    given_in = {"cells": [{"source": each["source"]} for each in handed_in()["cells"]]}
    done = repair(given_in, RELEASED)
    assert done.answers == answers()
    assert done.notebook["metadata"] == RELEASED["metadata"]


def test_a_cell_that_became_text_is_marked_as_code() -> None:
    given_in = handed_in()
    given_in["cells"][2]["cell_type"] = "markdown"
    done = repair(given_in, RELEASED)
    assert done.answers == answers()
    assert done.notebook["cells"][2]["cell_type"] == "code"
    assert done.notes == ("The cell of a was no code cell any more; it is marked as one.",)


def test_answers_in_cells_of_nbgrader_are_kept() -> None:
    released = copy.deepcopy(RELEASED)
    question = {"grade_id": "why", "grade": True, "solution": True}
    released["cells"].append(
        {
            "cell_type": "markdown",
            "id": "why",
            "metadata": {"nbgrader": question},
            "source": "YOUR ANSWER HERE",
        }
    )
    given_in = copy.deepcopy(released)
    given_in["cells"][-1]["source"] = "Because."
    done = repair(given_in, released)
    assert done.notebook["cells"][-1]["source"] == "Because."
    assert set(done.answers) == {"a", "b"}


def test_cells_of_the_students_own_are_left_out() -> None:
    given_in = handed_in()
    given_in["cells"].insert(0, code("import os; os._exit(0)"))
    done = repair(given_in, RELEASED)
    assert "os._exit" not in json.dumps(done.notebook)
    assert done.notes == ()


def test_an_older_notebook_with_worksheets_is_read() -> None:
    cells = [{"cell_type": "code", "input": each["source"], "metadata": {}} for each in handed_in()["cells"]]
    assert repair({"worksheets": [{"cells": cells}], "nbformat": 3}, RELEASED).answers == answers()


@pytest.mark.parametrize(
    "submitted",
    [b"", b"{nope", b"[1, 2]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"cells": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_notebook_is_told_to_be_none_and_holds_no_answers(submitted: bytes) -> None:
    done = repair(submitted, RELEASED)
    assert done.answers == answers(None, None)
    assert not done.readable
    assert len(done.notes) == 1
    assert done.notes[0].endswith("Nothing in it was marked.")


def test_a_huge_file_is_not_read() -> None:
    done = repair(b" " * (MOST_BYTES + 1), RELEASED)
    assert done.answers == answers(None, None)
    assert done.notes == (
        (
            "The notebook has 17 MB, and no more than 17 MB are read; clear its outputs and hand it in "
            "again. Nothing in it was marked."
        ),
    )


def test_a_huge_answer_is_not_taken() -> None:
    done = repair(handed_in("#" * 3 + "\nx = 1" + " " * MOST_TEXT + "y"), RELEASED)
    assert done.answers == answers(a=None)
    assert "characters, more than 1,048,576; it is marked as it was handed out." in done.notes[0]


def test_text_that_utf8_cannot_hold_becomes_text_that_it_can() -> None:
    done = repair(json.dumps(handed_in("x = '\ud800'")), RELEASED)
    assert done.answers["a"] == "# exercise: a\nx = '?'"


def test_line_ends_of_other_systems_become_ours() -> None:
    given_in = handed_in()
    given_in["cells"][2]["source"] = ["# exercise: a\r\n", "x = 1"]
    assert repair(given_in, RELEASED).answers == answers()


def test_a_released_edition_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="released: a notebook with a list of cells is needed, not None"):
        repair(b"", {})


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
words = st.sampled_from(
    ["cells", "source", "metadata", "vlab", "exercise", "nbgrader", "grade_id", "cell_type", "role", "a",
     "code", "# exercise: a\nx = 1", "# exercise: b", "worksheets", "input", "solution"]
)  # fmt: skip
anything = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=25,
)


@given(anything, anything, anything)
def test_whatever_is_handed_in_a_sound_notebook_comes_out(cells: Any, source: Any, metadata: Any) -> None:
    odd = {"cell_type": "code", "source": source, "metadata": metadata}
    for submitted in ({"cells": cells}, {"cells": [odd, *handed_in()["cells"]]}, {"worksheets": cells}):
        done = repair(submitted, RELEASED)
        assert [each["id"] for each in done.notebook["cells"]] == [each["id"] for each in RELEASED["cells"]]
        assert set(done.answers) == {"a", "b"}
        assert all(text.startswith(f"# exercise: {name}") for name, text in done.answers.items())
        json.dumps(done.notebook).encode("utf-8")


@given(anything)
def test_repairing_what_was_repaired_changes_nothing(cells: Any) -> None:
    first = repair({"cells": [*handed_in()["cells"], {"source": cells}]}, RELEASED)
    second = repair(first.notebook, RELEASED)
    assert second.notebook == first.notebook
    assert second.notes == ()
