"""Lessons in a browser, as a student would meet them."""

from __future__ import annotations

from tests.browser.notebooks import Browser

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
