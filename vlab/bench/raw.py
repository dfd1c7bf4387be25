"""The emulator without vlab: what its speed is when nothing stands between it and the guest's code."""

from __future__ import annotations

import ctypes
from typing import Final

import unicorn
from unicorn.unicorn_py3.unicorn import Uc, uclib
from unicorn.x86_const import UC_CPU_X86_EPYC

from vlab.bench.loops import LOAD, MEMORY, Loop
from vlab.isa.vmcb import InterceptMisc1
from vlab.machine.cpu import STOP_FUNCTION, InterruptHook, Library
from vlab.machine.engine import CODE_CACHE
from vlab.machine.layout import RESERVED, HostLayout
from vlab.machine.memory import PhysicalMemory
from vlab.machine.power_on import power_on
from vlab.machine.registers import INTERCEPTS, RIP

_start = uclib["uc_emu_start"]  # a function object of our own, thinner than the binding's method
_start.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t)
_stop = uclib["uc_emu_stop"]
_stop.argtypes = (ctypes.c_void_p,)

_CODE: Final = b"\x0f\xa2\xeb\xfc"  # again: cpuid; jmp again
_AT: Final = 0x1000
_SIZE: Final = 2 << 20


class RawLoop:
    """A loop in the emulator alone, with no hook at all."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._uc = _new()
        self._uc.mem_map(0, MEMORY)
        self._uc.mem_write(LOAD, loop.image)
        self._run(loop.entry, loop.body)

    def round(self) -> None:
        """Execute one round."""
        self._run(self._loop.body, self._loop.mark)

    def _run(self, begin: int, until: int) -> None:
        error = _start(self._uc._uch, begin, until, 0, 0)
        if error:
            raise RuntimeError(f"the raw emulator stopped with error {error}")


class RawStop:
    """The cheapest way there is to stop the processor and start it again: a hook that does nothing else.

    It is the machine's processor, in AMD-V guest mode with CPUID intercepted, and executes CPUID and a jump.
    in_python: whether the hook is a Python function; otherwise it is the library's own stop function.
    """

    def __init__(self, *, in_python: bool) -> None:
        self._memory, host = PhysicalMemory(_SIZE), HostLayout(_SIZE - RESERVED)
        self._library = library = Library(CODE_CACHE)
        library.map(0, _SIZE, self._memory.address)
        layout = power_on(library, self._memory, host)
        intercepts = ctypes.c_uint64.from_address(layout.env + layout.vmcb + INTERCEPTS)
        intercepts.value |= InterceptMisc1.CPUID.mask
        env = (ctypes.c_char * layout.size).from_address(layout.env)
        self._words = memoryview(env).cast("B")[: layout.size // 8 * 8].cast("Q")
        self._words[RIP] = _AT
        self._memory.bytes[_AT : _AT + len(_CODE)] = _CODE
        hook = InterruptHook(lambda engine, _number: _stop(engine))
        library.add_hook("interrupt", hook if in_python else ctypes.c_void_p(STOP_FUNCTION), 0)

    def stops(self, count: int) -> None:
        """Start and be stopped, ``count`` times."""
        handle, start, words = ctypes.c_void_p(self._library.handle), _start, self._words
        for _ in range(count):
            start(handle, words[RIP] + 2, 0, 0, 0)


def _new() -> Uc:
    uc = Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    uc.ctl_set_cpu_model(UC_CPU_X86_EPYC)
    return uc
