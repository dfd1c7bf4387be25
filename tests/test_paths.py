"""Where files of the user's go: each platform's rules, and what overrides them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vlab import paths
from vlab.guests import index, store
from vlab.machine import helper

VARIABLES = ("VLAB_CACHE", "VLAB_DATA", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")


@pytest.mark.parametrize(
    ("platform", "environment", "cache", "data"),
    [
        ("linux", {}, "/home/ada/.cache/vlab", "/home/ada/.local/share/vlab"),
        ("freebsd14", {}, "/home/ada/.cache/vlab", "/home/ada/.local/share/vlab"),
        ("linux", {"XDG_CACHE_HOME": "/fast", "XDG_DATA_HOME": "/safe"}, "/fast/vlab", "/safe/vlab"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/vlab", "/home/ada/.local/share/vlab"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/vlab", "/home/ada/.local/share/vlab"),
        ("darwin", {}, "/home/ada/Library/Caches/vlab", "/home/ada/Library/Application Support/vlab"),
        (
            "darwin",
            {"XDG_CACHE_HOME": "/fast"},
            "/home/ada/Library/Caches/vlab",
            "/home/ada/Library/Application Support/vlab",
        ),
        ("win32", {"LOCALAPPDATA": "/L"}, "/L/vlab/Cache", "/L/vlab/Data"),
        ("win32", {}, "/home/ada/AppData/Local/vlab/Cache", "/home/ada/AppData/Local/vlab/Data"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the paths are written the Unix way")
def test_directories_follow_the_platforms_rules(
    platform: str, environment: dict[str, str], cache: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert paths.cache_directory() == Path(cache)
    assert paths.data_directory() == Path(data)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_vlabs_own_variables_go_before_every_rule(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    monkeypatch.setenv("LOCALAPPDATA", "/L")
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "platform", platform)
    assert paths.cache_directory() == tmp_path / "cache"
    assert paths.data_directory() == tmp_path / "data"


@pytest.mark.skipif(os.name != "posix", reason="sets HOME")
def test_a_tilde_and_a_relative_path_are_taken_as_the_user_means_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLAB_CACHE", "~/scratch")
    assert paths.cache_directory() == Path("/home/ada/scratch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLAB_CACHE", "here")
    assert paths.cache_directory() == tmp_path / "here"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "~\0"])
def test_a_tilde_that_nobody_has_stays(path: str) -> None:
    assert paths.expand(path) == Path(path)


def test_everything_that_is_kept_goes_below_the_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, data = tmp_path / "cache", tmp_path / "data"
    monkeypatch.setenv("VLAB_CACHE", str(cache))
    monkeypatch.setenv("VLAB_DATA", str(data))
    assert store.Entry("vmlinuz", "0" * 64, 1).path.is_relative_to(cache)
    assert index._own_path().is_relative_to(data)
    assert index._fetched_path("linux").is_relative_to(cache)
    built: list[Path] = []
    monkeypatch.delenv("VLAB_HELPER", raising=False)
    monkeypatch.setattr(helper, "_build", lambda _source, path: built.append(path) or "not built")
    assert helper._load.__wrapped__() == (None, "not built")
    assert built[0].parent == cache / "helper"
