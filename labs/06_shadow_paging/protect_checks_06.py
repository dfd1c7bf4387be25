"""What is tried of a student's protection: guests that edit the page tables of several spaces."""

from __future__ import annotations

from dataclasses import dataclass

from machine_06 import StudentProtect

from vlab.grading.exercise import Broken
from vlab.grading.probing import Pair
from vlab.grading.trial import Trial
from vlab.guests.probes import ALL, Script


def _follow(trial: Trial, script: Script, *, budget: bool = False) -> None:
    paging = StudentProtect(trial.student)
    pair = Pair(trial, script, paging)
    paging.vm = pair.yours
    for (address, after), mine, right in pair.run():
        raise Broken(
            f"{after}, the guest read {mine:#x} at {address:#010x} and not {right:#x}: the shadow "
            "still had what the guest's tables said before",
            hint="at table_write, what was made from the table has to go; an entry is made from every "
            "table on the way to the page, the directory too",
            vm=pair.yours,
        )
    if budget and pair.misses > script.misses:
        raise Broken(
            f"the guest's reads missed the shadow {pair.misses} times, and {script.misses} are enough",
            hint="a tree that nothing was changed for is complete when its CR3 comes back",
            vm=pair.yours,
        )


@dataclass(slots=True)
class _Window:
    """A page at one linear address in two spaces. entries: its last entries, one for each space."""

    page: int
    entries: tuple[int, int]


def _spaces(script: Script, count: int) -> tuple[int, list[_Window]]:
    """Make a second space in which some pages are other ones."""
    places = [script.page() for _ in range(count)]
    other, tables = script.space(), script.tables
    windows = []
    for page, entry in places:
        table = tables.frame()
        place = table + 4 * (page >> 12 & 1023)
        tables.put(place, tables.frame() | ALL)
        tables.put(other + 4 * (page >> 22), table | ALL)
        windows.append(_Window(page, (entry, place)))
    return other, windows


def _read_all(script: Script, windows: list[_Window], after: str, *, miss: bool) -> None:
    for window in windows:
        script.read(window.page, after, miss=miss)


def _visit(script: Script, other: int, windows: list[_Window]) -> None:
    """Read in both spaces, and end in the first one."""
    _read_all(script, windows, "at first", miss=True)
    script.cr3(other)
    _read_all(script, windows, "in the second space", miss=True)
    script.cr3(script.tables.root)


def edits(trial: Trial) -> None:
    """Edit page tables of a space while another one is loaded."""
    script = Script(trial.rng)
    other, windows = _spaces(script, 3)
    for _ in range(2):
        _visit(script, other, windows)
        for window in windows:
            script.edit(window.entries[1], script.tables.frame() | ALL)
        script.cr3(other)
        _read_all(script, windows, "after an edit of the other space's table and MOV to CR3", miss=True)
        script.cr3(script.tables.root)
    _follow(trial, script)


def upper(trial: Trial) -> None:
    """Edit a directory while another one is loaded."""
    script = Script(trial.rng)
    other, windows = _spaces(script, 3)
    _visit(script, other, windows)
    tables = script.tables
    for window in windows:
        table = tables.frame()
        tables.put(table + 4 * (window.page >> 12 & 1023), tables.frame() | ALL)
        script.edit(other + 4 * (window.page >> 22), table | ALL)
    script.cr3(other)
    _read_all(script, windows, "after an edit of the other space's directory and MOV to CR3", miss=True)
    _follow(trial, script)


def shared(trial: Trial) -> None:
    """One table that both spaces use, at two places in the second."""
    script = Script(trial.rng)
    places = [script.page() for _ in range(3)]
    other, tables = script.space(), script.tables
    second = []
    for page, entry in places:
        again = tables.slot()
        tables.put(other + 4 * (again >> 22), entry & ~0xFFF | ALL)
        second.append(again | page & 0x3FF000)
    for page, _ in places:
        script.read(page, "at first", miss=True)
    script.cr3(other)
    for page, (same, _) in zip(second, places, strict=True):
        script.read(page, "in the second space", miss=True)
        script.read(same, "in the second space", miss=True)
    for _, entry in places:
        script.edit(entry, tables.frame() | ALL)
    script.cr3(tables.root)
    for page, _ in places:
        script.read(page, "after an edit of a table that two spaces share", miss=True)
    script.cr3(other)
    for page in second:
        script.read(page, "after an edit of a table that is there twice", miss=True)
    _follow(trial, script)


def keeps(trial: Trial) -> None:
    """Go to and fro between two spaces, and count the misses."""
    script = Script(trial.rng)
    other, windows = _spaces(script, 4)
    _visit(script, other, windows)
    for _ in range(4):
        _read_all(script, windows, "after MOV to CR3", miss=False)
        script.cr3(other)
        _read_all(script, windows, "after MOV to CR3", miss=False)
        script.cr3(script.tables.root)
    _follow(trial, script, budget=True)


def sweeps(trial: Trial) -> None:
    """Run the guest sweep."""
    line = f"pages={trial.rng.choice((32, 64))} rounds=3 touches=32 updates=4 large=0"
    paging = StudentProtect(trial.student)
    yours = trial.vm("sweep", paging=paging, memory="16M", append=line)
    ours = trial.vm("sweep", memory="16M", append=line, trace="counters")
    paging.vm = yours
    trial.run_ours(ours)
    stop = trial.run(yours, exits=5_000)
    if yours.console.text != ours.console.text:
        mine, right = (vm.console.text.strip()[-70:] for vm in (yours, ours))
        raise Broken(f"sweep says {mine!r}, not {right!r}", vm=yours)
    if stop.exit_code != 0:
        raise Broken(f"the guest stopped with '{stop.headline}'", vm=yours)


def hidden(trial: Trial) -> None:
    """Try all edits."""
    for part in (edits, upper, shared):
        part(trial)
