"""A question to answer before the run, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import traitlets

from vlab.widgets.view import View


class Question(View):
    """A question with its choices; ``chosen`` is empty until one is picked.

    answer: what came out, empty until it is revealed; why: the sentence beside it. picked: called with each
    choice that is made.
    """

    script: ClassVar[str] = "question.js"
    styles: ClassVar[tuple[str, ...]] = ("question.css",)

    text = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Unicode().tag(sync=True)
    why = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        text: str,
        choices: Sequence[str],
        *,
        chosen: str = "",
        answer: str = "",
        why: str = "",
        picked: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            text=text,
            choices=list(choices),
            chosen=chosen if chosen in choices else "",
            answer=answer,
            why=why,
        )
        self._picked = picked
        self.observe(self._choose, "chosen")

    def _choose(self, change: Any) -> None:
        if self._picked is not None and change["new"] in self.choices:
            self._picked(change["new"])

    def picture(self) -> None:
        """Words say it better."""

    def words(self) -> str:
        """Tell the question with its choices, and the answer once it is known."""
        mark = {True: "(x)", False: "( )"}
        lines = [self.text, *(f"  {mark[each == self.chosen]} {each}" for each in self.choices)]
        if self.answer:
            lines += [f"It is: {self.answer}", *([self.why] if self.why else []), self.verdict()]
        return "\n".join(lines)

    def verdict(self) -> str:
        """Compare the prediction with what came out."""
        if not self.chosen:
            return "You made no prediction."
        return "As you predicted." if self.chosen == self.answer else f"You predicted: {self.chosen}"
