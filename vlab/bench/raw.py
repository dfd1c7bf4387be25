"""The emulator without vlab: what its speed is when nothing stands between it and the guest's code."""

from __future__ import annotations

import ctypes
from typing import Final

import unicorn
from unicorn.unicorn_py3.unicorn import Uc, uclib
from unicorn.x86_const import UC_CPU_X86_EPYC

from vlab.bench.loops import LOAD, MEMORY, Loop

_start = uclib["uc_emu_start"]  # a function object of our own, thinner than the binding's method
_start.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t)
_stop = uclib["uc_emu_stop"]
_stop.argtypes = (ctypes.c_void_p,)
_add_hook = uclib["uc_hook_add"]
_InterruptHook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)

_INT_80: Final = b"\xcd\x80"
_AT: Final = 0x1000


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

    in_python: whether the hook is a Python function; otherwise it is the library's own stop function.
    """

    def __init__(self, *, in_python: bool) -> None:
        self._uc = _new()
        self._uc.mem_map(0, MEMORY)
        self._uc.mem_write(_AT, _INT_80)
        self._uc.ctl_exits_enabled(True)  # no address ends the run, so none is looked up at each stop
        self._hook = _InterruptHook(lambda engine, _number, _data: _stop(engine)) if in_python else _stop
        place = ctypes.c_void_p()
        error = _add_hook(
            self._uc._uch, ctypes.byref(place), ctypes.c_int(unicorn.UC_HOOK_INTR), self._hook,
            ctypes.c_void_p(), ctypes.c_uint64(1), ctypes.c_uint64(0),
        )  # fmt: skip
        if error:
            raise RuntimeError(f"the raw emulator refused a hook with error {error}")

    def stops(self, count: int) -> None:
        """Start and be stopped, ``count`` times."""
        handle, start = self._uc._uch, _start
        for _ in range(count):
            start(handle, _AT, 0, 0, 0)


def _new() -> Uc:
    uc = Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    uc.ctl_set_cpu_model(UC_CPU_X86_EPYC)
    return uc
