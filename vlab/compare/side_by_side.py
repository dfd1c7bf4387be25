"""One guest under every monitor, and whether all of them saw the same thing happen.

Popek and Goldberg's first demand on a monitor is equivalence: a guest must not be able to tell where it
runs. ``side_by_side`` runs it everywhere; the bare machine comes first, and is what the others must equal.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypedDict

from vlab.compare.record import RunRecord, record
from vlab.costs.model import Cycles, of_run
from vlab.costs.readings import KNOWN_TO_ITS_GUESTS, PARAVIRTUAL, Way, share_alone
from vlab.costs.table import Costs, load
from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from vlab.vmm.silent import Silent

NOT_EQUIVALENT: Final = {"trap-emulate": "not all sensitive instructions of x86 trap"}
"""Monitors that are not equivalent, and why; what their guests do otherwise is a result and no failure."""

OTHER_TIME: Final = ("binary-translation",)
"""Monitors under which a guest's code, and with it its time, is another. Its memory shows that: the ticks
that it has counted, and what it was doing at each. Popek and Goldberg except time from equivalence, too.
"""

PATIENCE: Final = 60.0
"""Wall time that no bundled guest comes near, in seconds; one that does hangs, and that is a result."""


class ModelledCycles(TypedDict):
    """Cycles on a processor of the cost table: the guest's own, those of exits, and how sure they are."""

    generation: str
    guest: int
    exits: int
    total: int
    sure: str


class ComparedRun(RunRecord):
    """A run beside the same guest's run on the bare machine.

    result_hash: of console and ending. share_without_monitor: of the blocks, 0 to 1. The last two are None
    where nothing counts blocks, modelled_cycles also where the processor could not have done it.
    """

    agrees: bool
    expected_to_agree: bool
    result_hash: str
    share_without_monitor: float | None
    modelled_cycles: ModelledCycles | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One run: its record, how it ended, what went by in silence, what differs from the first run."""

    record: RunRecord
    stop: Stop
    silent: tuple[Silent, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def ending(self) -> tuple[StopKind, int | None]:
        """How it ended, as far as two runs must agree on it."""
        return self.stop.kind, self.stop.exit_code

    @property
    def expected_to_agree(self) -> bool:
        """Whether its monitor is equivalent."""
        return self.record["monitor"] not in NOT_EQUIVALENT

    @property
    def result_hash(self) -> str:
        """What the guest did, as others see it: SHA-256 of its console and its ending, 64 bits of it."""
        kind, code = self.ending
        return hashlib.sha256(f"{self.record['console']}\0{kind}\0{code}".encode()).hexdigest()[:16]

    @property
    def share_alone(self) -> float | None:
        """The part of the blocks, 0 to 1, that no exit interrupted; None where nothing counts blocks."""
        return share_alone(self.record["exits"]["total"], self.record["blocks"])

    def cycles(self, costs: Costs) -> Cycles | None:
        """Model the run on the default processor of the cost table."""
        run = self.record
        way = Way(run["monitor"], run["paging"])
        return of_run(costs, costs.generation(), way, run["exits"]["by_reason"], run["blocks"])

    def as_dict(self, costs: Costs) -> ComparedRun:
        """Give it as plain data."""
        return {
            **self.record,
            "agrees": not self.differs,
            "expected_to_agree": self.expected_to_agree,
            "result_hash": self.result_hash,
            "share_without_monitor": self.share_alone,
            "modelled_cycles": _modelled(self.cycles(costs), costs.default),
        }


def side_by_side(
    guest: str,
    *,
    append: str | None = None,
    ways: Iterable[tuple[str, str]] | None = None,
    timeout: float = PATIENCE,
    say: Callable[[str], None] = lambda _text: None,
) -> list[ComparedRun]:
    """Run a bundled guest under several monitors, one after the other, and compare each with the first.

    append: added to its command line. ways: (monitor, paging), all that there are for it for None. timeout:
    seconds of wall time for each. Raises UnusableInput for a guest, monitor or paging that there is not.
    """
    from vlab.vmm.monitors import available

    finished: list[Finished] = []
    for monitor, paging in available() if ways is None else ways:
        image = image_for(guest, monitor)
        if image is not None:
            say(f"running {image} under {monitor}/{paging}")
            finished.append(compared(run_once(image, monitor, paging, append, timeout), finished))
    costs = load()
    return [each.as_dict(costs) for each in finished]


def image_for(guest: str, monitor: str) -> str | None:
    """Give the image of a guest that runs under a monitor; None when there is none."""
    return PARAVIRTUAL.get(guest) if monitor == KNOWN_TO_ITS_GUESTS else guest


def run_once(
    guest: str, monitor: str, paging: str, append: str | None = None, timeout: float = PATIENCE
) -> Finished:
    """Run a guest to its end, for at most so many seconds of wall time."""
    from vlab.session import VM

    with VM(guest, monitor=monitor, paging=paging, append=append) as vm:
        began = time.monotonic()
        stop = vm.run(timeout=timeout)
        return Finished(record(vm, stop.kind, time.monotonic() - began), stop, vm.silent)


def compared(finished: Finished, earlier: list[Finished]) -> Finished:
    """Note in what ``finished`` differs from the first run of the same guest."""
    if not earlier:
        return finished
    first = earlier[0]
    same = {
        "console": finished.record["console"] == first.record["console"],
        "ending": finished.ending == first.ending,
        "final state": finished.record["guest"] != first.record["guest"]
        or finished.record["monitor"] in OTHER_TIME
        or finished.record["state_hash"] == first.record["state_hash"],
    }
    differs = tuple(name for name, agrees in same.items() if not agrees)
    return replace(finished, differs=differs)


def _modelled(cycles: Cycles | None, generation: str) -> ModelledCycles | None:
    if cycles is None:
        return None
    guest, exits, total = (round(each) for each in (cycles.guest, cycles.exits, cycles.total))
    sure = cycles.sure.name.lower()
    return {"generation": generation, "guest": guest, "exits": exits, "total": total, "sure": sure}
