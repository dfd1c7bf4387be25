"""Hardware assistance: the student's exit handler and intercepts, in vlab's own hardware-assisted monitor.

The guest runs under `HardwareMonitor`. Exits that belong to the exercise go to the student's function, which
sees the VMCB as AMD-V's programmers do. Sections are those of the AMD64 Architecture Programmer's Manual,
vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from random import Random
from typing import ClassVar, Final

from vlab.grading.equivalence import follow
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import SCRATCH, TICKS, Code, image, leave, rings, store, timer
from vlab.isa.msr import find
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector
from vlab.isa.vmcb import EventInjection, EventType, InterceptMisc1, InterceptMisc2, VmcbControl
from vlab.machine.faults import Event, EventKind
from vlab.machine.svm import event_of
from vlab.session import VM
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.verdicts import IDLE, RESUME, Inject, Verdict
from vlab.vmm.virtual_cpu import REFUSED_MSRS

_32: Final = (1 << 32) - 1
_64: Final = (1 << 64) - 1
RAX, RCX, RDX, RBX = range(4)
_LOG: Final = SCRATCH + 0x400
"""Where the guests here keep what they saw."""
_DIRECTORY: Final = 0x20000
REFLECTED: Final = (Vector.DE, Vector.BP, Vector.UD, Vector.GP, Vector.PF)
"""The exceptions that the exercise's VMCB intercepts."""
_LENGTHS: Final = {SvmExit.CPUID: 2, SvmExit.HLT: 1, SvmExit.MSR: 2, SvmExit.EXCP_BP: 1}
"""Bytes without prefixes of the instructions whose exits have an nRIP here."""


def _number(name: str, value: object, most: int = _64) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name}: {value!r} is no number of {most.bit_length()} bits")
    return int(value)


# --- what the student's handler is given -------------------------------------------------------------------


class Vmcb(Facade):
    """The control block after #VMEXIT: why the guest stopped, and the guest's state that is kept in it."""

    read_only = ("exitcode", "exitinfo1", "exitinfo2", "nrip")
    fields = ("rip", "rax", "cr2", "eventinj")

    def __init__(self, monitor: HardwareMonitor) -> None:
        control = VmcbControl(monitor.machine.memory.bytes, monitor.vmcb)
        core = self._core = monitor.core
        self.exitcode = int(control.exitcode)
        self.exitinfo1, self.exitinfo2 = int(control.exitinfo1), int(control.exitinfo2)
        self.length = _LENGTHS.get(SvmExit(self.exitcode), 0)
        self.before = self._rip = core.rip
        prefixes = monitor.processor.code.prefix_count() if self.length else 0
        self.nrip = self._rip + prefixes + self.length if self.length else 0
        self._eventinj = 0

    @property
    def rip(self) -> int:
        """Where the guest goes on."""
        return self._rip

    @rip.setter
    def rip(self, value: object) -> None:
        self._rip = _number("rip", value)

    @property
    def rax(self) -> int:
        """The guest's RAX."""
        return int(self._core.words[RAX])

    @rax.setter
    def rax(self, value: object) -> None:
        self._core.words[RAX] = _number("rax", value)

    @property
    def cr2(self) -> int:
        """The guest's CR2."""
        return self._core.cr2

    @cr2.setter
    def cr2(self, value: object) -> None:
        self._core.cr2 = _number("cr2", value)

    @property
    def eventinj(self) -> int:
        """The event that the next VMRUN delivers first."""
        return self._eventinj

    @eventinj.setter
    def eventinj(self, value: object) -> None:
        self._eventinj = _number("eventinj", value)


class Registers(Facade):
    """General registers that VMRUN and #VMEXIT leave alone: the guest's values are still in them."""

    fields = ("rbx", "rcx", "rdx")

    def __init__(self, monitor: HardwareMonitor) -> None:
        self._core = monitor.core

    @property
    def rbx(self) -> int:
        """The guest's RBX."""
        return int(self._core.words[RBX])

    @rbx.setter
    def rbx(self, value: object) -> None:
        self._core.words[RBX] = _number("rbx", value)

    @property
    def rcx(self) -> int:
        """The guest's RCX."""
        return int(self._core.words[RCX])

    @rcx.setter
    def rcx(self, value: object) -> None:
        self._core.words[RCX] = _number("rcx", value)

    @property
    def rdx(self) -> int:
        """The guest's RDX."""
        return int(self._core.words[RDX])

    @rdx.setter
    def rdx(self, value: object) -> None:
        self._core.words[RDX] = _number("rdx", value)


class Host(Facade):
    """What the rest of the monitor does for a handler."""

    offers = ("cpuid", "read_msr", "write_msr", "wait_for_interrupt")

    def __init__(self, monitor: HardwareMonitor) -> None:
        self._monitor = monitor
        self.waits = False

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

    def wait_for_interrupt(self) -> None:
        """Let the guest sleep until an interrupt comes."""
        self.waits = True


# --- monitors -----------------------------------------------------------------------------------------------


class Reflecting(HardwareMonitor):
    """vlab's monitor, which here also intercepts the exceptions of ``REFLECTED``, and reflects them."""

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_exceptions = sum(1 << vector for vector in REFLECTED)

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Serve one exit."""
        if isinstance(exit_, exits.PageFault):
            return Inject(Event(EventKind.EXCEPTION, Vector.PF, exit_.code, exit_.address))
        return super().handle(exit_)


class WithStudent(Reflecting):
    """The same with the student's handler."""

    student: Student
    followed: ClassVar[bool] = False
    """Whether all of the state is compared after each exit: then what is wrong with RIP is told at once."""

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Ask the student, and check what comes back before anything is done."""
        if not isinstance(
            exit_, exits.Cpuid | exits.Halt | exits.MsrAccess | exits.ExceptionExit | exits.PageFault
        ):
            return super().handle(exit_)
        vmcb, registers, host = Vmcb(self), Registers(self), Host(self)
        self.student.call("handle", vmcb, registers, host)
        if vmcb.rip != vmcb.before:
            if self.followed and not vmcb.nrip:
                raise Broken(
                    f"a fault at {vmcb.before:#x}: your handler set RIP to {vmcb.rip:#x}, and it has to stay",
                    hint="nRIP is 0 for a fault: the guest's handler gets the address of the instruction.",
                )
            if vmcb.rip == vmcb.nrip:
                self.processor.skip(vmcb.length)
            else:
                self.core.rip = vmcb.rip
        if vmcb.eventinj:
            return Inject(self._injected(vmcb.eventinj))
        return IDLE if host.waits else RESUME

    def _injected(self, raw: int) -> Event:
        wanted = EventInjection(raw)
        if not wanted.V:
            raise Broken(f"EVENTINJ is {raw:#x}: without bit 31, V, nothing is injected (APM2 15.20)")
        if wanted.TYPE != EventType.EXCEPTION or wanted.VECTOR > 31 or wanted.VECTOR == Vector.NMI:
            raise Broken(
                f"EVENTINJ is {raw:#x}, of type {wanted.TYPE} and vector {wanted.VECTOR}; "
                "to reflect an exception takes type 3 and one of the vectors 0 to 31 but 2 (APM2 15.20)"
            )
        return event_of(raw, self.processor)


def yours(trial: Trial, guest: bytes | str, memory: str = "2M", *, followed: bool = False) -> VM:
    """Make the guest under the monitor with the student's handler in it."""
    monitor = type("Yours", (WithStudent,), {"student": trial.student, "followed": followed})
    return trial.vm(guest, monitor=monitor, memory=memory)


def ours(trial: Trial, guest: bytes | str, memory: str = "2M") -> VM:
    """Make the guest under vlab's own handlers."""
    return trial.vm(guest, monitor=Reflecting, memory=memory)


# --- guests of the first exercise ---------------------------------------------------------------------------

_LEAVES: Final = (0, 1, 0x4000_0000, 0x4000_0001, 0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0008)
_OPERAND_SIZE: Final = b"\x66"


def asks_cpuid(rng: Random, count: int = 6) -> bytes:
    """Ask for leaves in any order, with prefixes now and then, and keep the answers."""
    code, at = b"", _LOG
    for leaf in rng.sample(_LEAVES, count):
        code += b"\xb8" + struct.pack("<I", leaf) + b"\xb9" + struct.pack("<I", rng.randrange(3))
        code += _OPERAND_SIZE * rng.choice((0, 0, 1, 2)) + b"\x0f\xa2"  # cpuid
        for move in (b"\xa3", b"\x89\x1d", b"\x89\x0d", b"\x89\x15"):  # mov [at], eax; ebx; ecx; edx
            code += move + struct.pack("<I", at)
            at += 4
    return image(code + leave(0))


def sleeps(rng: Random) -> bytes:
    """Sleep with HLT until the timer came so many times."""
    again = b"\xf4\x81\x3d" + struct.pack("<II", TICKS, rng.randrange(3, 7)) + b"\x72\xf3"
    return image(timer(again + leave(0), hertz=rng.choice((100, 200, 250))))


_WORDS: Final = (0x174, 0x175, 0x176, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000103)
"""MSRs that take any 32-bit value: SYSENTER_CS, _ESP, _EIP, STAR, LSTAR, SFMASK, TSC_AUX."""


def _load_ecx(number: int) -> bytes:
    return b"\xb9" + struct.pack("<I", number)


def _write_msr(number: int, value: int) -> bytes:
    halves = b"\xb8" + struct.pack("<I", value & _32) + b"\xba" + struct.pack("<I", value >> 32)
    return _load_ecx(number) + halves + b"\x0f\x30"


_KEEP: Final = b"\x89\x07\x83\xc7\x04"  # mov [edi], eax; add edi, 4
_KEEP_EDX: Final = b"\x89\x17\x83\xc7\x04"
_KEEP_CODE: Final = b"\x8f\x07\x83\xc7\x04"  # pop dword [edi]; add edi, 4


def _go_behind(length: int) -> bytes:
    return b"\x83\x04\x24" + bytes((length,)) + b"\xcf"  # add dword [esp], length; iret


def _log(rng: Random) -> bytes:
    return b"\xbf" + struct.pack("<I", _LOG + 4 * rng.randrange(16))  # mov edi, ...


def _handler(*pieces: bytes, behind: int) -> bytes:
    return b"".join(pieces) + _go_behind(behind)


def uses_msrs(rng: Random, count: int = 4) -> bytes:
    """Write and read registers in any order."""
    code = _log(rng)
    for number in rng.sample(_WORDS, count):
        high = rng.getrandbits(14) if number in (0xC0000081, 0xC0000082) else 0
        code += _write_msr(number, high << 32 | rng.getrandbits(32))
        code += b"\x31\xc0\x31\xd2\x0f\x32" + _KEEP + _KEEP_EDX  # xor eax, eax; xor edx, edx; rdmsr
    return image(code + leave(0))


def _unknown_msr(rng: Random) -> int:
    return next(
        number for number in iter(lambda: rng.randrange(0x1000, 0x40000), None) if find(number) is None
    )


def lacks_msrs(rng: Random) -> bytes:
    """Read and write registers that there are and that there are not; the handler keeps the error codes."""

    def kernel(code: Code) -> None:
        code.add(_log(rng))
        for _ in range(4):
            number = _unknown_msr(rng)
            code.add(rng.choice((_load_ecx(number) + b"\x0f\x32", _write_msr(number, rng.getrandbits(32)))))
            code.add(_KEEP, _load_ecx(0x174) + b"\x0f\x32", _KEEP)
        code.add(leave(0))

    return image(rings(kernel, {Vector.GP: _adding(_handler(_KEEP_CODE, behind=2))}))


def _adding(piece: bytes) -> Callable[[Code], None]:
    def add(code: Code) -> None:
        code.add(piece)

    return add


def _turn_paging_on() -> bytes:
    """Map the first 4 MiB with one large page, and nothing else."""
    return (
        store(_DIRECTORY, 0x83)
        + b"\xb8" + struct.pack("<I", _DIRECTORY) + b"\x0f\x22\xd8"  # mov cr3, eax
        + b"\x0f\x20\xe0\x83\xc8\x10\x0f\x22\xe0"  # CR4.PSE
        + b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0\xeb\x00"  # CR0.PG
    )  # fmt: skip


def faults(rng: Random, kinds: tuple[Vector, ...] = REFLECTED, each: int = 2) -> bytes:
    """Raise exceptions in any order; each handler keeps what it was given, and returns behind the cause."""
    causes = [kind for kind in kinds for _ in range(each)]
    rng.shuffle(causes)

    def kernel(code: Code) -> None:
        code.add(_log(rng), _turn_paging_on())
        for kind in causes:
            code.add(_cause(kind, rng))
        code.add(leave(0))

    keep_cr2 = b"\x0f\x20\xd0" + _KEEP
    handlers = {
        Vector.DE: _handler(_KEEP, behind=2),
        Vector.BP: _KEEP + b"\xcf",
        Vector.UD: _handler(_KEEP, behind=2),
        Vector.GP: _handler(_KEEP_CODE, behind=2),
        Vector.PF: _handler(_KEEP_CODE, keep_cr2, behind=5),
    }
    return image(rings(kernel, {vector: _adding(text) for vector, text in handlers.items()}))


def _cause(kind: Vector, rng: Random) -> bytes:
    number = b"\xb8" + struct.pack("<I", rng.getrandbits(32))  # what the handler keeps of EAX
    address = struct.pack("<I", rng.randrange(0x40_0000, 0xF000_0000) & ~3)
    match kind:
        case Vector.DE:
            return number + b"\x31\xc9\xf7\xf1"  # xor ecx, ecx; div ecx
        case Vector.BP:
            return number + b"\xcc"
        case Vector.GP:
            return (
                b"\x66\xb8" + struct.pack("<H", rng.randrange(0x40, 0x1000) & ~7) + b"\x8e\xe8"
            )  # mov gs, ax
        case Vector.PF:
            return rng.choice((b"\xa1", b"\xa3")) + address  # mov eax, [address] or the other way
        case _:
            return number + b"\x0f\x0b"  # ud2


# --- what must hold of the handler --------------------------------------------------------------------------

_NRIP: Final = (
    "What the monitor did for the guest is done: the guest goes on at vmcb.nrip. "
    "A fault is the guest's, and RIP stays at the instruction."
)


def answers_cpuid(trial: Trial) -> None:
    """CPUID, exit by exit."""
    guest = asks_cpuid(trial.rng)
    follow(yours(trial, guest), ours(trial, guest), exits=40, hint=_NRIP)


def waits(trial: Trial) -> None:
    """HLT, exit by exit."""
    guest = sleeps(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=100,
        hint="After HLT the guest sleeps, and goes on behind it: host.wait_for_interrupt() and vmcb.nrip.",
    )  # fmt: skip


def moves_msrs(trial: Trial) -> None:
    """RDMSR and WRMSR, exit by exit."""
    guest = uses_msrs(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=40,
        hint="EXITINFO1 is 1 for WRMSR. The number is in ECX, the value in EDX (high half) and EAX: "
        "32 bits in each, and the rest of RDX and RAX is 0 after RDMSR.",
    )  # fmt: skip


def refuses_msrs(trial: Trial) -> None:
    """MSRs that the virtual CPU does not have."""
    guest = lacks_msrs(trial.rng)
    follow(
        yours(trial, guest), ours(trial, guest), exits=80,
        hint="An MSR that is not there is #GP with error code 0, and RIP stays at the instruction.",
    )  # fmt: skip


def reflects(trial: Trial) -> None:
    """Exceptions with their error codes."""
    guest = faults(trial.rng)
    follow(
        yours(trial, guest, followed=True), ours(trial, guest), exits=80,
        hint="The vector is EXITCODE - 0x40, the error code EXITINFO1. Only some exceptions push one. "
        "For #PF the address is in EXITINFO2, and whoever injects it sets CR2. "
        "RIP stays at a fault; INT3 alone has an nRIP to go on at.",
    )  # fmt: skip


def _same_run(trial: Trial, guest: str, until: str | None) -> None:
    """Run a guest on both, and compare what they wrote and how often they stopped."""
    theirs = ours(trial, guest, "16M")
    trial.run(theirs, until)
    budget = theirs.exits.total
    mine = yours(trial, guest, "16M")
    trial.run(mine, until, exits=budget + 50)
    if not _alike(mine.console.text, theirs.console.text, until):
        raise Broken(
            f"'{guest}' wrote {mine.console.text[-60:]!r} at last, and {theirs.console.text[-60:]!r} under "
            "vlab's handlers",
            vm=mine,
        )
    if until is None and mine.exits.total != budget:
        raise Broken(f"'{guest}' took {mine.exits.total:,} exits instead of {budget:,}", vm=mine)


def _alike(mine: str, theirs: str, until: str | None) -> bool:
    """Whether two consoles say the same, up to what was waited for."""
    return mine == theirs if until is None else mine.partition(until) == theirs.partition(until)


def runs_rings(trial: Trial) -> None:
    """A guest that provokes faults in ring 3."""
    _same_run(trial, "rings", None)


def runs_others(trial: Trial) -> None:
    """Guests that the student has not seen."""
    _same_run(trial, "longmode", None)
    _same_run(trial, "wren", "$ ")


# --- the second exercise: intercepts ------------------------------------------------------------------------

WORDS: Final = ("exceptions", "misc1", "misc2")
MUST: Final = {
    "misc1": {
        "INTR": "an interrupt of the host's would go to the guest's handler",
        "NMI": "an NMI of the host's would go to the guest's handler",
        "VINTR": "the monitor would not hear when the guest can take an interrupt",
        "HLT": "a guest that sleeps would put the host's processor to sleep",
        "IOIO": "the guest would drive the host's chips",
        "MSR": "the guest would write the host's MSRs",
        "SHUTDOWN": "a triple fault of the guest would shut the host down",
    },
    "misc2": {
        "VMRUN": "VMRUN refuses a VMCB without it (APM2 15.5.1)",
        "VMLOAD": "the guest would load host state from memory of its choice",
        "VMSAVE": "the guest would write host state to memory of its choice",
        "STGI": "the guest would open the host's interrupts",
        "CLGI": "the guest would close the host's interrupts",
        "SKINIT": "the guest would restart the host",
    },
}
"""What no monitor can leave to the guest, and why."""

INSTRUCTIONS: Final = {
    "CPUID": (SvmExit.CPUID, b"\x0f\xa2"), "RDTSC": (SvmExit.RDTSC, b"\x0f\x31"),
    "PAUSE": (SvmExit.PAUSE, b"\xf3\x90"), "WBINVD": (SvmExit.WBINVD, b"\x0f\x09"),
}  # fmt: skip
EXCEPTIONS: Final = {f"#{vector.name}": vector for vector in REFLECTED}


class Chosen(HardwareMonitor):
    """vlab's monitor with intercepts that somebody chose. ``seen``: how often each of the wishes came."""

    words: Mapping[str, int]
    seen: dict[str, int]

    def _fill_vmcb(self) -> None:
        super()._fill_vmcb()
        control = VmcbControl(self.machine.memory.bytes, self.vmcb)
        control.intercept_exceptions = self.words["exceptions"]
        control.intercept_misc1, control.intercept_misc2 = self.words["misc1"], self.words["misc2"]

    def _take_processor(self, *, first: bool) -> None:
        super()._take_processor(first=first)
        self.intercepts_changed()  # VMRUN looks at all of the VMCB

    def handle(self, exit_: HardwareExit) -> Verdict:
        """Count what was wished for, and serve it."""
        match exit_:
            case exits.PrivilegedInstruction(SvmExit.INVALID):
                raise Broken(f"VMRUN ended in VMEXIT_INVALID: {self.machine.svm.refused} (APM2 15.5.1)")
            case exits.Cpuid():
                self._count_wish("CPUID")
            case exits.TimeStampRead():
                self._count_wish("RDTSC")
            case exits.ExceptionExit(vector):
                self._count_wish(f"#{Vector(vector).name}")
            case exits.PageFault(address, code):
                self._count_wish("#PF")
                return Inject(Event(EventKind.EXCEPTION, Vector.PF, code, address))
            case exits.PrivilegedInstruction(SvmExit.PAUSE):
                self._count_wish("PAUSE")
                self.processor.skip(1)  # its F3 counts as a prefix
                return RESUME
            case exits.PrivilegedInstruction(SvmExit.WBINVD):
                self._count_wish("WBINVD")
                self.processor.skip(2)
                return RESUME
            case _:
                pass
        return super().handle(exit_)

    def _count_wish(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1


def chosen(trial: Trial, wishes: list[str]) -> dict[str, int]:
    """Ask the student for the intercept words, and check that they are words."""
    answer = trial.student.call("choose_intercepts", [*wishes])
    if not isinstance(answer, dict) or sorted(answer) != sorted(WORDS):
        raise Broken(
            f"choose_intercepts({wishes}) returned {_short(answer)}; return a dict with {', '.join(WORDS)}"
        )
    words: dict[str, int] = {}
    for name in WORDS:
        value = answer[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _32:
            raise Broken(f"choose_intercepts({wishes}): {name} is {_short(value)}, no number of 32 bits")
        words[name] = value
    return words


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wishes(rng: Random, instructions: int, vectors: int) -> list[str]:
    wishes = rng.sample(sorted(INSTRUCTIONS), instructions) + rng.sample(sorted(EXCEPTIONS), vectors)
    rng.shuffle(wishes)
    return wishes


def does_everything(rng: Random) -> tuple[bytes, dict[str, int]]:
    """Make a guest that does all that can be wished for, and how often it does each."""
    counts = {name: rng.randrange(1, 4) for name in (*INSTRUCTIONS, *EXCEPTIONS)}
    causes = [name for name, count in counts.items() for _ in range(count)]
    rng.shuffle(causes)

    def kernel(code: Code) -> None:
        code.add(_log(rng), _turn_paging_on())
        for name in causes:
            code.add(INSTRUCTIONS[name][1] if name in INSTRUCTIONS else _cause(EXCEPTIONS[name], rng))
        code.add(leave(0))

    handlers = {
        Vector.DE: _go_behind(2), Vector.BP: b"\xcf", Vector.UD: _go_behind(2),
        Vector.GP: b"\x58" + _go_behind(2), Vector.PF: b"\x58" + _go_behind(5),
    }  # fmt: skip
    return image(rings(kernel, {vector: _adding(text) for vector, text in handlers.items()})), counts


def _counted(trial: Trial, wishes: list[str]) -> tuple[VM, dict[str, int], dict[str, int]]:
    """Run the guest that does everything; give it, what it did, and what of that came to the monitor."""
    words = chosen(trial, wishes)
    guest, counts = does_everything(trial.rng)
    seen: dict[str, int] = {}
    vm = trial.vm(guest, monitor=type("Yours", (Chosen,), {"words": words, "seen": seen}), memory="2M")
    trial.run(vm, exits=500)
    return vm, counts, seen


def starts(trial: Trial) -> None:
    """VMRUN takes the VMCB."""
    words = chosen(trial, [])
    vm = trial.vm(
        asks_cpuid(trial.rng), monitor=type("Yours", (Chosen,), {"words": words, "seen": {}}), memory="2M"
    )
    trial.run(vm, exits=100)


def keeps_control(trial: Trial) -> None:
    """The intercepts that no monitor can do without, whatever is wished for."""
    for wishes in ([], _wishes(trial.rng, 2, 2)):
        words = chosen(trial, wishes)
        for word, names in MUST.items():
            register = InterceptMisc1 if word == "misc1" else InterceptMisc2
            for name, why in names.items():
                if not words[word] & getattr(register, name).mask:
                    raise Broken(
                        f"choose_intercepts({wishes}): {name} is not intercepted, so {why}",
                        hint="Table B-1 of APM2 has the bits; the list MUST says which are needed.",
                    )


def sees_instructions(trial: Trial) -> None:
    """Instructions that were wished for."""
    _all_seen(trial, _wishes(trial.rng, 2, 0))


def sees_exceptions(trial: Trial) -> None:
    """Exceptions that were wished for."""
    _all_seen(trial, _wishes(trial.rng, 0, 3))


def _all_seen(trial: Trial, wishes: list[str]) -> None:
    vm, counts, seen = _counted(trial, wishes)
    for name in wishes:
        if seen.get(name, 0) != counts[name]:
            raise Broken(
                f"wishes are {wishes}: the guest did {name} {counts[name]} times, "
                f"and the monitor heard of it {seen.get(name, 0)} times",
                hint="Exceptions have a word of their own, with a bit for each vector; "
                "RDTSC, CPUID and PAUSE are in misc1, WBINVD is in misc2.",
                vm=vm,
            )


def leaves_the_rest(trial: Trial) -> None:
    """What nobody wished for goes on at full speed."""
    wishes = _wishes(trial.rng, 1, 2)
    vm, _, seen = _counted(trial, wishes)
    for name, count in seen.items():
        if name not in wishes:
            raise Broken(
                f"wishes are {wishes}: the guest stopped {count} times for {name}, which nobody asked for",
                hint="Set a bit for each wish and for each must, and no other: an exit costs the guest time.",
                vm=vm,
            )


def other_wishes(trial: Trial) -> None:
    """All single wishes, and two dozen mixtures."""
    for name in (*INSTRUCTIONS, *EXCEPTIONS):
        words, expected = chosen(trial, [name]), _expected([name])
        if any(words[word] & _judged(word) != expected[word] for word in WORDS):
            raise Broken(f"choose_intercepts([{name!r}]) intercepts {_named(words)}")
    wishes = _wishes(trial.rng, 3, 3)
    vm, counts, seen = _counted(trial, wishes)
    wanted = {name: counts[name] for name in wishes}
    if seen != wanted:
        raise Broken(f"wishes are {wishes}: the monitor heard of {seen}, the guest did {wanted}", vm=vm)


def _judged(word: str) -> int:
    """Give the bits that wishes decide on."""
    return _expected([*INSTRUCTIONS, *EXCEPTIONS])[word]


def _expected(wishes: list[str]) -> dict[str, int]:
    words = dict.fromkeys(WORDS, 0)
    for name in wishes:
        if name in EXCEPTIONS:
            words["exceptions"] |= 1 << EXCEPTIONS[name]
        else:
            bit = INSTRUCTIONS[name][0] - SvmExit.INTR
            words["misc1" if bit < 32 else "misc2"] |= 1 << bit % 32
    return words


def _named(words: Mapping[str, int]) -> str:
    found = [
        name for name in (*INSTRUCTIONS, *EXCEPTIONS)
        if any(words[word] & bits for word, bits in _expected([name]).items())
    ]  # fmt: skip
    return " ".join(found) or "none of what can be wished for"


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "exit_handler",
        "The exit handler",
        defines=("handle",),
        invariants=(
            Invariant(
                "cpuid", 2, "CPUID shows the virtual CPU, and the guest goes on behind it", answers_cpuid
            ),
            Invariant("hlt", 1, "HLT lets the guest sleep until its timer comes", waits),
            Invariant("msr", 2, "RDMSR and WRMSR move the virtual CPU's registers", moves_msrs),
            Invariant("no_msr", 2, "an MSR that is not there is #GP with error code 0", refuses_msrs),
            Invariant(
                "exceptions",
                3,
                "exceptions get to the guest's handlers, with the right error code and CR2",
                reflects,
            ),
            Invariant(
                "rings",
                1,
                "the guest 'rings' says the same as under vlab's handlers, in as many exits",
                runs_rings,
            ),
            Invariant(
                "hidden",
                2,
                "so do guests that you have not seen, with no exit too many",
                runs_others,
                hidden=True,
            ),
        ),
        hints=(
            "Begin with a match over vmcb.exitcode; vlab.isa.svm_exits.SvmExit has the names.",
            (
                "CPUID: the answer goes to vmcb.rax, registers.rbx, registers.rcx and registers.rdx; "
                "then the guest goes on at vmcb.nrip."
            ),
            (
                "MSR: exitinfo1 tells WRMSR from RDMSR. host.read_msr gives None and host.write_msr False "
                "where the guest gets #GP: vmcb.eventinj = EventInjection.exception(13, 0), and RIP stays."
            ),
            (
                "Exceptions: the vector is exitcode - SvmExit.EXCP_DE. #GP (13) and #PF (14) push exitinfo1; "
                "for #PF vmcb.cr2 = vmcb.exitinfo2. INT3 has an nrip, and the others have 0 there."
            ),
        ),
    ),
    Exercise(
        "intercepts",
        "Choosing intercepts",
        defines=("choose_intercepts",),
        invariants=(
            Invariant("starts", 1, "VMRUN takes the VMCB, and a guest runs to its end", starts),
            Invariant(
                "control",
                2,
                "nothing gets past the monitor that the host cannot leave to a guest",
                keeps_control,
            ),
            Invariant(
                "instructions", 2, "instructions that were wished for exit, each time", sees_instructions
            ),
            Invariant("exceptions", 2, "exceptions that were wished for exit, each time", sees_exceptions),
            Invariant("no_more", 2, "nothing exits that nobody asked for", leaves_the_rest),
            Invariant("hidden", 1, "all that for any mixture of wishes", other_wishes, hidden=True),
        ),
        hints=(
            "getattr(InterceptMisc1, 'CPUID') is a field; its .mask is the bit in its place.",
            "hasattr(InterceptMisc1, name) tells whether a name belongs to misc1 or to misc2.",
            "Exceptions have a word of their own with a bit for each vector: 1 << Vector[name.lstrip('#')].",
        ),
    ),
)
