"""The debugger that students get: a guest on two machines, on AMD-V and under trap-and-emulate."""

from __future__ import annotations

from reprlib import repr as shorten
from typing import Final

from pieces_03 import DATA
from planted_03 import CHECKPOINT
from registers_03 import GENERAL, MASK_32

from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Value, unsigned
from vlab.grading.trial import Trial
from vlab.guests.programs import STACK
from vlab.session import VM

_AREA: Final = 0x100
"""Bytes of the guest's data at SCRATCH, and of its stack below STACK."""
_MOST_EXITS: Final = 2_000
_PAGE: Final = 4096


class Debugger(Facade):
    """Two machines with the same guest, at the same checkpoint: "right" and "wrong"."""

    offers = ("step", "registers", "memory", "disassemble")
    read_only = ("areas",)

    def __init__(self, trial: Trial, guest: bytes) -> None:
        self.areas: list[Value] = [[DATA, _AREA], [STACK - _AREA, _AREA]]
        self._trial = trial
        self.machines = {
            "right": trial.vm(guest, memory="2M"),
            "wrong": trial.vm(guest, memory="2M", monitor="trap-emulate"),
        }
        self.steps = 0
        self.step()

    def step(self) -> bool:
        """Run both to the next checkpoint; False when the guest has ended before there was one."""
        self.steps += 1
        going = [self._next(vm) for vm in self.machines.values()]
        return all(going)

    def _next(self, vm: VM) -> bool:
        while not (vm.ended or vm.step().final):
            last = vm.exits[-1]
            if last.reason == "IOIO" and last.info1 & 0xFFFF == CHECKPOINT:
                return True
            if vm.exits.total > _MOST_EXITS:
                raise Broken(f"the guest had not come to its end after {_MOST_EXITS} exits", vm=vm)
        return False

    def registers(self, machine: str) -> dict[str, Value]:
        """Give the general registers, EIP and EFLAGS of a machine, as its guest sees them."""
        state = self._machine(machine).registers()
        values: dict[str, Value] = {name: getattr(state, f"r{name[1:]}") & MASK_32 for name in GENERAL}
        return values | {"eip": state.rip, "eflags": state.rflags}

    def memory(self, machine: str, address: int, size: int) -> bytes:
        """Give bytes of a machine's memory."""
        vm = self._machine(machine)
        first, count = unsigned("address", address, 32), unsigned("size", size, 32)
        if count > _PAGE or first + count > vm.memory_bytes:
            raise ValueError(
                f"{count} bytes at {first:#x}: give at most {_PAGE}, inside of the guest's memory"
            )
        return bytes(vm.memory[first : first + count])

    def disassemble(self, address: int, count: int) -> list[Value]:
        """Give instructions from an address on, as [address, text]."""
        lines = self.machines["right"].disassemble(max(1, min(unsigned("count", count, 32), 32)), at=address)
        return [[int(each.partition(":")[0], 16), each.partition(": ")[2]] for each in lines]

    def _machine(self, name: str) -> VM:
        if name not in self.machines:
            raise ValueError(f"machine is {shorten(name)}; it is 'right' or 'wrong'")
        return self.machines[name]

    def text(self, address: int) -> str:
        """Give the text of one instruction."""
        return self.machines["right"].disassemble(1, at=address)[0].partition(": ")[2]
