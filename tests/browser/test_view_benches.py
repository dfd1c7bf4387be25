"""The benches of views measure what they say, here with few exits; no time is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.notebooks import Browser
from vlab.bench import views
from vlab.bench.registry import Measurement, NotMeasured, Result, benches, measure


@pytest.fixture(autouse=True)
def tiny(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def here() -> Iterator[Browser]:
        yield browser

    monkeypatch.setattr(views, "laboratory", here)
    monkeypatch.setattr(views, "EXITS", 3000)


def run(name: str) -> Result:
    return measure(benches()[name], lambda _words: None)


@pytest.mark.parametrize("name", ["view-million", "view-scrub", "view-first"])
def test_a_view_is_timed_from_its_call_to_its_picture(name: str) -> None:
    found = run(name)
    assert found.value is not None
    assert found.value > 0
    assert "MB received" in found.note or name == "view-first"


def test_where_no_browser_is_the_bench_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(views, "missing", lambda: ["chromium"])
    with pytest.raises(NotMeasured, match="not here: chromium; `pip install"):
        views.view_first(lambda _words: None)


def test_a_dashboards_cost_is_a_ratio() -> None:
    found = views.view_dashboard(lambda _words: None)
    assert isinstance(found, Measurement)
    assert 0 < found.value < 10
