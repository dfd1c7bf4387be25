"""What is bundled is what its recipe makes, says whose it is, and tells nothing of where it was made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from vlab.widgets.bundle import STATIC, module

RECIPE = STATIC.with_name("bundled")
FILES = ("xterm.js", "xterm.css")


@pytest.mark.parametrize("name", FILES)
def test_a_bundle_begins_with_its_licences_and_versions(name: str) -> None:
    text = (STATIC / name).read_text(encoding="utf-8")
    notice = text[: text.index("*/")]
    for package, version in json.loads((RECIPE / "package.json").read_text())["devDependencies"].items():
        if package.startswith("@xterm/"):
            assert f"{package} {version}, under the MIT licence" in notice
    assert notice.count("Permission is hereby granted, free of charge") == 2
    assert notice.count("Copyright (c)") == 4


def test_a_bundle_gives_two_names_and_imports_nothing() -> None:
    text = (STATIC / "xterm.js").read_text(encoding="utf-8")
    code = text.partition("*/\n")[2]
    assert re.match(r"var bundledXterm=\(\(\)=>\{", code)
    names = "export const { Terminal: XtermTerminal, FitAddon: XtermFit } = bundledXterm;"
    assert code.endswith("})();\n" + names + "\n")
    assert not re.search(r"\bimport\(|^import\b|\brequire\(", text, re.MULTILINE)
    assert "XtermTerminal" in module("terminal.js")


def test_the_recipe_names_no_registry_and_no_machine() -> None:
    places = (str(Path(__file__).parents[2]), str(Path.home()), tempfile.gettempdir())
    for path in (path for path in RECIPE.iterdir() if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'"resolved"|https?://(?!xtermjs\.org)', text), path.name
        assert not [place for place in places if place in text], path.name


@pytest.mark.rebuild
def test_a_fresh_build_is_the_same(tmp_path: Path) -> None:
    recipe = shutil.copytree(RECIPE, tmp_path / "bundled", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "static").mkdir()
    for line in (["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], ["npm", "run", "build"]):
        done = subprocess.run(line, cwd=recipe, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (tmp_path / "static" / name).read_bytes() == (STATIC / name).read_bytes(), name
