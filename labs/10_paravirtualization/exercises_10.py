"""Paravirtualization: the student's hypercalls, in vlab's own monitor, and the student's batching of them.

The hypercalls serve real guests: the kernel `wren-paravirt`, and tiny ones that lie. The rules of the
interface are those of ``vlab/guests/sources/wren/hypercall.h``.
"""

from __future__ import annotations

from typing import Final

from batching_10 import MOST_IN_ONE, long_lists, touches_are_right, waits_for_a_touch, waits_for_its_touch
from hypercalls_10 import (
    all_at_once,
    done_in_order,
    forbidden_flags,
    foreign_frames,
    forks_as_ours,
    prints_what_is_there,
    serves,
    uses_of_tables,
)

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "hypercalls",
        "Hypercalls for a guest that may lie",
        defines=("console_write", "mmu_update"),
        invariants=(
            Invariant(
                "console",
                1,
                "what the guest writes is printed; what it does not have is not",
                prints_what_is_there,
            ),
            Invariant("foreign", 3, "no frame is mapped that is not the guest's own", serves(foreign_frames)),
            Invariant(
                "tables", 2, "no page table becomes writable, and only tables change", serves(uses_of_tables)
            ),
            Invariant("flags", 2, "no forbidden flag gets into a table", serves(forbidden_flags)),
            Invariant(
                "order", 2, "updates are done in order, up to the first that is refused", done_in_order
            ),
            Invariant(
                "kernel", 2, "the kernel `wren-paravirt` forks as on vlab's own monitor", forks_as_ours
            ),
            Invariant("hidden", 1, "all of that on guests that you have not seen", all_at_once, hidden=True),
        ),
        hints=(
            "Write in_order(hv, address, value) as a list of reasons to say no, in the order of the rules.",
            (
                "First the place: address % 4, hv.owns(address), hv.use(address). Then, if P is set, the "
                "value: hv.owns(value), flags, and hv.use(value) where W is set."
            ),
            (
                "mmu_update: struct.iter_unpack('<II', raw), stop at the first that is not in order or that "
                "hv.write refuses; return how many were done, or EINVAL for none of them."
            ),
        ),
    ),
    Exercise(
        "batching",
        "Page-table updates in batches",
        defines=("Batching",),
        invariants=(
            Invariant(
                "right", 3, "whatever the kernel touches is what it mapped there last", touches_are_right
            ),
            Invariant("long", 1, f"more than {MOST_IN_ONE} changes at once work, too", long_lists),
            Invariant(
                "budget", 2, "changes wait until something is touched, and go together", waits_for_a_touch
            ),
            Invariant("lazy", 2, "they wait while only other pages are touched", waits_for_its_touch),
            Invariant(
                "hidden", 1, "all of that on kernels that you have not seen", waits_for_its_touch, hidden=True
            ),
        ),
        hints=(
            "Keep a list of [entry, value] that wait, and a set of the linear addresses they concern.",
            "A change is in force when it is written and the old translation is flushed: two hypercalls.",
            "In use: if the address is in your set, send all that waits, 64 at a time, then flush_all once.",
        ),
    ),
)
