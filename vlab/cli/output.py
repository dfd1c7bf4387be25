"""How commands speak: results on standard output, the rest on standard error, JSON and traces in files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from vlab.errors import UnusableInput

__all__ = ["EXISTING_FILE", "WRITABLE_FILE", "say", "write_json"]

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _WritableFile(click.ParamType[Path]):
    """The path of a file that is written at the end of a command, checked before the work begins."""

    name = "file"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        folder = path.absolute().parent
        if path.is_dir():
            self.fail(f"'{path}' is a directory; name a file in it", param, ctx)
        if not folder.is_dir():
            self.fail(f"the directory '{folder}' does not exist; create it first", param, ctx)
        if not os.access(path if path.exists() else folder, os.W_OK):
            self.fail(f"'{path}' cannot be written here; name another file", param, ctx)
        return path


WRITABLE_FILE = _WritableFile()


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
