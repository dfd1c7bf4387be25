"""What a lesson's notebook uses: questions to predict, experiments' answers, checks, hints and progress.

>>> from vlab.lessons import lesson
>>> lab = lesson("02", student="ada")
>>> lab.title
'Trap-and-emulate'
"""

from __future__ import annotations

from vlab.lessons.lesson import Lesson, lesson

__all__ = ["Lesson", "lesson"]
