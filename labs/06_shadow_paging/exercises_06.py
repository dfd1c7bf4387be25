"""Shadow paging: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import fill_checks_06 as fill
import protect_checks_06 as protect

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "fill",
        "Answering a miss",
        defines=("page_fault",),
        invariants=(
            Invariant("faults", 2, "what the guest's tables forbid is the guest's page fault", fill.faults),
            Invariant(
                "granted", 2, "an entry grants what the guest's tables grant, and no more", fill.granted
            ),
            Invariant(
                "accessed", 1, "A is set in the guest's entries as the processor sets it", fill.accessed
            ),
            Invariant("dirty", 3, "so is D: at the first write, and not before", fill.dirty),
            Invariant(
                "kernel",
                2,
                "the kernel longmode, which looks at its own A and D, notices nothing",
                fill.kernel,
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", fill.hidden, hidden=True),
        ),
        hints=(
            (
                "Where miss.error_code is not None, the guest's own tables forbid the access: that is its "
                "own fault."
            ),
            (
                "After a write the guest expects D. How will you hear of the first write to a page that was "
                "read before?"
            ),
            "Map a page writable if the guest may write to it AND it is dirty, or is just being written to.",
        ),
    ),
    Exercise(
        "protect",
        "Following the guest's tables",
        defines=("fill", "table_write"),
        invariants=(
            Invariant(
                "edits",
                3,
                "an edit of another space's page table is seen when its CR3 is loaded",
                protect.edits,
            ),
            Invariant("upper", 2, "so is an edit of a directory", protect.upper),
            Invariant(
                "shared",
                2,
                "an edit of a table with several uses is seen through all of them",
                protect.shared,
            ),
            Invariant(
                "keeps",
                2,
                "a space that was not changed is found as it was left, without a miss",
                protect.keeps,
            ),
            Invariant("sweep", 1, "sweep, which moves its pages, comes to the same contents", protect.sweeps),
            Invariant(
                "hidden", 2, "all of that on guests that you have not seen", protect.hidden, hidden=True
            ),
        ),
        hints=(
            (
                "Which frames must the guest not write to unnoticed? Those that the entry was made from: "
                "page['tables']."
            ),
            "An entry for a frame that is protected must not be writable, whatever the guest's tables grant.",
            (
                "At table_write: what was made from the table may be wrong from now on. Drop it, then let "
                "the guest write."
            ),
        ),
    ),
)
