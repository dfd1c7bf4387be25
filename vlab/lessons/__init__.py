"""What a lesson's notebook uses: questions to predict, experiments' answers, checks, hints and progress.

>>> from vlab.lessons import lesson
>>> lab = lesson("02", student="ada")
>>> lab.title
'Trap and emulate'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlab.lessons.lab import Lesson, lesson

__all__ = ["Lesson", "lesson"]


def __getattr__(name: str) -> object:
    """Import what a notebook uses when it is asked for: the command line does without widgets."""
    if name not in __all__:
        raise AttributeError(f"module 'vlab.lessons' has no attribute {name!r}; it has {', '.join(__all__)}")
    from vlab.lessons import lab

    value: object = getattr(lab, name)
    return value
