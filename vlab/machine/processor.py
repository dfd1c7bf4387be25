"""The processor: the execution engine, completed by microcode.

The engine stops at every exception, system call and intercepted instruction. Some stops belong to whoever owns
the processor (a monitor's intercepts); the rest the microcode here resolves as the hardware would, invisibly:
delivery through the guest's IDT, SYSCALL, CPUID, MSRs, the time stamp counter, port permission.

``run`` speaks SVM exit codes (AMD APM vol. 2, rev. 3.42, appendix C) and is all that a machine without a
monitor needs; ``svm`` adds VMRUN on top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.isa.control import CR4
from vlab.isa.msr import Msr
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector, has_error_code
from vlab.machine import cpu, decode_assist, port_permission, system_calls
from vlab.machine import registers as reg
from vlab.machine.core import LiveCore
from vlab.machine.cpu import Engine
from vlab.machine.delivery import Delivered, FaultRecord, Intercepted, Shutdown, deliver
from vlab.machine.faults import CpuFault, Event, EventKind
from vlab.machine.identity import TSC_HZ, Identity
from vlab.machine.instructions import PREFIXES, REX, prefix_count, software_interrupt
from vlab.machine.layout import HostLayout
from vlab.machine.memory import PhysicalMemory
from vlab.machine.mmu import Mmu, NestedFault
from vlab.machine.msrs import ModelSpecificRegisters

STOPPED: Final = -1
"""``run`` gave this instead of an exit code: a stop was asked for, or the deadline passed."""

_ENGINE_EXIT: Final = 0x100
_EXCEPTIONS: Final = _ENGINE_EXIT + SvmExit.EXCP_DE
_MISC: Final = _ENGINE_EXIT + SvmExit.INTR
_FAULT: Final = -5  # a refused port access: the fault waits in ``_fault``

_MISC_MANDATORY: Final = sum(
    1 << code - SvmExit.INTR
    for code in (
        SvmExit.VINTR, SvmExit.RDTSC, SvmExit.RDPMC, SvmExit.CPUID, SvmExit.SWINT, SvmExit.HLT, SvmExit.MSR,
        SvmExit.SHUTDOWN, SvmExit.VMRUN, SvmExit.VMMCALL, SvmExit.VMLOAD, SvmExit.VMSAVE, SvmExit.STGI,
        SvmExit.CLGI, SvmExit.SKINIT, SvmExit.RDTSCP, SvmExit.ICEBP, SvmExit.MONITOR, SvmExit.MWAIT,
        SvmExit.INVLPGA, SvmExit.RSM,
    )
)  # fmt: skip
"""Intercepts of words 3 and 4 that the microcode needs whatever the owner wants."""

_NESTED: Final = 1 << 6  # in hflags2
_V86: Final = 1 << 17  # in hflags
_LONG64: Final = 5  # LiveCore.mode_code

_FREE_MSRS: Final = (0xC0000100, 0xC0000101, 0xC0000102)  # FS.base, GS.base, KernelGsBase run in the engine


class Processor:
    """One processor over ``memory``.

    counting: see ``Engine``. ``core`` are its registers, ``mmu`` the microcode's view of memory, ``msrs`` its
    model-specific registers. After ``run``, ``info1`` and ``info2`` qualify the exit, ``event`` is the
    exception that it is about or that was being delivered, ``during`` the event whose delivery it interrupted,
    ``chain`` tells a triple fault and ``failure`` any other shutdown.
    """

    def __init__(self, memory: PhysicalMemory, host: HostLayout, *, counting: bool = True) -> None:
        self.memory = memory
        self.host = host
        self.engine = Engine(memory, host, counting=counting)
        self.mmu = Mmu(memory)
        self.core = LiveCore(self.engine, self.mmu)
        self.msrs = ModelSpecificRegisters(self.core, self.tsc)
        self.identity = Identity()
        self.now: Callable[[], int] = lambda: 0
        self.info1 = 0
        self.info2 = 0
        self.event: Event | None = None
        self.during: Event | None = None
        self.chain: tuple[FaultRecord, ...] = ()
        self.failure = ""
        self._fault: CpuFault | None = None
        self._code_frames: dict[tuple[int, int], int] = {}
        self._owned: frozenset[int] = frozenset()
        self._owned_vectors = 0
        self.on_port_in: Callable[[int, int], int] = lambda _port, size: (1 << 8 * size) - 1
        self.on_port_out: Callable[[int, int, int], None] = lambda _port, _size, _value: None
        self.on_deliver: Callable[[Event], None] = lambda _event: None
        self.engine.port_in = self._port_in
        self.engine.port_out = self._port_out
        self._exit_info2 = (host.vmcb + 0x80) >> 3
        self._words = memory.bytes.cast("Q")
        self._microcode: dict[int, Callable[[int], int | None]] = self._make_microcode()
        self._free_msrs()
        self.set_intercepts(0, 0, 0, 0, 0)
        self._power_on = bytes(self.engine.bytes)

    def load_registers(self, saved: bytes | None) -> None:
        """Put the whole register file of another virtual processor in place; None is one just powered on.

        saved: what ``bytes(engine.bytes)`` gave: x87 and SSE too, which VMRUN does not switch (APM2 15.5.1).
        """
        self.engine.bytes[:] = self._power_on if saved is None else saved
        self.engine.request_window(False)
        self.engine.flush_tlb()
        self.mmu.forget_nested()

    # --- ownership --------------------------------------------------------------------------------------

    def set_intercepts(self, exceptions: int, misc: int, crs: int, drs: int, nested_root: int | None) -> None:
        """Say what the owner intercepts, in the VMCB's own words (APM2 table B-1).

        exceptions: word 2. misc: words 3 and 4, the first in the low half. crs, drs: reads in the low and writes
        in the high 16 bits. nested_root: host-physical address of the nested tables; None turns nesting off.
        """
        engine = self.engine
        owned = {_EXCEPTIONS + vector for vector in range(32) if exceptions >> vector & 1}
        owned |= {_MISC + bit for bit in range(64) if misc >> bit & 1}
        owned |= {_ENGINE_EXIT + bit for bit in range(32) if crs >> bit & 1}
        owned |= {_ENGINE_EXIT + 32 + bit for bit in range(32) if drs >> bit & 1}
        self._owned, self._owned_vectors = frozenset(owned), exceptions
        engine.set_u64(reg.INTERCEPTS, misc | _MISC_MANDATORY)
        engine.set_u32(reg.INTERCEPT_EXCEPTIONS, 0xFFFFFFFF)
        engine.set_u32(reg.INTERCEPT_CR_READ, crs)
        engine.set_u32(reg.INTERCEPT_DR_READ, drs)
        self.set_nested_root(nested_root)

    def set_nested_root(self, root: int | None) -> None:
        """Switch nested paging to the tables at host-physical ``root``, or off with None."""
        engine, hflags2 = self.engine, self.engine.words32[reg.HFLAGS2]
        engine.words32[reg.HFLAGS2] = hflags2 & ~_NESTED | (0 if root is None else _NESTED)
        engine.set_u64(reg.NESTED_CR3, root or 0)
        engine.flush_tlb()
        self.mmu.set_nested(root)
        self._code_frames.clear()

    def _free_msrs(self) -> None:
        """Let the engine run the registers that every context switch touches (APM2 15.11)."""
        for msr in _FREE_MSRS:
            bit = 2 * (msr & 0x1FFF)
            place = self.host.msr_map + 0x800 + bit // 8
            self.memory.bytes[place] &= ~(3 << bit % 8) & 0xFF

    # --- running ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Execute until an exit that belongs to the owner; give its SVM exit code, or STOPPED."""
        engine, owned, microcode = self.engine, self._owned, self._microcode
        self.during = None
        while True:
            number = engine.run()
            if number in owned:
                self._qualify(number)
                return number - _ENGINE_EXIT
            if number == STOPPED:
                return STOPPED
            handler = microcode.get(number)
            if handler is None:
                return self._give_up(f"the emulator stopped with the unknown number {number:#x}")
            result = handler(number)
            if result is not None:
                return result

    def _qualify(self, number: int) -> None:
        """Fill EXITINFO1 and EXITINFO2 of an owned exit (APM2 appendix C)."""
        if _EXCEPTIONS <= number < _MISC:
            event = self._exception(number - _EXCEPTIONS)
            self.info1 = event.error_code or 0
            self.info2 = event.address or 0
            self.event = event
        else:
            self.info1 = self.info2 = 0
            if number == _MISC + SvmExit.MSR - SvmExit.INTR:
                self.info1 = self.engine.error_code()
            elif number < _ENGINE_EXIT + SvmExit.READ_DR0 or number == _ENGINE_EXIT + SvmExit.INVLPG:
                self.info1 = decode_assist.exit_info(self.core, number - _ENGINE_EXIT, self.fetch(15))

    def _exception(self, vector: int) -> Event:
        code = self.engine.error_code() if has_error_code(vector) else None
        address = self._words[self._exit_info2] if vector == Vector.PF else None
        return Event(EventKind.EXCEPTION, vector, code, address)

    def inject(self, event: Event) -> int | None:
        """Deliver an event to the program on the processor; None, or the exit that came of it."""
        self.during = None
        try:
            outcome = deliver(self.core, event, intercepts=self._intercepts)
        except NestedFault as fault:
            self.info1, self.info2, self.event, self.during = fault.code, fault.gpa, event, event
            return SvmExit.NPF
        self.core.refresh()
        if isinstance(outcome, Delivered):
            self.core.end_shadow()
            self.on_deliver(event)
            return None
        if isinstance(outcome, Shutdown):
            self.chain = outcome.chain
            return SvmExit.SHUTDOWN
        if isinstance(outcome, Intercepted):
            self.event, self.during = outcome.fault, outcome.during
            self.info1, self.info2 = outcome.fault.error_code or 0, outcome.fault.address or 0
            return SvmExit.EXCP_DE + outcome.fault.vector
        return self._give_up("a task switch was intercepted that nobody asked to see")

    def _intercepts(self, vector: int) -> bool:
        return bool(self._owned_vectors >> vector & 1) if vector < 32 else False

    # --- microcode: what nobody intercepts --------------------------------------------------------------

    def _make_microcode(self) -> dict[int, Callable[[int], int | None]]:
        table: dict[int, Callable[[int], int | None]] = {
            cpu.FAILED: self._failed,
            cpu.SYSCALL: self._system_call,
            cpu.SYSENTER: self._system_call,
            _FAULT: self._refused_port,
            _ENGINE_EXIT + SvmExit.NPF: self._nested_fault,
            _ENGINE_EXIT + SvmExit.HLT: lambda _number: int(SvmExit.HLT),
            _ENGINE_EXIT + SvmExit.VINTR: lambda _number: int(SvmExit.VINTR),
            _ENGINE_EXIT + SvmExit.SHUTDOWN: lambda _number: int(SvmExit.SHUTDOWN),
            _ENGINE_EXIT + SvmExit.CPUID: self._cpuid,
            _ENGINE_EXIT + SvmExit.MSR: self._msr,
            _ENGINE_EXIT + SvmExit.RDTSC: self._rdtsc,
            _ENGINE_EXIT + SvmExit.RDPMC: self._rdpmc,
            _ENGINE_EXIT + SvmExit.RDTSCP: self._rdtsc,
            _ENGINE_EXIT + SvmExit.SWINT: self._software_interrupt,
            _ENGINE_EXIT + SvmExit.ICEBP: self._icebp,
        }
        for vector in range(32):
            table[_EXCEPTIONS + vector] = self._deliver_exception
        for code in (
            SvmExit.RSM, SvmExit.VMRUN, SvmExit.VMMCALL, SvmExit.VMLOAD, SvmExit.VMSAVE,
            SvmExit.STGI, SvmExit.CLGI, SvmExit.SKINIT, SvmExit.INVLPGA, SvmExit.MONITOR, SvmExit.MWAIT,
        ):  # fmt: skip
            table[_ENGINE_EXIT + code] = self._undefined
        return table

    def _deliver_exception(self, number: int) -> int | None:
        return self.inject(self._exception(number - _EXCEPTIONS))

    def _undefined(self, _number: int) -> int | None:
        return self.raise_fault(CpuFault(Vector.UD))

    def raise_fault(self, fault: CpuFault) -> int | None:
        """Raise an exception at RIP: the owner's exit if it intercepts it, else delivery."""
        event = fault.event()
        if self._intercepts(event.vector):
            self.event = event
            self.info1, self.info2 = event.error_code or 0, event.address or 0
            return SvmExit.EXCP_DE + event.vector
        return self.inject(event)

    def _system_call(self, number: int) -> int | None:
        try:
            (system_calls.syscall if number == cpu.SYSCALL else system_calls.sysenter)(self.core)
        except CpuFault as fault:
            return self.raise_fault(fault)
        self.core.refresh()
        return None

    def _nested_fault(self, _number: int) -> int | None:
        self.info1, self.info2 = self.engine.error_code(), self._words[self._exit_info2]
        self.event = None
        return int(SvmExit.NPF)

    def _cpuid(self, _number: int) -> int | None:
        words = self.core.words
        words[0], words[3], words[1], words[2] = self.identity.cpuid(
            words[0] & 0xFFFFFFFF, words[1] & 0xFFFFFFFF
        )
        self.skip(2)
        return None

    def tsc(self) -> int:
        """The time stamp counter: TSC_HZ ticks a virtual second."""
        return self.now() * TSC_HZ // 1_000_000_000

    def _rdtsc(self, number: int) -> int | None:
        self.read_time_stamp(with_aux=number == _ENGINE_EXIT + SvmExit.RDTSCP)
        return None

    def read_time_stamp(self, *, with_aux: bool) -> None:
        """Execute the RDTSC at RIP, or RDTSCP ``with_aux``."""
        words = self.core.words
        value = self.tsc() + self.msrs.tsc_offset
        words[0], words[2] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        if with_aux:
            words[1] = self.core.tsc_aux & 0xFFFFFFFF
        self.skip(3 if with_aux else 2)

    def _rdpmc(self, _number: int) -> int | None:
        """RDPMC: the counters of the MSRs, which count nothing (APM3 "RDPMC": PCE, number)."""
        core, words = self.core, self.core.words
        number = words[1] & 0xFFFFFFFF
        if number > 3 or (core.cpl and not core.cr4 & CR4.PCE.mask):
            return self.raise_fault(CpuFault(Vector.GP, 0))
        value = self.msrs.read(Msr.PERF_CTR0 + number) or 0
        words[0], words[2] = value & 0xFFFFFFFF, value >> 32 & 0xFFFF
        self.skip(2)
        return None

    def _msr(self, _number: int) -> int | None:
        if not self.access_msr(write=bool(self.engine.error_code())):
            return self.raise_fault(CpuFault(Vector.GP, 0))
        return None

    def access_msr(self, *, write: bool) -> bool:
        """Execute the RDMSR or WRMSR at RIP; False, with nothing changed, for #GP."""
        words = self.core.words
        number = words[1] & 0xFFFFFFFF
        if write:
            if not self.msrs.write(number, (words[2] & 0xFFFFFFFF) << 32 | words[0] & 0xFFFFFFFF):
                return False
        else:
            value = self.msrs.read(number)
            if value is None:
                return False
            words[0], words[2] = value & 0xFFFFFFFF, value >> 32
        self.skip(2)
        return True

    def _software_interrupt(self, _number: int) -> int | None:
        return self.inject(software_interrupt(self.fetch(15), long_mode=self.core.mode_code == 5))

    def _icebp(self, _number: int) -> int | None:
        return self.inject(Event(EventKind.ICEBP, Vector.DB, instruction_length=1))

    def _failed(self, _number: int) -> int | None:
        return self._give_up(f"the emulator gave up with error {self.engine.error}")

    def _give_up(self, why: str) -> int:
        self.chain = ()
        self.failure = why
        return SvmExit.SHUTDOWN

    # --- instructions -----------------------------------------------------------------------------------

    def skip(self, length: int) -> None:
        """Go past the instruction at RIP, executed on the program's behalf.

        length: bytes without its prefixes, which are counted here.
        """
        words = self.core.words
        mode = self.core.mode_code
        first = self._first_byte()
        if first in PREFIXES or (mode == _LONG64 and first in REX):
            length += prefix_count(self.fetch(15), long_mode=mode == _LONG64)
        rip = words[reg.RIP] + length
        words[reg.RIP] = rip & (0xFFFFFFFFFFFFFFFF if mode == _LONG64 else 0xFFFFFFFF)
        self.core.end_shadow()

    def _first_byte(self) -> int:
        """Give the byte at RIP from a small cache of translations.

        The instruction has just been executed from there. Should the page have been remapped under the same
        CR3 meanwhile, the byte tells prefix from opcode all the same wrongly only if both pages hold the same
        intercepted opcode behind different prefixes.
        """
        linear, words = self.linear_rip(), self.core.words
        key = (linear >> 12, words[reg.CR3])
        frame = self._code_frames.get(key)
        if frame is None:
            try:
                frame = self.mmu.translate(linear & ~0xFFF, self.core.paging)
            except (CpuFault, NestedFault):
                return 0
            if len(self._code_frames) > 1024:
                self._code_frames.clear()
            self._code_frames[key] = frame
        return self.memory.bytes[frame | linear & 0xFFF]

    def linear_rip(self) -> int:
        """The linear address of the next instruction."""
        core = self.core
        if core.mode_code == _LONG64:
            return core.rip
        return core.segment("cs").base + core.rip & 0xFFFFFFFF

    def fetch(self, size: int) -> bytes:
        """Read up to ``size`` instruction bytes at RIP; what lies on a page that is not mapped is left out."""
        linear, user = self.linear_rip(), self.core.cpl == 3
        near = min(size, 0x1000 - (linear & 0xFFF))
        code = b""
        try:
            code = self.core.read_bytes(linear, near, user=user, fetch=True)
            if near < size:
                code += self.core.read_bytes(linear + near, size - near, user=user, fetch=True)
        except (CpuFault, NestedFault):
            return code
        return code

    # --- ports ------------------------------------------------------------------------------------------

    def _port_in(self, port: int, size: int) -> int:
        hflags = self.engine.words32[reg.HFLAGS]
        if (hflags & 3) > (hflags >> 12 & 3) or hflags & _V86:
            fault = port_permission.check(self.core, port, size)
            if fault is not None:
                self._fault = fault
                self.engine.refuse(_FAULT)
                return 0
        return self.on_port_in(port, size)

    def _port_out(self, port: int, size: int, value: int) -> None:
        hflags = self.engine.words32[reg.HFLAGS]
        if (hflags & 3) > (hflags >> 12 & 3) or hflags & _V86:
            fault = port_permission.check(self.core, port, size)
            if fault is not None:
                self._fault = fault
                self.engine.refuse(_FAULT)
                return
        self.on_port_out(port, size, value)

    def _refused_port(self, _number: int) -> int | None:
        fault, self._fault = self._fault, None
        assert fault is not None
        return self.raise_fault(fault)

    def close(self) -> None:
        """Give the engine back."""
        self.engine.close()

