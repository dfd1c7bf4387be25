"""The magics in JupyterLab: a cell of assembly from its code to the display, as a person sees it."""

from __future__ import annotations

import pytest

from tests.browser.notebooks import Browser
from vlab.guests.assembler import assemblers

pytestmark = pytest.mark.skipif(not assemblers(), reason="no assembler is here")

FAULT = "%%asm --bits 32 --monitor trap-emulate\npushf\npop eax\nud2"
HELLO = """%%asm --bits 32 --trace
mov edx, 0x3f8
mov esi, offset text
next: lodsb
test al, al
jz done
out dx, al
jmp next
done: xor eax, eax
cpuid
hlt
text: .asciz "Hello <b>lab</b>\\n"
"""


def test_a_cell_of_assembly_shows_its_registers_console_and_exits(browser: Browser) -> None:
    with browser.notebook("import vlab", HELLO, FAULT, "%vm list") as notebook:
        notebook.run_all()
        shown = notebook.page.locator(".jp-OutputArea .vlab-said")
        shown.first.wait_for()
        assert shown.count() == 3
        first = shown.nth(0)
        assert "the guest halted at" in first.inner_text()
        assert "Hello <b>lab</b>" in first.locator("pre").first.inner_text()
        changed = first.locator("tr.changed")
        assert "ebx" in " ".join(changed.all_inner_texts())
        assert changed.first.locator('[aria-label="changed"]').count() == 1
        assert first.locator("table", has_text="handled by").locator("tbody tr").count() == 19
        assert "delivering #UD raised #GP" in shown.nth(1).locator(".story").inner_text()
        assert "trap-emulate/shadow" in shown.nth(2).inner_text()
        notebook.photograph("asm", first)
        notebook.photograph("fault", shown.nth(1))


def test_a_mistake_is_a_sentence_and_ends_the_run_of_all_cells(browser: Browser) -> None:
    with browser.notebook("import vlab", "%%asm --bits 32\nnop\n  mvo eax, 1", "print('after')") as notebook:
        notebook.run_all()
        error = notebook.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
        error.wait_for()
        assert error.inner_text().rstrip() == (
            "line 3: 'mvo' is no instruction; did you mean mov?\n      mvo eax, 1\n      ^"
        )
        assert "after" not in " ".join(notebook.outputs.all_inner_texts())
        notebook.photograph("mistake", error)


def test_the_stop_button_stops_code_that_loops_for_ever_and_says_where(browser: Browser) -> None:
    with browser.notebook(
        "import vlab", "%%asm --bits 32 --until-halt\nagain: jmp again", "%vm regs"
    ) as notebook:
        notebook.command("notebook:run-all-cells")
        notebook.page.locator(".jp-InputPrompt", has_text="[1]").wait_for()
        notebook.page.wait_for_timeout(3000)
        notebook.command("notebook:interrupt-kernel")
        notebook.idle()
        error = notebook.page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
        error.wait_for()
        assert error.inner_text().strip() == (
            "interrupted at 0x100000: jmp 0x100000; the guest is paused there"
        )
        assert "eip" in notebook.page.locator(".jp-OutputArea .vlab-said").first.inner_text()


def test_tab_completes_commands_and_options(browser: Browser) -> None:
    with browser.notebook("import vlab\nvm = vlab.VM('hello')", "%vm sn") as notebook:
        notebook.run_all()
        notebook.page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
        notebook.page.keyboard.press("End")
        notebook.page.keyboard.press("Tab")
        notebook.page.wait_for_function(
            "() => document.querySelectorAll('.jp-CodeCell .cm-content')[1].textContent.includes('snapshot')"
            " || document.querySelector('.jp-Completer')?.textContent.includes('snapshot')"
        )
