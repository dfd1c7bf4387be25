"""Builds the JupyterLab extension: ``python -m vlab.jupyter.extension.build``, where Node.js is.

What it builds lies in vlab/jupyter/labextension and is part of the repository, so that installing vlab needs
no Node.js. Its package.json holds the fingerprint of what it was built from; a test compares the two.
Needs Node.js 20.19 or newer and ``pip install jupyter-builder``, and fetches packages from npm's registry.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

EXTENSION: Final = Path(__file__).parent
OUTPUT: Final = EXTENSION.parent / "labextension"
STATIC: Final = EXTENSION.parents[1] / "widgets" / "static"
_SOURCES: Final = (
    "package.json",
    "yarn.lock",
    "tsconfig.json",
    "src/*.ts",
    "src/*.json",
    "schema/*.json",
    "style/*.css",
)
_SHARED: Final = re.compile(r"""['"](?:(?:\.\./)+widgets/static|\.)/([\w-]+\.(?:js|css))['"]""")


def sources() -> Iterator[tuple[str, bytes]]:
    """Give name and content of all that decides what the extension does, the same on every system."""
    own = [path for pattern in _SOURCES for path in sorted(EXTENSION.glob(pattern))]
    shared: dict[Path, None] = {}
    waiting = own.copy()
    while waiting:
        named = {STATIC / name for name in _SHARED.findall(waiting.pop().read_text(encoding="utf-8"))}
        new = named - shared.keys()
        shared.update(dict.fromkeys(new))
        waiting += new
    for path in (*own, *sorted(shared)):
        yield path.name, path.read_text(encoding="utf-8").encode()


def fingerprint() -> str:
    """Give the SHA-256 of the sources."""
    digest = hashlib.sha256()
    for name, content in sources():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def built_from() -> str:
    """Give the fingerprint of the sources that the built extension was built from."""
    found = json.loads((OUTPUT / "package.json").read_text(encoding="utf-8"))
    return str(found["vlab"]["sources"])


def build(folder: Path = EXTENSION) -> None:
    """Build the extension whose sources are in ``folder``, beside it. Raises CalledProcessError."""
    if not (folder / "node_modules").is_dir():
        _run(folder, "jlpm", "install", "--immutable")
    output = folder.parent / OUTPUT.name
    for old in (folder / "lib", output):
        shutil.rmtree(old, ignore_errors=True)
    _tell(folder / "src" / "recorded.json")
    _run(folder, "jlpm", "run", "types")
    _run(folder, "jupyter-builder", "build", ".")
    _finish(output / "package.json")


def _run(folder: Path, tool: str, *arguments: str) -> None:
    beside = Path(sys.executable).with_name(tool)
    subprocess.run([str(beside) if beside.exists() else tool, *arguments], cwd=folder, check=True)


def _tell(path: Path) -> None:
    """Write down what the views need to know without a kernel."""
    line = [sys.executable, "-m", "vlab.widgets.kernelless"]
    path.write_bytes(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)


def _finish(path: Path) -> None:
    """Leave in package.json what JupyterLab reads of it, and add the fingerprint."""
    made = json.loads(path.read_text(encoding="utf-8"))
    for name in ("scripts", "devDependencies", "resolutions", "files"):
        made.pop(name, None)
    made["vlab"] = {"sources": fingerprint()}
    path.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build()
