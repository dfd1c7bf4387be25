"""A capstone: the student's own monitor, a loop around VMRUN, on AMD-V with nested paging.

The student's function ``run`` is the monitor. It is given the VMCB, the processor and the board, and nothing
happens to the guest that it does not do, but for nested page faults, which vlab serves. Sections are those of
the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.trial import Trial
from vlab.guests.kept import keep
from vlab.guests.programs import (
    SCRATCH,
    TICKS,
    Code,
    enter_ring_3,
    image,
    leave,
    out,
    rings,
    say,
    timer,
)
from vlab.isa.msr import find
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, InterceptMisc1, VmcbControl
from vlab.machine.clock import FOREVER
from vlab.machine.exit_loop import STOPPED
from vlab.machine.microcode import ENGINE_EXIT
from vlab.session import VM, Stop
from vlab.vmm import exits
from vlab.vmm.exits import Exit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.svm_decode import DECODERS
from vlab.vmm.tenant import Parts
from vlab.vmm.virtual_cpu import REFUSED_MSRS

_32: Final = (1 << 32) - 1
_64: Final = (1 << 64) - 1
_IF: Final = 1 << 9
_LOG: Final = SCRATCH + 0x400
_REGISTERS: Final = ("rax", "rcx", "rdx", "rbx")
_LENGTHS: Final = {SvmExit.CPUID: 2, SvmExit.HLT: 1, SvmExit.MSR: 2}
_NEEDED: Final = ("INTR", "VINTR", "CPUID", "HLT", "IOIO", "MSR", "SHUTDOWN")
_EVENTINJ: Final = 0xA8
_INT_CTL: Final = 0x60
_V_IRQ: Final = 1 << 8
_SOON: Final = 300_000_000
"""Virtual ns in which the small guests are done."""
_STRINGS: Final = range(0x6C, 0x70)
"""Opcodes of INS and OUTS."""


def _number(name: str, value: object, most: int = _64) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name}: {value!r} is no number of {most.bit_length()} bits")
    return int(value)


# --- the machine that the student's loop drives -------------------------------------------------------------


@dataclass(slots=True)
class Plan:
    """What is to come of a run.

    script: what to type when which text has appeared. finish: the text that ends the run, "" where the guest
    ends it. exits, time_ns: the most that it may take.
    """

    script: list[tuple[str, str]] = field(default_factory=list)
    finish: str = ""
    exits: int = 5_000
    time_ns: int = 2_000_000_000


class Bare(HardwareMonitor):
    """vlab's monitor with its handlers and intercepts taken out: one VMRUN at a time, for whoever asks."""

    def __init__(self, parts: Parts, paging: PagingStrategy) -> None:
        self.access = 0, 0, False, 0
        super().__init__(parts, paging)

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_misc1 = control.intercept_misc2 = control.asid = 0

    def _take_processor(self, *, first: bool) -> None:
        super()._take_processor(first=first)
        self.intercepts_changed()  # VMRUN looks at all of the VMCB

    # A port access is an exit in its own right here: the instruction is undone, and the guest stands at it.

    def _port_in(self, port: int, size: int) -> int:
        if self._is_string():
            return super()._port_in(port, size)
        self._exit_for_port(port, size, False, 0)
        return 0

    def _port_out(self, port: int, size: int, value: int) -> None:
        if self._is_string():
            super()._port_out(port, size, value)
        else:
            self._exit_for_port(port, size, True, value)

    def _opcode(self) -> tuple[int, int]:
        """Give the number of prefixes of the instruction at RIP, and its opcode."""
        prefixes = self.processor.code.prefix_count()
        return prefixes, self.processor.fetch()[prefixes]

    def _is_string(self) -> bool:
        return self._opcode()[1] in _STRINGS

    def _exit_for_port(self, port: int, size: int, output: bool, value: int) -> None:
        self.access = port, size, output, value
        self.processor.engine.refuse(ENGINE_EXIT + SvmExit.IOIO)

    def _tick_in(self, ns: int) -> None:
        """Blocks are counted, which ends each turn; no turn here has to look at the wall's time."""

    def enter(self, limit_ns: int) -> int:
        """Run the guest to its next #VMEXIT and give the exit code."""
        with self.machine.lock:
            self._enter()
            try:
                return self._enter_guest(limit_ns)
            finally:
                self._leave()

    def _enter_guest(self, limit_ns: int) -> int:
        while True:
            self.run_inbox()
            if self._flush_code:
                self._flush_code = False
                self.processor.engine.flush_code()
            self._attention = False
            self._arm()
            self.in_guest = True
            try:
                code = self.machine.svm.vmrun(self.vmcb)
            finally:
                self.in_guest = False
            if code == SvmExit.NPF:
                exit_ = DECODERS[code](self.processor)
                self._count(exit_)
                self._follow(super().handle(exit_))
            elif code != STOPPED:
                return code
            elif self.clock.now() >= self.board.alarms.next:
                return SvmExit.INTR
            elif self.clock.now() > limit_ns:
                return STOPPED

    def run(self) -> Stop:
        """Refuse: nobody but the student's loop runs this guest."""
        raise UnusableInput("run: the loop of this guest is your own; drive() runs it")

    def note_interrupt(self, vector: int) -> None:
        """Record an interrupt that the guest is about to take."""
        self._note_interrupt(vector)

    def note(self, exit_: Exit) -> None:
        """Record an exit."""
        self._count(exit_)

    def sleep(self) -> bool:
        """Let time pass until an interrupt waits; False when there will be none."""
        with self.machine.lock:
            self._enter()
            try:
                while not self.board.interrupt:
                    self.run_inbox()
                    if self.board.alarms.next == FOREVER or not self.core.rflags & _IF:
                        return False
                    self.clock.skip(max(0, self.board.alarms.next - self.clock.now()))
                    self._alarm()
                return True
            finally:
                self._leave()

    def serve_timers(self) -> None:
        """Do what the chips have to do by now."""
        self._alarm()

    @property
    def stop_noted(self) -> Stop | None:
        """How the guest has ended itself, None while it has not."""
        return self._stop


# --- what the student's loop is given -----------------------------------------------------------------------


class Session:
    """One guest, its monitor, and how far the plan is."""

    def __init__(self, vm: VM, monitor: Bare, plan: Plan) -> None:
        self.vm, self.monitor, self.plan = vm, monitor, plan
        self.code: int = 0
        self.before = self.length = 0
        self.ended = False
        self.first = True

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        said, plan = self.vm.console.text, self.plan
        return (
            self.ended
            or self.monitor.stop_noted is not None
            or bool(plan.finish and not plan.script and plan.finish in said)
        )

    def follow_script(self) -> None:
        """Type what is due."""
        script = self.plan.script
        if script and script[0][0] in self.vm.console.text:
            self.vm.send(script.pop(0)[1])

    def enter(self) -> None:
        """Do VMRUN, and take note of the exit."""
        monitor, plan = self.monitor, self.plan
        if self.over:
            raise Broken("the guest has ended, and the loop goes on: look at board.over", vm=self.vm)
        self._check_intercepts()
        self.follow_script()
        code = self.code = monitor.enter(plan.time_ns)
        if code == SvmExit.INVALID:
            raise Broken(
                f"VMRUN ended in VMEXIT_INVALID: {monitor.machine.svm.refused} (APM2 15.5.1)", vm=self.vm
            )
        if code == SvmExit.SHUTDOWN:
            rip = monitor.core.rip
            raise Broken(f"the guest ended in a triple fault at RIP {rip:#x}", vm=self.vm)
        if code == STOPPED:
            raise Broken(
                f"after {plan.time_ns / 1e9:g} s of its time the guest has not got to its end", vm=self.vm
            )
        self.before = monitor.core.rip
        self.length = self._length(code)
        monitor.note(self._described(code))
        if self.vm.exits.total > plan.exits:
            raise Broken(
                f"after {plan.exits:,} exits the guest has not got to its end; the last one was "
                f"{self.vm.exits[-1].reason} at {self.before:#x}",
                vm=self.vm,
            )

    def _check_intercepts(self) -> None:
        """Say what would go wrong; the processor here would go on without a word."""
        if not self.first:
            return
        self.first = False
        chosen = VmcbControl(self.monitor.machine.memory.bytes, self.monitor.vmcb).intercept_misc1
        missing = [name for name in _NEEDED if not chosen & getattr(InterceptMisc1, name).mask]
        if missing:
            raise Broken(
                f"the VMCB does not intercept {', '.join(missing)}",
                hint=f"Add InterceptMisc1.{missing[0]}.mask to vmcb.intercept_misc1: this monitor needs "
                f"{' '.join(_NEEDED)} from the first VMRUN on.",
            )

    def _length(self, code: int) -> int:
        if code == SvmExit.IOIO:
            prefixes, opcode = self.monitor._opcode()
            return prefixes + (2 if opcode < 0xE8 else 1)
        if code not in _LENGTHS:
            return 0
        return self.monitor.processor.code.prefix_count() + _LENGTHS[SvmExit(code)]

    def _described(self, code: int) -> Exit:
        if code == SvmExit.INTR:
            return exits.PhysicalInterrupt()
        if code == SvmExit.IOIO:
            port, size, output, value = self.monitor.access
            return exits.PortAccess(port | size << 16 | output << 24, value)
        return DECODERS[code](self.monitor.processor)


class Vmcb(Facade):
    """The control block, between two VMRUNs."""

    read_only = ("exitcode", "exitinfo1", "exitinfo2", "nrip", "rflags", "interrupt_shadow")
    fields = ("intercept_misc1", "intercept_misc2", "asid", "rip", "rax", "eventinj", "v_irq")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor
        self._control = VmcbControl(self._monitor.machine.memory.bytes, self._monitor.vmcb)

    @property
    def exitcode(self) -> int:
        """Why the guest stopped."""
        return int(self._session.code)

    @property
    def exitinfo1(self) -> int:
        """IOIO: what kind of access (APM2 15.10.2). MSR: 1 for WRMSR."""
        if self.exitcode != SvmExit.IOIO:
            return int(self._control.exitinfo1)
        port, size, output, _ = self._monitor.access
        return port << 16 | size << 4 | (not output)

    @property
    def exitinfo2(self) -> int:
        """IOIO: the address of the next instruction."""
        return self.nrip if self.exitcode == SvmExit.IOIO else int(self._control.exitinfo2)

    @property
    def nrip(self) -> int:
        """The address behind the instruction that exited, 0 where the exit is no instruction's."""
        return self._session.before + self._session.length if self._session.length else 0

    @property
    def rflags(self) -> int:
        """The guest's RFLAGS."""
        return self._monitor.core.rflags

    @property
    def interrupt_shadow(self) -> bool:
        """Whether no interrupt may come before the next instruction (APM2 15.21.5)."""
        return self._monitor.core.interrupt_shadow

    @property
    def rip(self) -> int:
        """Where the guest goes on."""
        return self._monitor.core.rip

    @rip.setter
    def rip(self, value: object) -> None:
        where = _number("rip", value)
        if self._session.length and where == self.nrip and self.rip == self._session.before:
            self._monitor.processor.advance(self._session.length)
        else:
            self._monitor.core.rip = where

    @property
    def rax(self) -> int:
        """The guest's RAX."""
        return int(self._monitor.core.words[0])

    @rax.setter
    def rax(self, value: object) -> None:
        self._monitor.core.words[0] = _number("rax", value)

    @property
    def eventinj(self) -> int:
        """The event that the next VMRUN delivers first."""
        return int(self._control.eventinj)

    @eventinj.setter
    def eventinj(self, value: object) -> None:
        event = EventInjection(_number("eventinj", value))
        if event and (not event.V or event.TYPE not in (0, 3) or (event.TYPE == 3 and event.VECTOR > 31)):
            raise ValueError(
                f"eventinj: {int(event):#x} is no interrupt (type 0) or exception (type 3) that is valid"
            )
        self._control.eventinj = event

    @property
    def v_irq(self) -> bool:
        """V_IRQ: exit with VINTR as soon as the guest can take an interrupt (APM2 15.21.4)."""
        return bool(self._control.int_ctl & _V_IRQ)

    @v_irq.setter
    def v_irq(self, value: object) -> None:
        self._control.int_ctl = self._control.int_ctl & ~_V_IRQ | (_V_IRQ if value else 0)

    @property
    def intercept_misc1(self) -> int:
        """The third intercept vector."""
        return int(self._control.intercept_misc1)

    @intercept_misc1.setter
    def intercept_misc1(self, value: object) -> None:
        self._control.intercept_misc1 = _number("intercept_misc1", value, _32)
        self._monitor.intercepts_changed()

    @property
    def intercept_misc2(self) -> int:
        """The fourth intercept vector."""
        return int(self._control.intercept_misc2)

    @intercept_misc2.setter
    def intercept_misc2(self, value: object) -> None:
        self._control.intercept_misc2 = _number("intercept_misc2", value, _32)
        self._monitor.intercepts_changed()

    @property
    def asid(self) -> int:
        """The address-space identifier."""
        return int(self._control.asid)

    @asid.setter
    def asid(self, value: object) -> None:
        self._control.asid = _number("asid", value, 0xFFFF)
        self._monitor.intercepts_changed()


class Cpu(Facade):
    """The processor: VMRUN, and the registers that it leaves alone."""

    offers = ("vmrun", "cpuid", "read_msr", "write_msr")
    fields = ("rbx", "rcx", "rdx")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor

    def __getattr__(self, name: str) -> int:
        if name not in _REGISTERS:
            raise AttributeError(name)
        return int(self._monitor.core.words[_REGISTERS.index(name)])

    def __setattr__(self, name: str, value: object) -> None:
        if name in _REGISTERS:
            self._monitor.core.words[_REGISTERS.index(name)] = _number(name, value)
        else:
            super().__setattr__(name, value)

    def vmrun(self) -> None:
        """Run the guest to its next #VMEXIT."""
        self._session.enter()

    def cpuid(self, leaf: int, subleaf: int) -> list[Value]:
        """Give EAX, EBX, ECX and EDX of the virtual CPU."""
        return [*self._monitor.identity.cpuid(_number("leaf", leaf, _32), _number("subleaf", subleaf, _32))]

    def read_msr(self, number: int) -> int | None:
        """Give the virtual CPU's MSR; None where it has none of that number."""
        number = _number("number", number, _32)
        return None if number in REFUSED_MSRS else self._monitor.msrs.read(number)

    def write_msr(self, number: int, value: int) -> bool:
        """Set the virtual CPU's MSR; False where it has none, or takes no such value."""
        number, value = _number("number", number, _32), _number("value", value)
        return number not in REFUSED_MSRS and self._monitor.msrs.write(number, value)


class BoardFacade(Facade):
    """The board with its chips."""

    offers = ("read_port", "write_port", "acknowledge", "serve_timers", "wait")
    read_only = ("interrupt", "over")

    def __init__(self, session: Session) -> None:
        self._session, self._monitor = session, session.monitor
        self._board = session.monitor.board

    @property
    def interrupt(self) -> bool:
        """Whether the interrupt controller asks for the processor."""
        return self._board.interrupt

    @property
    def over(self) -> bool:
        """Whether the guest has ended."""
        return self._session.over

    def read_port(self, port: int, size: int) -> int:
        """Read 1, 2 or 4 bytes from a chip."""
        return self._board.ports.read(_number("port", port, 0xFFFF), _size(size))

    def write_port(self, port: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes to a chip."""
        size = _size(size)
        self._board.ports.write(
            _number("port", port, 0xFFFF), size, _number("value", value, (1 << 8 * size) - 1)
        )

    def acknowledge(self) -> int:
        """Take the interrupt that waits: give its vector."""
        vector = self._board.acknowledge()
        self._monitor.note_interrupt(vector)
        return vector

    def serve_timers(self) -> None:
        """Let the chips do what is due."""
        self._monitor.serve_timers()

    def wait(self) -> None:
        """Let the guest sleep until an interrupt waits; it ends where none will come."""
        self._session.follow_script()
        if not self._monitor.sleep() and not self._session.over:
            self._session.ended = True


def _size(size: object) -> int:
    if size not in (1, 2, 4) or not isinstance(size, int):
        raise ValueError(f"size: {size!r} is not 1, 2 or 4")
    return size


# --- running ------------------------------------------------------------------------------------------------


Run = Callable[[Facade, Facade, Facade], object]


def _monitor_class(made: list[Bare]) -> type[Bare]:
    class Mine(Bare):
        def __init__(self, parts: Parts, paging: PagingStrategy) -> None:
            super().__init__(parts, paging)
            made.append(self)

    return Mine


def _go(vm: VM, monitor: Bare, plan: Plan, run: Run) -> None:
    """Have a loop run a guest until it is over."""
    vm.registers()  # puts the guest on the processor
    session = Session(vm, monitor, plan)
    try:
        run(Vmcb(session), Cpu(session), BoardFacade(session))
    except Broken as broken:
        raise Broken(broken.why, hint=broken.hint, vm=vm) from None
    if not session.over:
        raise Broken("run returned before the guest had got to its end: go on while not board.over", vm=vm)


def yours(trial: Trial, guest: bytes | str, plan: Plan, memory: str = "2M") -> VM:
    """Run a guest under the student's loop until it returns."""
    made: list[Bare] = []
    vm = trial.vm(guest, monitor=_monitor_class(made), memory=memory)
    _go(vm, made[0], plan, lambda *given: trial.student.call("run", *given))
    return vm


def drive(
    run: Run,
    guest: bytes | str,
    *,
    typed: str = "",
    finish: str = "",
    memory: str = "16M",
    time_ns: int = _SOON,
) -> VM:
    """Run a guest under a loop in this process, for a notebook to look at; give its VM.

    typed: what to type at the first prompt. finish: the text that ends the run. Raises Broken.
    """
    made: list[Bare] = []
    image_or_name = keep(guest, "guest.bin") if isinstance(guest, bytes) else guest
    vm = VM(image_or_name, monitor=_monitor_class(made), memory=memory, trace="full")
    script = [("$ ", typed)] if typed else []
    _go(vm, made[0], Plan(script, finish, time_ns=time_ns), run)
    return vm


def ours(trial: Trial, guest: bytes | str, plan: Plan, memory: str = "2M") -> VM:
    """Run the same under vlab's monitor."""
    vm = trial.vm(guest, memory=memory)
    for text, typed in plan.script:
        trial.run(vm, text)
        vm.send(typed)
    trial.run(vm, plan.finish or None)
    return vm


def how_it_ended(vm: VM) -> Stop | None:
    """How a guest under somebody's own loop ended."""
    monitor = vm._monitor
    return monitor.stop_noted if isinstance(monitor, Bare) else None


def _log(vm: VM) -> bytes:
    return bytes(vm.memory[_LOG : _LOG + 0x100])


def _alike(trial: Trial, guest: bytes | str, *, hint: str, memory: str = "2M", exits: int = 5_000) -> None:
    """Run a guest on both, and compare what it wrote, on its console and in its log."""
    theirs = ours(trial, guest, Plan(), memory)
    said, log, status = theirs.console.text, _log(theirs), theirs.ended
    try:
        plan = Plan(exits=exits, time_ns=_SOON) if isinstance(guest, bytes) else Plan(exits=exits)
        mine = yours(trial, guest, plan, memory)
    except Broken as broken:
        raise Broken(broken.why, hint=f"{broken.hint} {hint}".strip(), vm=broken.vm) from None
    ended = how_it_ended(mine)
    if status is not None and ended is not None and ended.exit_code != status.exit_code:
        first = ended.story.splitlines()[0]
        raise Broken(f"{first}; under vlab's monitor its status was {status.exit_code}", hint=hint, vm=mine)
    if mine.console.text != said:
        raise Broken(
            f"the guest wrote {mine.console.text[-60:]!r}, and {said[-60:]!r} under vlab's monitor",
            hint=hint,
            vm=mine,
        )
    if isinstance(guest, bytes) and _log(mine) != log:
        place = next(at for at, byte in enumerate(_log(mine)) if byte != log[at])
        raise Broken(
            f"the guest noted {_log(mine)[place]:#04x} as byte {place} of its log, and {log[place]:#04x} "
            "under vlab's monitor",
            hint=hint, vm=mine,
        )  # fmt: skip


# --- guests -------------------------------------------------------------------------------------------------

_KEEP: Final = b"\x89\x07\x83\xc7\x04"  # mov [edi], eax; add edi, 4
_EDI: Final = b"\xbf" + struct.pack("<I", _LOG)


def tries_ports(rng: Random, count: int = 10) -> bytes:
    """IN and OUT of all sizes, to chips that keep what they are told and to ports with nobody behind."""
    code = _EDI
    for _ in range(count):
        fill = b"\xb8" + struct.pack("<I", rng.getrandbits(32))  # mov eax, ...
        nobody = b"\x66\xba" + struct.pack("<H", rng.randrange(0x1000, 0x2000))  # mov dx, ...
        scratch = b"\x66\xba\xff\x03"  # mov dx, 3FFh: the serial port's scratch register
        code += (
            rng.choice(
                (
                    fill + scratch + b"\xee" + fill + b"\xec",  # out dx, al; in al, dx
                    fill + nobody + b"\x66\xed",  # in ax, dx
                    fill
                    + nobody
                    + rng.choice((b"\xed", b"\xec", b"\xef")),  # in eax, dx; in al, dx; out dx, eax
                    out(0x70, 0x50) + fill + b"\xe6\x71" + fill + out(0x70, 0x50) + b"\xe4\x71",  # CMOS
                )
            )
            + _KEEP
        )
    return image(code + say("".join(rng.choice("abcdef") for _ in range(3))) + leave(rng.randrange(3)))


def asks(rng: Random) -> bytes:
    """CPUID, MSRs that there are and that there are not; the handler of #GP keeps the error code."""
    missing = next(
        number for number in iter(lambda: rng.randrange(0x1000, 0x9000), None) if find(number) is None
    )

    def read(number: int) -> bytes:
        return b"\xb9" + struct.pack("<I", number) + b"\x31\xc0\x31\xd2\x0f\x32" + _KEEP

    def kernel(code: Code) -> None:
        code.add(_EDI)
        pieces = [
            b"\xb8"
            + struct.pack("<I", leaf)
            + b"\x31\xc9"
            + prefix
            + b"\x0f\xa2"
            + _KEEP
            + b"\x89\xd8"
            + _KEEP
            for leaf, prefix in zip(
                rng.sample((0, 1, 0x40000000, 0x80000000), 2), (b"", b"\x66"), strict=True
            )
        ]
        value = struct.pack("<II", rng.getrandbits(32), 0)
        pieces.append(
            b"\xb9\x74\x01\x00\x00\xb8" + value[:4] + b"\xba" + value[4:] + b"\x0f\x30" + read(0x174)
        )
        pieces.append(read(missing))
        rng.shuffle(pieces)
        code.add(*pieces, leave(0))

    def refused(code: Code) -> None:
        # pop [edi]; or dword [edi], 0DEADh; add edi, 4; add dword [esp], 2; iret
        code.add(bytes.fromhex("8F 07 81 0F AD DE 00 00 83 C7 04 83 04 24 02 CF"))

    return image(rings(kernel, {Vector.GP: refused}))


def sleeps(rng: Random) -> bytes:
    """Sleep until the timer came so many times, then say so."""
    again = b"\xf4\x81\x3d" + struct.pack("<II", TICKS, rng.randrange(3, 9)) + b"\x72\xf3"
    return image(timer(again + b"\xfa" + say("awake") + leave(0), hertz=rng.choice((100, 200, 250))))


def opens_windows(rng: Random) -> bytes:
    """Take interrupts in short windows alone, and end with status 7 when one comes outside of them."""
    ticks = struct.pack("<I", TICKS)
    spin = b"\xb9" + struct.pack("<I", rng.randrange(300_000, 400_000)) + b"\x49\x75\xfd"  # dec ecx; jnz
    body = b"\xfa\xa1" + ticks + spin + b"\x3b\x05" + ticks  # cli; mov eax, [ticks]; ...; cmp eax, [ticks]
    bad = leave(7)
    body += b"\x74" + bytes((len(bad),)) + bad
    body += b"\xfb\x90\xeb\x00\x90\xfa"  # sti; nop; jmp; nop; cli
    body += b"\x81\x3d" + ticks + struct.pack("<I", rng.randrange(3, 6))
    body += b"\x72" + struct.pack("<b", -(len(body) + 2))
    return image(timer(body + say("done") + leave(0), hertz=250))


_CALL: Final = 0x20


def goes_to_ring_3(rng: Random) -> bytes:
    """Go to ring 3, make system calls there, and be refused a HLT."""

    def kernel(code: Code) -> None:
        code.add(_EDI)
        enter_ring_3(code, "user")
        code.add("user")
        for _ in range(rng.randrange(2, 5)):
            code.add(b"\xbb" + struct.pack("<I", rng.getrandbits(32)) + bytes((0xCD, _CALL)))  # mov ebx; int
        code.add(b"\xf4")

    # mov ax, 10h; mov ds, ax; mov [edi], ebx; add edi, 4
    note = bytes.fromhex("66 B8 10 00 8E D8 89 1F 83 C7 04")

    def call(code: Code) -> None:
        code.add(note + b"\xcf")

    def refused(code: Code) -> None:
        code.add(b"\x5b" + note + say("refused") + leave(0))  # pop ebx: the error code

    return image(rings(kernel, {_CALL: call, Vector.GP: refused}))


def _word(rng: Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(4, 9)))


# --- what must hold -----------------------------------------------------------------------------------------


def starts(trial: Trial) -> None:
    """VMRUN takes the VMCB."""
    _alike(
        trial,
        image(leave(0)),
        hint="VMRUN wants its own intercept, in intercept_misc2, and an ASID that is not 0.",
    )


def serves_ports(trial: Trial) -> None:
    """IN and OUT."""
    _alike(
        trial, tries_ports(trial.rng),
        hint="IoExitInfo(vmcb.exitinfo1) has PORT, IN and operand_bytes. "
        "IN to AL or AX leaves the rest of RAX alone; IN to EAX clears its upper half.",
    )  # fmt: skip


def serves_cpuid_and_msrs(trial: Trial) -> None:
    """CPUID, RDMSR, WRMSR, and the #GP of an MSR that is not there."""
    _alike(
        trial,
        asks(trial.rng),
        hint="As in lesson 07: nrip behind what was done, #GP with error code 0 for the rest.",
    )


def says_hello(trial: Trial) -> None:
    """A boot sector and the firmware, in real mode."""
    _alike(
        trial, "hello", memory="16M",
        hint="Firmware talks to many ports, uses CPUID, an MSR and HLT, and keeps interrupts waiting.",
    )  # fmt: skip


def wakes(trial: Trial) -> None:
    """HLT, and the timer's interrupts."""
    _alike(
        trial, sleeps(trial.rng), exits=500,
        hint="HLT: RIP behind it, board.wait(), and before the next VMRUN the interrupt goes to eventinj.",
    )  # fmt: skip


def waits_for_windows(trial: Trial) -> None:
    """Interrupts only while the guest takes them."""
    _alike(
        trial, opens_windows(trial.rng), exits=500,
        hint="Inject only with RFLAGS.IF set and no interrupt shadow; "
        "else set vmcb.v_irq and take the VINTR exit.",
    )  # fmt: skip


def runs_rings(trial: Trial) -> None:
    """Protected mode, ring 3 and back."""
    _alike(trial, goes_to_ring_3(trial.rng), hint="Rings cost no exits: nothing is new here but the guest.")


def _boots(trial: Trial, typed: str) -> tuple[VM, VM]:
    """Boot wren on both, and type."""
    plans = [Plan([("$ ", f"{typed}\n")], _last(typed)) for _ in range(2)]
    return yours(trial, "wren", plans[0], "16M"), ours(trial, "wren", plans[1], "16M")


def _last(typed: str) -> str:
    """Give what the last ``echo`` of what is typed will say, on a line of its own."""
    return "\r\n" + typed.rpartition("echo ")[2] + "\r\n"


def boots_a_kernel(trial: Trial) -> None:
    """Wren to its shell, and an answer."""
    mine, theirs = _boots(trial, f"echo {_word(trial.rng)}")
    _same_console(mine, theirs)


def _same_console(mine: VM, theirs: VM) -> None:
    said, right = mine.console.text.rstrip("$ "), theirs.console.text.rstrip("$ ")
    if said != right:
        raise Broken(f"wren said {said[-60:]!r} at last, and {right[-60:]!r} under vlab's monitor", vm=mine)


def spends_no_more(trial: Trial) -> None:
    """The exit budget."""
    mine, theirs = _boots(trial, f"sleep 5\necho {_word(trial.rng)}")
    budget = theirs.exits.total * 3 // 2 + 20
    if mine.exits.total > budget:
        raise Broken(
            f"booting wren took {mine.exits.total:,} exits; vlab's monitor needs {theirs.exits.total:,}, "
            f"and {budget:,} are allowed",
            hint="v_irq may be set only while an interrupt waits that the guest cannot take.",
            vm=mine,
        )


def runs_anything(trial: Trial) -> None:
    """Other guests, other words."""
    word = _word(trial.rng)
    _same_console(*_boots(trial, f"echo {word}\nls\nsleep 2\necho {word[::-1]}x"))
    serves_ports(trial)
    waits_for_windows(trial)


# --- the exercise -------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "monitor",
        "Your own monitor",
        defines=("run",),
        invariants=(
            Invariant("starts", 1, "stage 1: VMRUN takes the VMCB, and a guest ends itself", starts),
            Invariant("ports", 3, "stage 1: IN and OUT reach the chips, in all sizes", serves_ports),
            Invariant("hello", 2, "stage 2: a boot sector says hello in real mode", says_hello),
            Invariant("cpuid", 2, "stage 2: CPUID and MSRs are the virtual CPU's", serves_cpuid_and_msrs),
            Invariant("timer", 3, "stage 2: a guest that sleeps is woken by its timer", wakes),
            Invariant(
                "windows",
                2,
                "stage 2: interrupts come when the guest takes them",
                waits_for_windows,
            ),
            Invariant("rings", 1, "stage 2: a protected-mode kernel goes to ring 3 and back", runs_rings),
            Invariant("wren", 3, "stage 3: wren boots, and its shell answers", boots_a_kernel),
            Invariant("budget", 1, "stage 3: in about as many exits as under vlab's monitor", spends_no_more),
            Invariant("hidden", 2, "other guests run, too", runs_anything, hidden=True),
        ),
        hints=(
            (
                "Begin small: set the intercepts and the ASID, then `while not board.over: cpu.vmrun()`, "
                "and print vmcb.exitcode. The first exit that you meet is the next one to write."
            ),
            (
                "IOIO: info = IoExitInfo(vmcb.exitinfo1). "
                "OUT: board.write_port(info.PORT, size, low bytes of RAX). "
                "IN: put the value into the low bytes of RAX. Then vmcb.rip = vmcb.exitinfo2."
            ),
            "INTR: board.serve_timers(). HLT: vmcb.rip = vmcb.nrip, then board.wait().",
            (
                "Before each VMRUN: if board.interrupt, and RFLAGS.IF is 1, no shadow, and eventinj is free: "
                "vmcb.eventinj = EventInjection.interrupt(board.acknowledge()). "
                "Where the guest cannot take it: vmcb.v_irq = True; "
                "the VINTR exit says when, and v_irq goes back to False."
            ),
        ),
        seconds=30.0,
    ),
)
