"""Stopping the processor between two instructions, counting the blocks it entered, and hearing of its exits.

The emulator must never be stopped from another thread or by its own timeout: it would re-run an instruction
whose memory access is done. A block hook stops it exactly. Three ways to have one, the best that is there:

- ``CompiledStops``: a C function counts blocks and compares with a deadline; 8 % dearer than no hook.
- ``PythonStops``: the same in Python, block for block, about thirty times slower.
- ``WatchedStops``: no counting. Two hooks that are C functions of the emulator itself; a stop request widens
  the range of the second from nowhere to everywhere. For the realtime clock where no compiler is.

The compiled way also does in C what the processor does at a *plain* exit, one that its code says all about:
it fills the VMCB's exit fields, asks the monitor, and looks whether VMRUN has anything to do. ``svm`` does
the same in Python for all other exits, and for these without the helper.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final, Protocol

from vlab.machine.cpu import InterruptHook, UnknownEmulator
from vlab.machine.registers import VIRTUAL_INTERRUPT

NEVER: Final = (1 << 64) - 1
NO_INTERRUPT: Final = NEVER
BLOCKS, DEADLINE, INTERRUPT, WINDOW, SETTLING, MODE, VMCB, LIMIT, PLAIN = range(9)
"""Places in ``Stops.words``, which helper.c explains."""
LEAVE, RUN, LOOK = range(3)
"""What is answered to a plain exit: leave the engine, run the guest again, or first do what VMRUN does."""
VMEXIT_VINTR: Final = 0x164
UNKNOWN: Final = 4
"""In ``words[MODE]``: the ring may have changed in a way that the hooks do not see."""
WRONG_RING: Final = 0x1000
"""What the engine gives before a block in a ring that the program had no right to enter."""
_PAGE, _LINE = 4096, 64
_RING, _VIRTUAL_8086 = 3, 1 << 17  # in hflags and selectors; in eflags
_IF, _SHADOW = 0x200, 8  # in eflags; in hflags: the instruction after STI or a load of SS


class Control(ctypes.Structure):
    """The words shared with the hooks; helper.c declares the same."""

    _fields_ = [
        ("blocks", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("interrupt", ctypes.c_uint64),
        ("window", ctypes.c_uint64),
        ("settling", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("vmcb", ctypes.c_void_p),
        ("limit", ctypes.c_uint64),
        ("plain", ctypes.c_uint64),
        ("pending", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("eflags", ctypes.c_void_p),
        ("hflags", ctypes.c_void_p),
        ("cs", ctypes.c_void_p),
        ("other", ctypes.c_void_p),
        ("serve", ctypes.c_void_p),
        ("again", ctypes.c_void_p),
    ]

    @classmethod
    def of(cls, hooks: Hooks) -> Control:
        """Make the words for an engine: no deadline, nothing happened, no VMCB.

        They lie half a page off the emulator's registers. A processor takes a load for dependent on a store
        before it to an address with the same low 12 bits, and both are used before every block.
        """
        eflags, hflags, cs = hooks.flags
        room = bytearray(2 * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(room))
        control = cls.from_buffer(room, (eflags + _PAGE // 2 - start) % _PAGE & -_LINE)
        control.deadline, control.interrupt, control.mode = NEVER, NO_INTERRUPT, UNKNOWN
        control.pending, control.stop = hooks.pending, hooks.stop_function
        control.eflags, control.hflags, control.cs = eflags, hflags, cs
        return control


class Hooks(Protocol):
    """What the engine offers for installing hooks; callbacks are C function pointers.

    pending: address of the emulator's interrupt_request. flags: of its eflags, hflags and selector in CS.
    """

    handle: int
    stop_function: int
    pending: int
    flags: tuple[int, int, int]

    def add_hook(self, kind: str, function: object, data: int, begin: int = 1, end: int = 0) -> int:
        """Install a hook over the range and give its handle."""
        ...

    def stop(self) -> None:
        """Ask the engine to stop; only from a hook."""
        ...


class Stops(Protocol):
    """One way of stopping.

    ``words`` are the Control's 64-bit words, blocks and deadline first. A stop is due while blocks have
    reached the deadline. ``counts``: whether they are counted.
    """

    words: memoryview
    counts: bool

    def arm(self, deadline: int) -> None:
        """Stop before the block after number ``deadline``."""
        ...

    def request(self) -> None:
        """Stop before the next block; may be called from any thread."""
        ...

    def hook_exits(
        self, exited: Callable[[int, int], None], plain: Callable[[int], int], again: Callable[[int], bool]
    ) -> None:
        """Have the engine's interrupt hook call ``exited(handle, number)``.

        For a plain exit of the VMCB in ``words[VMCB]`` it may call ``plain(code)`` instead, and then, for the
        answer LOOK, ``again(code)``. None of them may raise.
        """
        ...


class _Counting:
    """What both counting ways share: a request is a deadline that has passed."""

    counts: bool = True

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self.control = Control.of(hooks)
        self.words = memoryview(self.control).cast("B").cast("Q")

    def arm(self, deadline: int) -> None:
        """Stop before the block after number ``deadline``."""
        self.words[DEADLINE] = deadline
        self.words[LIMIT] = 0

    def request(self) -> None:
        """Stop before the next block; may be called from any thread."""
        self.words[DEADLINE] = 0
        self.words[LIMIT] = 0  # in this order: see helper.c

    def hook_exits(
        self, exited: Callable[[int, int], None], _plain: Callable[[int], int], _again: Callable[[int], bool]
    ) -> None:
        """Have the engine's interrupt hook call ``exited`` for all exits."""
        self._hooks.add_hook("interrupt", InterruptHook(exited), 0)


_PlainExit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32)


class CompiledStops(_Counting):
    """The hooks in C."""

    def __init__(self, hooks: Hooks, helper: ctypes.CDLL) -> None:
        super().__init__(hooks)
        if helper.vlab_control_size() != ctypes.sizeof(Control):
            raise ImportError("the compiled helper and vlab disagree on the size of their shared structure")
        self._helper = helper
        self._exits: tuple[object, ...] = ()
        hooks.add_hook("block", helper.vlab_block, ctypes.addressof(self.control))

    def hook_exits(
        self, exited: Callable[[int, int], None], plain: Callable[[int], int], again: Callable[[int], bool]
    ) -> None:
        """Have plain exits served by ``plain`` and ``again``, all others by ``exited``."""
        self._exits = functions = InterruptHook(exited), _PlainExit(plain), _PlainExit(again)
        control = self.control
        control.other, control.serve, control.again = (
            ctypes.cast(function, ctypes.c_void_p).value for function in functions
        )
        self._hooks.add_hook("interrupt", self._helper.vlab_interrupt, ctypes.addressof(control))


_BlockHook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)


class PythonStops(_Counting):
    """What helper.c does, in Python."""

    def __init__(self, hooks: Hooks) -> None:
        super().__init__(hooks)
        words, stop = self.words, hooks.stop
        pending = ctypes.c_uint32.from_address(hooks.pending)
        eflags, hflags, cs = map(ctypes.c_uint32.from_address, hooks.flags)

        def ring_is_wrong(mode: int) -> bool:
            last = words[MODE]
            if last == UNKNOWN:
                return False
            if mode & _VIRTUAL_8086:
                return not last & _VIRTUAL_8086 and last & _RING != 0
            return mode & _RING < last & _RING and cs.value & _RING != mode & _RING

        def block(_engine: int, _address: int, _size: int, _data: int) -> None:
            if pending.value & VIRTUAL_INTERRUPT and eflags.value & _IF and not hflags.value & _SHADOW:
                words[2], pending.value = VMEXIT_VINTR, 0
                stop()
                return
            mode = hflags.value & _RING | eflags.value & _VIRTUAL_8086
            if mode != words[MODE]:
                if ring_is_wrong(mode):
                    words[INTERRUPT] = WRONG_RING
                    stop()
                    return
                words[MODE] = mode
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
        self._hooks = hooks
        self.control = Control.of(hooks)
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

    def hook_exits(
        self, exited: Callable[[int, int], None], _plain: Callable[[int], int], _again: Callable[[int], bool]
    ) -> None:
        """Have the engine's interrupt hook call ``exited`` for all exits."""
        self._hooks.add_hook("interrupt", InterruptHook(exited), 0)
