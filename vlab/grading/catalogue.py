"""The lessons there are: directories ``NN_topic`` with a notebook, exercises and, in a checkout, a source.

In a checkout they are in ``labs/`` beside the package, installed they are in ``vlab/labs``. The environment
variable ``VLAB_LABS`` names another directory, for lessons of your own.
"""

from __future__ import annotations

import importlib.util
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
    def notebook(self) -> Path:
        """The student edition."""
        return self.directory / f"{self.name}.ipynb"

    @property
    def title(self) -> str:
        """What the lesson is called, from the directory's name."""
        return self.name.partition("_")[2].replace("_", " ").capitalize()

    def module(self) -> ModuleType:
        """Load the exercises' module, under a name that is the same in each process.

        Raises UnusableInput when it is not there or cannot be loaded.
        """
        return _load(f"vlab_exercises_{self.id}", self.exercises_module)

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
        module = _load(f"vlab_mistakes_{self.id}", self.mistakes_module)
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


def _load(name: str, path: Path) -> ModuleType:
    """Load a module from its file once; it is loaded anew when another file takes its name."""
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    return _execute(name, path)


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise UnusableInput(f"lesson: there is no '{path}'; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        line = (
            f"{path}:{place.tb_lineno}" if place and place.tb_frame.f_code.co_filename == str(path) else path
        )
        raise UnusableInput(f"{line}: {type(error).__name__}: {error}; correct the exercises") from error
    return module
