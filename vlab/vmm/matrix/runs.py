"""One instruction, executed once: on the plain processor or under AMD-V, and what there was to see of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Final

from vlab.isa.control import EFlags
from vlab.isa.permission_maps import MSRPM_SIZE
from vlab.isa.sensitive_forms import Form
from vlab.isa.state import GENERAL_REGISTERS, SEGMENT_REGISTERS, CpuState
from vlab.isa.svm_exits import SvmExit
from vlab.isa.svm_exits import name as exit_name
from vlab.isa.vmcb import InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.machine.svm import write_save_area
from vlab.vmm.matrix.worlds import DATA_PAGE, LANDINGS, MEMORY, STACK_PAGES, START, World

_UD2: Final = b"\x0f\x0b"
_EVERY_EXCEPTION: Final = 0xFFFFFFFF
_PATIENCE: Final = 1000
_FILLING: Final = b"\xa5"
_NEXT: Final = "next"
_SYSTEM: Final = tuple(
    part.name
    for part in fields(CpuState)
    if part.name not in (*GENERAL_REGISTERS, *SEGMENT_REGISTERS, "rip", "rflags")
)
_SYSTEM_FLAGS: Final = ("IF", "IOPL", "NT", "TF", "AC", "VIF", "VIP")
_STATUS: Final = sum(EFlags.fields()[name].mask for name in ("CF", "PF", "AF", "ZF", "SF", "OF", "DF"))


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one execution.

    trap: the fault or exit with which the processor refused the instruction, "" when it executed. seen: what
    it did, by name; ``at`` is where it led, when not to the next instruction. system: those names in it that
    stand for the state of the machine, and not of the program.
    """

    trap: str
    seen: Mapping[str, str] = field(default_factory=dict)
    system: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The outcome in a few words."""
        return self.trap or ", ".join(f"{name}={value}" for name, value in self.seen.items()) or "done"


class Laboratory:
    """A machine of its own, all of whose memory the experiment has."""

    def __init__(self) -> None:
        self._machine = Machine(MEMORY + 2 * MSRPM_SIZE + 2 * PAGE)
        self._processor = self._machine.processor
        self._memory = self._machine.memory.bytes
        self._maps = MEMORY
        self._vmcb = MEMORY + 2 * MSRPM_SIZE
        self._ports: list[str] = []
        self._priorities: list[int] = []
        processor = self._processor
        processor.on_port_in, processor.on_port_out = self._port_in, self._port_out
        processor.read_task_priority, processor.write_task_priority = self._read_priority, self._priorities.append

    # --- what the pins and the local APIC are -----------------------------------------------------------

    def _port_in(self, port: int, size: int) -> int:
        self._ports.append(f"read {port:#x}")
        return 0x5A5A5A5A & (1 << 8 * size) - 1

    def _port_out(self, port: int, _size: int, value: int) -> None:
        self._ports.append(f"{value:#x} to {port:#x}")

    def _read_priority(self) -> int:
        return self._world.ring_priority

    # --- running ----------------------------------------------------------------------------------------

    def plain(self, form: Form, world: World) -> Run:
        """Execute ``form`` on a processor without AMD-V; all faults are seen, nothing else is intercepted."""
        start = self._prepare(form, world)
        self._processor.set_intercepts(_EVERY_EXCEPTION, 0, 0, 0, None)
        self._processor.core.load(start)
        return self._tell(form, world, start, self._processor.run())

    def under_svm(self, form: Form, world: World) -> Run:
        """Execute ``form`` in a guest whose VMCB has its intercept set, if there is one."""
        start = self._prepare(form, world)
        vmcb, svm = self._vmcb, self._machine.svm
        self._memory[self._maps : vmcb] = b"\xff" * (vmcb - self._maps)
        self._memory[vmcb : vmcb + PAGE] = bytes(PAGE)
        control = VmcbControl(self._memory, vmcb)
        control.asid, control.msrpm_base_pa, control.intercept_exceptions = 1, self._maps, _EVERY_EXCEPTION
        control.intercept_misc2 = InterceptMisc2.VMRUN.mask
        if form.exit_ is not None:
            _intercept(control, form.exit_)
        write_save_area(VmcbSave(self._memory, vmcb), start)
        self._processor.core.load(start)  # VMRUN leaves most general registers alone (APM2 15.5.1)
        svm.forget(vmcb)
        code = svm.vmrun(vmcb)
        if form.exit_ is SvmExit.IOIO and self._ports:
            return Run(exit_name(SvmExit.IOIO))  # this machine's port exits are calls in mid-instruction
        return self._tell(form, world, start, code)

    def _prepare(self, form: Form, world: World) -> CpuState:
        """Put everything in its place, and give the registers to start with."""
        processor, memory, code = self._processor, self._memory, form.encoding
        self._world = world
        processor.load_registers(None)
        processor.msrs.values.clear()
        processor.msrs.values.update(world.msrs)
        processor.now = lambda: world.now
        self._ports.clear()
        self._priorities.clear()
        memory[world.base : world.base + len(world.tables)] = world.tables
        for first, end in (DATA_PAGE, STACK_PAGES):
            memory[first:end] = _FILLING * (end - first)
        memory[START : START + len(code) + 2] = code + _UD2
        for place in LANDINGS:
            memory[place : place + 2] = _UD2
        start = world.state(form)
        width = 8 if form.long64 else 4
        for number, word in enumerate(form.stack):
            place = start.rsp + width * number
            memory[place : place + width] = word.to_bytes(width, "little")
        operand = bytes.fromhex(form.data)
        memory[DATA_PAGE[0] : DATA_PAGE[0] + len(operand)] = operand
        self._before = bytes(memory[DATA_PAGE[0] : DATA_PAGE[1]]), bytes(memory[STACK_PAGES[0] : STACK_PAGES[1]])
        processor.engine.flush_code()
        stops = processor.engine.stops
        stops.arm(stops.words[0] + _PATIENCE)
        return start
