"""The processor's execution engine: the only module that knows Unicorn.

Unicorn is QEMU 5.0's translator with a working AMD-V guest mode, and no interrupt delivery, no #VMEXIT and no
SYSCALL. This module owns the library calls, the hooks and the live register file, and hides one trick:
everything runs in SVM guest mode, for only there do faults arrive cleanly for ever (docs/MACHINE.md). What the
engine does not do, ``processor`` completes.

Stops are between two instructions, always: see ``stops``. Port input and output are the exception, for their
hooks run in the middle of the instruction; ``refuse`` undoes it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Final

import unicorn as uc_names
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import (
    UC_CPU_X86_EPYC,
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_INS_SYSCALL,
    UC_X86_INS_SYSENTER,
    UC_X86_REG_CR0,
    UC_X86_REG_CR3,
    UC_X86_REG_CR4,
    UC_X86_REG_RAX,
    UC_X86_REG_RBP,
    UC_X86_REG_RBX,
    UC_X86_REG_RCX,
    UC_X86_REG_RDI,
    UC_X86_REG_RDX,
    UC_X86_REG_RFLAGS,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_R8,
    UC_X86_REG_TR,
)

from vlab.machine import helper
from vlab.machine import registers as reg
from vlab.machine.layout import HostLayout
from vlab.machine.memory import PhysicalMemory
from vlab.machine.stops import NO_INTERRUPT, CompiledStops, PythonStops, Stops, WatchedStops

CODE_CACHE: Final = 32 << 20
"""Bytes of host memory for translated code."""

STOPPED: Final = -1
"""``run`` returned because a stop was asked for or a deadline passed."""
FAILED: Final = -2
"""``run`` returned because the emulator gave up; ``error`` is its number."""
SYSCALL: Final = -3
SYSENTER: Final = -4

_GENERAL: Final = (
    UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX,
    UC_X86_REG_RSP, UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI,
    *range(UC_X86_REG_R8, UC_X86_REG_R8 + 8),
)  # fmt: skip
_MSRS: Final = {
    "star": 0xC0000081, "lstar": 0xC0000082, "cstar": 0xC0000083, "sfmask": 0xC0000084,
    "kernel_gs_base": 0xC0000102, "sysenter_esp": 0x175, "sysenter_eip": 0x176, "pat": 0x277,
    "tsc_aux": 0xC0000103,
}  # fmt: skip
_EFER, _HSAVE_PA, _SYSENTER_CS = 0xC0000080, 0xC0010117, 0x174
_HOST_EFER = 0x1D01  # SCE LME LMA NXE SVME: nested paging takes the host's paging mode, which must be 4-level

_In = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p)
_Out = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p
)
_Plain = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_MmioRead = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p
)
_MmioWrite = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)

_start = uclib["uc_emu_start"]  # item access: a function object of our own, with our own argument types
_start.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t)
_stop = uclib["uc_emu_stop"]
_stop.argtypes = (ctypes.c_void_p,)
_control = uclib["uc_ctl"]
_hook_add = uclib["uc_hook_add"]
_hook_del = uclib["uc_hook_del"]
_reg_read = uclib["uc_reg_read"]
_reg_read.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_TLB_FLUSH = ctypes.c_int(uc_names.UC_CTL_TLB_FLUSH | uc_names.UC_CTL_IO_WRITE << 30)
_TB_FLUSH = ctypes.c_int(uc_names.UC_CTL_TB_FLUSH | uc_names.UC_CTL_IO_WRITE << 30)
_TB_REMOVE = ctypes.c_int(uc_names.UC_CTL_TB_REMOVE_CACHE | 2 << 26 | uc_names.UC_CTL_IO_WRITE << 30)


class Engine:
    """One processor over ``memory``, in SVM guest mode from its construction on.

    counting: have blocks counted (the deterministic clock needs it; with the compiled helper always so).
    words, words32: the live register file as 64- and 32-bit words, indexed by ``vlab.machine.registers``.
    port_in(port, size) -> value and port_out(port, size, value) serve the instructions; they run in the middle
    of one. Whatever they raise undoes the instruction and comes out of ``run``.
    """

    def __init__(self, memory: PhysicalMemory, host: HostLayout, *, counting: bool = True) -> None:
        self.memory = memory
        self._host = host
        self._uc = uc_names.Uc(uc_names.UC_ARCH_X86, uc_names.UC_MODE_64)
        self._uc.ctl_set_cpu_model(UC_CPU_X86_EPYC)
        self._uc.ctl_set_tcg_buffer_size(CODE_CACHE)
        self.handle: int = self._uc._uch.value
        self._handle = ctypes.c_void_p(self.handle)
        self._uc.mem_map_ptr(0, memory.size, uc_names.UC_PROT_ALL, memory.address)
        self._keep: list[object] = []
        self.error = 0
        self.port_in: Callable[[int, int], int] = lambda _port, size: (1 << 8 * size) - 1
        self.port_out: Callable[[int, int, int], None] = lambda _port, _size, _value: None
        self._refused: tuple[bytes, int, int] | None = None
        self._raised: BaseException | None = None
        self._instruction = STOPPED
        self._instruction_rip = 0
        self._flags = ctypes.c_uint64()
        self.layout = self._power_on()
        env = (ctypes.c_char * self.layout.size).from_address(self.layout.env)
        self.bytes = memoryview(env).cast("B")
        self.words = self.bytes[: self.layout.size // 8 * 8].cast("Q")
        self.words32 = self.bytes.cast("I")
        self.pending: int = self.layout.cpu + reg.INTERRUPT_REQUEST
        self.flags = self.layout.env + 8 * reg.EFLAGS, self.layout.env + 4 * reg.HFLAGS
        self._interrupt_request = ctypes.c_uint32.from_address(self.pending)
        self.stop_function: int = ctypes.cast(_stop, ctypes.c_void_p).value or 0
        self.stops = self._make_stops(counting)
        self._deadline_words = self.stops.words
        self._install_instruction_hooks()

    # --- power-on ---------------------------------------------------------------------------------------

    def _power_on(self) -> reg.Layout:
        """Enter long mode as a host and execute the one real VMRUN of this engine's life."""
        uc, host = self._uc, self._host
        cpu, env = reg.find_env(self.handle, lambda n, value: uc.reg_write(_GENERAL[n], value))
        msrs = self._find_msrs(env)
        host.write(self.memory)
        uc.reg_write(UC_X86_REG_CR4, 0x620)  # PAE, OSFXSR, OSXMMEXCPT
        uc.reg_write(UC_X86_REG_CR3, host.page_tables)
        uc.msr_write(_EFER, _HOST_EFER)
        uc.reg_write(UC_X86_REG_CR0, 0x80000011)
        uc.msr_write(_HSAVE_PA, host.save_area)
        uc.reg_write(UC_X86_REG_TR, (0x40, host.save_area, 0xFFFF, 0x8B))
        msrs["efer"] = reg.find_value(env, 0x400, _HOST_EFER, "EFER")
        uc.reg_write(_GENERAL[0], host.vmcb)
        uc.ctl_exits_enabled(True)  # with no exits set, a stop no longer translates the address before it
        # The guest's first instruction is HLT, which the VMCB intercepts: the library stops there.
        hook = self.add_hook("interrupt", _stop, 0)
        error = _start(self._handle, host.code, 0, 0, 0)
        _hook_del(self._handle, ctypes.c_void_p(hook))
        vmcb = reg.find_value(env, reg.SEARCH_ENV, host.vmcb, "the VMCB's address") if not error else 0
        if ctypes.c_uint64.from_address(env + vmcb + reg.NESTED_CR3).value != host.nested_root:
            raise reg.UnknownEmulator(
                "unicorn: VMRUN did not enter guest mode with nested paging; install unicorn>=2.1.4,<2.2"
            )
        return reg.Layout(cpu, env, vmcb, msrs)

    def _find_msrs(self, env: int) -> dict[str, int]:
        found = {}
        for number, (name, msr) in enumerate(_MSRS.items()):
            probe = 0x0000_5A17_0DD5_0000 + 0x31 * number
            before = self._uc.msr_read(msr)
            self._uc.msr_write(msr, probe)
            shown = self._uc.msr_read(msr)
            if shown == probe:
                found[name] = reg.find_value(env, reg.SEARCH_ENV, probe, name)
            self._uc.msr_write(msr, before)
        return found

    def _make_stops(self, counting: bool) -> Stops:
        library = helper.load()
        if library is not None:
            return CompiledStops(self, library)
        return PythonStops(self) if counting else WatchedStops(self)

    # --- hooks ------------------------------------------------------------------------------------------

    def add_hook(self, kind: str, function: object, data: int, begin: int = 1, end: int = 0) -> int:
        """Install a hook of ``kind`` block, interrupt or an instruction's name; give its handle."""
        types = {"block": uc_names.UC_HOOK_BLOCK, "interrupt": uc_names.UC_HOOK_INTR}
        instructions = {
            "in": UC_X86_INS_IN, "out": UC_X86_INS_OUT,
            "syscall": UC_X86_INS_SYSCALL, "sysenter": UC_X86_INS_SYSENTER,
        }  # fmt: skip
        place = ctypes.c_void_p()
        kind_number = types.get(kind, uc_names.UC_HOOK_INSN)
        extra = (ctypes.c_int(instructions[kind]),) if kind in instructions else ()
        error = _hook_add(
            self._handle, ctypes.byref(place), ctypes.c_int(kind_number), function, ctypes.c_void_p(data),
            ctypes.c_uint64(begin), ctypes.c_uint64(end), *extra,
        )  # fmt: skip
        if error:
            raise reg.UnknownEmulator(f"unicorn: a hook on {kind} was refused with error {error}")
        self._keep.append(function)
        return place.value or 0

    def stop(self) -> None:
        """Stop; only from a hook that is between two instructions."""
        _stop(self._handle)

    def _install_instruction_hooks(self) -> None:
        def port_in(_uc: int, port: int, size: int, _data: int) -> int:
            if self._refused is not None:
                return 0
            try:
                return self.port_in(port, size)
            except BaseException as problem:
                self._undo(problem)
                return 0

        def port_out(_uc: int, port: int, size: int, value: int, _data: int) -> None:
            if self._refused is not None:
                return
            try:
                self.port_out(port, size, value)
            except BaseException as problem:
                self._undo(problem)

        def system_call(code: int) -> Callable[[int, int], None]:
            def called(_uc: int, _data: int) -> None:
                self._instruction = code
                self._instruction_rip = self.words[reg.RIP]
                _stop(self._handle)

            return called

        self.add_hook("in", _In(port_in), 0)
        self.add_hook("out", _Out(port_out), 0)
        self.add_hook("syscall", _Plain(system_call(SYSCALL)), 0)
        self.add_hook("sysenter", _Plain(system_call(SYSENTER)), 0)

    def map_window(
        self, hpa: int, size: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """Let accesses to a window of host-physical addresses call ``read(offset, size)`` and ``write``.

        They run in the middle of an instruction; what they raise comes out of ``run`` after it.
        """

        def on_read(_uc: int, offset: int, width: int, _data: int) -> int:
            try:
                return read(offset, width)
            except BaseException as problem:
                self._raise_later(problem)
                return (1 << 8 * width) - 1

        def on_write(_uc: int, offset: int, width: int, value: int, _data: int) -> None:
            try:
                write(offset, width, value)
            except BaseException as problem:
                self._raise_later(problem)

        callbacks = (_MmioRead(on_read), _MmioWrite(on_write))
        self._keep.extend(callbacks)
        error = uclib["uc_mmio_map"](
            self._handle, ctypes.c_uint64(hpa), ctypes.c_size_t(size),
            callbacks[0], ctypes.c_void_p(0), callbacks[1], ctypes.c_void_p(0),
        )  # fmt: skip
        if error:
            raise ValueError(f"map_window({hpa:#x}, {size:#x}): refused with error {error}")

    # --- running ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Execute from RIP until something stops the processor.

        Gives the number of the interrupt hook (an exception's vector, or 0x100 + the intercept's EXITCODE),
        or STOPPED, FAILED, SYSCALL or SYSENTER. Raises what a port or window callback raised.
        """
        words = self._deadline_words
        words[2] = NO_INTERRUPT
        self._instruction = STOPPED
        error = _start(self._handle, self.words[reg.RIP], 0, 0, 0)
        number = words[2]
        if self._refused is not None or self._raised is not None:
            return self._settle()
        if number != NO_INTERRUPT:
            return number
        if error:
            self.error = error
            return FAILED
        if self._instruction != STOPPED:
            self.words[reg.RIP] = self._instruction_rip  # the library has gone past it
        return self._instruction

    def refuse(self, code: int) -> None:
        """From ``port_in`` or ``port_out``: undo the instruction and have ``run`` give ``code``.

        The stop after a port hook comes some instructions late. Until it does, those instructions must not
        touch memory, so every translation is taken away; then the registers are put back.
        """
        if self._refused is None:
            self._refused = (bytes(self.bytes), code, self._deadline_words[0])
            empty = self._host.empty_table
            self.words[reg.CR3] = empty
            self.set_u64(reg.NESTED_CR3, empty)
            self.flush_tlb()
            _stop(self._handle)

    def _undo(self, problem: BaseException) -> None:
        self.refuse(FAILED)
        self._raise_later(problem)

    def _raise_later(self, problem: BaseException) -> None:
        if self._raised is None:
            self._raised = problem
        self.stops.request()

    def _settle(self) -> int:
        code = STOPPED
        if self._refused is not None:
            saved, code, self._deadline_words[0] = self._refused
            self._refused = None
            self.bytes[:] = saved
            self._interrupt_request.value = 0
            self.flush_tlb()
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        return code

    @property
    def refused(self) -> bool:
        """Whether the instruction now executing is being undone."""
        return self._refused is not None

    def request_window(self, wanted: bool) -> None:
        """Ask for (or withdraw) a stop with VMEXIT_VINTR before the next instruction with interrupts enabled."""
        self._interrupt_request.value = reg.VIRTUAL_INTERRUPT if wanted else 0

    @property
    def blocks(self) -> int:
        """Basic blocks entered since power-on (0 for ever when nothing counts)."""
        return self.stops.words[0]

    def uncount_block(self) -> None:
        """Take back the count of a block that is about to be entered in its middle, after a hidden stop."""
        words = self.stops.words
        if words[0]:
            words[0] -= 1

    # --- state ------------------------------------------------------------------------------------------

    def read_flags(self) -> int:
        """Give RFLAGS, arithmetic flags worked out."""
        _reg_read(self._handle, UC_X86_REG_RFLAGS, ctypes.byref(self._flags))
        return self._flags.value

    def u64(self, offset: int) -> int:
        """Read a field given by its offset from the VMCB's address."""
        place = self.layout.vmcb + offset
        value: int = struct.unpack_from("<Q", self.bytes, place)[0]
        return value

    def set_u64(self, offset: int, value: int) -> None:
        """Write such a field."""
        struct.pack_into("<Q", self.bytes, self.layout.vmcb + offset, value)

    def set_u32(self, offset: int, value: int) -> None:
        """Write a 32-bit field given by its offset from the VMCB's address."""
        struct.pack_into("<I", self.bytes, self.layout.vmcb + offset, value)

    def set_u16(self, offset: int, value: int) -> None:
        """Write a 16-bit field given by its offset from the VMCB's address."""
        struct.pack_into("<H", self.bytes, self.layout.vmcb + offset, value)

    def error_code(self) -> int:
        """Give the error code of the last fault, or EXITINFO1 of the last intercept."""
        value: int = struct.unpack_from("<I", self.bytes, self.layout.vmcb + reg.ERROR_CODE)[0]
        return value

    def flush_tlb(self) -> None:
        """Forget all translations, as after a write to CR3 with global pages off."""
        _control(self._handle, _TLB_FLUSH)

    def flush_code(self) -> None:
        """Forget all translated code: the host changed memory that may hold some."""
        _control(self._handle, _TB_FLUSH)

    def close(self) -> None:
        """Give the engine back; it must not be running. Only ``blocks`` may be asked afterwards."""
        if self.handle:
            self.handle = 0
            self.bytes = self.words = self.words32 = memoryview(bytearray(self.layout.size)).cast("B")
            del self._interrupt_request
            del self._uc  # its finalizer closes the library's side
            self._keep.clear()
