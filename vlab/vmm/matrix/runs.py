"""One instruction, executed once: on the plain processor or under AMD-V."""

from __future__ import annotations

from typing import Final

from vlab.isa.permission_maps import MSRPM_SIZE
from vlab.isa.sensitive_forms import Form
from vlab.isa.state import CpuState
from vlab.isa.svm_exits import SvmExit, vector_of
from vlab.isa.svm_exits import name as exit_name
from vlab.isa.vectors import Vector, has_error_code
from vlab.isa.vectors import name as vector_name
from vlab.isa.vmcb import InterceptMisc2, VmcbControl, VmcbSave
from vlab.machine.machine import Machine
from vlab.machine.memory import PAGE
from vlab.machine.svm import write_save_area
from vlab.vmm.matrix.observation import Moment, Run, observe
from vlab.vmm.matrix.worlds import DATA_PAGE, LANDINGS, MEMORY, STACK_PAGES, START, World

_UD2: Final = b"\x0f\x0b"
_EVERY_EXCEPTION: Final = 0xFFFFFFFF
_EVERY_FAULT: Final = _EVERY_EXCEPTION & ~(1 << Vector.BP | 1 << Vector.OF)
"""All but the traps of INT3 and INTO, with which the processor refuses nothing."""
_PATIENCE: Final = 1000  # blocks
_FILLING: Final = b"\xa5"
_REGISTER_VECTORS: Final = (
    "intercept_cr_read", "intercept_cr_write", "intercept_dr_read", "intercept_dr_write",
)  # fmt: skip


class Laboratory:
    """A machine of its own, all of whose memory the experiment has."""

    def __init__(self) -> None:
        self._machine = Machine(MEMORY + 2 * MSRPM_SIZE + PAGE)
        self._processor = self._machine.processor
        self._memory = self._machine.memory.bytes
        self._maps, self._vmcb = MEMORY, MEMORY + 2 * MSRPM_SIZE
        self._touched: list[tuple[str, str]] = []
        self._priority = 0
        processor = self._processor
        processor.on_port_in, processor.on_port_out = self._port_in, self._port_out
        processor.read_task_priority = lambda: self._priority
        processor.write_task_priority = self._write_priority

    def _port_in(self, port: int, size: int) -> int:
        self._touched.append((f"port {port:#x}", "read"))
        return 0x5A5A5A5A & (1 << 8 * size) - 1

    def _port_out(self, port: int, _size: int, value: int) -> None:
        self._touched.append((f"port {port:#x}", f"{value:#x}"))

    def _write_priority(self, value: int) -> None:
        self._touched.append(("cr8", f"{value:#x}"))

    def plain(self, form: Form, world: World) -> Run:
        """Execute ``form`` on a processor without AMD-V: all faults are seen, nothing else is intercepted."""
        before = self._prepare(form, world)
        self._processor.set_intercepts(_EVERY_FAULT, 0, 0, 0, None)
        self._processor.core.load(before.state)
        return self._tell(form, world, before, self._processor.run())

    def under_svm(self, form: Form, world: World) -> Run:
        """Execute ``form`` in a guest whose VMCB has its intercept set, if there is one."""
        before = self._prepare(form, world)
        memory, vmcb, svm = self._memory, self._vmcb, self._machine.svm
        memory[self._maps : vmcb] = b"\xff" * (vmcb - self._maps)
        memory[vmcb : vmcb + PAGE] = bytes(PAGE)
        control = VmcbControl(memory, vmcb)
        control.asid, control.msrpm_base_pa, control.intercept_exceptions = 1, self._maps, _EVERY_EXCEPTION
        control.intercept_misc2 = InterceptMisc2.VMRUN.mask
        if form.exit_ is not None:
            _intercept(control, form.exit_)
        write_save_area(VmcbSave(memory, vmcb), before.state)
        self._processor.core.load(before.state)  # VMRUN leaves most general registers alone (APM2 15.5.1)
        svm.forget(vmcb)
        code = svm.vmrun(vmcb)
        if code == form.exit_ or (form.exit_ is SvmExit.IOIO and self._touched):
            return Run(exit_name(form.exit_))  # a port exit is a call in mid-instruction on this machine
        return self._tell(form, world, before, code)

    def _prepare(self, form: Form, world: World) -> Moment:
        """Put everything in its place, and give the moment before the instruction."""
        processor, memory = self._processor, self._memory
        processor.load_registers(None)
        processor.msrs.values.clear()
        processor.msrs.values.update(world.msrs)
        processor.now = lambda: world.now
        self._priority = world.priority
        self._touched.clear()
        memory[world.base : world.base + len(world.tables)] = world.tables
        for first, end in (DATA_PAGE, STACK_PAGES):
            memory[first:end] = _FILLING * (end - first)
        for place in (START + len(form.encoding), *LANDINGS):
            memory[place : place + 2] = _UD2
        memory[START : START + len(form.encoding)] = form.encoding
        state = world.state(form)
        width = 8 if form.long64 else 4
        words = b"".join(word.to_bytes(width, "little") for word in form.stack)
        memory[state.rsp : state.rsp + len(words)] = words
        operand = bytes.fromhex(form.data)
        memory[DATA_PAGE[0] : DATA_PAGE[0] + len(operand)] = operand
        processor.engine.flush_code()
        stops = processor.engine.stops
        stops.arm(stops.words[0] + _PATIENCE)
        return self._moment(state)

    def _moment(self, state: CpuState) -> Moment:
        data, stack = (bytes(self._memory[first:end]) for first, end in (DATA_PAGE, STACK_PAGES))
        return Moment(state, self._processor.core.debug_register(0), data, stack)

    def _tell(self, form: Form, world: World, before: Moment, code: int) -> Run:
        """Say what came of it: every place where an instruction may lead has an undefined one, to stop at."""
        after = self._moment(self._processor.core.state())
        landed = after.state.rip != START
        if code == SvmExit.HLT:
            self._touched.append(("processor", "halted"))
        elif code != SvmExit.EXCP_UD or not landed:
            vector = vector_of(code)
            if vector is None:
                return Run(exit_name(code))
            code = self._processor.info1
            error = f"({code:#x})" if code else "(0)"
            return Run(f"{vector_name(vector)}{error if has_error_code(vector) else ''}")
        following = START + len(form.encoding)
        return observe(before, after, self._touched, following, world.ring, 8 if form.long64 else 4)

    def close(self) -> None:
        """Give the machine back."""
        self._memory = memoryview(b"").cast("B")
        self._machine.close()


def _intercept(control: VmcbControl, code: SvmExit) -> None:
    """Ask for exit ``code`` (APM2 table B-1: the vectors stand in the order of the codes)."""
    if code < SvmExit.EXCP_DE:
        setattr(control, _REGISTER_VECTORS[code >> 4], 1 << (code & 15))
    elif code >= SvmExit.INVLPGB:
        control.intercept_misc3 = 1 << code - SvmExit.INVLPGB
    elif code >= SvmExit.VMRUN:
        control.intercept_misc2 |= 1 << code - SvmExit.VMRUN
    elif code >= SvmExit.INTR:
        control.intercept_misc1 = 1 << code - SvmExit.INTR
