"""The processor's execution engine: the emulator with its hooks and its live register file.

What QEMU's translator does not do (interrupt delivery, #VMEXIT, SYSCALL), ``processor`` completes; what it
must never be led into, ``processor`` and ``core`` keep it from. This module hides one trick: everything runs
in SVM guest mode (see ``power_on``), so the numbers that ``run`` gives are intercepts.

Stops are between two instructions, always: see ``stops``. Port input and output are the exception, for their
hooks run in the middle of the instruction; ``refuse`` undoes it.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Final

from vlab.machine import helper
from vlab.machine import registers as reg
from vlab.machine.cpu import STOP_FUNCTION, InHook, InstructionHook, Library, OutHook
from vlab.machine.layout import HostLayout
from vlab.machine.memory import PhysicalMemory
from vlab.machine.power_on import power_on
from vlab.machine.stops import (
    INTERRUPT,
    LEAVE,
    LIMIT,
    MODE,
    NO_INTERRUPT,
    PLAIN,
    SETTLING,
    UNKNOWN,
    VMCB,
    VMEXIT_VINTR,
    WINDOW,
    CompiledStops,
    PythonStops,
    Stops,
    WatchedStops,
)

CODE_CACHE: Final = 32 << 20
"""Bytes of host memory for translated code."""

STOPPED: Final = -1
"""``run`` returned because a stop was asked for or a deadline passed."""
FAILED: Final = -2
"""``run`` returned because the emulator gave up; ``error`` is its number."""
SYSCALL: Final = -3
SYSENTER: Final = -4

_PG: Final = 1 << 31
_APART: Final = reg.ARITHMETIC | reg.DF

SLOW_BLOCKS: Final = 64
"""A port access and a reading of the time stamp counter take as long as so many basic blocks, 1 us.

For a port that is an I/O cycle of the ISA bus: six clocks of 8 MHz, and the bridge before it. RDTSC is far
quicker in hardware, but delay loops are made of it: a millisecond would take twenty thousand of them."""


class Engine:
    """One processor over ``memory``, always in SVM guest mode. counting: have blocks counted.

    words, words32: the live register file as 64- and 32-bit words, indexed by ``vlab.machine.registers``.
    port_in(port, size) -> value and port_out(port, size, value) serve the instructions; they run in the
    middle of one. Whatever they raise undoes the instruction and comes out of ``run``.
    on_exit(number) is asked about each number before ``run`` gives it, between two instructions; True has the
    processor go on, in a third of the time of leaving and coming back. on_plain_exit(code) -> LEAVE, RUN or
    LOOK and on_look(code) are asked instead about what the compiled helper served (``stops``).
    ``running``: inside ``run``, where the arithmetic flags are kept lazily.
    """

    def __init__(self, memory: PhysicalMemory, host: HostLayout, *, counting: bool = True) -> None:
        self.memory = memory
        self._host = host
        self._library = library = Library(CODE_CACHE)
        self.handle: int = library.handle
        self.took_abort: Callable[[], bool] = library.took_abort
        self.forget_code: Callable[[int, int], None] = library.forget_code
        self.stop_function: int = STOP_FUNCTION
        library.map(0, memory.size, memory.address)
        library.stop_between_blocks(True)
        self.running, self.error = False, 0
        self.port_in: Callable[[int, int], int] = lambda _port, size: (1 << 8 * size) - 1
        self.port_out: Callable[[int, int, int], None] = lambda _port, _size, _value: None
        self.on_exit: Callable[[int], bool] = lambda _number: False
        self.on_plain_exit: Callable[[int], int] = lambda _code: LEAVE
        self.on_look: Callable[[int], bool] = lambda _code: False
        self._refused: tuple[bytes, int, int, int, int] | None = None
        self._raised: BaseException | None = None
        self._instruction = STOPPED
        self._instruction_state = (0, 0)
        self.layout = power_on(library, memory, host)
        env = (ctypes.c_char * self.layout.size).from_address(self.layout.env)
        self.bytes = memoryview(env).cast("B")
        self.words = self.bytes[: self.layout.size // 8 * 8].cast("Q")
        self.words32 = self.bytes.cast("I")
        self._dr6 = (self.layout.vmcb + reg.DR) // 8 + 6
        self._error_code = (self.layout.vmcb + reg.ERROR_CODE) // 4
        self.pending: int = self.layout.cpu + reg.INTERRUPT_REQUEST
        self.flags = reg.flag_places(self.layout.env)
        self._interrupt_request = ctypes.c_uint32.from_address(self.pending)
        self.stops = self._make_stops(counting)
        self._stop_words = self.stops.words
        self._install_instruction_hooks()
        self._install_exit_hook()

    def _make_stops(self, counting: bool) -> Stops:
        library = helper.load()
        if library is not None:
            self._library.survive_aborts(library, self.layout.env)
            return CompiledStops(self, library)
        return PythonStops(self) if counting else WatchedStops(self)

    # --- hooks ------------------------------------------------------------------------------------------

    def add_hook(self, kind: str, function: object, data: int, begin: int = 1, end: int = 0) -> int:
        """Install a hook, as ``Library.add_hook`` says; give its handle."""
        return self._library.add_hook(kind, function, data, begin, end)

    def remove_hook(self, hook: int) -> None:
        """Take a hook away; translated code forgets it with ``flush_code``."""
        self._library.remove_hook(hook)

    def stop(self) -> None:
        """Stop; only from a hook that is between two instructions. See ``halt`` in helper.c."""
        if self.words32[reg.CC_OP_WORD] == reg.CC_OP_EFLAGS:
            self.words[reg.CC_SRC] &= reg.ARITHMETIC
        self._library.stop()

    def stop_with(self, code: int) -> None:
        """Stop before the instruction at RIP and have ``run`` give ``code``; only from a code hook."""
        self._instruction = code
        self._stop_words[SETTLING] = 1
        self._instruction_state = (self.words[reg.RIP], self.words[self._dr6])
        self.stop()

    def _install_instruction_hooks(self) -> None:
        def port_in(_engine: int, port: int, size: int, _data: int) -> int:
            if self._refused is not None:
                return 0
            try:
                value = self.port_in(port, size)
                self.pass_time()
                return value
            except BaseException as problem:
                self._undo(problem)
                return 0

        def port_out(_engine: int, port: int, size: int, value: int, _data: int) -> None:
            if self._refused is not None:
                return
            try:
                self.port_out(port, size, value)
                self.pass_time()
            except BaseException as problem:
                self._undo(problem)

        def system_call(code: int) -> Callable[[int, int], None]:
            def called(_engine: int, _data: int) -> None:
                self.stop_with(code)

            return called

        self.add_hook("in", InHook(port_in), 0)
        self.add_hook("out", OutHook(port_out), 0)
        self.add_hook("syscall", InstructionHook(system_call(SYSCALL)), 0)
        self.add_hook("sysenter", InstructionHook(system_call(SYSENTER)), 0)

    def pass_time(self) -> None:
        """Let a slow instruction take its time, unless it has just been refused."""
        if self._refused is None:
            self.stops.words[0] += SLOW_BLOCKS

    def _install_exit_hook(self) -> None:
        words, pending, stop = self._stop_words, self._interrupt_request, self.stop

        def exited(_engine: int, number: int) -> None:
            words[MODE] = UNKNOWN  # who serves the exit may change rings
            # A system call that is stepped over has asked for its stop before the #DB of the step comes.
            if not words[SETTLING]:
                if number == VMEXIT_VINTR:
                    pending.value = 0  # else the window would be reported again and again
                try:
                    if self.on_exit(number):
                        return
                except BaseException as problem:
                    self._keep(problem)
            words[INTERRUPT] = number
            # The emulator looks for interrupts once more before it stops: none may come of it.
            words[WINDOW], pending.value = pending.value, 0
            stop()

        def plain(code: int) -> int:
            try:
                return self.on_plain_exit(code)
            except BaseException as problem:
                self._keep(problem)
                return LEAVE

        def again(code: int) -> bool:
            try:
                return self.on_look(code)
            except BaseException as problem:
                self._keep(problem)
                return False

        self.stops.hook_exits(exited, plain, again)

    def serve_plain_exits(self, vmcb: int | None) -> None:
        """Let ``on_plain_exit`` serve those of the VMCB at host-physical ``vmcb``; None: let it no longer."""
        self._stop_words[VMCB] = 0 if vmcb is None else self.memory.address + vmcb

    def set_plain_exits(self, intercepted: int) -> None:
        """Say which plain exits are intercepted: bit n for exit code 0x60 + n."""
        self._stop_words[PLAIN] = intercepted

    def map_window(
        self, hpa: int, size: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """Let accesses to a window of host-physical addresses call ``read(offset, size)`` and ``write``.

        They run in the middle of an instruction; what they raise comes out of ``run`` after it. Raises
        ValueError when the window is not whole pages or overlaps another.
        """

        def on_read(_engine: int | None, offset: int, width: int, _data: int | None) -> int:
            try:
                return read(offset, width)
            except BaseException as problem:
                self._raise_later(problem)
                return (1 << 8 * width) - 1

        def on_write(_engine: int | None, offset: int, width: int, value: int, _data: int | None) -> None:
            try:
                write(offset, width, value)
            except BaseException as problem:
                self._raise_later(problem)

        self._library.map_window(hpa, size, on_read, on_write)

    # --- running ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Execute from RIP until something stops the processor.

        Gives the number of the interrupt hook (an exception's vector, or 0x100 + the intercept's EXITCODE),
        or STOPPED, FAILED, SYSCALL or SYSENTER. Raises what a port or window callback raised.
        """
        if self.running:  # an exception tore the last run before it was settled
            self._undo_instruction()
        words = self._stop_words
        words[INTERRUPT], words[MODE], words[LIMIT] = NO_INTERRUPT, UNKNOWN, 0
        words[SETTLING] = self._raised is not None
        self._instruction = STOPPED
        self.running = True
        error = self._library.start(self.words[reg.RIP])
        if words[WINDOW]:
            self._interrupt_request.value, words[WINDOW] = words[WINDOW], 0
        if self._refused is not None or self._raised is not None:
            return self._settle()
        if self._instruction != STOPPED:
            return self._undo_instruction()
        self.running = False
        number = words[INTERRUPT]
        if number != NO_INTERRUPT:
            return number
        if error:
            self.error = error
            return FAILED
        return STOPPED

    def refuse(self, code: int) -> None:
        """From ``port_in`` or ``port_out``: undo the instruction and have ``run`` give ``code``.

        The stop after a port hook comes some instructions late. Until it does, those instructions must not
        touch memory, so every translation is taken away; then the registers are put back.
        """
        if self._refused is None:
            self._refused = (
                bytes(self.bytes),
                self.read_flags(),
                self._interrupt_request.value,
                self._stop_words[0],
                code,
            )
            self._stop_words[SETTLING] = 1
            empty = self._host.empty_table
            self.words[reg.CR0] |= _PG
            self.words[reg.CR3] = empty
            self.set_u64(reg.NESTED_CR3, empty)
            self.flush_tlb()
            self._library.stop()

    def _undo(self, problem: BaseException) -> None:
        self.refuse(FAILED)
        self._raise_later(problem)

    def _keep(self, problem: BaseException) -> None:
        """Have ``run`` raise ``problem``, unless another came first, and serve no more exits until then."""
        if self._raised is None:
            self._raised = problem
        self._stop_words[SETTLING] = 1

    def _raise_later(self, problem: BaseException) -> None:
        self._keep(problem)
        self.stops.request()

    def _raise_pending(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _settle(self) -> int:
        code = self._undo_instruction()
        self._raise_pending()
        return code

    def _undo_instruction(self) -> int:
        """Put back a refused port access or a system call; give the code that ``run`` is to give."""
        self.running = False
        code = self._instruction
        if self._refused is not None:
            saved, flags, window, self._stop_words[0], code = self._refused
            self._refused = None
            self.bytes[:] = saved
            self.words[reg.EFLAGS] = flags
            self._interrupt_request.value = window
            self.flush_tlb()
        elif code != STOPPED:
            # The library has gone past the instruction, and has raised #DB for it when RFLAGS.TF is set.
            self.words[reg.RIP], self.words[self._dr6] = self._instruction_state
        self._instruction = STOPPED
        return code

    @property
    def refused(self) -> bool:
        """Whether the instruction now executing is being undone."""
        return self._refused is not None

    def request_window(self, wanted: bool) -> None:
        """Ask for VMEXIT_VINTR before the next instruction that can be interrupted, or withdraw that."""
        self._interrupt_request.value = reg.VIRTUAL_INTERRUPT if wanted else 0
        self._stop_words[LIMIT] = 0

    @property
    def blocks(self) -> int:
        """Basic blocks entered since power-on (0 for ever when nothing counts)."""
        return self._stop_words[0]

    def uncount_block(self) -> None:
        """Take back the count of a block that is about to be entered in its middle, after a hidden stop."""
        words = self._stop_words
        if words[0]:
            words[0] -= 1

    # --- state ------------------------------------------------------------------------------------------

    def read_flags(self) -> int:
        """Give RFLAGS, arithmetic flags worked out; see ``stop`` for why not all bits come with them."""
        return self._library.read_flags() & _APART | self.words[reg.EFLAGS] & ~_APART

    def u64(self, offset: int) -> int:
        """Read a field given by its offset from the VMCB's address."""
        return self.words[(self.layout.vmcb + offset) // 8]

    def set_u64(self, offset: int, value: int) -> None:
        """Write such a field."""
        struct.pack_into("<Q", self.bytes, self.layout.vmcb + offset, value)

    def set_u32(self, offset: int, value: int) -> None:
        """Write a 32-bit field given by its offset from the VMCB's address."""
        struct.pack_into("<I", self.bytes, self.layout.vmcb + offset, value)

    def error_code(self) -> int:
        """Give the error code of the last fault, or EXITINFO1 of the last intercept."""
        return self.words32[self._error_code]

    def flush_tlb(self) -> None:
        """Forget all translations, as after a write to CR3 with global pages off."""
        self._library.flush_tlb()

    def stop_between_blocks(self, only: bool) -> None:
        """Say whether a stop takes effect ``only`` between blocks; flush the code to have it count."""
        self._library.stop_between_blocks(only)

    def flush_code(self) -> None:
        """Forget all translated code; ``forget_code(start, end)`` that of some linear addresses alone."""
        self._library.flush_code()

    def close(self) -> None:
        """Give the engine back; it must not be running. Only ``blocks`` may be asked afterwards."""
        if self.handle:
            self.handle = 0
            blank = memoryview(bytearray(self.layout.size))
            self.bytes, self.words32 = blank, blank.cast("I")
            self.words = blank[: self.layout.size // 8 * 8].cast("Q")
            self._interrupt_request = ctypes.c_uint32()
            self._library.close()
