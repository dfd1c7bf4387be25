"""The browser reads a trace as Python does."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import Page

import vlab
from tests.browser.notebooks import Browser
from vlab.trace.file import dump
from vlab.widgets.bundle import module

READ = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const trace = await readTrace(bytes.buffer);
  const exits = [];
  for (let n = 0; n < trace.length; n++) {
    const { time, reason, rip, info1, info2, handler, ring, mode } = trace.exit(n);
    exits.push([time, reason, String(rip), String(info1), String(info2), handler, ring, mode]);
  }
  return { exits, metadata: trace.metadata };
}"""


@pytest.fixture
def page(browser: Browser) -> Page:
    page = browser.context.new_page()
    page.add_script_tag(type="module", content=module("trace.js") + "\nwindow.readTrace = readTrace;")
    page.wait_for_function("() => window.readTrace")
    yield page
    page.close()


def test_the_browser_reads_every_exit_as_python_does(page: Page) -> None:
    with vlab.VM("longmode", trace="full") as vm:
        vm.run(timeout=60)
        whole = dump(vm.exits, {"guest": "longmode"}, compression=1)
        found = page.evaluate(READ, base64.b64encode(whole).decode())
        modes = list(type(vm.exits[0].mode))
        expected = [
            [
                each.time, each.reason, str(each.rip), str(each.info1), str(each.info2), each.handler,
                each.ring, modes.index(each.mode),
            ]
            for each in vm.exits
        ]  # fmt: skip
    assert len(expected) > 100
    assert found["metadata"] == {"guest": "longmode"}
    assert found["exits"] == expected


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"PK\x03\x04" + bytes(60), "this is no vlab trace"), (b"cut", "the trace is cut short; copy it again")],
    ids=["another file", "cut short"],
)
def test_what_is_no_whole_trace_is_refused_in_a_sentence(page: Page, content: bytes, sentence: str) -> None:
    with vlab.VM("hello", trace="full") as vm:
        vm.run(timeout=20)
        whole = dump(vm.exits, {})
    data = whole[:-20] if content == b"cut" else content
    said = page.evaluate(
        f"(text) => ({READ})(text).then(() => 'nothing', (error) => error.message)",
        base64.b64encode(data).decode(),
    )
    assert said == sentence
