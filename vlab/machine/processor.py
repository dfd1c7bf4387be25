"""The processor: the execution engine, completed by microcode.

The engine stops at every exception, system call and intercepted instruction. Some stops belong to whoever
owns the processor (a monitor's intercepts); the rest ``microcode`` resolves as the hardware would, invisibly:
delivery through the guest's IDT, SYSCALL, CPUID, MSRs, the time stamp counter, port permission.

``run`` speaks SVM exit codes (AMD APM vol. 2, rev. 3.42, appendix C) and is all that a machine without a
monitor needs; ``svm`` adds VMRUN on top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.isa.permission_maps import MSRPM_SIZE, msr_intercepted, set_msr_intercept
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector, has_error_code
from vlab.machine import decode_assist, microcode
from vlab.machine import registers as reg
from vlab.machine.breakpoints import Breakpoints
from vlab.machine.code_reader import CodeReader
from vlab.machine.core import LiveCore
from vlab.machine.decode_assist import SystemInstruction
from vlab.machine.delivery import Delivered, FaultRecord, Intercepted, Shutdown, deliver
from vlab.machine.engine import Engine
from vlab.machine.exit_loop import STOPPED, ExitLoop
from vlab.machine.faults import CpuFault, Event, EventKind
from vlab.machine.identity import TSC_HZ, Identity
from vlab.machine.instructions import LONGEST, software_interrupt
from vlab.machine.layout import HostLayout
from vlab.machine.memory import PhysicalMemory
from vlab.machine.microcode import ENGINE_EXIT
from vlab.machine.mmu import Mmu, NestedFault
from vlab.machine.msrs import ModelSpecificRegisters
from vlab.machine.port_gate import PortGate

_EXCEPTIONS: Final = ENGINE_EXIT + SvmExit.EXCP_DE
_MISC: Final = ENGINE_EXIT + SvmExit.INTR

_NESTED: Final = 1 << 6  # in hflags2
_SVME_H: Final = 1 << 20  # in hflags
_RF: Final = 1 << 16
_STEP: Final = 1 << 14  # DR6.BS
_EXCEPTION, _PF = EventKind.EXCEPTION, Vector.PF
_PAGE_FAULT: Final = SvmExit.EXCP_DE + _PF
_LONG64: Final = 5  # LiveCore.mode_code
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_PATIENCE: Final = 64
"""Deliveries in a row, without a block entered between them, from which on each counts as a block."""

_FREE_MSRS: Final = (
    0xC0000100,
    0xC0000101,
    0xC0000102,
)  # FS.base, GS.base, KernelGsBase: the engine reads them


def _misc_bit(code: int) -> int:
    return 1 << code - SvmExit.INTR


_SVM_INSTRUCTIONS: Final = _misc_bit(SvmExit.VMRUN) | _misc_bit(SvmExit.VMMCALL)
_INVALIDATIONS: Final = _misc_bit(SvmExit.INVD) | _misc_bit(SvmExit.WBINVD)


__all__ = ["STOPPED", "Processor"]


class Processor:
    """One processor over ``memory``.

    counting: see ``Engine``. ``core`` are its registers, ``mmu`` the microcode's view of memory, ``msrs`` its
    model-specific registers, ``code`` its view of the instruction at RIP (``own_code``, unless a monitor that
    runs other code than the guest's puts its own there), ``identity`` what CPUID says. ``now()`` gives the
    virtual time in ns.

    ``on_port_in(port, size)``, ``on_port_out(port, size, value)``: the pins; called in mid-instruction.
    ``on_deliver(event)``: told of every event that reached its handler. ``read_task_priority()``,
    ``write_task_priority(value)``: CR8, 0 to 15, which is the task priority of the local APIC (APM2 16.6.4).
    ``msr_map``: host-physical address of the owner's MSR permission map; None: it intercepts all or none.

    After ``run``, ``info1`` and ``info2`` qualify the exit, ``event`` is the exception that it is about or
    that was being delivered, ``during`` the event whose delivery it cut short (EXITINTINFO), ``instruction``
    the one that touched a control or debug register or executed INVLPG, ``chain`` tells a triple fault and
    ``failure`` any other shutdown.
    """

    def __init__(self, memory: PhysicalMemory, host: HostLayout, *, counting: bool = True) -> None:
        self.memory = memory
        self.host = host
        self.engine = Engine(memory, host, counting=counting)
        self.mmu = Mmu(memory)
        self.core = LiveCore(self.engine, self.mmu)
        self.breakpoints = Breakpoints(self.engine, self.core, self.mmu)
        self.core.on_debug_registers = self.breakpoints.sync
        self.msrs = ModelSpecificRegisters(self.core, self.tsc)
        self.identity = Identity()
        self.now: Callable[[], int] = lambda: 0
        self.info1 = 0
        self.info2 = 0
        self.event: Event | None = None
        self.during: Event | None = None
        self.instruction: SystemInstruction | None = None
        self.chain: tuple[FaultRecord, ...] = ()
        self.failure = ""
        self.port_gate = PortGate(self.engine, self.core)
        self.step_due = False
        self.msr_map: int | None = None
        self._task_priority = 0
        self._last_block = self._stalled = 0
        self.own_code = self.code = CodeReader(self.core, memory, self.mmu)
        self.exits = ExitLoop(self)
        self._owned: frozenset[int] = frozenset()
        self._owned_vectors = 0
        self.on_port_in: Callable[[int, int], int] = lambda _port, size: (1 << 8 * size) - 1
        self.on_port_out: Callable[[int, int, int], None] = lambda _port, _size, _value: None
        self.on_deliver: Callable[[Event], None] = lambda _event: None
        self.read_task_priority: Callable[[], int] = lambda: self._task_priority
        self.write_task_priority: Callable[[int], None] = self._keep_task_priority
        self.engine.port_in = self._port_in
        self.engine.port_out = self._port_out
        self.registers, self.registers32 = self.engine.words, self.engine.words32
        self._exit_info2 = (host.vmcb + 0x80) >> 3
        self._words = memory.bytes.cast("Q")
        self._free_msrs()
        self.set_intercepts(0, 0, 0, 0, 0)
        self._power_on = bytes(self.engine.bytes)

    def _keep_task_priority(self, value: int) -> None:
        self._task_priority = value

    def load_registers(self, saved: bytes | None) -> None:
        """Put the whole register file of another virtual processor in place; None is one just powered on.

        saved: what ``bytes(engine.bytes)`` gave: x87 and SSE too, which VMRUN does not switch (APM2 15.5.1).
        """
        self.engine.bytes[:] = self._power_on if saved is None else saved
        self.engine.request_window(False)
        self.engine.flush_tlb()
        self.mmu.forget_nested()
        self.code.forget()
        self.breakpoints.sync()
        self.unseen = (False, 0, 0, 0)

    @property
    def unseen(self) -> tuple[bool, int, int, int]:
        """What no register holds: a #DB that is due for a step or breakpoints, CR8, a stall's length."""
        stalled = self._stalled if self.engine.blocks == self._last_block else 0
        return self.step_due, self.breakpoints.hit, self._task_priority, stalled

    @unseen.setter
    def unseen(self, value: tuple[bool, int, int, int]) -> None:
        self.step_due, self.breakpoints.hit, self._task_priority, self._stalled = value
        self._last_block = self.engine.blocks

    # --- ownership --------------------------------------------------------------------------------------

    def set_intercepts(self, exceptions: int, misc: int, crs: int, drs: int, nested_root: int | None) -> None:
        """Say what the owner intercepts, in the VMCB's own words (APM2 table B-1).

        exceptions: word 2. misc: words 3 and 4, the first in the low half. crs, drs: reads in the low and
        writes in the high 16 bits. nested_root: host-physical address of the nested tables; None turns
        nesting off.
        """
        engine, self.msr_map = self.engine, None
        owned = {_EXCEPTIONS + vector for vector in range(32) if exceptions >> vector & 1}
        owned |= {_MISC + bit for bit in range(64) if misc >> bit & 1}
        owned |= {ENGINE_EXIT + bit for bit in range(32) if crs >> bit & 1}
        owned |= {ENGINE_EXIT + 32 + bit for bit in range(32) if drs >> bit & 1}
        self._owned, self._owned_vectors = frozenset(owned), exceptions
        self.exits.set_owned(self._owned)
        self.code.exact = self.owns(SvmExit.WRITE_CR3) and self.owns(SvmExit.INVLPG)
        if misc & _INVALIDATIONS:
            misc |= _INVALIDATIONS  # the engine takes INVD for WBINVD
        engine.set_u64(reg.INTERCEPTS, misc | microcode.MISC_MANDATORY)
        engine.set_u32(reg.INTERCEPT_EXCEPTIONS, 0xFFFFFFFF)
        engine.set_u32(reg.INTERCEPT_CR, crs | microcode.CR_MANDATORY)
        engine.set_u32(reg.INTERCEPT_DR, drs | microcode.DR_MANDATORY)
        # Without an owner for them, VMRUN and its companions do not exist: #UD at every privilege level.
        hflags = engine.words32[reg.HFLAGS] & ~_SVME_H
        engine.words32[reg.HFLAGS] = hflags | (_SVME_H if misc & _SVM_INSTRUCTIONS else 0)
        self.set_nested_root(nested_root)

    def owns(self, code: int) -> bool:
        """Say whether the owner intercepts what SVM exit ``code`` stands for."""
        return ENGINE_EXIT + code in self._owned

    def owns_msr(self) -> bool:
        """Say whether the owner intercepts the RDMSR or WRMSR at RIP; its permission map, if any, says."""
        if self.msr_map is None or not self.owns(SvmExit.MSR):
            return self.owns(SvmExit.MSR)
        bits = self.memory.bytes[self.msr_map : self.msr_map + MSRPM_SIZE]
        return msr_intercepted(bits, self.core.words[1] & _MASK32, bool(self.engine.error_code()))

    def set_nested_root(self, root: int | None) -> None:
        """Switch nested paging to the tables at host-physical ``root``, or off with None."""
        engine, hflags2 = self.engine, self.engine.words32[reg.HFLAGS2]
        engine.words32[reg.HFLAGS2] = hflags2 & ~_NESTED | (0 if root is None else _NESTED)
        engine.set_u64(reg.NESTED_CR3, root or 0)
        engine.flush_tlb()
        self.mmu.set_nested(root)
        self.code.forget()

    def _free_msrs(self) -> None:
        """Let the engine read what context switches read (APM2 15.11); the microcode checks writes."""
        first = self.host.msr_map
        for msr in _FREE_MSRS:
            set_msr_intercept(self.memory.bytes[first : first + MSRPM_SIZE], msr, read=False)

    # --- running ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Execute until an exit that belongs to the owner; give its SVM exit code, or STOPPED."""
        return self.exits.run()

    def qualify(self, number: int) -> None:
        """Fill EXITINFO1 and EXITINFO2 for the engine's exit ``number`` (APM2 15.33, appendix C)."""
        code = number - ENGINE_EXIT
        if code == _PAGE_FAULT:  # under shadow paging the exit that matters
            self.info1, self.info2 = self.engine.error_code(), self._words[self._exit_info2]
            self.event = Event(_EXCEPTION, _PF, self.info1, self.info2)
            return
        self.event, self.info1, self.info2 = None, 0, 0
        if SvmExit.EXCP_DE <= code < SvmExit.INTR:
            self._qualify_exception(self.exception(code - SvmExit.EXCP_DE))
        elif code == SvmExit.NPF:
            self.info1, self.info2 = self.engine.error_code(), self._words[self._exit_info2]
        elif code == SvmExit.MSR:
            self.info1 = self.engine.error_code()
        elif code < SvmExit.EXCP_DE or code == SvmExit.INVLPG:
            self.instruction = self.code.decode()
            self.info1 = decode_assist.exit_info(code, self.instruction)
        elif code == SvmExit.SWINT:
            self.info1 = software_interrupt(self.fetch(), long_mode=self.core.mode_code == _LONG64).vector

    def _qualify_exception(self, event: Event) -> None:
        self.event = event
        self.info1, self.info2 = event.error_code or 0, event.address or 0

    def exception(self, vector: int) -> Event:
        """Give the exception with which the engine has just stopped."""
        code = self.engine.error_code() if has_error_code(vector) else None
        address = self._words[self._exit_info2] if vector == Vector.PF else None
        return Event(EventKind.EXCEPTION, vector, code, address)

    # --- events -----------------------------------------------------------------------------------------

    def inject(self, event: Event) -> int | None:
        """Deliver an event to the program on the processor; None, or the exit that came of it."""
        self.step_due = False
        self.during = None
        try:
            outcome = deliver(
                self.core,
                event,
                intercepts=self._intercepts,
                intercept_task_switch=self.owns(SvmExit.TASK_SWITCH),
            )
        except NestedFault as fault:
            return self.nested_exit(fault, event)
        self.core.refresh()
        if isinstance(outcome, Delivered):
            self.core.end_shadow()
            self.note_delivery(event)
            return None
        if isinstance(outcome, Shutdown):
            self.chain, self.failure = outcome.chain, ""
            return SvmExit.SHUTDOWN
        if isinstance(outcome, Intercepted):
            self._qualify_exception(outcome.fault)
            self.during = outcome.during
            return SvmExit.EXCP_DE + outcome.fault.vector
        self.event, self.info1, self.info2 = None, outcome.selector, 0
        self.during = outcome.during
        return int(SvmExit.TASK_SWITCH)

    def note_delivery(self, event: Event) -> None:
        """Note that ``event`` reached its handler."""
        self._notice_stall()
        self.on_deliver(event)

    def _notice_stall(self) -> None:
        """Let time pass for a guest that does nothing but fault: no block is entered, nothing is ever due."""
        blocks = self.engine.stops.words
        if blocks[0] != self._last_block:
            self._last_block, self._stalled = blocks[0], 0
            return
        self._stalled += 1
        if self._stalled > _PATIENCE:
            blocks[0] += 1
            self._last_block = blocks[0]

    def _intercepts(self, vector: int) -> bool:
        return bool(self._owned_vectors >> vector & 1) if vector < 32 else False

    def nested_exit(self, fault: NestedFault, during: Event | None) -> int:
        """Give the exit for an access of the microcode's that the nested tables do not allow."""
        self.info1, self.info2 = fault.code, fault.gpa
        self.event = self.during = during
        return SvmExit.NPF

    def raise_fault(self, fault: CpuFault) -> int | None:
        """Raise an exception at RIP: the owner's exit if it intercepts it, else delivery."""
        event = fault.event()
        if self._intercepts(event.vector):
            self._qualify_exception(event)
            return SvmExit.EXCP_DE + event.vector
        return self.inject(event)

    def give_up(self, why: str) -> int:
        """End in a shutdown that is the machine's fault, not the guest's: ``failure`` says why."""
        self.chain = ()
        self.failure = why
        return SvmExit.SHUTDOWN

    def trap_step(self) -> int | None:
        """Raise the #DB of an instruction that the microcode executed with RFLAGS.TF set (APM2 13.1.4)."""
        self.step_due = False
        self.core.dr6 |= _STEP
        return self.raise_fault(CpuFault(Vector.DB))

    # --- instructions -----------------------------------------------------------------------------------

    def tsc(self) -> int:
        """The time stamp counter: TSC_HZ ticks a virtual second."""
        return self.now() * TSC_HZ // 1_000_000_000

    def read_time_stamp(self, *, with_aux: bool) -> None:
        """Execute the RDTSC at RIP, or RDTSCP ``with_aux``."""
        words = self.core.words
        value = self.tsc() + self.msrs.tsc_offset
        words[0], words[2] = value & _MASK32, value >> 32 & _MASK32
        if with_aux:
            words[1] = self.core.tsc_aux & _MASK32
        self.skip(3 if with_aux else 2)
        self.engine.pass_time()

    def access_msr(self, *, write: bool) -> bool:
        """Execute the RDMSR or WRMSR at RIP; False, with nothing changed, for #GP."""
        words = self.core.words
        number = words[1] & _MASK32
        if write:
            if not self.msrs.write(number, (words[2] & _MASK32) << 32 | words[0] & _MASK32):
                return False
        else:
            value = self.msrs.read(number)
            if value is None:
                return False
            words[0], words[2] = value & _MASK32, value >> 32
        self.skip(2)
        return True

    def skip(self, length: int) -> None:
        """Go past the instruction at RIP, executed on the program's behalf.

        length: bytes without its prefixes, which are counted here.
        """
        if not self.code.skip(length):
            self.completed()

    def advance(self, length: int) -> None:
        """Go past an instruction of ``length`` bytes, prefixes included."""
        words = self.core.words
        rip = words[reg.RIP] + length
        words[reg.RIP] = rip & (_MASK64 if self.core.mode_code == _LONG64 else _MASK32)
        self.completed()

    def completed(self) -> None:
        """Note that an instruction was executed on the program's behalf: its shadow and RFLAGS.RF end."""
        core = self.core
        core.end_shadow()
        core.words[reg.EFLAGS] &= ~_RF
        self.step_due = core.single_stepping

    def linear_rip(self) -> int:
        """The linear address of the next instruction."""
        return self.code.linear_rip

    def fetch(self, size: int = LONGEST) -> bytes:
        """Read up to ``size`` instruction bytes at RIP, but none of a page that is not mapped."""
        return self.code.fetch(size)

    def operand(self, instruction: SystemInstruction) -> int:
        """Give the general register that a MOV to CRn or DRn takes: 64 bits in 64-bit mode, else 32."""
        value = self.core.get_gpr(instruction.register or 0)
        return value if self.core.mode_code == _LONG64 else value & _MASK32

    # --- ports ------------------------------------------------------------------------------------------

    def _port_in(self, port: int, size: int) -> int:
        return 0 if self.port_gate.closes(port, size) else self.on_port_in(port, size)

    def _port_out(self, port: int, size: int, value: int) -> None:
        if not self.port_gate.closes(port, size):
            self.on_port_out(port, size, value)

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()
