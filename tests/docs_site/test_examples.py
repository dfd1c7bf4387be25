"""The examples run: `>>>` in docstrings and pages, and the Python of pages, which prints what they say."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
from pathlib import Path

import pytest

from tests.docs_site.pages import PAGES, ROOT, Block, blocks, text_of

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: These need what a test machine may not have; README's sessions are run by tests/test_docs.py.
NEEDS_ASSEMBLER = {"vlab.guests.assembler"}


def modules_with_examples() -> list[str]:
    sources = sorted(path for path in (ROOT / "vlab").rglob("*.py") if "node_modules" not in path.parts)
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources
        if ">>> " in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_docstring_run(name: str) -> None:
    if name in NEEDS_ASSEMBLER:
        from vlab.errors import UnusableInput
        from vlab.guests.assembler import assemble

        try:
            assemble("nop", bits=16)
        except UnusableInput as error:
            pytest.skip(f"no assembler: {error}")
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert tried
    assert not failed


def examples() -> list[str]:
    return [
        page for page in PAGES if any(block.kind in ("python", "pycon") for block in blocks(text_of(page)))
    ]


def expected_after(found: list[Block], number: int) -> Block | None:
    """The text block that stands right behind a piece of Python is what it prints."""
    if found[number].after.strip() or number + 1 == len(found):
        return None
    return found[number + 1] if found[number + 1].kind == "text" else None


def run(page: str, block: Block, names: dict[str, object]) -> str:
    printed = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, page, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


@pytest.mark.parametrize("page", examples())
def test_the_python_of_a_page_prints_what_the_page_says(
    page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    checker = doctest.OutputChecker()
    names: dict[str, object] = {"__name__": "__main__"}
    found = list(blocks(text_of(page)))
    for number, block in enumerate(found):
        if block.kind == "pycon":
            test = doctest.DocTestParser().get_doctest(block.text, names, page, page, block.line)
            problems: list[str] = []
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            runner.run(test, out=problems.append, clear_globs=False)
            names.update(test.globs)
            assert not problems, "".join(problems)
        elif block.kind == "python":
            printed = run(page, block, names)
            expected = expected_after(found, number)
            if expected is not None:
                fits = checker.check_output(expected.text, printed, FLAGS)
                assert fits, f"{page}, line {expected.line}: printed was\n{printed}"


def test_the_pages_that_teach_have_examples_that_run() -> None:
    taught = {page for page in PAGES if page.startswith(("docs/tutorials/", "docs/howto/"))}
    assert taught <= set(examples())
