"""A student in this process: for the check in a notebook, where nobody gains by cheating.

Values go the same way as to a jail, so that a cell that passes here passes there. There is no limit of time:
Ctrl-C, the notebook's stop button, ends what does not end by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from vlab.grading.cells import Cell
from vlab.grading.linked import LinkedStudent
from vlab.grading.links import Message


class LocalStudent(LinkedStudent):
    """The code whose functions and classes stand in a namespace, such as a notebook's."""

    def __init__(self, namespace: Mapping[str, object]) -> None:
        super().__init__()
        self._cell = Cell(namespace, self._answer)

    @classmethod
    def of_source(cls, source: str) -> Self:
        """Execute a cell's text in a namespace of its own. Raises what the cell does, as StudentError."""
        student = cls({"__name__": "__main__"})
        student.settle(["run", source])
        return student

    def exchange(self, request: Message) -> Message:
        """Have the code do what is asked."""
        return self._cell.perform(request)
