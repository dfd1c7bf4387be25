"""The shape of the code: a module is one idea, a function fits a screen, nothing swallows every exception."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE_LINES = 400
FUNCTION_LINES = 70

#: Generated tables, which may be as long as what they tabulate.
TABLES: set[str] = set()

SOURCES = sorted(
    path
    for folder in ("vlab", "labs")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)
LEFT_OVER = re.compile(r"\b(TODO|FIXME|XXX)\b")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def complaints(name: str, source: str) -> list[str]:
    """List what breaks the house rules in one module."""
    found = []
    lines = source.splitlines()
    if len(lines) > MODULE_LINES and name not in TABLES:
        found.append(f"{name}: {len(lines)} lines, more than {MODULE_LINES}: split it by idea")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(
                    f"{name}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"
                )
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{name}:{node.lineno}: a bare except also catches Ctrl-C: name the exceptions")
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            found.append(f"{name}:{node.lineno}: a star import hides where names come from")
        elif isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in ast.unparse(node.exc):
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)}: write it, or leave it abstract")
    found += [
        f"{name}:{number}: {line.strip()}: finish it or write down the limit"
        for number, line in enumerate(lines, 1)
        if LEFT_OVER.search(line)
    ]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_keeps_the_house_rules(path: Path) -> None:
    found = complaints(relative(path), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_the_rules_notice_what_breaks_them() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES))
    source = (
        f"from os import *\ndef f():\n{body}\n\ntry:\n    f()\nexcept:\n    pass  # TODO\n"
        "raise NotImplementedError('later')\n" + "\n" * MODULE_LINES
    )
    found = "\n".join(complaints("m.py", source))
    for word in (
        "split it by idea",
        "f has 71 lines",
        "bare except",
        "star import",
        "finish it",
        "write it",
    ):
        assert word in found
