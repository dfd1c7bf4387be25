"""The optional compiled helper: built once, left out on request, and missed with a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.machine import helper


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Forget what was loaded; use an empty cache directory."""
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("VLAB_HELPER", raising=False)
    helper._load.cache_clear()
    helper.load.cache_clear()
    yield tmp_path / "helper"
    helper._load.cache_clear()
    helper.load.cache_clear()


needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler here"
)


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no"])
def test_the_environment_leaves_the_helper_out(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("VLAB_HELPER", word)
    assert helper.load() is None
    assert helper.status() == "off, as VLAB_HELPER says"
    assert not fresh.exists()


@needs_compiler
def test_it_is_built_once_and_then_only_loaded(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert helper.load() is not None
    (built,) = fresh.iterdir()
    assert helper.status() == f"in use ({built})"
    helper._load.cache_clear()
    helper.load.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # no compiler is asked for a second time
    assert helper.load() is not None


def test_without_a_compiler_the_status_says_so(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert helper.load() is None
    assert helper.status() == "not there: no C compiler (cc, gcc or clang); everything works, more slowly"


def test_a_compiler_that_fails_is_named_with_its_last_word(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'cc: no such sysroot' >&2\nexit 1\n", encoding="ascii")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken) if name == "cc" else None)
    assert helper.load() is None
    assert helper.status() == f"not there: {broken} failed: cc: no such sysroot"
    assert not any(fresh.iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/cc")
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_text("a file where the directory should be", encoding="ascii")
    assert helper.load() is None
    assert helper.status().startswith("not there: ")


def test_a_library_that_does_not_load_says_what_to_delete(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_source: bytes, path: Path) -> str:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no library")
        return ""

    monkeypatch.setattr(helper, "_build", build)
    assert helper.load() is None
    (built,) = fresh.iterdir()
    assert helper.status().startswith("cannot be loaded (")
    assert helper.status().endswith(f"; delete {built} to have it rebuilt")
