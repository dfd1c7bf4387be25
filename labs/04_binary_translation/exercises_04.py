"""Binary translation: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import book_checks_04 as book
import sort_checks_04 as sort

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "sort",
        "Copied, called out, or rewritten",
        defines=("sort",),
        invariants=(
            Invariant(
                "transfers", 2, "calls, returns, jumps and loops stay in translated code", sort.transfers_kept
            ),
            Invariant("flags", 2, "CLI, STI, PUSHF and POPF are about the guest's own IF", sort.flags_kept),
            Invariant(
                "system", 3, "what reads or writes the machine's state is the monitor's", sort.system_kept
            ),
            Invariant("cheap", 1, "what can be rewritten takes no exit", sort.cheap),
            Invariant("kernel", 2, "the kernel `wren` comes to its first program", sort.kernel_sorted),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", sort.hidden_sorting, hidden=True
            ),
        ),
        hints=(
            (
                "Three questions for each: does it transfer control, does it show or change the machine's "
                "state, or neither?"
            ),
            "Near transfers, cli, sti, pushfd and popfd are rewritten; lgdt, hlt, iretd ... called out.",
            (
                "mov, push and pop depend on their operands: crN and drN are called out, and so is any load "
                "of a segment register; `mov eax, cs` is rewritten, `mov eax, ds` is copied."
            ),
        ),
    ),
    Exercise(
        "book",
        "The book of translations",
        defines=("Book",),
        invariants=(
            Invariant("again", 2, "what was translated is found again", book.found_again),
            Invariant("contexts", 2, "the same code has a translation for each context", book.contexts_kept),
            Invariant(
                "changed", 3, "code that the guest has changed is never run as it was", book.changes_seen
            ),
            Invariant("once", 1, "a translation for once is used once", book.once_kept),
            Invariant("chained", 2, "a block ends at the monitor no oftener than it must", book.chained),
            Invariant("kernel", 1, "the kernel `wren` comes to its first program", book.kernel_booked),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", book.hidden_book, hidden=True
            ),
        ),
        hints=(
            "A dict from (address, context) to number, and a set of the numbers that are to stay.",
            "drop(number): take the number out of both. add with once=True enters it in neither.",
            "chain: are both numbers in the set? expect: was the source not dropped? Else True.",
        ),
    ),
)
