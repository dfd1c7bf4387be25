"""vlab's translations with the student's book of them in it.

What the processor could not survive, such as a translation of something else, is told before it is done; all
else shows in what the guest then does.
"""

from __future__ import annotations

from typing import ClassVar

from vlab.grading.exercise import Broken
from vlab.grading.facade import Part, Value
from vlab.grading.student import Student
from vlab.vmm.translation.blocks import Block, Link
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.library import Translations


class Booked(Translations):
    """vlab's translations, of which the student keeps the book."""

    student: ClassVar[Student]
    _book: Part | None = None

    @property
    def book(self) -> Part:
        """The student's book, made when it is asked for first."""
        if self._book is None:
            self._book = self.student.make("Book")
            self._numbers: dict[Block, int] = {}
            self._blocks: dict[int, Block] = {}
        return self._book

    def block(self, rip: int, linear: int, context: Context) -> Block:
        """Find a block in the student's book, or make it and have it entered there."""
        number = self.book.call("find", rip, context.code)
        if number is not None:
            return self._checked(number, rip, linear, context)
        block = self._make(rip, context)
        self._number(block)
        self.book.call("add", rip, context.code, self._number(block), block.transient)
        return block

    def _number(self, block: Block) -> int:
        if block not in self._numbers:
            self._numbers[block] = len(self._numbers) + 1
            self._blocks[self._numbers[block]] = block
        return self._numbers[block]

    def _checked(self, number: Value, rip: int, linear: int, context: Context) -> Block:
        found = self._blocks.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
        where = f"for {rip:#x} in context {context.code} find gives {number!r}"
        if found is None:
            raise Broken(f"{where}; no translation has that number")
        if not found.alive:
            raise Broken(
                f"{where}, which was dropped: the guest has changed the code that it was made from",
                hint="after drop(number) that translation is never found again",
            )
        if (found.rip, found.context) != (rip, context) or found.linear != linear:
            raise Broken(
                f"{where}; that is the translation of {found.rip:#x} in context {found.context.code}",
                hint="the same code has another translation with interrupts on than with interrupts off",
            )
        if found.transient:
            raise Broken(
                f"{where}, which was for once: what it was made from may have changed unnoticed",
                hint="a translation that is added with once=True is not found again",
            )
        return found

    def link(self, link: Link, target: Block) -> None:
        """Ask the student whether to chain."""
        source = self._number(link.block)
        if not self._agrees("chain", source, self._number(target)):
            return
        for each in (link.block, target):
            if not each.alive or each.transient:
                what = "was dropped" if not each.alive else "was for once"
                raise Broken(
                    f"you chain translation {source} to {self._number(target)}; {self._number(each)} {what}",
                    hint="a jump is written from one translation to another: both have to be there to stay",
                )
        super().link(link, target)

    def learn(self, lookup: Lookup, target: int) -> Link | None:
        """Ask the student whether a return is to know one target more."""
        source = self._number(lookup.block)
        if not self._agrees("expect", source, target):
            return None
        if not lookup.block.alive:
            raise Broken(
                f"a comparison is to be added to translation {source}, which was dropped",
                hint="after drop(number) nothing is written into that translation",
            )
        return super().learn(lookup, target)

    def _agrees(self, method: str, *values: int) -> bool:
        answer = self.book.call(method, *values)
        if not isinstance(answer, bool):
            raise Broken(f"{method} returned {answer!r}; it has to say True or False")
        return answer

    def drop(self, blocks: object) -> None:
        """Tell the student which translations are gone."""
        gone = [each for each in list(blocks) if each.alive]  # type: ignore[call-overload]
        super().drop(gone)
        for each in gone:
            self.book.call("drop", self._number(each))

    def empty(self) -> None:
        """Tell the student that all are gone."""
        gone = [each for each in self.map.blocks.values() if each.alive]
        super().empty()
        for each in gone:
            self.book.call("drop", self._number(each))
