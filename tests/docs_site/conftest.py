"""The site, built once for the tests that look at it, however many workers there are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs_site.pages import ROOT

PATIENCE = 300


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as `make docs` does, warnings as errors."""
    pytest.importorskip("sphinx", reason="Sphinx is not here: pip install -e '.[docs]'")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    said = folder / "said"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker builds it
        for _ in range(10 * PATIENCE):
            if said.exists():
                break
            time.sleep(0.1)
    else:
        _build(folder).replace(said)
    assert said.read_text() == ""
    return folder / "html"


def _build(folder: Path) -> Path:
    line = [
        sys.executable, "-m", "sphinx", "-E", "-q", "-W", "--keep-going", "-b", "html",
        "-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html"),
    ]  # fmt: skip
    built = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    words = built.stderr.strip()[-4000:]
    file = folder / "saying"
    file.write_text(words if words or not built.returncode else f"Sphinx ended with {built.returncode}")
    return file
