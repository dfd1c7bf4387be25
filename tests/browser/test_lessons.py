"""Lessons in a browser, as a student would meet them."""

from __future__ import annotations

import pytest

from tests.browser.notebooks import Browser
from vlab.grading.catalogue import find

STUCK = """# exercise: interrupt-flag
def cli(cpu, insn):
    cpu.interrupt_flag = False


def sti(cpu, insn):
    cpu.interrupt_flag = True"""
CELLS = (
    "from vlab.lessons import lesson\nlab = lesson('02')",
    "lab.predict('who', 'Which ring does the kernel believe to be in?', ['ring 0', 'ring 1', 'ring 3'])",
    "lab.reveal('who', 'ring 0', why='It cannot tell.')",
    STUCK,
    "lab.check('interrupt-flag')",
    "lab.progress",
)


def test_a_student_predicts_runs_and_opens_the_trace_of_what_failed(browser: Browser) -> None:
    with browser.notebook(*CELLS) as notebook:
        page = notebook.page
        notebook.run_all()
        assert not notebook.errors()
        question = notebook.view(0)
        radio = question.get_by_role("radio", name="ring 1")
        radio.check()
        radio.press("d")
        radio.press("d")
        notebook.photograph("lesson-question", question)
        answer = notebook.view(1)
        answer.get_by_text("It is: ring 0.").wait_for()
        notebook.photograph("lesson-answer", answer)
        report = notebook.view(2)
        report.get_by_text("afterwards RIP is").first.wait_for()
        notebook.photograph("lesson-report", report)
        report.get_by_role("button", name="Show it in the inspector").first.click()
        page.get_by_role("group", name="Inspector").first.wait_for()
        assert page.locator(".jp-CodeCell").count() == len(CELLS)


@pytest.mark.parametrize("lesson", ["00", "05", "08"])
def test_a_lesson_runs_from_top_to_bottom(browser: Browser, lesson: str) -> None:
    pytest.importorskip("jupytext", reason="jupytext is not here: pip install 'vlab[grade]'")
    from vlab.course.editions import build, to_text
    from vlab.course.source import read

    files = find(lesson)
    with browser.opened(to_text(build(read(files), "solution"))) as notebook:
        notebook.run_all()
        assert not notebook.errors()
        shown, views = "", 0
        for cell in notebook.cells():
            shown += cell.inner_text()
            for view in cell.locator(".jp-OutputArea .vlab-view").all():
                view.wait_for()
                notebook.photograph(f"lesson-{lesson}-{views:02d}", view)
                views += 1
        for exercise in files.exercises():
            seen = sum(each.points for each in exercise.invariants if not each.hidden)
            assert f"{exercise.title}: {seen:g} of {exercise.points:g} marks" in shown
        assert views >= len(files.exercises()) + 4


def test_the_student_edition_of_the_first_lesson_runs_before_anything_is_written(browser: Browser) -> None:
    with browser.opened(find("00").notebook.read_text(encoding="utf-8")) as notebook:
        notebook.run_all()
        assert not notebook.errors()
        assert any("not written yet: write" in cell.inner_text() for cell in notebook.cells())
