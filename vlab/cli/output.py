"""How commands speak: results on standard output, the rest on standard error, JSON and traces in files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import click

from vlab.errors import UnusableInput

__all__ = ["INPUT_FILE", "SECONDS", "WRITABLE_FILE", "say", "write_json"]


class _File(click.ParamType[Path]):
    """The path of a file; `trouble` says why one is of no use, or None."""

    name = "file"

    def __init__(self, trouble: Callable[[Path], str | None]) -> None:
        self._trouble = trouble

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        try:
            trouble = self._trouble(path)
        except OSError as error:
            trouble = f"'{path}' cannot be looked at ({error.strerror}); check the path"
        if trouble:
            self.fail(trouble, param, ctx)
        return path


def _unreadable(path: Path) -> str | None:
    if path.is_dir():
        return f"'{path}' is a directory; name a file in it"
    if not path.exists():
        return f"there is no file '{path}'; check the path"
    return None if os.access(path, os.R_OK) else f"'{path}' cannot be read; check its permissions"


def _unwritable(path: Path) -> str | None:
    folder = path.absolute().parent
    if path.is_dir():
        return f"'{path}' is a directory; name a file in it"
    if not folder.is_dir():
        return f"the directory '{folder}' does not exist; create it first"
    writable = os.access(path if path.exists() else folder, os.W_OK)
    return None if writable else f"'{path}' cannot be written here; name another file"


INPUT_FILE = _File(_unreadable)
"""A file that a command reads."""
WRITABLE_FILE = _File(_unwritable)
"""A file that is written at the end of a command, checked before the work begins."""


class _Seconds(click.ParamType[float]):
    """A time that something may take, more than 0."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            self.fail(f"{value!r} is no time to wait; write seconds above 0, such as 30", param, ctx)
        return seconds


SECONDS = _Seconds()


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON.

    Raises UnusableInput when the file cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnusableInput(f"'{path}' cannot be written: {error.strerror}; name another file") from error


def say(line: str) -> None:
    """Write one line for the person at the terminal, on standard error."""
    click.echo(line, err=True)
