"""Where vlab keeps files of the user's: the one place that knows each platform's rules.

Linux and other Unixes follow the XDG base directory specification 0.8, macOS its Library folders, Windows
its local application data. `VLAB_CACHE` and `VLAB_DATA` go before all of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_directory", "data_directory", "expand"]


def cache_directory() -> Path:
    """Return the directory for what can be fetched or built again; ``VLAB_CACHE`` overrides the rules."""
    return _directory("VLAB_CACHE", "XDG_CACHE_HOME", ".cache", "Library/Caches", "Cache")


def data_directory() -> Path:
    """Return the directory for what the user made; ``VLAB_DATA`` overrides the rules."""
    return _directory("VLAB_DATA", "XDG_DATA_HOME", ".local/share", "Library/Application Support", "Data")


def _directory(own: str, xdg: str, unix: str, macos: str, windows: str) -> Path:
    if os.environ.get(own):
        return expand(os.environ[own]).absolute()
    home = expand("~")
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData" / "Local") / "vlab" / windows
    if sys.platform == "darwin":
        return home / macos / "vlab"
    base = os.environ.get(xdg, "")
    # the specification: a relative path counts as unset
    return (Path(base) if Path(base).is_absolute() else home / unix) / "vlab"


def expand(path: str | Path) -> Path:
    """Return a path of the user's with ``~`` replaced, where this computer knows a home directory."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):
        return Path(path)
