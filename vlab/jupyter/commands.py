"""The commands of ``%vm``: what they do with a virtual machine, and what they show."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Final

from vlab.addresses import REGISTERS, held_in, read_address
from vlab.errors import UnusableInput
from vlab.isa.state import CpuState
from vlab.jupyter.current import Current
from vlab.jupyter.options import Given, whole
from vlab.jupyter.register_table import compare, show
from vlab.jupyter.running import Interrupted, Run, begin, each_exit, go, where
from vlab.jupyter.saying import Said, best, headline, lines, table, together
from vlab.session import VM, Stop, StopKind, open_vms
from vlab.vmm.snapshot import Snapshot

_snapshots: Final[weakref.WeakKeyDictionary[VM, dict[str, Snapshot]]] = weakref.WeakKeyDictionary()


def _run(current: Current, given: Given) -> Said | Interrupted:
    vm = current.get()
    until, timeout = given.text("until"), given.seconds("timeout")
    return _ran(vm, lambda: vm.run(until, timeout=timeout))


def _step(current: Current, given: Given) -> Said | Interrupted:
    vm, count = current.get(), _count(given, "step", 1)
    return _ran(vm, lambda: vm.step(count))


def _ran(vm: VM, action: Callable[[], Stop]) -> Said | Interrupted:
    before, run = vm.registers(), begin(vm)
    go(run, action)
    return run.outcome(_told(run, before))


def _told(run: Run, before: CpuState) -> Said:
    done = run.stop is not None and run.stop.kind is StopKind.EXPECTED
    ended = f"{run.stop}; the guest is {where(run.vm)}" if done else run.headline()
    parts = [part for part in (run.story(), run.console(), run.reasons()) if part]
    return together([headline(ended), *parts, compare(before, run.vm.registers())])


def _back(current: Current, given: Given) -> Said:
    vm, count = current.get(), _count(given, "back", 1)
    before = vm.registers()
    stop = vm.step_back()
    for _ in range(count - 1):
        stop = vm.step_back()
    told = f"{stop}; the guest is {where(vm)}, after {vm.exits.total:,} exits"
    return together([headline(told), compare(before, vm.registers())])


def _start(current: Current, given: Given) -> Said:
    vm = current.get()
    vm.start()
    return lines(f"{current.name_of(vm)} runs in the background; %vm pause stops it")


def _pause(current: Current, given: Given) -> Said:
    vm = current.get()
    if not vm.running:
        return lines(f"{current.name_of(vm)} does not run; it is {where(vm)}")
    stop = vm.pause()
    return lines(f"{stop or 'paused'}; the guest is {where(vm)}")


def _snapshot(current: Current, given: Given) -> Said:
    vm = current.get()
    kept = _snapshots.setdefault(vm, {})
    name = (
        given.words[0] if given.words else str(next(n for n in range(1, len(kept) + 2) if str(n) not in kept))
    )
    kept[name] = vm.snapshot()
    return lines(f"snapshot {name!r}: {kept[name]!r}; %vm restore {name} goes there")


def _restore(current: Current, given: Given) -> Said:
    vm, name = current.get(), given.words[0]
    kept = _snapshots.get(vm, {})
    if name not in kept:
        there = f"there are {', '.join(kept)}" if kept else "there are none; %vm snapshot takes one"
        raise UnusableInput(f"%vm restore: {current.name_of(vm)} has no snapshot {name!r}; {there}")
    vm.restore(kept[name])
    return lines(f"at snapshot {name!r}, {where(vm)}, after {vm.exits.total:,} exits")


def _regs(current: Current, given: Given) -> Said:
    return show(current.get().registers())


def _disasm(current: Current, given: Given) -> Said:
    return lines("\n".join(current.get().disassemble(_count(given, "disasm", 8))))


def _walk(current: Current, given: Given) -> object:
    vm = current.get()
    return best(vm.walk(read_address(given.words[0], held_in(vm.registers()), "%vm walk")))


def _exits(current: Current, given: Given) -> object:
    vm = current.get()
    if given.words:
        count = _count(given, "exits", 1)
        found = each_exit(vm, count)
        if found is None:
            raise UnusableInput(
                "%vm exits: no single exits are kept; make the VM with trace='full' or %%asm --trace"
            )
        return found
    return vm.exits


def _trace(current: Current, given: Given) -> Said:
    vm, path = current.get(), given.words[0]
    vm.save_trace(path)
    return lines(
        f"{len(vm.exits):,} of {vm.exits.total:,} exits are in {path}; `vlab trace {path}` sums them up"
    )


def _list(current: Current, given: Given) -> Said:
    there = open_vms()
    if not there:
        return lines("no virtual machine; make one with vm = vlab.VM('hello') or with a %%asm cell")
    meant = current.get()
    rows = [
        (
            "*" if vm is meant else "", current.name_of(vm), vm.guest.name, f"{vm.monitor}/{vm.paging}",
            f"{vm.memory_bytes >> 20} MiB", "running" if vm.running else "paused",
            f"{vm.exits.total:,}", f"{vm.virtual_time_ns / 1e6:,.3f} ms",
        )
        for vm in there
    ]  # fmt: skip
    return table(("", "variable", "guest", "monitor", "memory", "state", "exits", "virtual time"), rows)


def _use(current: Current, given: Given) -> Said:
    vm = current.use(given.words[0])
    return lines(f"%vm means {given.words[0]} now: {vm!r}")


def status(current: Current) -> Said:
    """Say which machine is meant and how it is."""
    vm = current.get()
    stop = "" if vm.running else f"; it is {where(vm)}"
    return lines(
        f"{current.name_of(vm)}: {vm!r}, {vm.exits.total:,} exits, {vm.virtual_time_ns / 1e6:,.3f} ms{stop}"
    )


def _count(given: Given, command: str, default: int) -> int:
    if not given.words:
        return default
    return whole(f"%vm {command}", given.words[0], 1 << 40)


COMMANDS: Final[dict[str, Callable[[Current, Given], object]]] = {
    "run": _run, "start": _start, "pause": _pause, "step": _step, "back": _back, "snapshot": _snapshot,
    "restore": _restore, "regs": _regs, "disasm": _disasm, "walk": _walk, "exits": _exits, "trace": _trace,
    "list": _list, "use": _use,
}  # fmt: skip
"""What each command does; `vlab.jupyter.magics` says what it takes."""


def words_for(current: Current, command: str) -> Sequence[str]:
    """Give what may follow a command: names of snapshots, variables or registers."""
    if command == "use":
        return list(current.named())
    if command == "restore" and open_vms():
        return list(_snapshots.get(current.get(), {}))
    if command == "walk":
        return REGISTERS
    return []
