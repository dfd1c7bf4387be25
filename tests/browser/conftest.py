"""Tests in a real browser: skipped where there is none, unless VLAB_REQUIRE_BROWSER is set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.bench.notebooks import Browser, Server, browsing, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    lacks = missing()
    if lacks:
        reason = f"not here: {', '.join(lacks)}"
        if os.environ.get("VLAB_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    found = Server(tmp_path_factory.mktemp("jupyter"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(server, tmp_path_factory.mktemp("browser")) as found:
        yield found
