"""The emulator library, call by call: the only module that knows Unicorn.

Unicorn is QEMU 5.0's translator. What of it vlab uses is wrapped here in plain numbers, without policy;
``engine`` makes a processor of it. The stock Python binding is passed by: its calls cost two to six times as
much, and several entry points that are needed have no method there.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from typing import Final

import unicorn as names
from unicorn.unicorn_py3.unicorn import uclib
from unicorn.x86_const import (
    UC_CPU_X86_EPYC,
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_INS_SYSCALL,
    UC_X86_INS_SYSENTER,
    UC_X86_REG_CR0,
    UC_X86_REG_MSR,
    UC_X86_REG_R8,
    UC_X86_REG_RAX,
    UC_X86_REG_RBP,
    UC_X86_REG_RBX,
    UC_X86_REG_RCX,
    UC_X86_REG_RDI,
    UC_X86_REG_RDX,
    UC_X86_REG_RFLAGS,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_TR,
)

_OBJECT_SIZE: Final = 4096
"""Bytes of the library's object that are looked at; it is several times as large."""

REQUIREMENT: Final = "install unicorn>=2.1.4,<2.2"

_GENERAL: Final = (
    UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX,
    UC_X86_REG_RSP, UC_X86_REG_RBP, UC_X86_REG_RSI, UC_X86_REG_RDI,
    *range(UC_X86_REG_R8, UC_X86_REG_R8 + 8),
)  # fmt: skip
_HOOK_TYPES: Final = {
    "block": names.UC_HOOK_BLOCK,
    "interrupt": names.UC_HOOK_INTR,
    "code": names.UC_HOOK_CODE,
    "read": names.UC_HOOK_MEM_READ,
    "write": names.UC_HOOK_MEM_WRITE,
}
_HOOK_INSTRUCTIONS: Final = {
    "in": UC_X86_INS_IN,
    "out": UC_X86_INS_OUT,
    "syscall": UC_X86_INS_SYSCALL,
    "sysenter": UC_X86_INS_SYSENTER,
}


class UnknownEmulator(ImportError):
    """The installed Unicorn is not one that vlab can work with."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"unicorn: {problem}; {REQUIREMENT}")


class _Msr(ctypes.Structure):
    _fields_ = [("number", ctypes.c_uint32), ("value", ctypes.c_uint64)]


class _TaskRegister(ctypes.Structure):
    _fields_ = [
        ("selector", ctypes.c_uint16),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


_P, _U32, _U64, _INT, _SIZE = (
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_size_t,
)
InHook: Final = ctypes.CFUNCTYPE(_U32, _P, _U32, _INT, _P)
"""value = f(handle, port, size, data)"""
OutHook: Final = ctypes.CFUNCTYPE(None, _P, _U32, _INT, _U32, _P)
"""f(handle, port, size, value, data)"""
InterruptHook: Final = ctypes.CFUNCTYPE(None, _P, _U32)
"""f(handle, number). A third argument, data, is left where it is: converting it costs as much as a branch."""
InstructionHook: Final = ctypes.CFUNCTYPE(None, _P, _P)
"""f(handle, data)"""
CodeHook: Final = ctypes.CFUNCTYPE(None, _P, _U64, _U32, _P)
"""f(handle, linear address, size, data), for block and code"""
MemoryHook: Final = ctypes.CFUNCTYPE(None, _P, _INT, _U64, _INT, ctypes.c_int64, _P)
"""f(handle, kind, host-physical address, size, value, data), for read and write"""
_WindowRead: Final = ctypes.CFUNCTYPE(_U64, _P, _U64, ctypes.c_uint, _P)
_WindowWrite: Final = ctypes.CFUNCTYPE(None, _P, _U64, ctypes.c_uint, _U64, _P)


# Item access gives function objects of our own, with our own argument types. For those with variable
# arguments (uc_ctl, uc_hook_add) the fixed ones must be declared: Apple Silicon passes the others
# differently.
_open = uclib["uc_open"]
_open.argtypes = (_INT, _INT, _P)
_close = uclib["uc_close"]
_close.argtypes = (_P,)
_start = uclib["uc_emu_start"]
_start.argtypes = (_P, _U64, _U64, _U64, _SIZE)
_stop = uclib["uc_emu_stop"]
_stop.argtypes = (_P,)
_control = uclib["uc_ctl"]
_control.argtypes = (_P, _INT)
_hook_add = uclib["uc_hook_add"]
_hook_add.argtypes = (_P, _P, _INT, _P, _P, _U64, _U64)
_hook_del = uclib["uc_hook_del"]
_hook_del.argtypes = (_P, _P)
_map = uclib["uc_mem_map_ptr"]
_map.argtypes = (_P, _U64, _SIZE, _U32, _P)
_map_window = uclib["uc_mmio_map"]
_map_window.argtypes = (_P, _U64, _SIZE, _P, _P, _P, _P)
_reg_read = uclib["uc_reg_read"]
_reg_read.argtypes = (_P, _INT, _P)
_reg_write = uclib["uc_reg_write"]
_reg_write.argtypes = (_P, _INT, _P)

MEMORY_WRITTEN: Final[int] = names.UC_MEM_WRITE
"""The kind of a write, for memory hooks."""

FETCH_FROM_WINDOW: Final[int] = names.UC_ERR_FETCH_PROT
"""The error of ``Library.start`` for instructions in a device window; RIP is at the start of their block."""

STOP_FUNCTION: Final[int] = ctypes.cast(_stop, _P).value or 0
"""Address of ``int stop(handle)``, for hooks that are C functions."""


_START_FUNCTION: Final = ctypes.cast(_start, _P).value
_IN_PYTHON: Final = ctypes.cast(ctypes.pythonapi.PyGILState_Check, _P).value


class _Guard(ctypes.Structure):
    """What ``vlab_start`` of the compiled helper takes; helper.c declares the same."""

    _fields_ = [
        ("env", _P),
        ("raise_exception", _P),
        ("start", _P),
        ("in_python", _P),
        ("aborted", _U64),
    ]


def _ctl(what: int, arguments: int) -> int:
    return what | arguments << 26 | names.UC_CTL_IO_WRITE << 30


_FLUSH_TLB: Final = _ctl(names.UC_CTL_TLB_FLUSH, 0)
_FLUSH_CODE: Final = _ctl(names.UC_CTL_TB_FLUSH, 0)
_FORGET_CODE: Final = _ctl(names.UC_CTL_TB_REMOVE_CACHE, 2)


@functools.cache
def _guard_aborts(helper: ctypes.CDLL) -> None:
    """Install the handler, once."""
    helper.vlab_guard_aborts()


class Library:
    """One instance of the emulator: an x86-64 processor with AMD-V, and nothing mapped.

    code_cache: bytes of host memory for translated code (the default would reserve 1 GiB). ``handle`` is the
    address of the library's object, 0 once closed. Raises UnknownEmulator where a call is refused.
    """

    def __init__(self, code_cache: int) -> None:
        place = _P()
        self._check(_open(names.UC_ARCH_X86, names.UC_MODE_64, ctypes.byref(place)), "it refused to start")
        self.handle: int = place.value or 0
        self._handle = place
        self._hooks: dict[int, object] = {}
        self._windows: list[object] = []
        self._finalizer = weakref.finalize(self, _close, place)
        self._flags = _U64()
        model = _control(place, _ctl(names.UC_CTL_CPU_MODEL, 1), _INT(UC_CPU_X86_EPYC))
        self._check(model, "it has no EPYC processor model")
        self._check(
            _control(place, _ctl(names.UC_CTL_TCG_BUFFER_SIZE, 1), _U32(code_cache)), "no room for code"
        )
        # With exits on and none set, a stop no longer translates the address before it.
        self._check(_control(place, _ctl(names.UC_CTL_UC_USE_EXITS, 1), _INT(1)), "it has no exit list")
        self._only_between_blocks = self._find_switch()
        self._guard = _Guard()
        self._guard_place = 0
        self._guarded_start: Callable[[ctypes.c_void_p, int, int], int] | None = None

    @staticmethod
    def _check(error: int, problem: str) -> None:
        if error:
            raise UnknownEmulator(f"{problem} (error {error})")

    def close(self) -> None:
        """Give the instance back; it must not be running."""
        self.handle = 0
        self._finalizer()
        self._hooks.clear()
        self._windows.clear()

    # --- running ----------------------------------------------------------------------------------------

    def start(self, rip: int) -> int:
        """Execute from ``rip`` until ``stop``; give 0 or the library's error number."""
        if self._guarded_start is not None:
            return self._guarded_start(self._handle, rip, self._guard_place)
        error: int = _start(self._handle, rip, 0, 0, 0)
        return error

    def survive_aborts(self, helper: ctypes.CDLL, env: int) -> None:
        """Have the emulator raise #UD in the guest where it would abort the process, by the compiled helper.

        env: address of its processor structure. Nothing changes where the platform cannot do that, or this
        build of the library does not show the function that raises.
        """
        try:
            start, raise_exception = helper.vlab_start, uclib["raise_exception_x86_64"]
        except AttributeError:
            return
        start.argtypes = (_P, _U64, _P)
        self._guard = _Guard(env, ctypes.cast(raise_exception, _P), _START_FUNCTION, _IN_PYTHON, 0)
        self._guard_place = ctypes.addressof(self._guard)
        self._guarded_start = start
        _guard_aborts(helper)

    def took_abort(self) -> bool:
        """Say whether the #UD that just came stands for an abort; only the first to ask is told."""
        aborted, self._guard.aborted = bool(self._guard.aborted), 0
        return aborted

    def _find_switch(self) -> ctypes.c_bool:
        """Find the member ``no_exit_request`` of the library's object (`uc_struct` in its uc_priv.h).

        A call sets the context mode, an int; it is followed by the size of a context, an address of 8 bytes
        and four bool, of which this is the third and the fourth says that the object is ready.
        """
        objects = []
        for mode in (names.UC_CTL_CONTEXT_MEMORY, names.UC_CTL_CONTEXT_CPU):
            self._check(
                _control(self._handle, _ctl(names.UC_CTL_CONTEXT_MODE, 1), _INT(mode)), "no context mode"
            )
            objects.append(ctypes.string_at(self.handle, _OBJECT_SIZE))
        changed = [place for place in range(_OBJECT_SIZE) if objects[0][place] != objects[1][place]]
        place = (changed[0] + 15) // 8 * 8 + 8 if changed else 0
        if len(changed) != 1 or objects[1][place : place + 4] not in (b"\0\0\0\1", b"\0\1\0\1"):
            raise UnknownEmulator("its object is not the one vlab knows")
        return ctypes.c_bool.from_address(self.handle + place + 2)

    def stop_between_blocks(self, only: bool) -> None:
        """Say whether a stop may come ``only`` between blocks, or after any memory access too.

        The library asks after each access whether it shall stop, which is of use for code hooks and costs
        guests that work on memory a tenth of their speed. Concerns code that is translated from now on.
        """
        self._only_between_blocks.value = only

    def stop(self) -> None:
        """Stop; only from a hook that is between two instructions."""
        _stop(self._handle)

    def flush_tlb(self) -> None:
        """Forget all translations of addresses."""
        _control(self._handle, _FLUSH_TLB)

    def flush_code(self) -> None:
        """Forget all translated code."""
        _control(self._handle, _FLUSH_CODE)

    def forget_code(self, start: int, end: int) -> None:
        """Forget the translated code of linear addresses from ``start`` up to ``end``, which are mapped."""
        _control(self._handle, _FORGET_CODE, _U64(start), _U64(end))

    # --- hooks and memory -------------------------------------------------------------------------------

    def add_hook(self, kind: str, function: object, data: int, begin: int = 1, end: int = 0) -> int:
        """Install a hook and give its handle, the address of the library's `struct hook`.

        kind: block, code (before each instruction), read, write, interrupt, in, out, syscall or sysenter.
        function: a C function pointer, kept alive until ``remove_hook``. begin, end: the range of addresses,
        inclusive; everywhere when ``begin`` is above ``end``. Code translated before does not know of it.
        """
        place = _P()
        extra = (_INT(_HOOK_INSTRUCTIONS[kind]),) if kind in _HOOK_INSTRUCTIONS else ()
        number = _HOOK_TYPES.get(kind, names.UC_HOOK_INSN)
        error = _hook_add(self._handle, ctypes.byref(place), number, function, _P(data), begin, end, *extra)
        self._check(error, f"a hook on {kind} was refused")
        hook = place.value or 0
        self._hooks[hook] = function
        return hook

    def remove_hook(self, hook: int) -> None:
        """Take a hook away."""
        _hook_del(self._handle, _P(hook))
        self._hooks.pop(hook, None)

    def map(self, hpa: int, size: int, address: int) -> None:
        """Make ``size`` bytes of this process's memory from ``address`` on physical memory at ``hpa``."""
        self._check(_map(self._handle, hpa, size, names.UC_PROT_ALL, address), "memory was not mapped")

    def map_window(
        self,
        hpa: int,
        size: int,
        read: Callable[[int | None, int, int, int | None], int],
        write: Callable[[int | None, int, int, int, int | None], None],
    ) -> None:
        """Let accesses to ``size`` bytes at ``hpa`` call ``read(handle, offset, width, data)`` and ``write``.

        Raises ValueError when the range is not whole pages or overlaps another.
        """
        callbacks = (_WindowRead(read), _WindowWrite(write))
        self._windows.extend(callbacks)
        error = _map_window(self._handle, hpa, size, callbacks[0], None, callbacks[1], None)
        if error:
            raise ValueError(f"map_window({hpa:#x}, {size:#x}): refused with error {error}")

    # --- registers, for power-on and for what is kept lazily --------------------------------------------

    def write_general(self, number: int, value: int) -> None:
        """Write general register ``number``, 0 to 15 in instruction encoding order."""
        _reg_write(self._handle, _GENERAL[number], ctypes.byref(_U64(value)))

    def write_control(self, number: int, value: int) -> None:
        """Write control register ``number``."""
        _reg_write(self._handle, UC_X86_REG_CR0 + number, ctypes.byref(_U64(value)))

    def write_task_register(self, selector: int, base: int, limit: int, flags: int) -> None:
        """Write TR with its hidden part; flags as in the high half of a descriptor."""
        value = _TaskRegister(selector, base, limit, flags)
        _reg_write(self._handle, UC_X86_REG_TR, ctypes.byref(value))

    def read_msr(self, number: int) -> int:
        """Read a model-specific register; only before guest mode, where it would end the process."""
        msr = _Msr(number, 0)
        _reg_read(self._handle, UC_X86_REG_MSR, ctypes.byref(msr))
        return int(msr.value)

    def write_msr(self, number: int, value: int) -> None:
        """Write a model-specific register; only before guest mode."""
        _reg_write(self._handle, UC_X86_REG_MSR, ctypes.byref(_Msr(number, value)))

    def read_flags(self) -> int:
        """Give RFLAGS, arithmetic flags worked out."""
        _reg_read(self._handle, UC_X86_REG_RFLAGS, ctypes.byref(self._flags))
        return self._flags.value
