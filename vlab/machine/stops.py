"""Stopping the processor between two instructions, and counting the blocks it entered.

The emulator must never be stopped from another thread or by its own timeout: it would re-run an instruction
whose memory access is done. A block hook stops it exactly. Three ways to have one, the best that is there:

- ``CompiledStops``: a C function counts blocks and compares with a deadline; 8 % dearer than no hook.
- ``PythonStops``: the same in Python, block for block, about thirty times slower.
- ``WatchedStops``: no counting. Two hooks that are C functions of the emulator itself; a stop request widens
  the range of the second from nowhere to everywhere. For the realtime clock where no compiler is.
"""

from __future__ import annotations

import ctypes
from typing import Final, Protocol

from vlab.machine.cpu import UnknownEmulator
from vlab.machine.registers import VIRTUAL_INTERRUPT

NEVER: Final = (1 << 64) - 1
NO_INTERRUPT: Final = NEVER
VMEXIT_VINTR: Final = 0x164
_IF, _SHADOW = 0x200, 8  # in eflags; in hflags: the instruction after STI or a load of SS


class Control(ctypes.Structure):
    """The words shared with the hooks; helper.c declares the same."""

    _fields_ = [
        ("blocks", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("interrupt", ctypes.c_uint64),
        ("pending", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("eflags", ctypes.c_void_p),
        ("hflags", ctypes.c_void_p),
    ]


class Hooks(Protocol):
    """What the engine offers for installing hooks; callbacks are C function pointers.

    pending, flags: addresses of the emulator's interrupt_request, and of its eflags and hflags.
    """

    handle: int
    stop_function: int
    pending: int
    flags: tuple[int, int]

    def add_hook(self, kind: str, function: object, data: int, begin: int = 1, end: int = 0) -> int:
        """Install a hook over the range and give its handle."""
        ...

    def stop(self) -> None:
        """Ask the engine to stop; only from a hook."""
        ...


class Stops(Protocol):
    """One way of stopping.

    ``words`` are the Control's 64-bit words: blocks, deadline, interrupt. A stop is due while the first has
    reached the second. ``counts``: whether the first is kept.
    """

    words: memoryview
    counts: bool

    def arm(self, deadline: int) -> None:
        """Stop before the block after number ``deadline``."""
        ...

    def request(self) -> None:
        """Stop before the next block; may be called from any thread."""
        ...


class _Counting:
    """What both counting ways share: a request is a deadline that has passed."""

    counts: bool = True

    def __init__(self, hooks: Hooks) -> None:
        self.control = Control(0, NEVER, NO_INTERRUPT, hooks.pending, hooks.stop_function, *hooks.flags)
        self.words = memoryview(self.control).cast("B").cast("Q")

    def arm(self, deadline: int) -> None:
        """Stop before the block after number ``deadline``."""
        self.words[1] = deadline

    def request(self) -> None:
        """Stop before the next block; may be called from any thread."""
        self.words[1] = 0


class CompiledStops(_Counting):
    """The block hook in C."""

    def __init__(self, hooks: Hooks, helper: ctypes.CDLL) -> None:
        super().__init__(hooks)
        if helper.vlab_control_size() != ctypes.sizeof(Control):
            raise ImportError("the compiled helper and vlab disagree on the size of their shared structure")
        hooks.add_hook("block", helper.vlab_block, ctypes.addressof(self.control))


_BlockHook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)


class PythonStops(_Counting):
    """What helper.c does, in Python."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__(hooks)
        words, stop = self.words, hooks.stop
        pending = ctypes.c_uint32.from_address(hooks.pending)
        eflags, hflags = map(ctypes.c_uint32.from_address, hooks.flags)

        def block(_engine: int, _address: int, _size: int, _data: int) -> None:
            if pending.value & VIRTUAL_INTERRUPT and eflags.value & _IF and not hflags.value & _SHADOW:
                words[2], pending.value = VMEXIT_VINTR, 0
                stop()
                return
            count = words[0]
            if count >= words[1]:
                stop()
            else:
                words[0] = count + 1

        hooks.add_hook("block", _BlockHook(block), 0)


class _HookHead(ctypes.Structure):
    """The start of the emulator's `struct hook`, whose address a hook handle is."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("insn", ctypes.c_int),
        ("refs", ctypes.c_int),
        ("op", ctypes.c_int),
        ("op_flags", ctypes.c_int),
        ("to_delete", ctypes.c_bool),
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
    ]


class WatchedStops:
    """Stops on request alone, without counting and without a compiler."""

    counts: bool = False
    _NOWHERE: Final = NEVER  # a range of one address at which no block can start

    def __init__(self, hooks: Hooks) -> None:
        self.control = Control(0, NEVER, NO_INTERRUPT, hooks.pending, hooks.stop_function, *hooks.flags)
        self.words = memoryview(self.control).cast("B").cast("Q")
        # The first hook makes every block instrumented; this C function ignores its arguments and changes
        # nothing.
        harmless = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p)
        hooks.add_hook("block", harmless, 0)
        place = hooks.add_hook("block", ctypes.c_void_p(hooks.stop_function), 0, self._NOWHERE, self._NOWHERE)
        self._range = _HookHead.from_address(place)
        if (self._range.begin, self._range.end) != (self._NOWHERE, self._NOWHERE):
            raise UnknownEmulator("its hook structure is not the one vlab knows")

    def arm(self, deadline: int) -> None:
        """Withdraw a request. ``deadline`` 0 is one; any other never comes, for nothing counts."""
        if deadline:
            self.words[1] = NEVER
            self._range.begin = self._range.end = self._NOWHERE
        else:
            self.request()

    def request(self) -> None:
        """Stop before the next block; may be called from any thread."""
        self.words[1] = 0
        self._range.end = 0
        self._range.begin = 1
