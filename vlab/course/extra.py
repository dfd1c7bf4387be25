"""What comes with the extra ``vlab[grade]``, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vlab.errors import VlabError

__all__ = ["needed", "there"]


def needed(module: str, project: str) -> Any:
    """Import a module of a project. Raises VlabError when the project is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise VlabError(
            f"{project} is not installed, and this needs it; `python -m pip install 'vlab[grade]'` brings it"
        ) from error


def there(module: str) -> bool:
    """Whether a module is installed, without importing it."""
    return find_spec(module) is not None
