"""The built JupyterLab extension belongs to its sources, is small, and does not tell where it was built."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from vlab import __version__
from vlab.jupyter.extension import build
from vlab.widgets.kernelless import facts

BUILT = build.OUTPUT
FILES = sorted(path for path in BUILT.rglob("*") if path.is_file())
REBUILD = "rebuild it: python -m vlab.jupyter.extension.build (needs Node.js and jupyter-builder)"


def test_it_was_built_from_the_sources_that_are_here() -> None:
    assert build.built_from() == build.fingerprint(), f"the extension is older than its sources; {REBUILD}"


def test_what_views_know_without_a_kernel_is_what_python_knows() -> None:
    written = json.loads((build.EXTENSION / "src" / "recorded.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(facts())), f"src/recorded.json is old; {REBUILD}"


def test_every_file_that_it_names_is_there_and_it_is_small() -> None:
    about = json.loads((BUILT / "package.json").read_text(encoding="utf-8"))
    assert (BUILT / about["jupyterlab"]["_build"]["load"]).is_file()
    assert (BUILT / "schemas" / "vlab" / "plugin.json").is_file()
    assert about["version"] == __version__
    assert sum(path.stat().st_size for path in FILES) < 400_000
    assert not [path.name for path in FILES if path.suffix == ".map"], "source maps tell where it was built"


@pytest.mark.parametrize(
    "path",
    [*FILES, build.EXTENSION / "yarn.lock", build.EXTENSION / "package.json"],
    ids=lambda path: path.name,
)
def test_no_file_names_a_registry_or_a_place_on_a_computer(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^//# sourceMappingURL", text, re.MULTILINE)
    assert str(Path(__file__).parents[2]) not in text
    assert not re.search(r"/(?:home|root|Users|tmp)/\w", text)
    found = set(re.findall(r"https?://([\w.-]+)", text))
    assert found <= {"www.w3.org", "www.apache.org", "github.com", "jupyter.org"}, found


@pytest.mark.parametrize("path", sorted(build.EXTENSION.glob("s*/*.[tc]s*")), ids=lambda path: path.name)
def test_a_source_is_one_idea_in_lines_that_fit(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 110


def test_python_finds_it_where_jupyterlab_looks() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"vlab/jupyter/labextension" = "share/jupyter/labextensions/vlab"' in project
    about = json.loads((build.EXTENSION / "install.json").read_text(encoding="utf-8"))
    assert (about["packageManager"], about["packageName"]) == ("python", "vlab")


@pytest.mark.rebuild
def test_building_it_again_gives_the_same(tmp_path: Path) -> None:
    copy = tmp_path / "checkout" / "vlab" / "jupyter" / "extension"
    ignored = shutil.ignore_patterns("node_modules", "lib", ".yarn", "__pycache__")
    shutil.copytree(build.EXTENSION, copy, ignore=ignored)
    shutil.copytree(build.STATIC, tmp_path / "checkout" / "vlab" / "widgets" / "static")
    build.build(copy)
    again, here = settled(copy.parent / "labextension"), settled(BUILT)
    assert sorted(again) == sorted(here)
    assert [name for name in here if again[name] != here[name]] == [], REBUILD


def settled(folder: Path) -> dict[str, str]:
    """Give all files but for what depends on the folder's name: a number of the entry, and so its hash."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name, text = (ENTRY.sub("entry", each) for each in (path.name, path.read_text(encoding="utf-8")))
            found[name] = re.sub(r"\b\d{3}\b", "N", text) if ENTRY.match(path.name) else text
    return found


ENTRY = re.compile(r"remoteEntry\.\w+")
