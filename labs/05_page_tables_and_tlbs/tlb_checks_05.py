"""What is tried of a student's TLB: guests that edit their page tables, and their reads on the bare machine.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

from machine_05 import StudentTlb

from vlab.grading.exercise import Broken
from vlab.grading.probing import Pair
from vlab.grading.trial import Trial
from vlab.guests.probes import ALL, PS, G, Script
from vlab.isa.control import CR4

_PGE = CR4.PGE.mask


def _run(trial: Trial, script: Script, *, budget: bool = False) -> None:
    """Run it over the student's TLB and on the bare machine."""
    pair = Pair(trial, script, StudentTlb(trial.student))
    for (address, after), mine, right in pair.run(exits=2_000):
        raise Broken(
            f"{after}, the guest read {mine:#x} at {address:#010x} and not {right:#x}: your TLB "
            "still had the old translation",
            hint="compare what tlb.entries() shows with what the guest has asked to be forgotten",
            vm=pair.yours,
        )
    if budget and pair.misses > script.misses:
        raise Broken(
            f"the guest's reads missed the TLB {pair.misses} times; {script.misses} are enough: "
            "your TLB forgot what it could have kept",
            hint="global pages stay when CR3 is written, and INVLPG is about one page (APM2 5.5)",
            vm=pair.yours,
        )


def invlpg(trial: Trial) -> None:
    """Edit entries, of global pages too, and forget the page by INVLPG."""
    script = Script(trial.rng, _PGE)
    for _ in range(4):
        page, entry = script.page(is_global=trial.rng.random() < 0.5)
        script.read(page, "at first", miss=True)
        script.edit(entry, script.tables.frame() | ALL | trial.rng.choice((0, G)))
        script.invlpg(page + trial.rng.randrange(0x1000))
        script.read(page, "after INVLPG", miss=True)
    page, entry = script.page(is_global=True)
    script.read(page, "at first", miss=True)
    script.edit(entry, script.tables.frame() | ALL | G)
    script.invlpg(page)
    script.read(page, "after INVLPG of a global page", miss=True)
    _run(trial, script)


def invlpg_large(trial: Trial) -> None:
    """Move a large page and forget it by INVLPG of any address in it."""
    script = Script(trial.rng, _PGE)
    base = script.tables.large()
    pages = [base + 0x1000 * each for each in trial.rng.sample(range(512, 1024), 4)]
    for page in pages:
        script.read(page, "at first", miss=True)
    script.edit(script.tables.entry(base), ALL | PS)  # onto the lower half of memory
    script.invlpg(pages[0] + trial.rng.randrange(0x1000))
    for page in pages:
        script.read(page, "after INVLPG of another address in the same 4 MB page", miss=True)
    _run(trial, script)


def new_space(trial: Trial) -> None:
    """Load CR3 with other tables, then with the tables that it had."""
    script = Script(trial.rng, trial.rng.choice((0, _PGE)))
    places = [script.page() for _ in range(4)]
    other = script.space()
    for page, _ in places:
        script.read(page, "at first", miss=True)
        table = script.tables.frame()
        for place in range(0, 0x1000, 4):
            script.tables.words[table + place] = (script.tables.frame() | ALL if place == page >> 10 & 0xFFC
                                                  else 0).to_bytes(4, "little")  # fmt: skip
        script.tables.words[other + 4 * (page >> 22)] = (table | ALL).to_bytes(4, "little")
    script.cr3(other)
    for page, _ in places:
        script.read(page, "after MOV to CR3", miss=True)
    script.cr3(script.tables.root)
    for _, entry in places:
        script.edit(entry, script.tables.frame() | ALL)
    script.cr3(script.tables.root)
    for page, _ in places:
        script.read(page, "after MOV to CR3 with the value it had", miss=True)
    _run(trial, script)


def keeps(trial: Trial) -> None:
    """Count the misses of a guest that has asked for little to be forgotten."""
    script = Script(trial.rng, _PGE)
    shared = [script.page(is_global=True)[0] for _ in range(5)]
    own = [script.page() for _ in range(5)]
    for page in (*shared, *(page for page, _ in own)):
        script.read(page, "at first", miss=True)
    script.cr3(script.tables.root)
    for page in shared:
        script.read(page, "after MOV to CR3", miss=False)
    for page, _ in own:
        script.read(page, "after MOV to CR3", miss=True)
    for page, entry in own[:2]:
        script.edit(entry, script.tables.frame() | ALL)
        script.invlpg(page)
    for number, (page, _) in enumerate(own):
        script.read(page, "after INVLPG", miss=number < 2)
    _run(trial, script, budget=True)


def global_off(trial: Trial) -> None:
    """Clear CR4.PGE and set it again."""
    script = Script(trial.rng, _PGE)
    places = [script.page(is_global=True) for _ in range(4)]
    for page, entry in places:
        script.read(page, "at first", miss=True)
        script.edit(entry, script.tables.frame() | ALL | G)
    script.cr4(False)
    script.cr4(True)
    for page, _ in places:
        script.read(page, "after CR4.PGE was cleared and set", miss=True)
    _run(trial, script)


def hidden(trial: Trial) -> None:
    """Try all of the TLB but what it keeps."""
    for part in trial.rng.sample((invlpg, invlpg_large, new_space, global_off), 4):
        part(trial)
