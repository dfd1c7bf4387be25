"""A cell's code where it runs: asked by messages, and answering by them, in this process or in a jail.

Requests are ``["run", source]``, ``["defines", name]``, ``["call", name, arguments]``,
``["make", name, arguments]``, ``["part", number, method, arguments]`` and ``["get", number, attribute]``.
An answer is ``["value", ...]`` or ``["error", kind, message, line, text]``, with None and "" where the place
in the cell is not known.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, cast

from vlab.grading.links import Holdings, Message
from vlab.grading.values import Plain, kind_of

#: The file name of a cell's code.
CELL = "<cell>"

#: Characters of an exception's text that are kept.
MAX_TEXT = 2000


class Cell:
    """The code of one cell and what it defined. ``send`` asks the machine's side for a facade's work."""

    def __init__(self, namespace: Any, send: Callable[[Message], Message]) -> None:
        self._namespace = namespace
        self._holdings = Holdings(send)
        self._lines: list[str] = []

    def perform(self, request: Message) -> Message:
        """Do what is asked, and answer. Only Ctrl-C gets out as an exception."""
        try:
            return ["value", self._holdings.pack(self._do(request))]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self._error(error)

    def _do(self, request: Message) -> object:
        act, subject, *rest = request
        if act == "run":
            self._run(cast("str", subject))
            return None
        if act == "defines":
            return subject in self._namespace
        if act == "get":
            return getattr(self._holdings.part(cast("int", subject)), cast("str", rest[0]))
        if act == "part":
            called = getattr(self._holdings.part(cast("int", subject)), cast("str", rest[0]))
        else:
            called = self._named(cast("str", subject))
        result = called(*[self._holdings.unpack(each) for each in cast("list[Plain]", rest[-1])])
        return self._holdings.keep(result) if act == "make" else result

    def _named(self, name: str) -> Callable[..., object]:
        if name not in self._namespace:
            raise NameError(f"the cell does not define {name!r}")
        value = self._namespace[name]
        if not callable(value):
            raise TypeError(f"{name!r} is {kind_of(value)}: it must be a function or a class")
        return cast("Callable[..., object]", value)

    def _run(self, source: str) -> None:
        self._lines = source.splitlines(keepends=True)
        linecache.cache[CELL] = (len(source), None, self._lines, CELL)  # for `inspect` and tracebacks
        exec(compile(source, CELL, "exec", dont_inherit=True), self._namespace)

    def _error(self, error: BaseException) -> Message:
        try:
            line, text = self._place(error)
            kind = str.__str__(type(error).__name__)
            return ["error", kind[:100], _text_of(error)[:MAX_TEXT], line, text[:MAX_TEXT]]
        except Exception:  # its class is code of the student's as well
            return ["error", "Exception", "it cannot be told which", None, ""]

    def _place(self, error: BaseException) -> tuple[int | None, str]:
        """Give the innermost line of the cell that the exception came through."""
        if isinstance(error, SyntaxError) and error.filename == CELL and error.lineno:
            return error.lineno, self._line(CELL, error.lineno)
        found: tuple[int | None, str] = (None, "")
        for frame, line in _frames(error.__traceback__):
            if frame.f_globals is self._namespace:
                found = line, self._line(frame.f_code.co_filename, line)
        return found

    def _line(self, file: str, line: int) -> str:
        if file == CELL:
            return self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return linecache.getline(file, line)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _text_of(error: BaseException) -> str:
    """Give an exception's text, which may itself be code of the student's."""
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        if isinstance(error, KeyError) and len(error.args) == 1 and isinstance(error.args[0], str):
            return str.__str__(error.args[0])
        return str.__str__(str(error))
    except Exception as another:
        return f"(its text cannot be had: {type(another).__name__})"
