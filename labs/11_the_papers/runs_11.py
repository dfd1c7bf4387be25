"""Operations as tiny guests: what is counted of two runs, and what one operation took of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vlab.costs.readings import Reading, Way
from vlab.grading.facade import Value
from vlab.grading.trial import Trial
from vlab.guests.programs import SCRATCH, count_down, image, leave
from vlab.session import VM

BODIES: Final = {
    "in": b"\xe4\x80",  # in al, 80h
    "cr": b"\x0f\x20\xd8\x0f\x22\xd8",  # mov eax, cr3; mov cr3, eax
    "callret": b"\xe8\x05\x00\x00\x00\x90\x90\xeb\x02\x90\xc3\x90",  # call, over two nops to a ret
    "cpuid": b"\x51\x0f\xa2\x59",  # push ecx; cpuid; pop ecx
    "invlpg": b"\x0f\x01\x3d" + SCRATCH.to_bytes(4, "little"),  # invlpg [SCRATCH]
}
"""One operation each; the table has no figures of their own for the last two."""
SHADOWED: Final = Way("hardware", "shadow")
NESTED: Final = Way("hardware", "nested")
TRANSLATED: Final = Way("binary-translation", "shadow")
TRAPPED: Final = Way("trap-emulate", "shadow")


@dataclass(frozen=True, slots=True)
class Run:
    """What was counted of one run with so many operations."""

    count: int
    exits: Mapping[str, int]
    blocks: int

    def told(self) -> dict[str, Value]:
        """Give it as the student's functions get it."""
        return {"count": self.count, "exits": dict(self.exits), "blocks": self.blocks}


def count(trial: Trial, way: Way, operation: str, times: int) -> Run:
    """Run a guest that does an operation so many times, and count from its power-on to its end."""
    vm = trial.vm(
        image(count_down(times, BODIES[operation]) + leave(0)),
        monitor=way.monitor, paging=way.paging, memory="2M",
    )  # fmt: skip
    before = vm.blocks or 0
    trial.run_ours(vm)
    return Run(times, by_reason(vm), (vm.blocks or 0) - before)


def two_runs(trial: Trial, way: Way, operation: str) -> tuple[Run, Run]:
    """Run it with fewer and with more operations, of this student's own numbers."""
    few = trial.rng.randrange(3, 9)
    more = few + trial.rng.randrange(8, 24)
    return count(trial, way, operation, few), count(trial, way, operation, more)


def by_reason(vm: VM) -> dict[str, int]:
    """Count the exits of a guest, by reason."""
    return {str(reason): int(number) for reason, number in vm.exits.by_reason().items() if number}


def reading_of(few: Run, many: Run) -> Reading:
    """Give what one operation took."""
    more = many.count - few.count
    exits = {
        reason: (many.exits.get(reason, 0) - few.exits.get(reason, 0)) / more
        for reason in {**few.exits, **many.exits}
    }
    return Reading(
        {reason: each for reason, each in exits.items() if each}, None, (many.blocks - few.blocks) / more
    )
