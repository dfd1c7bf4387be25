"""Page tables and TLBs: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import tlb_checks_05 as tlb
import walk_checks_05 as walk

from vlab.grading.exercise import Exercise, Invariant
from vlab.guests.probes import LEGACY, PAE

EXERCISES: Final = (
    Exercise(
        "walk",
        "A 32-bit page walk",
        defines=("walk",),
        invariants=(
            Invariant(
                "small",
                2,
                "reads and writes through 4 KiB pages arrive where the processor's do",
                walk.small(LEGACY, "walk"),
            ),
            Invariant("large", 1, "so do those through 4 MiB pages", walk.large(LEGACY, "walk")),
            Invariant(
                "absent",
                2,
                "what is not present faults with the right error code, at both levels",
                walk.absent,
            ),
            Invariant(
                "rights",
                3,
                "R/W and U/S of both entries count, and CR0.WP, with the right error code",
                walk.rights(LEGACY, "walk"),
            ),
            Invariant(
                "entries",
                1,
                "the walk reads the entries that the processor reads, and no others",
                walk.entries,
            ),
            Invariant(
                "hidden", 2, "all of that on page tables that you have not seen", walk.hidden, hidden=True
            ),
        ),
        hints=(
            "Bits 31:22 of the address choose the directory entry, bits 21:12 the table entry, of 4 bytes.",
            "Look at P first, then at PS. Collect the rights with &: pde & pte has those that both grant.",
            "A refused access: 1, plus 2 for a write, plus 4 in ring 3. Not present: the same without 1.",
            "Ring 3 needs U/S, and R/W for a write. Ring 0 needs R/W for a write only while mmu.wp is 1.",
        ),
    ),
    Exercise(
        "walk_pae",
        "A PAE walk: three levels, NX, reserved bits",
        defines=("walk_pae",),
        invariants=(
            Invariant(
                "small",
                2,
                "reads and writes through three levels arrive where the processor's do",
                walk.small(PAE, "walk_pae"),
            ),
            Invariant("large", 1, "so do those through 2 MiB pages", walk.large(PAE, "walk_pae")),
            Invariant(
                "rights",
                2,
                "R/W, U/S and CR0.WP count as before; the four pointers have no rights",
                walk.rights(PAE, "walk_pae"),
            ),
            Invariant(
                "no_execute",
                2,
                "NX in either entry forbids fetches, and the error code says so",
                walk.no_execute,
            ),
            Invariant(
                "reserved",
                2,
                "reserved bits that are set fault with RSVD, whatever the rights",
                walk.reserved,
            ),
            Invariant(
                "hidden", 2, "all of that on page tables that you have not seen", walk.hidden_pae, hidden=True
            ),
        ),
        hints=(
            "CR3 holds the address of four pointers of 8 bytes: bits 31:30 of the linear address choose.",
            "A frame is in bits 39:12 of an entry: mask both ends off, for NX is bit 63.",
            "Every fault of a fetch has I (0x10) in its error code, one for an absent page too.",
            "The order: present, reserved bits, then on to the next level; rights and NX at the very end.",
        ),
    ),
    Exercise(
        "tlb",
        "What a TLB has to forget",
        defines=("invlpg", "write_cr3", "write_cr4"),
        invariants=(
            Invariant(
                "invlpg",
                2,
                "after INVLPG the guest sees the page's new translation, global or not",
                tlb.invlpg,
            ),
            Invariant(
                "large", 1, "INVLPG of any address in a large page is about the whole page", tlb.invlpg_large
            ),
            Invariant(
                "space",
                2,
                "after MOV to CR3 the guest sees the translations of the new tables",
                tlb.new_space,
            ),
            Invariant(
                "keeps", 2, "the TLB keeps what it may: the guest has no more misses than it must", tlb.keeps
            ),
            Invariant(
                "global_off", 1, "a change of CR4.PGE forgets global translations as well", tlb.global_off
            ),
            Invariant("hidden", 2, "all of that on guests that you have not seen", tlb.hidden, hidden=True),
        ),
        hints=(
            "Go through tlb.entries() and drop those that the guest has asked to be forgotten.",
            "An entry covers entry['page'] <= address < entry['page'] + entry['size'].",
            "MOV to CR3 leaves entries alone whose 'global' is true. INVLPG does not ask, nor does CR4.PGE.",
        ),
    ),
)
