"""What is tried of a student's answers to misses: what guests see, and the accessed and dirty bits they get.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable

from machine_06 import StudentFill

from vlab.grading.exercise import Broken
from vlab.grading.probing import Pair
from vlab.grading.trial import Trial
from vlab.guests.probes import ALL, LEGACY, NX, PAE, RW, US, A, D, P, Plan, Tables
from vlab.isa.paging import Access, PagingControls, walk
from vlab.session import VM


def _two(trial: Trial, plan: Plan) -> tuple[VM, VM]:
    """Run a guest over the student's shadow and on the bare machine; what it saw must be the same."""
    paging = StudentFill(trial.student)
    pair = Pair(trial, plan, paging)
    paging.vm = pair.yours
    for each, mine, right in pair.run():
        raise Broken(
            f"{each}: the guest saw {mine}, and on the bare machine {right}",
            hint="an entry that grants more than the guest's tables hides faults that the guest should get",
            vm=pair.yours,
        )
    return pair.yours, pair.ours


def _marks(plan: Plan, yours: VM, ours: VM, bit: int, name: str) -> None:
    """Compare a bit of all last entries under test."""
    tables = plan.tables
    controls = PagingControls(tables.mode, tables.root, pse=True, nxe=True, wp=True)
    for each in plan.tries:
        steps = list(walk(each.address, controls, Access(), _reader(ours)))
        step = steps[-1]
        mine, right = (_reader(vm)(step.entry_address, step.entry_size) & bit != 0 for vm in (yours, ours))
        if mine != right:
            raise Broken(
                f"in the end {name} is {mine:d} in the guest's entry for {each.address & ~0xFFF:#010x}, "
                f"and {right:d} "
                "on the bare machine",
                hint="the processor sets A at the first access, and D at the first write (APM2 5.4.2): "
                "the shadow has to miss once for each",
                vm=yours,
            )


def _reader(vm: VM) -> Callable[[int, int], int]:
    return lambda address, size: int.from_bytes(vm.memory[address : address + size], "little")


def faults(trial: Trial) -> None:
    """Try accesses that the guest's tables forbid."""
    plan = Plan(Tables(trial.rng, LEGACY))
    tables = plan.tables
    for pages in (tables.pages(RW | US, 0, upper=ALL), tables.pages(ALL, upper=RW | US)):
        plan.some(pages, "read", "write")
    plan.some(tables.pages(ALL | A | D, P | RW | A | D, P | A | D), "write", users=(True,))
    plan.some(tables.pages(P | US | A | D, P | A | D), "write", users=(False,))
    plan.shuffle()
    _two(trial, plan)


def granted(trial: Trial) -> None:
    """First an access that is allowed, then one to the same page that is not."""
    plan = Plan(Tables(trial.rng, PAE))
    tables = plan.tables
    plan.some(tables.pages(P | RW | A | D, P | RW | A | D), "read")  # ring 3 must not follow ring 0
    plan.some(tables.pages(P | US | A | D, P | US | A | D), "read", "write")
    for page in tables.pages(ALL | NX | A | D, ALL | NX | A | D):
        plan.some([page], "read", "call", users=(False,))
    plan.some(tables.pages(ALL | A | D), "call", users=(False,))
    plan.tries.sort(key=lambda each: each.user)
    _two(trial, plan)


def accessed(trial: Trial) -> None:
    """Compare A after reads and writes, in pages of both sizes."""
    plan = Plan(Tables(trial.rng, trial.rng.choice((LEGACY, PAE))))
    pages = plan.tables.pages(ALL, ALL, ALL, ALL, ALL, ALL)
    plan.some(pages[:2], "read", users=(False,))
    plan.some(pages[2:4], "write", users=(True,))
    plan.some([plan.tables.large() + 0x1000 * trial.rng.randrange(512)], "read", users=(False,))
    plan.shuffle()
    yours, ours = _two(trial, plan)
    _marks(plan, yours, ours, A, "A")


def dirty(trial: Trial) -> None:
    """Compare D after reads, after writes, and after a write that comes behind a read."""
    plan = Plan(Tables(trial.rng, trial.rng.choice((LEGACY, PAE))))
    tables = plan.tables
    read, written, both = tables.pages(ALL, ALL | A), tables.pages(ALL, ALL), tables.pages(ALL, ALL, ALL)
    plan.some(read, "read", users=(False,))
    plan.some(written, "write", users=(False,))
    plan.some(both, "read", "write", users=(False,))  # in this order
    yours, ours = _two(trial, plan)
    _marks(plan, yours, ours, D, "D")


def kernel(trial: Trial) -> None:
    """Run the kernel longmode."""
    paging = StudentFill(trial.student)
    vm = trial.vm("longmode", paging=paging, memory="2M")
    paging.vm = vm
    trial.run(vm, exits=20_000)
    ours = trial.vm("longmode", memory="2M", trace="counters")
    trial.run_ours(ours)
    pairs = zip(vm.console.text.split("\n"), ours.console.text.split("\n"), strict=False)
    for mine, right in pairs:
        if mine != right:
            raise Broken(f"longmode says {mine.strip()!r}, and on vlab's own tables {right.strip()!r}", vm=vm)
    if vm.last_stop is None or vm.last_stop.exit_code != 0:
        raise Broken("longmode did not come to its end", vm=vm)


def hidden(trial: Trial) -> None:
    """Try all of that but the kernel."""
    for part in (faults, granted, accessed, dirty):
        part(trial)
