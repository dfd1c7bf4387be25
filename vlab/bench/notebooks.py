"""A real JupyterLab on this computer and a real browser that looks at it: for benches, and for tests.

Needs JupyterLab, playwright and a Chromium, whose path may be in the environment variable CHROMIUM.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, WebSocket

SCREENS: Final = os.environ.get("VLAB_SCREENS")
"""A folder for pictures of what was seen."""
_REPOSITORY: Final = Path(__file__).parents[2]
_QUIET = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
_NO_BUILD = {"buildCheck": False, "buildAvailable": False}
"""Each page would otherwise have the server look, with Node.js, whether JupyterLab is to be built anew."""
ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-device-scale-factor=1",
]  # fmt: skip
_READY = """async () => {
  const app = window.jupyterapp;
  for (let wait = 0; wait < 600 && !app?.shell?.currentWidget?.context; wait++) {
    await new Promise((done) => setTimeout(done, 100));
  }
  const { context, sessionContext } = app.shell.currentWidget;
  await context.ready;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
}"""
_IDLE = """async () => {
  const { sessionContext, content } = window.jupyterapp.shell.currentWidget;
  const busy = () => sessionContext.session.kernel.status !== "idle"
    || content.widgets.some((cell) => cell.promptNode?.textContent.includes("*"));
  for (let quiet = 0; quiet < 3;) {
    await new Promise((done) => setTimeout(done, 100));
    quiet = busy() ? 0 : quiet + 1;
  }
}"""


def missing() -> list[str]:
    """Name what is needed and not there."""
    there = {
        "JupyterLab": find_spec("jupyterlab"),
        "playwright": find_spec("playwright"),
        "chromium": chromium(),
    }
    return [name for name, found in there.items() if not found]


def chromium() -> str | None:
    """Give the path of the browser."""
    return shutil.which(os.environ.get("CHROMIUM", "chromium"))


@contextmanager
def browsing(server: Server, profile: Path) -> Iterator[Browser]:
    """Start a browser, whose profile is in an empty folder."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=chromium(), args=ARGUMENTS
        )
        context.set_default_timeout(30_000)
        yield Browser(context, server)
        context.close()


class Server:
    """A JupyterLab server in ``folder``; ``url`` is its address. application: or "notebook", which is 7."""

    def __init__(self, folder: Path, application: str = "jupyterlab") -> None:
        self.folder = folder
        self.tree = "notebooks" if application == "notebook" else "lab/tree"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(_QUIET))
        pages = folder / "config" / "labconfig"
        pages.mkdir(parents=True)
        (pages / "page_config.json").write_text(json.dumps(_NO_BUILD))
        (folder / "notebooks").mkdir()
        extensions = folder / "share" / "labextensions"  # the checkout's own comes before an installed one
        extensions.mkdir(parents=True)
        (extensions / "vlab").symlink_to(_REPOSITORY / "vlab" / "jupyter" / "labextension")
        own = {
            "JUPYTER_CONFIG_DIR": folder / "config", "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces", "IPYTHONDIR": folder / "ipython",
            "JUPYTER_RUNTIME_DIR": folder / "runtime", "PYTHONPATH": _REPOSITORY,
            "JUPYTER_PATH": folder / "share",
        }  # fmt: skip
        line = [
            sys.executable, "-m", application, "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={port}", "--IdentityProvider.token=", "--expose-app-in-browser",
            "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder / 'notebooks'}",
        ]  # fmt: skip
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            line, env=os.environ | {name: str(value) for name, value in own.items()},
            stdout=self._log, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.url}/api", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"JupyterLab did not start:\n{(self.folder / 'server.log').read_text()}")

    def close(self) -> None:
        """Stop it and its kernels."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


class Notebook:
    """A notebook that is open in a page.

    ``problems``: errors in the page, requests that left the server. ``received``: bytes from the kernel.
    """

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.problems: list[str] = []
        self.received = 0
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        def count(frame: str | bytes) -> None:
            self.received += len(frame)

        socket.on("framereceived", count)

    @property
    def outputs(self) -> Locator:
        """All cells' outputs."""
        return self.page.locator(".jp-OutputArea-output")

    def view(self, index: int = 0) -> Locator:
        """Give the root of one of the views that are shown."""
        return self.page.locator(".jp-OutputArea .vlab-view").nth(index)

    def cells(self) -> Iterator[Locator]:
        """Give each cell, scrolled to: JupyterLab keeps those out of sight out of the page."""
        count: int = self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
        )
        for index in range(count):
            self.page.evaluate(
                "(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index)", index
            )
            cell = self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')
            cell.wait_for()
            yield cell

    def command(self, name: str) -> None:
        """Have JupyterLab carry out one of its commands."""
        self.page.evaluate("(name) => void window.jupyterapp.commands.execute(name)", name)

    def run_all(self, timeout: float = 90) -> None:
        """Run all cells and wait until the kernel is idle, for at most so many seconds."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_timeout(200)
        self.idle(timeout)

    def run(self, index: int, timeout: float = 240) -> None:
        """Run one cell and wait until the kernel is idle, for at most so many seconds."""
        self.page.evaluate(
            "(index) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index
        )
        self.command("notebook:run-cell")
        self.page.wait_for_timeout(200)
        self.idle(timeout)

    def idle(self, timeout: float = 90) -> None:
        """Wait until nothing runs."""
        self.page.set_default_timeout(timeout * 1000)
        self.page.evaluate(_IDLE)
        self.page.set_default_timeout(30_000)

    def errors(self) -> str:
        """What cells printed as tracebacks."""
        return "\n".join(self.page.locator('[data-mime-type*="stderr"]').all_inner_texts())

    def dark(self, on: bool) -> None:
        """Change the theme."""
        theme = "JupyterLab Dark" if on else "JupyterLab Light"
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
        )
        self.page.wait_for_function(
            "(light) => document.body.dataset.jpThemeLight === light", arg=str(not on).lower()
        )

    def photograph(self, name: str, element: Locator | None = None) -> None:
        """Keep pictures in both themes at 1280 and 800 pixels, if VLAB_SCREENS names a folder."""
        if SCREENS is None:
            return
        folder = Path(SCREENS)
        folder.mkdir(parents=True, exist_ok=True)
        for width in (1280, 800):
            self.page.set_viewport_size({"width": width, "height": 900})
            for dark in (False, True):
                self.dark(dark)
                self.page.wait_for_timeout(300)
                (element or self.page).screenshot(
                    path=folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"
                )
        self.dark(False)
        self.page.set_viewport_size({"width": 1280, "height": 900})


class Browser:
    """Opens notebooks of one server."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.context = context
        self.server = server
        self._number = 0

    @contextmanager
    def notebook(self, *cells: str) -> Iterator[Notebook]:
        """Open a notebook with these code cells, whose kernel is ready; fails if the page had a problem."""
        plain: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        content = {
            "cells": [plain | {"id": f"cell{n}", "source": cell} for n, cell in enumerate(cells)],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4, "nbformat_minor": 5,
        }  # fmt: skip
        with self.opened(json.dumps(content)) as found:
            yield found

    @contextmanager
    def opened(self, text: str) -> Iterator[Notebook]:
        """Open a notebook that is written already, as `notebook` does. text: of its file."""
        self._number += 1
        name = f"test{self._number}.ipynb"
        (self.server.folder / "notebooks" / name).write_text(text, encoding="utf-8")
        with self.page(name) as found:
            page = found.page
            page.goto(f"{self.server.url}/{self.server.tree}/{name}?reset")
            page.locator(".jp-CodeCell").first.wait_for(timeout=60_000)
            page.evaluate(_READY)
            try:
                yield found
            finally:
                seen = list(found.problems)
                page.evaluate("() => window.jupyterapp.shell.currentWidget?.sessionContext?.shutdown()")
                found.problems[:] = seen  # the last messages of a kernel that ends may come in pieces

    @contextmanager
    def page(self, name: str = "") -> Iterator[Notebook]:
        """Give an empty page, for whatever JupyterLab can show; fails if the page had a problem."""
        page = self.context.new_page()
        page.set_viewport_size({"width": 1280, "height": 900})
        found = Notebook(page, name)
        _listen(page, self.server.url, found.problems)
        try:
            yield found
            assert not found.problems, "\n".join(found.problems)
        finally:
            page.close()


def _listen(page: Page, url: str, problems: list[str]) -> None:
    def asked(request: Request) -> None:
        if not request.url.startswith((url, url.replace("http", "ws"), "data:", "blob:")):
            problems.append(f"a request left the server: {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "vlab" in message.text.lower():
            problems.append(f"console: {message.text}")

    def failed(error: Any) -> None:
        problems.append(f"page error: {error} {error.stack}")

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", failed)
