"""vlab's translator with the student's sorting of instructions in it.

What the processor could not survive, such as a jump that is copied, is told before it is done; all else shows
in what the guest then does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from vlab.grading.exercise import Broken
from vlab.grading.facade import Value
from vlab.grading.student import Student
from vlab.machine.memory import PAGE
from vlab.vmm.translation import select
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.translator import MOST, Translator

COPY, OUT, REWRITE = "copy", "out", "rewrite"
_TRANSFERS: Final = frozenset((How.JUMP, How.CALL, How.RETURN, How.BRANCH, How.LOOP))
_AWAY: Final = frozenset(
    ("iret", "iretd", "ljmp", "lcall", "retf", "syscall", "sysret", "sysenter", "sysexit")
)
"""What leaves for elsewhere, too, and is carried out by the monitor."""
_ENDS: Final = _TRANSFERS - {How.BRANCH}


class Sorting(Translator):
    """vlab's translator, which asks the student what to do with each instruction of 32-bit kernels."""

    student: ClassVar[Student]

    def instructions(self, draft: Draft) -> Iterator[Found]:
        """Give the instructions as the student has decided."""
        known: dict[tuple[int, bytes], str] = {}
        for found in super().instructions(draft):
            if draft.bits != 32:
                yield found
                continue
            key = found.rip, found.code
            if key not in known:
                known = self._ask(draft, found)
            yield self._decided(draft, found, known[key])

    def _ask(self, draft: Draft, first: Found) -> dict[tuple[int, bytes], str]:
        """Have the student sort the instructions from ``first`` on, up to one that control does not pass."""
        place = draft.block.linear % PAGE + first.rip - draft.block.rip
        block = [first]
        if first.how not in _ENDS:
            start = place + len(first.code)
            behind = first.rip + len(first.code)
            for found in select.decode(draft.pages[0].seen[start:], behind, draft.bits, MOST - 1):
                block.append(found)
                if found.how in _ENDS:
                    break
        told: list[Value] = [
            {"name": each.name, "operands": each.operands, "length": len(each.code)} for each in block
        ]
        given = self.student.call("sort", told)
        if not isinstance(given, list) or len(given) != len(block):
            size = f"{len(given)} answers" if isinstance(given, list) else repr(given)
            raise Broken(
                f"sort was given {len(block)} instructions and returned {size}; one for each, please"
            )
        known = {}
        for found, answer in zip(block, given, strict=True):
            if answer not in (COPY, OUT, REWRITE):
                raise Broken(f"sort says {answer!r} for `{_text(found)}`; say 'copy', 'out' or 'rewrite'")
            known[found.rip, found.code] = str(answer)
        return known

    def _decided(self, draft: Draft, found: Found, answer: str) -> Found:
        """Give the instruction as it is to be translated. Raises Broken for what cannot be."""
        how = found.how
        if answer == REWRITE:
            if how in (How.COPY, How.OUT):
                raise Broken(
                    f"`{_text(found)}` is to be rewritten, and no other code does the same in its place",
                    hint="rewritten are near transfers, CLI, STI, PUSHF, POPF, moves of CS or SS",
                )
            return found
        if answer == COPY:
            if how in _TRANSFERS or found.name in _AWAY:
                raise Broken(
                    f"`{_text(found)}` at {found.rip:#x} is to be copied: from the cache it leads "
                    "somewhere else, or to code that is not translated",
                    hint="every transfer of control has to lead to a translation: none is copied",
                )
            return found._replace(how=How.COPY)
        if self.stub(draft, found) is None:
            raise Broken(
                f"`{_text(found)}` is to be called out, and the monitor has no emulation of it",
                hint="the monitor emulates what is sensitive, and transfers; the rest is copied",
            )
        return found._replace(how=How.OUT)


def _text(found: Found) -> str:
    return f"{found.name} {found.operands}".rstrip()
