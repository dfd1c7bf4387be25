"""Solutions in a cell: what students get in their place."""

from __future__ import annotations

import pytest

from vlab.course.solutions import Unbalanced, blocks, has_solution, solved, unsolved

CELL = """\
# exercise: walk
class Walker:
    def step(
        self,
        level: int,
    ) -> int:
        # BEGIN SOLUTION
        return level - 1
        # END SOLUTION

    def done(self):
        # BEGIN SOLUTION
        # stub: # nothing yet
        # stub: return False
        return True
        # END SOLUTION
"""


def test_a_solution_becomes_a_line_that_raises_with_the_name_of_what_is_to_be_written() -> None:
    assert '        raise NotImplementedError("write Walker.step")\n' in unsolved(CELL, "walk")


def test_a_stub_of_several_lines_stands_in_the_place_of_the_solution_with_its_indentation() -> None:
    assert unsolved(CELL, "walk").endswith(
        "    def done(self):\n        # nothing yet\n        return False\n"
    )


def test_the_solved_cell_has_neither_marks_nor_stubs() -> None:
    text = solved(CELL, "walk")
    assert "SOLUTION" not in text
    assert "stub" not in text
    assert "return level - 1" in text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# BEGIN SOLUTION\ndef f():\n    pass\n# END SOLUTION", "f"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION", "bits"),
        ("def f():\n    if 1:\n        # BEGIN SOLUTION\n        return 1\n        # END SOLUTION", "f"),
        ("async def f():\n    # BEGIN SOLUTION\n    return 1\n    # END SOLUTION", "f"),
        ("def f():\n    def g():\n        # BEGIN SOLUTION\n        return 1\n        # END SOLUTION", "f.g"),
    ],
)
def test_a_stub_names_what_is_around_the_solution_or_else_what_it_defines(text: str, name: str) -> None:
    (block,) = blocks(text, "bits")
    assert block.stub == (f'raise NotImplementedError("write {name}")',)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("# BEGIN SOLUTION\nx", 1, "does not end"),
        ("x\n# END SOLUTION", 2, "did not begin"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n# END SOLUTION", 2, "inside another"),
        ("x\n# begin solution\n", 2, "is no mark"),
        ("x = 1  # BEGIN SOLUTION\n# END SOLUTION", 1, "is no mark"),
        ("### BEGIN SOLUTION\n### END SOLUTION", 1, "is no mark"),
    ],
)
def test_marks_that_do_not_pair_are_told_with_their_line(text: str, line: int, why: str) -> None:
    with pytest.raises(Unbalanced, match=why) as caught:
        blocks(text)
    assert caught.value.line == line


def test_what_somebody_meant_as_a_mark_is_noticed() -> None:
    assert has_solution("x  # begin solution here")
    assert not has_solution("the solution begins")
