"""What the documents say is there is there: paths, make targets, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tests.docs_site.pages import DOCUMENTS, ROOT, text_of
from vlab.cli import cli


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    text = text_of(document)
    named = set(re.findall(r"`((?:vlab|tests|docs)/[\w./]*\w)`", text))
    named |= {f"{Path(document).parent}/{link}" for link in re.findall(r"\]\(([^):#]+)\)", text)}
    assert not sorted(path for path in named if not (ROOT / path).exists())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_that_is_named_by_its_file_exists(document: str) -> None:
    modules = {
        str(path.relative_to(ROOT))
        for part in ("vlab", "tests", "docs", "labs")
        for path in (ROOT / part).rglob("*.py")
    }
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text_of(document)))
    named = {name for name in named if name.islower()} - {
        "nbgrader_config.py"
    }  # NN_EXERCISE.py: names of files
    assert not sorted(
        name for name in named if not any(f"/{module}".endswith(f"/{name}") for module in modules)
    )


def test_every_document_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^):#]+)\)", text_of("docs/index.md")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    shown = {page for page in pages if text_of(f"docs/{page}").startswith("<!-- shows ")}
    assert pages - shown <= linked | {"index.md"}


def test_every_package_of_vlab_has_its_row_in_the_architecture() -> None:
    packages = {path.parent.name for path in (ROOT / "vlab").glob("*/__init__.py")}
    first_cells = re.findall(r"(?m)^\| ([^|]*) \|", text_of("docs/ARCHITECTURE.md"))
    assert packages <= {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_method_that_the_documents_name_is_there() -> None:
    import vlab

    for document in DOCUMENTS:
        for name in re.findall(r"\bvm\.(\w+)", text_of(document)):
            assert hasattr(vlab.VM, name) or name in ("console", "loaded"), f"{document}: vm.{name}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", text_of(document), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_that_is_named_exists(document: str) -> None:
    text = text_of(document).replace("\\\n", " ")
    for name, rest in re.findall(r"(?:^    |`)vlab ([a-z]+)([^`\n]*)", text, re.MULTILINE):
        command = cli.commands[name]
        options = {
            option for each in commands_below(command) for param in each.params for option in param.opts
        }
        assert set(re.findall(r"(?<!\S)--[a-z]+", rest)) <= options, f"vlab {name}{rest}"


def sessions() -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of("README.md"), re.DOTALL)


def test_the_first_python_session_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(sessions()[0], {})
    output = capsys.readouterr().out
    for words in ("the guest ended with status 0 (success)", "ring 0 -> ring 3", "IOIO", "time_ns"):
        assert words in output


@pytest.mark.linux
@pytest.mark.slow
def test_the_linux_session_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec("import vlab\n" + sessions()[1], {})
    assert "walk of 0xffffffff81000000" in capsys.readouterr().out


def commands_below(command: click.Command) -> list[click.Command]:
    return [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
