"""Tests in a real browser: skipped where there is none, unless VLAB_REQUIRE_BROWSER is set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.notebooks import Browser, Server

_MISSING = [
    what
    for what, there in (
        ("JupyterLab", find_spec("jupyterlab")),
        ("playwright", find_spec("playwright")),
        ("chromium", shutil.which(os.environ.get("CHROMIUM", "chromium"))),
    )
    if not there
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has them all: a second server and browser would cost more than they bring."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if _MISSING:
        reason = f"{' and '.join(_MISSING)} missing"
        if os.environ.get("VLAB_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from tests.browser.notebooks import Server

    found = Server(tmp_path_factory.mktemp("jupyter"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    from tests.browser.notebooks import _ARGUMENTS, CHROMIUM, Browser

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("browser")), executable_path=CHROMIUM, args=_ARGUMENTS
        )
        context.set_default_timeout(30_000)
        yield Browser(context, server)
        context.close()
