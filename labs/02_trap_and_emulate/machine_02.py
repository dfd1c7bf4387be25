"""The guest's processor for the student's emulation, and vlab's own monitor with that emulation in it.

The guest runs at CPL 1 under `TrapAndEmulate`; what traps and belongs to the exercise is carried out by the
student's function on the guest's virtual processor, through `GuestCpu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vlab.grading.equivalence import follow
from vlab.grading.facade import Facade, Value, unsigned
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import image
from vlab.isa.sensitive import Sensitive
from vlab.isa.state import TableRegister
from vlab.machine.faults import Event, EventKind
from vlab.session import VM
from vlab.vmm.deprivileged import transfers
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.mmio_decode import Memory
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.tenant import Parts
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Inject, Verdict

_GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_CONTROL: Final = ("cr0", "cr2", "cr3", "cr4")
_32: Final = 0xFFFFFFFF
_FAMILIES: Final = {
    "cli": Sensitive.CLI, "sti": Sensitive.STI, "mov_cr": Sensitive.MOV_CR, "lgdt": Sensitive.LGDT,
    "hlt": Sensitive.HLT, "iret": Sensitive.IRET,
}  # fmt: skip


class GuestCpu(Facade):
    """The guest's virtual processor while it stands at a trapped instruction.

    Nothing here happens to the real processor's privileged state; the monitor keeps the guest's own.
    """

    fields = (*_GENERAL, "eip", "eflags", "interrupt_flag")
    read_only = ("cpl", "iopl")
    offers = (
        "read", "write", "control", "set_control", "set_gdtr", "interrupt_shadow", "halt", "fault",
        "return_to_same_ring", "return_to_outer_ring",
    )  # fmt: skip

    def __init__(self, monitor: TrapAndEmulate, operands: Operands) -> None:
        self._monitor, self._cpu = monitor, operands.cpu
        self.verdict: Verdict = RESUME

    def __getattr__(self, name: str) -> int:
        if name not in _GENERAL:
            raise AttributeError(name)
        return self._cpu.words[_GENERAL.index(name)] & _32

    def __setattr__(self, name: str, value: object) -> None:
        if name in _GENERAL:
            self._cpu.words[_GENERAL.index(name)] = unsigned(name, value, 32)
        else:
            super().__setattr__(name, value)

    @property
    def eip(self) -> int:
        """The address of the trapped instruction, until it is assigned."""
        return self._cpu.rip

    @eip.setter
    def eip(self, value: object) -> None:
        self._cpu.rip = unsigned("eip", value, 32)

    @property
    def eflags(self) -> int:
        """EFLAGS as the guest is to see them: IF and IOPL are its own."""
        return self._cpu.rflags

    @eflags.setter
    def eflags(self, value: object) -> None:
        self._cpu.rflags = unsigned("eflags", value, 32) | 2

    @property
    def interrupt_flag(self) -> bool:
        """The guest's EFLAGS.IF."""
        return self._cpu.interrupt_flag

    @interrupt_flag.setter
    def interrupt_flag(self, value: object) -> None:
        self._cpu.interrupt_flag = bool(unsigned("interrupt_flag", value, 32))

    @property
    def cpl(self) -> int:
        """The ring that the guest believes to be in."""
        return self._cpu.cpl

    @property
    def iopl(self) -> int:
        """EFLAGS.IOPL of the guest."""
        return self._cpu.iopl

    def read(self, address: int, size: int) -> int:
        """Read 1, 2 or 4 bytes at a linear address."""
        return self._cpu.read(unsigned("address", address, 32), _size(size))

    def write(self, address: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes at a linear address."""
        size = _size(size)
        self._cpu.write(
            unsigned("address", address, 32), size, unsigned("value", value, 32) & (1 << 8 * size) - 1
        )

    def control(self, name: str) -> int:
        """Give the guest's CR0, CR2, CR3 or CR4."""
        return int(getattr(self._cpu, _control(name)))

    def set_control(self, name: str, value: int) -> None:
        """Give the guest's CR0, CR2, CR3 or CR4 another value."""
        self._monitor.emulator.system.write_control(self._cpu, _control(name), unsigned("value", value, 32))

    def set_gdtr(self, base: int, limit: int) -> None:
        """Give the guest another GDT: base and limit of the table."""
        self._cpu.gdtr = TableRegister(unsigned("base", base, 32), unsigned("limit", limit, 32) & 0xFFFF)

    def interrupt_shadow(self) -> None:
        """Hold interrupts off for one more instruction."""
        self._cpu.begin_shadow()

    def halt(self) -> None:
        """Let the guest sleep until an interrupt comes."""
        self._monitor.halted = True

    def fault(self, vector: int, error_code: int | None = None) -> None:
        """Have the guest's own handler for an exception run next, in place of the instruction."""
        code = None if error_code is None else unsigned("error_code", error_code, 32)
        self.verdict = Inject(Event(EventKind.EXCEPTION, unsigned("vector", vector, 32) & 0x1F, code))

    def return_to_same_ring(self, selector: int, offset: int) -> None:
        """Load CS and EIP, as IRET does within a ring."""
        transfers.return_to_same_ring(
            self._cpu, unsigned("selector", selector, 32) & 0xFFFF, unsigned("offset", offset, 32)
        )

    def return_to_outer_ring(self, selector: int, offset: int, stack: int, pointer: int) -> None:
        """Load CS, EIP, SS and ESP, as IRET does to an outer ring."""
        transfers.return_to_outer_ring(
            self._cpu, unsigned("selector", selector, 32) & 0xFFFF, unsigned("offset", offset, 32),
            unsigned("stack", stack, 32) & 0xFFFF, unsigned("pointer", pointer, 32),
        )  # fmt: skip


def _size(size: object) -> int:
    if size not in (1, 2, 4) or not isinstance(size, int):
        raise ValueError(f"size: {size!r} is not 1, 2 or 4")
    return size


def _control(name: object) -> str:
    if name not in _CONTROL:
        raise ValueError(f"name: {name!r} is not one of {', '.join(_CONTROL)}")
    return str(name)


def _described(operands: Operands) -> dict[str, Value]:
    """Tell the student's function of the instruction: plain facts that decoding gave."""
    instruction = operands.instruction
    facts: dict[str, Value] = {"length": instruction.length, "text": instruction.text}
    if instruction.family is Sensitive.MOV_CR:
        general = operands.general()
        facts["control"] = operands.system()
        facts["register"] = _GENERAL[getattr(general, "number", 0)]
        facts["to_control"] = general is not instruction.operands[0]
    for operand in instruction.operands:
        if isinstance(operand, Memory):
            facts["address"] = operands.linear(operand)
    return facts


class WithStudent(TrapAndEmulate):
    """vlab's monitor, with the emulation of ``names`` by ``student``."""

    student: Student
    names: tuple[str, ...]

    def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
        self.actions: Mapping[Sensitive, Action] = MappingProxyType(
            {_FAMILIES[name]: self._asking(name) for name in self.names}
        )
        super().__init__(parts, paging)

    def _asking(self, name: str) -> Action:
        def act(operands: Operands) -> Verdict:
            cpu = GuestCpu(self, operands)
            self.student.call(name, cpu, _described(operands))
            operands.cpu.follow_segments()
            return cpu.verdict

        return act


def yours(trial: Trial, guest: bytes | str, *names: str) -> VM:
    """Make the guest under the monitor with the student's functions in it."""
    monitor = type("Yours", (WithStudent,), {"student": trial.student, "names": names})
    return trial.vm(guest, monitor=monitor, memory="2M")


def ours(trial: Trial, guest: bytes | str) -> VM:
    """Make the same guest under the reference monitor."""
    return trial.vm(guest, monitor="trap-emulate", memory="2M")


def equivalent(trial: Trial, code: bytes, *names: str, status: int = 0, hint: str = "") -> None:
    """Compare a guest, which is to end with ``status``, under both, exit by exit."""
    guest = image(code)
    follow(yours(trial, guest, *names), ours(trial, guest), status=status, hint=hint)
