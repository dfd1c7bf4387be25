"""What happened in a guest: exits and the events between them, recorded while it runs, read at any time.

`recorder` is the part on the hot path; `exits` is what a user reads; `file`, `perfetto` and `summary` take a
trace elsewhere. The names below are imported on first use: recording alone needs neither NumPy nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlab.trace.events import ExitEvent, Kind
    from vlab.trace.exits import Exits
    from vlab.trace.file import TraceFile, TraceFileError, load, save
    from vlab.trace.recorder import LEVELS, Level, Mark, Recorder
    from vlab.trace.summary import Summary, summarize

_HOMES = {
    "ExitEvent": "events",
    "Exits": "exits",
    "Kind": "events",
    "LEVELS": "recorder",
    "Level": "recorder",
    "Mark": "recorder",
    "Recorder": "recorder",
    "Summary": "summary",
    "TraceFile": "file",
    "TraceFileError": "file",
    "load": "file",
    "save": "file",
    "summarize": "summary",
}

__all__ = [
    "LEVELS",
    "ExitEvent",
    "Exits",
    "Kind",
    "Level",
    "Mark",
    "Recorder",
    "Summary",
    "TraceFile",
    "TraceFileError",
    "load",
    "save",
    "summarize",
]


def __getattr__(name: str) -> object:
    """Import the module behind a public name the first time that the name is asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vlab.trace' has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(import_module(f"vlab.trace.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names as well, for completion in notebooks."""
    return sorted(__all__)
