"""The lessons there are: directories ``NN_topic`` with a notebook, exercises and, in a checkout, a source.

In a checkout they are in ``labs/`` beside the package, installed they are in ``vlab/labs``. The environment
variable ``VLAB_LABS`` names another directory, for lessons of your own.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.exercise import Exercise
from vlab.paths import expand

__all__ = ["LessonFiles", "find", "labs_directory", "lessons"]

_NAME: Final = re.compile(r"(\d\d)_[a-z0-9_]+")
_PACKAGE: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class LessonFiles:
    """Where a lesson's files are.

    id: two digits. name: the directory's, such as ``02_trap_and_emulate``. source: the one source that
    editions are built from; it is there in a checkout only. exercises_module: the file with ``EXERCISES``.
    """

    id: str
    name: str
    directory: Path

    @property
    def source(self) -> Path:
        """The lesson's source, which an installed vlab does without."""
        return self.directory / "lesson.md"

    @property
    def exercises_module(self) -> Path:
        """The module with ``EXERCISES``; a lesson without exercises has none."""
        return self.directory / f"exercises_{self.id}.py"

    @property
    def mistakes_module(self) -> Path:
        """The module with ``MISTAKES``, which an installed vlab does without: it has lines of solutions."""
        return self.directory / f"mistakes_{self.id}.py"

    @property
    def modules(self) -> tuple[Path, ...]:
        """The files of the exercises: ``exercises_NN.py``, and what it imports from beside it."""
        found = sorted(self.directory.glob(f"*_{self.id}.py"))
        return tuple(each for each in found if each != self.mistakes_module)

    @property
    def notebook(self) -> Path:
        """The student edition."""
        return self.directory / f"{self.name}.ipynb"

    @property
    def title(self) -> str:
        """What the lesson is called, from the directory's name."""
        return self.name.partition("_")[2].replace("_", " ").capitalize()

    def module(self) -> ModuleType:
        """Load the exercises' module, under its file's name.

        It can import, at its top, files beside it whose names end in the number. Raises UnusableInput
        when it is not there or cannot be loaded.
        """
        return _load(self.exercises_module)

    def exercises(self) -> tuple[Exercise, ...]:
        """Give the lesson's exercises in their order, with the typical mistakes where those are there.

        Raises UnusableInput for a module that has none.
        """
        if not self.exercises_module.exists():
            return ()
        found: object = getattr(self.module(), "EXERCISES", None)
        if not isinstance(found, tuple) or not all(isinstance(each, Exercise) for each in found):
            raise UnusableInput(
                f"lesson: '{self.exercises_module}' has no tuple EXERCISES of Exercise objects; write one"
            )
        idents = [each.ident for each in found]
        for each in idents:
            if idents.count(each) > 1:
                raise UnusableInput(
                    f"lesson: '{self.exercises_module}' has two exercises {each!r}; rename one"
                )
        return self._with_mistakes(found)

    def _with_mistakes(self, exercises: tuple[Exercise, ...]) -> tuple[Exercise, ...]:
        if not self.mistakes_module.exists():
            return exercises
        module = _load(self.mistakes_module)
        found: object = getattr(module, "MISTAKES", None)
        known = [each.ident for each in exercises]
        if not isinstance(found, dict) or not set(found) <= set(known):
            raise UnusableInput(
                f"lesson: '{self.mistakes_module}' has no MISTAKES by exercise; write a dictionary with "
                f"tuples of Mistake for some of {', '.join(known)}"
            )
        return tuple(replace(each, mistakes=found.get(each.ident, ())) for each in exercises)


def labs_directory() -> Path | None:
    """Give the directory with the lessons, or None where there are none.

    Raises UnusableInput when ``VLAB_LABS`` names no directory.
    """
    own = os.environ.get("VLAB_LABS")
    if own:
        directory = expand(own).absolute()
        if not directory.is_dir():
            raise UnusableInput(f"VLAB_LABS: there is no directory '{own}'; name one that holds lessons")
        return directory
    places = (_PACKAGE / "labs", _PACKAGE.parent / "labs")
    return next((each for each in places if each.is_dir()), None)


def lessons(directory: Path | None = None) -> list[LessonFiles]:
    """List the lessons in their order.

    directory: where to look, in place of `labs_directory`. Raises UnusableInput when two lessons have one
    number.
    """
    where = labs_directory() if directory is None else directory
    if where is None:
        return []
    found: dict[str, LessonFiles] = {}
    for each in sorted(where.iterdir()):
        match = _NAME.fullmatch(each.name)
        if match is None or not each.is_dir():
            continue
        lesson = LessonFiles(match[1], each.name, each)
        if not (lesson.source.exists() or lesson.notebook.exists()):
            continue
        other = found.setdefault(lesson.id, lesson)
        if other is not lesson:
            raise UnusableInput(f"lesson: {other.name} and {lesson.name} have one number; change one of them")
    return list(found.values())


def find(lesson: str, directory: Path | None = None) -> LessonFiles:
    """Find a lesson by its two digits or its name. Raises UnusableInput when there is none."""
    known = lessons(directory)
    for each in known:
        if lesson in (each.id, each.name):
            return each
    there = ", ".join(each.id for each in known)
    raise UnusableInput(
        f"lesson: there is no lesson {lesson!r}; "
        + (f"choose one of {there}" if there else "no lessons are installed here")
    )


def _load(path: Path) -> ModuleType:
    """Load a module from its file once; anew when another directory has a file of that name."""
    loaded = sys.modules.get(path.stem)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    if not path.exists():
        raise UnusableInput(f"lesson: there is no '{path}'; check the path")
    for each in path.parent.glob(f"*{path.stem[-3:]}.py"):
        other = sys.modules.get(each.stem)
        if other is not None and other.__file__ != str(each):
            del sys.modules[each.stem]
    importlib.invalidate_caches()
    sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.stem)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise UnusableInput(f"{_place(error, path)}: {what}; correct the exercises") from error
    finally:
        sys.path.remove(str(path.parent))


def _place(error: BaseException, path: Path) -> str:
    """Say where in the lesson's own files an exception came from, or was let through."""
    found, frame = str(path), error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code.co_filename
        if Path(code).parent == path.parent:
            found = f"{code}:{frame.tb_lineno}"
        frame = frame.tb_next
    return found
