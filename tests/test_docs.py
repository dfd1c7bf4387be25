"""What the documents say is there is there: paths, make targets, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from vlab.cli import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/READING_ORDER.md", "docs/index.md")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    text = text_of(document)
    named = set(re.findall(r"`((?:vlab|tests|docs)/[\w./]*\w)`", text))
    named |= {f"{Path(document).parent}/{link}" for link in re.findall(r"\]\(([^):#]+)\)", text)}
    assert named
    assert not sorted(path for path in named if not (ROOT / path).exists())


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
