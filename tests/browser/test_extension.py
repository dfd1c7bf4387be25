"""The JupyterLab extension: what it adds to the page, and what it does there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect

import vlab
from tests.browser.notebooks import Browser, Notebook, Server
from vlab.trace.file import dump

MAKE = 'import vlab\nvm = vlab.VM("wren", trace="full")\nvm.run(until="$ ")\nother = vlab.VM("hello")'
LONG = 90_000


def run_cell(notebook: Notebook, number: int) -> None:
    """Run one cell, and do not wait for it."""
    notebook.page.locator(".jp-CodeCell").nth(number).locator(".cm-content").click()
    notebook.command("notebook:run-cell")


def open_panel(notebook: Notebook) -> Locator:
    notebook.command("vlab:show-machines")
    panel = notebook.page.locator("#vlab-machines")
    panel.wait_for()
    return panel


def entry(panel: Locator, name: str) -> Locator:
    return panel.locator(".vlab-entry", has=panel.page.get_by_role("button", name=name, exact=True))


# --- the side panel -------------------------------------------------------------------------------------


def test_the_panel_lists_and_commands_the_machines_of_a_kernel(browser: Browser) -> None:
    with browser.notebook(MAKE, "vm.exits.total") as notebook:
        panel = open_panel(notebook)
        expect(panel.locator(".vlab-empty")).to_be_visible()
        run_cell(notebook, 0)
        wren, hello = entry(panel, "vm (wren)"), entry(panel, "other (hello)")
        said = panel.get_by_role("status")
        expect(wren).to_contain_text("paused", timeout=LONG)
        expect(wren).to_contain_text("hardware / nested, 16 MiB")
        expect(hello).to_contain_text("0 exits")
        expect(hello.get_by_label("Step back one exit")).to_have_attribute("aria-disabled", "true")
        before = wren.locator(".vlab-facts").nth(1).inner_text()
        wren.get_by_label("Step one exit").click()
        expect(said).to_contain_text("wren: stepped")
        wren.get_by_label("Step back one exit").click()
        expect(said).to_contain_text("wren: went back")
        expect(wren).to_contain_text(before)
        wren.get_by_label("Take a snapshot").click()
        expect(said).to_contain_text("snapshot 1 is taken")
        wren.get_by_label("Resume").click()
        expect(wren).to_contain_text("running")
        expect(wren).to_contain_text("a second")
        notebook.photograph("panel")
        wren.get_by_label("Pause").click()
        expect(wren).to_contain_text("paused")
        wren.get_by_label("Go to the last snapshot taken here").click()
        expect(wren).to_contain_text(before)
        hello.get_by_label("Resume").click()
        expect(hello).to_contain_text("ended")
        hello.get_by_label("Stop and close").click()
        notebook.page.get_by_role("button", name="Stop", exact=True).click()
        expect(hello).to_have_count(0)


def test_keys_move_among_the_buttons_and_press_them(browser: Browser) -> None:
    with browser.notebook(MAKE) as notebook:
        panel = open_panel(notebook)
        run_cell(notebook, 0)
        wren, keys = entry(panel, "vm (wren)"), notebook.page.keyboard
        expect(wren).to_contain_text("paused", timeout=LONG)
        wren.locator(".vlab-name").focus()
        for key in ("Tab", "ArrowRight", "ArrowRight"):
            keys.press(key)
        expect(wren.get_by_label("Step one exit")).to_be_focused()
        keys.press("Enter")
        expect(panel.get_by_role("status")).to_contain_text("wren: stepped")
        expect(wren.get_by_label("Step one exit")).to_be_focused()
        keys.press("ArrowLeft")
        keys.press("Space")
        expect(wren).to_contain_text("running")


def test_a_machine_that_runs_in_a_cell_is_paused_and_all_are_stopped_on_request(browser: Browser) -> None:
    with browser.notebook(MAKE, "print(vm.run(until='never', timeout=60).kind)", "vm.closed") as notebook:
        panel = open_panel(notebook)
        run_cell(notebook, 0)
        wren = entry(panel, "vm (wren)")
        expect(wren).to_contain_text("paused", timeout=LONG)
        run_cell(notebook, 1)
        expect(wren).to_contain_text("running in a cell")
        notebook.command("vlab:pause-all")
        expect(wren).to_contain_text("paused")
        notebook.page.locator(".jp-OutputArea-output", has_text="paused").wait_for()
        notebook.command("vlab:stop-all")
        notebook.page.get_by_role("button", name="Stop all").last.click()
        expect(panel.locator(".vlab-empty")).to_be_visible()
        run_cell(notebook, 2)
        notebook.page.locator(".jp-OutputArea-output", has_text="True").wait_for()


def test_the_name_opens_the_dashboard_while_a_cell_runs_and_machines_go_with_their_kernel(
    browser: Browser,
) -> None:
    with browser.notebook(MAKE, "vm.run(until='never', timeout=60)") as notebook:
        page = notebook.page
        panel = open_panel(notebook)
        run_cell(notebook, 0)
        wren = entry(panel, "vm (wren)")
        expect(wren).to_contain_text("paused", timeout=LONG)
        run_cell(notebook, 1)
        expect(wren).to_contain_text("running in a cell")
        wren.locator(".vlab-name").click()
        shown = page.locator(".vlab-dashboard .jp-OutputArea-output")
        shown.first.wait_for()
        expect(shown.first).to_contain_text("wren")
        page.wait_for_timeout(1500)
        notebook.photograph("dashboard")
        wren.locator(".vlab-name").click()
        expect(page.locator(".vlab-dashboard")).to_have_count(1)
        page.evaluate(RESTART, [notebook.name, False])
        expect(panel.locator(".vlab-empty")).to_be_visible(timeout=LONG)
        page.locator(".lm-TabBar-tab", has_text=notebook.name).click()
        run_cell(notebook, 0)
        expect(wren).to_contain_text("paused", timeout=LONG)


RESTART = """async ([name, lost]) => {
  const { kernels, serverSettings, sessions } = window.jupyterapp.serviceManager;
  const { kernel } = Array.from(sessions.running()).find((session) => session.path === name);
  for (const connection of lost ? kernels._kernelConnections : []) {
    const handle = connection._handleMessage.bind(connection);
    connection._handleMessage = async (message) =>
      message.content.execution_state === "starting" ? undefined : handle(message);
  }
  const cookie = document.cookie.match(/_xsrf=([^;]*)/);
  const reply = await fetch(`${serverSettings.baseUrl}api/kernels/${kernel.id}/restart`, {
    method: "POST", headers: { "X-XSRFToken": cookie ? cookie[1] : "" },
  });
  if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`);
}"""
"""By somebody else: this page is told by the new process's first message alone, and that may be lost."""


def test_a_restart_is_noticed_also_when_the_message_that_tells_of_it_is_lost(browser: Browser) -> None:
    with browser.notebook(MAKE) as notebook:
        panel = open_panel(notebook)
        run_cell(notebook, 0)
        wren = entry(panel, "vm (wren)")
        expect(wren).to_contain_text("paused", timeout=LONG)
        notebook.page.evaluate(RESTART, [notebook.name, True])
        expect(panel.locator(".vlab-empty")).to_be_visible(timeout=LONG)
        run_cell(notebook, 0)
        expect(wren).to_contain_text("paused", timeout=LONG)


PATHS = "() => [...window.jupyterapp.serviceManager.sessions.running()].map((session) => session.path)"


# --- traces ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trace() -> bytes:
    with vlab.VM("longmode", trace="full") as vm:
        vm.run(timeout=60)
        described = {"guest": "longmode", "monitor": vm.monitor, "paging": vm.paging, "memory_bytes": 1 << 24}
        return dump(vm.exits, described, compression=6)


@contextmanager
def document(browser: Browser, server: Server, name: str, content: bytes) -> Iterator[Notebook]:
    """Open a file as by a double click, with no notebook there."""
    (server.folder / "notebooks" / name).write_bytes(content)
    with browser.page() as found:
        found.page.goto(f"{server.url}/lab/tree/{name}?reset")
        yield found


def test_a_trace_opens_without_a_kernel(browser: Browser, server: Server, trace: bytes) -> None:
    with document(browser, server, "boot.vlabtrace", trace) as notebook:
        page, viewer = notebook.page, notebook.page.locator(".vlab-trace")
        summary = viewer.get_by_role("group", name="Summary of boot.vlabtrace")
        expect(summary).to_contain_text("longmode", timeout=LONG)
        expect(summary.locator(".vlab-reasons")).to_contain_text("IOIO")
        inspector = viewer.get_by_role("group", name="Exit inspector")
        slider, number = inspector.get_by_role("slider"), inspector.locator("[data-fact=exit]")
        slider.focus()
        page.keyboard.press("Home")
        expect(number).to_have_text("1 of 6,160")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(number).to_have_text("3 of 6,160")
        expect(inspector.locator("[data-fact=reason]")).to_contain_text("MSR")
        rings = viewer.get_by_role("group", name="Rings and modes", exact=True)
        rings.get_by_role("button", name="Step", exact=True).click()
        expect(rings.locator("[data-fact=exit]")).to_contain_text("1 of")
        expect(rings.locator("svg.vlab-picture")).to_be_visible()
        assert page.evaluate(PATHS).count("boot.vlabtrace") == 0
        notebook.photograph("trace")
        notebook.photograph("trace-rings", rings)


def test_open_trace_asks_for_files_and_opens_them(browser: Browser, server: Server, trace: bytes) -> None:
    folder = server.folder / "notebooks"
    (folder / "chosen.vlabtrace").write_bytes(trace)
    (folder / "notes.txt").write_text("no trace")
    with browser.page() as notebook:
        page = notebook.page
        page.goto(f"{server.url}/lab?reset")
        page.locator(".jp-Launcher").wait_for(timeout=LONG)
        notebook.command("apputils:activate-command-palette")
        page.locator(".lm-CommandPalette-input").fill("open trace")
        page.locator(".lm-CommandPalette").get_by_text("Open Trace…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Open a trace")
        file = dialog.get_by_text("chosen.vlabtrace", exact=True)
        expect(file).to_be_visible()
        expect(dialog.get_by_text("notes.txt", exact=True)).to_have_count(0)
        dialog.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.locator(".vlab-trace").count() == 0
        notebook.command("vlab:open-trace")
        file.click()
        notebook.photograph("open-trace")
        dialog.get_by_role("button", name="Select").click()
        summary = page.locator(".vlab-trace").get_by_role("group", name="Summary of chosen.vlabtrace")
        expect(summary).to_contain_text("longmode", timeout=LONG)


OPEN = "(path) => void window.jupyterapp.commands.execute('docmanager:open', { path })"


def test_what_is_no_whole_trace_is_told_in_a_sentence(browser: Browser, server: Server, trace: bytes) -> None:
    wrong = {
        "other": (b"PK\x03\x04" + bytes(80), "this is no vlab trace."),
        "cut": (trace[:-9], "the trace is cut short; copy it again."),
        "empty": (b"", "this is no vlab trace."),
        "newer": (trace[:8] + b"\x09" + trace[9:], "the trace has format 9, and this vlab reads format 1."),
        "damaged": (
            trace[:30] + bytes([trace[30] ^ 255]) + trace[31:], "the trace is damaged; copy it again.",
        ),
        "changed": (
            trace[:-1] + bytes([trace[-1] ^ 1]),
            "the trace was changed since it was written: its checksum does not match.",
        ),
    }  # fmt: skip
    with document(browser, server, "whole.vlabtrace", trace) as notebook:
        page = notebook.page
        page.locator(".vlab-trace").wait_for(timeout=LONG)
        for name, (content, sentence) in wrong.items():
            file = f"{name}.vlabtrace"
            (server.folder / "notebooks" / file).write_bytes(content)
            page.evaluate(OPEN, file)
            alerts = page.locator(".vlab-trace [role=alert]").filter(visible=True)
            expect(alerts).to_have_text([f"{file}: {sentence}"], timeout=LONG)


# --- assembly, launcher, palette, settings --------------------------------------------------------------

WRITE = """([n, text]) => {
  window.jupyterapp.shell.currentWidget.content.widgets[n].model.sharedModel.setSource(text);
}"""
ANSWERED = """async () => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  for (let quiet = 0; quiet < 5;) {
    await new Promise((done) => setTimeout(done, 100));
    quiet = kernel._futures.size ? 0 : quiet + 1;
  }
}"""
MIME = "(n) => window.jupyterapp.shell.currentWidget.content.widgets[n].model.mimeType"


def test_assembly_cells_keep_their_colours(browser: Browser) -> None:
    source = "%%asm\n# adds\nagain: add eax, 0x10\n  rep movsb\n  jne again\n.long 5; cld"
    with browser.notebook(source, "x = 1") as notebook:
        page = notebook.page
        cell = page.locator(".jp-CodeCell").first.locator(".cm-content")
        cell.locator("span", has_text="movsb").wait_for()
        assert page.evaluate(MIME, 0) == "text/x-vlab-asm"
        assert page.evaluate(MIME, 1) != "text/x-vlab-asm"
        colours = cell.evaluate(
            "(el) => Object.fromEntries([...el.querySelectorAll('span')].map("
            "(span) => [span.textContent, getComputedStyle(span).color]))"
        )
        assert len({colours[word] for word in ("# adds", "rep", "movsb", "0x10")}) >= 3, colours
        assert colours["cld"] == colours["movsb"] != colours["# adds"]
        notebook.photograph("assembly", page.locator(".jp-CodeCell").first)
        page.evaluate(ANSWERED)  # JupyterLab's widgets do not catch that a restart cancels what they asked
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.info")
        page.wait_for_timeout(1000)
        assert page.evaluate(MIME, 0) == "text/x-vlab-asm"
        expect(cell.locator("span", has_text="movsb")).to_be_visible()
        page.evaluate(WRITE, [0, "y = 2"])
        page.evaluate(WRITE, [1, "%%asm\nhlt"])
        page.locator(".jp-CodeCell").nth(1).locator("span", has_text="hlt").wait_for()
        assert page.evaluate(MIME, 0) != "text/x-vlab-asm"
        assert page.evaluate(MIME, 1) == "text/x-vlab-asm"


def test_the_launcher_has_cards_for_a_notebook_and_the_lessons(browser: Browser, server: Server) -> None:
    lesson = server.folder / "notebooks" / "vlab-labs" / "01_first_exits.ipynb"
    lesson.parent.mkdir()
    lesson.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with browser.page() as notebook:
        page = notebook.page
        page.goto(f"{server.url}/lab?reset")
        section = page.locator(".jp-Launcher-section", has_text="01 first exits")
        section.wait_for(timeout=LONG)
        expect(section.locator(".jp-LauncherCard")).to_have_count(3)
        notebook.photograph("launcher")
        section.get_by_text("First notebook").click()
        cells = page.locator(".jp-Notebook .jp-Cell")
        expect(cells).to_have_count(5, timeout=LONG)
        expect(cells.nth(2)).to_contain_text('vlab.VM("wren"')
        page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate(
            "async () => { const { sessionContext } = window.jupyterapp.shell.currentWidget;"
            " await sessionContext.session.kernel.info; await sessionContext.shutdown(); }"
        )


def test_the_commands_are_in_the_palette(browser: Browser, server: Server) -> None:
    with browser.page() as notebook:
        page = notebook.page
        page.goto(f"{server.url}/lab?reset")
        page.locator(".jp-Launcher").wait_for(timeout=LONG)
        notebook.command("apputils:activate-command-palette")
        palette = page.locator(".lm-CommandPalette")
        page.locator(".lm-CommandPalette-input").fill("vlab")
        for label in (
            "Show Virtual Machines", "Open Trace…", "New vlab Notebook", "Pause All Virtual Machines",
            "Stop All Virtual Machines…",
        ):  # fmt: skip
            expect(palette.get_by_text(label)).to_be_visible()


def test_settings_reach_the_page(browser: Browser, server: Server) -> None:
    with browser.page() as notebook:
        page = notebook.page
        page.goto(f"{server.url}/lab?reset")
        page.wait_for_function("() => document.body.dataset.vlabBase === 'hex'", timeout=LONG)
        assert attributes(page) == ["normal", "hex", "default"]
        usual = page.evaluate(COLOUR)
        change = """async ([name, value]) => {
          const url = `${location.origin}/lab/api/settings/vlab:plugin`;
          const token = document.cookie.match(/_xsrf=([^;]*)/)?.[1] ?? '';
          const headers = { 'Content-Type': 'application/json', 'X-XSRFToken': token };
          const body = JSON.stringify({ raw: JSON.stringify({ [name]: value }) });
          await fetch(url, { method: 'PUT', headers, body });
        }"""
        page.evaluate(change, ["palette", "colour-blind"])
        page.reload()
        page.wait_for_function("() => document.body.dataset.vlabPalette === 'colour-blind'", timeout=LONG)
        assert page.evaluate(COLOUR) not in ("", usual)
        page.evaluate(change, ["palette", "default"])


COLOUR = """() => {
  const view = document.body.appendChild(document.createElement("div"));
  view.className = "vlab-view";
  const colour = getComputedStyle(view).getPropertyValue("--vlab-kernel");
  view.remove();
  return colour;
}"""


def attributes(page: Page) -> list[str]:
    names = ["vlabSpeed", "vlabBase", "vlabPalette"]
    return page.evaluate("(names) => names.map((name) => document.body.dataset[name])", names)
