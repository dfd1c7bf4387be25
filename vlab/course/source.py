"""A lesson's source: a MyST Markdown notebook, read and checked; a complaint is a line ``FILE:LINE: ...``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from vlab.course.solutions import Unbalanced, blocks, has_solution, unsolved
from vlab.errors import UnusableInput
from vlab.grading.catalogue import LessonFiles
from vlab.grading.exercise import Exercise
from vlab.grading.first_line import marker, marker_of

__all__ = ["Cell", "Lesson", "LessonProblems", "Role", "read"]

Role = Literal["prose", "code", "setup", "exercise", "check", "predict", "reveal"]

TAGS: Final = {
    "exercise", "check", "solution-only", "instructor", "raises-exception", "hide-input", "hide-output",
}  # fmt: skip
_IDENT: Final = re.compile(r"[a-z][a-z0-9_-]*")
_CHECK: Final = re.compile(r"""lab\.check\((["'])([a-z0-9_-]+)\1\)""")
_ASKED: Final = re.compile(r"""\blab\.(predict|reveal)\(\s*(["'])(.*?)\2""")
_MAY_IMPORT: Final = "vlab.isa"


class LessonProblems(UnusableInput):
    """A lesson's source that cannot be built. problems: each a line, ``FILE:LINE: what is wrong``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the source.

    kind: as in the notebook format. name: the exercise of an exercise or check cell, the question of a
    predict or reveal cell. line: of the text's first line in the source, from 1.
    """

    kind: Literal["markdown", "code", "raw"]
    role: Role
    text: str
    line: int
    name: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson that is in order. minutes: that it takes. exercises: in the order of ``EXERCISES``."""

    files: LessonFiles
    title: str
    minutes: int
    needs_linux: bool
    cells: tuple[Cell, ...]
    exercises: tuple[Exercise, ...]

    def exercise_cell(self, ident: str) -> Cell:
        """Give the cell of an exercise."""
        return next(each for each in self.cells if each.role == "exercise" and each.name == ident)


def read(files: LessonFiles) -> Lesson:
    """Read a lesson's source and its exercises. Raises LessonProblems with all that is wrong."""
    if not files.source.exists():
        raise UnusableInput(f"lesson: '{files.source}' is not here; sources come with a checkout of vlab")
    exercises = files.exercises()
    notebook = _parse(files)
    reading = _Reading(files, exercises)
    header = notebook["metadata"].get("vlab")
    reading.header(header)
    lines = files.source.read_text(encoding="utf-8").split("\n")
    for raw, start in zip(notebook["cells"], notebook["metadata"]["source_map"], strict=True):
        reading.cell(raw, _line_of(raw["source"], start, lines))
    reading.finish()
    if reading.problems:
        raise LessonProblems([text for _, text in sorted(reading.problems)])
    return Lesson(
        files,
        str(header["title"]),
        int(header["minutes"]),
        bool(header.get("needs_linux", False)),
        tuple(reading.cells),
        exercises,
    )


def _parse(files: LessonFiles) -> Any:
    from vlab.course.extra import needed

    myst = needed("jupytext.myst", "jupytext")
    try:
        return myst.myst_to_notebook(files.source.read_text(encoding="utf-8"), add_source_map=True)
    except myst.MystMetadataParsingError as error:
        line = re.search(r"line (\d+)", str(error))
        said = " ".join(str(error).split())
        raise LessonProblems([f"{files.source}:{line[1] if line else 1}: {said}"]) from error


def _line_of(source: str, start: int, lines: Sequence[str]) -> int:
    """Find the line, from 1, of a cell's first line; ``start`` is where the cell begins, options and all."""
    first = source.split("\n", 1)[0]
    return next((number + 1 for number in range(start, len(lines)) if lines[number] == first), start + 1)


@dataclass(slots=True)
class _Reading:
    """One reading of one source: cells so far, and what is wrong with them."""

    files: LessonFiles
    exercises: Sequence[Exercise]
    cells: list[Cell] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def complain(self, line: int, text: str) -> None:
        self.problems.append((line, f"{self.files.source}:{line}: {text}"))

    # --- the header -----------------------------------------------------------------------------------------

    def header(self, header: object) -> None:
        """Check ``vlab:`` in the header."""
        wanted = f'vlab: {{lesson: "{self.files.id}", title: ..., minutes: N, needs_linux: false}}'
        if not isinstance(header, Mapping):
            self.complain(1, f"the header has no vlab; write {wanted}")
            return
        if header.get("lesson") != self.files.id:
            self.complain(
                1, f'vlab: lesson is {header.get("lesson")!r}; write "{self.files.id}", with quotes'
            )
        if not isinstance(header.get("title"), str) or not header["title"].strip():
            self.complain(1, f"vlab: title is {header.get('title')!r}; write a few words")
        minutes = header.get("minutes")
        if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
            self.complain(1, f"vlab: minutes is {minutes!r}; write a whole number of minutes")
        if not isinstance(header.get("needs_linux", False), bool):
            self.complain(1, f"vlab: needs_linux is {header['needs_linux']!r}; write true or false")

    # --- one cell -------------------------------------------------------------------------------------------

    def cell(self, raw: Any, line: int) -> None:
        """Take one cell in."""
        text = raw["source"].rstrip()
        tags = raw["metadata"].get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(each, str) for each in tags):
            self.complain(line, f"tags are {tags!r}; write a list, such as [exercise]")
            tags = []
        for tag in tags:
            if tag not in TAGS:
                self.complain(line, f"there is no tag {tag!r}; the tags are {', '.join(sorted(TAGS))}")
        role, name = self._role(raw["cell_type"], text, tags)
        cell = Cell(raw["cell_type"], role, text, line, name, tuple(tags))
        self.cells.append(cell)
        if cell.role == "exercise":
            self._exercise(cell)
        elif has_solution(text):
            self.complain(line, "a solution is marked in a cell that is no exercise; tag the cell exercise")
        if cell.role == "check":
            self._check(cell)
        if cell.role == "setup":
            self._setup(cell)

    def _role(self, kind: str, text: str, tags: Sequence[str]) -> tuple[Role, str]:
        if kind != "code":
            return "prose", ""
        exercise = marker_of(text)
        if "exercise" in tags or exercise is not None:
            return "exercise", exercise or ""
        if "check" in tags or "lab.check(" in text:
            match = _CHECK.fullmatch(text)
            return "check", match[2] if match else ""
        if not any(each.kind == "code" for each in self.cells):
            return "setup", ""
        asked = _ASKED.search(text)
        if asked is None:
            return "code", ""
        return ("predict" if asked[1] == "predict" else "reveal"), asked[3]

    def _setup(self, cell: Cell) -> None:
        wanted = ("import vlab", "from vlab.lessons import lesson", f'lab = lesson("{self.files.id}")')
        lines = cell.text.split("\n")
        missing = [each for each in wanted if each not in lines]
        if missing:
            self.complain(cell.line, f"the first code cell does without {missing[0]!r}; write it there")

    def _check(self, cell: Cell) -> None:
        if "check" not in cell.tags:
            self.complain(cell.line, "lab.check stands in a cell without the tag check; add the tag")
        if not cell.name:
            first = cell.text.split("\n")[0]
            self.complain(cell.line, f'a check cell is lab.check("ID") and nothing else, not {first!r}')

    def _exercise(self, cell: Cell) -> None:
        first = cell.text.split("\n")[0]
        if "exercise" not in cell.tags:
            self.complain(cell.line, f"{first!r} stands in a cell without the tag exercise; add the tag")
        if not cell.name or first != marker(cell.name) or not _IDENT.fullmatch(cell.name):
            self.complain(cell.line, f"an exercise cell begins with '# exercise: ID', not with {first!r}")
            return
        try:
            found = blocks(cell.text, cell.name)
        except Unbalanced as error:
            self.complain(cell.line + error.line - 1, str(error))
            return
        if not found:
            self.complain(cell.line, f"{cell.name} has no # BEGIN SOLUTION; mark what students are to write")
        tree = self._compiled(cell, cell.text, "")
        self._compiled(cell, unsolved(cell.text, cell.name), " as students get it")
        if tree is not None:
            self._contents(cell, tree)

    def _compiled(self, cell: Cell, text: str, which: str) -> ast.Module | None:
        try:
            return ast.parse(text)
        except SyntaxError as error:
            self.complain(
                cell.line + (error.lineno or 1) - 1, f"{cell.name}{which} is no Python: {error.msg}"
            )
            return None

    def _contents(self, cell: Cell, tree: ast.Module) -> None:
        """Check what an exercise's cell imports and defines."""
        for node in ast.walk(tree):
            for module in _imported(node):
                if module.split(".")[0] == "vlab" and not f"{module}.".startswith(f"{_MAY_IMPORT}."):
                    line = cell.line + getattr(node, "lineno", 1) - 1
                    self.complain(
                        line, f"{cell.name} imports {module}; it is marked with {_MAY_IMPORT} alone"
                    )
        exercise = next((each for each in self.exercises if each.ident == cell.name), None)
        given = set(_given(tree))
        for name in exercise.defines if exercise else ():
            if name not in given:
                self.complain(cell.line, f"{cell.name} is to define {name}, and its cell does not")

    # --- the whole ------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Check what cells have to do with one another."""
        known = [each.ident for each in self.exercises]
        self._one_each("exercise", known)
        self._one_each("check", known)
        for check in self._of("check"):
            before = [each.line for each in self._of("exercise") if each.name == check.name]
            if before and check.line < before[0]:
                self.complain(
                    check.line, f"{check.name} is checked before its exercise; move the check below"
                )
        self._questions()
        if not any(each.role == "setup" for each in self.cells):
            self.complain(1, "there is no code cell; begin with one that gets the lesson")

    def _of(self, role: Role) -> list[Cell]:
        return [each for each in self.cells if each.role == role and each.name]

    def _one_each(self, role: Role, known: Sequence[str]) -> None:
        where = self.files.exercises_module.name
        seen: dict[str, Cell] = {}
        for cell in self._of(role):
            if cell.name not in known:
                self.complain(cell.line, f"{cell.name} is not in EXERCISES of {where}; write it there")
            if cell.name in seen:
                self.complain(cell.line, f"{cell.name} has a second {role} cell; the first is in line "
                                         f"{seen[cell.name].line}")  # fmt: skip
            seen.setdefault(cell.name, cell)
        for ident in known:
            if ident not in seen:
                self.complain(1, f"{ident} is in EXERCISES of {where} and has no {role} cell; add one")

    def _questions(self) -> None:
        asked: dict[str, int] = {}
        answered: dict[str, int] = {}
        for cell in self.cells:
            for verb, _, name in _ASKED.findall(cell.text) if cell.kind == "code" else ():
                into = asked if verb == "predict" else answered
                if name in into:
                    self.complain(cell.line, f'lab.{verb}("{name}") is there twice; rename one')
                elif verb == "reveal" and name not in asked:
                    self.complain(cell.line, f'lab.reveal("{name}") has no lab.predict("{name}") before it')
                into.setdefault(name, cell.line)
        for name, line in asked.items():
            if name not in answered:
                self.complain(line, f'lab.predict("{name}") has no lab.reveal("{name}") after it; add one')


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _given(tree: ast.Module) -> Iterator[str]:
    """Give the names that a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
