"""Nested paging: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import table_checks_08 as tables
import walk_checks_08 as walk

from vlab.grading.exercise import Exercise, Invariant

EXERCISES: Final = (
    Exercise(
        "walk",
        "A walk in two dimensions",
        defines=("walk",),
        invariants=(
            Invariant("arrives", 2, "the walk comes to the bytes that the guest reads there", walk.arrives),
            Invariant(
                "references",
                2,
                "it reads what the processor reads, in its order: 24 references",
                walk.references,
            ),
            Invariant(
                "large", 2, "so it does with 2 MiB pages in guest, host or both: 19 and 15", walk.large
            ),
            Invariant(
                "guest_fault",
                1,
                "what is not present in the guest's tables is the guest's fault",
                walk.guest_faults,
            ),
            Invariant(
                "nested_fault",
                2,
                "what is not in the nested tables is an exit, with its address",
                walk.nested_faults,
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", walk.hidden, hidden=True),
        ),
        hints=(
            "Write a function for the nested walk first: from a guest-physical to a host-physical address.",
            "Before you read an entry of the guest's, walk its address. At the end walk the page's, too.",
            (
                "PS (bit 7) at level 2 ends a walk early, in either dimension: 21 bits of the address are "
                "the offset."
            ),
            (
                "The nested walk can fail in the middle: have it say so, and hand nested_fault the "
                "guest-physical address."
            ),
        ),
    ),
    Exercise(
        "tables",
        "Nested tables for a guest",
        defines=("build",),
        invariants=(
            Invariant("boots", 2, "the guest `hello` boots and ends as on vlab's tables", tables.boots),
            Invariant(
                "memory",
                3,
                "all of the guest's memory is there, each address with its own frame",
                tables.everything,
            ),
            Invariant("read_only", 2, "writes to firmware are exits and change nothing", tables.read_only),
            Invariant("large", 2, "where 2 MiB pages fit, the tables use them", tables.in_large_pages),
            Invariant(
                "hidden", 2, "all of that on guests that you have not seen", tables.hidden, hidden=True
            ),
        ),
        hints=(
            "Keep a dict of the tables that you made, by level and by the part of the address above it.",
            (
                "An entry that points to a table is its address | 7. One that maps a page is hpa | 5, or | 7 "
                "if writable."
            ),
            "Why 5 and not 1: the processor takes every access of the guest for one of ring 3.",
            (
                "A 2 MiB page needs gpa and hpa at multiples of 2 MiB, and 2 MiB left: hpa | 7 | 0x80 at "
                "level 2."
            ),
        ),
    ),
)
