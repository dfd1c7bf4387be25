"""A guest from start to end: under the student's loop, under a notebook's, and under vlab's own monitor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bare_12 import Bare
from machine_12 import BoardFacade, Cpu, Vmcb
from session_12 import Plan, Session

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade
from vlab.grading.trial import Trial
from vlab.guests.kept import keep
from vlab.session import VM, Stop
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.tenant import Parts

SOON: Final = 300_000_000
"""Virtual ns in which the small guests are done."""
Run = Callable[[Facade, Facade, Facade], object]


def _monitor_class(made: list[Bare]) -> type[Bare]:
    class Mine(Bare):
        def __init__(self, parts: Parts, paging: PagingStrategy) -> None:
            super().__init__(parts, paging)
            made.append(self)

    return Mine


def _go(vm: VM, monitor: Bare, plan: Plan, run: Run) -> None:
    """Have a loop run a guest until it is over."""
    vm.registers()  # puts the guest on the processor
    session = Session(vm, monitor, plan)
    try:
        run(Vmcb(session), Cpu(session), BoardFacade(session))
    except Broken as broken:
        raise Broken(broken.why, hint=broken.hint, vm=vm) from None
    if not session.over:
        raise Broken("run returned before the guest had got to its end: go on while not board.over", vm=vm)


def yours(trial: Trial, guest: bytes | str, plan: Plan, memory: str = "2M") -> VM:
    """Run a guest under the student's loop until it returns."""
    made: list[Bare] = []
    vm = trial.vm(guest, monitor=_monitor_class(made), memory=memory)
    _go(vm, made[0], plan, lambda *given: trial.student.call("run", *given))
    return vm


def drive(
    run: Run,
    guest: bytes | str,
    *,
    typed: str = "",
    finish: str = "",
    memory: str = "16M",
    time_ns: int = SOON,
) -> VM:
    """Run a guest under a loop in this process, for a notebook to look at; give its VM.

    typed: what to type at the first prompt. finish: the text that ends the run. Raises Broken.
    """
    made: list[Bare] = []
    image_or_name = keep(guest, "guest.bin") if isinstance(guest, bytes) else guest
    vm = VM(image_or_name, monitor=_monitor_class(made), memory=memory, trace="full")
    script = [("$ ", typed)] if typed else []
    _go(vm, made[0], Plan(script, finish, time_ns=time_ns), run)
    return vm


def ours(trial: Trial, guest: bytes | str, plan: Plan, memory: str = "2M") -> VM:
    """Run the same under vlab's monitor."""
    vm = trial.vm(guest, memory=memory)
    for text, typed in plan.script:
        trial.run_ours(vm, text)
        vm.send(typed)
    trial.run_ours(vm, plan.finish or None, status=None)
    return vm


def how_it_ended(vm: VM) -> Stop | None:
    """How a guest under somebody's own loop ended."""
    monitor = vm.vmm
    return monitor.stop_noted if isinstance(monitor, Bare) else None
