"""Trap-and-emulate: the student's emulation of sensitive instructions, in vlab's own monitor.

The guest runs at CPL 1 under `TrapAndEmulate`; what traps and belongs to the exercise is carried out by the
student's function on the guest's virtual processor, through `GuestCpu`. Sections are those of the AMD64
Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from vlab.grading.equivalence import follow
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import (
    KERNEL_CODE,
    SCRATCH,
    SPIN,
    Code,
    enter_ring_3,
    image,
    leave,
    rings,
)
from vlab.isa.sensitive import Sensitive
from vlab.isa.state import TableRegister
from vlab.machine.faults import Event, EventKind
from vlab.session import VM, StopKind
from vlab.vmm.deprivileged import transfers
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.mmio_decode import Memory
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.tenant import Parts
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Inject, Verdict

GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
CONTROL: Final = ("cr0", "cr2", "cr3", "cr4")
_32: Final = 0xFFFFFFFF
_SOON: Final = 20
_FAMILIES: Final = {
    "cli": Sensitive.CLI, "sti": Sensitive.STI, "mov_cr": Sensitive.MOV_CR, "lgdt": Sensitive.LGDT,
    "hlt": Sensitive.HLT, "iret": Sensitive.IRET,
}  # fmt: skip


# --- what the student's functions are given -----------------------------------------------------------------


class GuestCpu(Facade):
    """The guest's virtual processor while it stands at a trapped instruction.

    Nothing here happens to the real processor's privileged state; the monitor keeps the guest's own.
    """

    fields = (*GENERAL, "eip", "eflags", "interrupt_flag")
    read_only = ("cpl", "iopl")
    offers = (
        "read", "write", "control", "set_control", "set_gdtr", "interrupt_shadow", "halt", "fault",
        "return_to_same_ring", "return_to_outer_ring",
    )  # fmt: skip

    def __init__(self, monitor: TrapAndEmulate, operands: Operands) -> None:
        self._monitor, self._cpu = monitor, operands.cpu
        self.verdict: Verdict = RESUME

    def __getattr__(self, name: str) -> int:
        if name not in GENERAL:
            raise AttributeError(name)
        return self._cpu.words[GENERAL.index(name)] & _32

    def __setattr__(self, name: str, value: object) -> None:
        if name in GENERAL:
            self._cpu.words[GENERAL.index(name)] = _number(name, value)
        else:
            super().__setattr__(name, value)

    @property
    def eip(self) -> int:
        """The address of the trapped instruction, until it is assigned."""
        return self._cpu.rip

    @eip.setter
    def eip(self, value: object) -> None:
        self._cpu.rip = _number("eip", value)

    @property
    def eflags(self) -> int:
        """EFLAGS as the guest is to see them: IF and IOPL are its own."""
        return self._cpu.rflags

    @eflags.setter
    def eflags(self, value: object) -> None:
        self._cpu.rflags = _number("eflags", value) | 2

    @property
    def interrupt_flag(self) -> bool:
        """The guest's EFLAGS.IF."""
        return self._cpu.interrupt_flag

    @interrupt_flag.setter
    def interrupt_flag(self, value: object) -> None:
        self._cpu.interrupt_flag = bool(_number("interrupt_flag", value))

    @property
    def cpl(self) -> int:
        """The ring that the guest believes to be in."""
        return self._cpu.cpl

    @property
    def iopl(self) -> int:
        """EFLAGS.IOPL of the guest."""
        return self._cpu.iopl

    def read(self, address: int, size: int) -> int:
        """Read 1, 2 or 4 bytes at a linear address."""
        return self._cpu.read(_number("address", address), _size(size))

    def write(self, address: int, size: int, value: int) -> None:
        """Write 1, 2 or 4 bytes at a linear address."""
        size = _size(size)
        self._cpu.write(_number("address", address), size, _number("value", value) & (1 << 8 * size) - 1)

    def control(self, name: str) -> int:
        """Give the guest's CR0, CR2, CR3 or CR4."""
        return int(getattr(self._cpu, _control(name)))

    def set_control(self, name: str, value: int) -> None:
        """Give the guest's CR0, CR2, CR3 or CR4 another value."""
        self._monitor.emulator.system.write_control(self._cpu, _control(name), _number("value", value))

    def set_gdtr(self, base: int, limit: int) -> None:
        """Give the guest another GDT: base and limit of the table."""
        self._cpu.gdtr = TableRegister(_number("base", base), _number("limit", limit) & 0xFFFF)

    def interrupt_shadow(self) -> None:
        """Hold interrupts off for one more instruction."""
        self._cpu.begin_shadow()

    def halt(self) -> None:
        """Let the guest sleep until an interrupt comes."""
        self._monitor.halted = True

    def fault(self, vector: int, error_code: int | None = None) -> None:
        """Have the guest's own handler for an exception run next, in place of the instruction."""
        code = None if error_code is None else _number("error_code", error_code)
        self.verdict = Inject(Event(EventKind.EXCEPTION, _number("vector", vector) & 0x1F, code))

    def return_to_same_ring(self, selector: int, offset: int) -> None:
        """Load CS and EIP, as IRET does within a ring."""
        transfers.return_to_same_ring(
            self._cpu, _number("selector", selector) & 0xFFFF, _number("offset", offset)
        )

    def return_to_outer_ring(self, selector: int, offset: int, stack: int, pointer: int) -> None:
        """Load CS, EIP, SS and ESP, as IRET does to an outer ring."""
        transfers.return_to_outer_ring(
            self._cpu, _number("selector", selector) & 0xFFFF, _number("offset", offset),
            _number("stack", stack) & 0xFFFF, _number("pointer", pointer),
        )  # fmt: skip


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= _32:
        raise ValueError(f"{name}: {value!r} is no number of 32 bits")
    return int(value)


def _size(size: object) -> int:
    if size not in (1, 2, 4) or not isinstance(size, int):
        raise ValueError(f"size: {size!r} is not 1, 2 or 4")
    return size


def _control(name: object) -> str:
    if name not in CONTROL:
        raise ValueError(f"name: {name!r} is not one of {', '.join(CONTROL)}")
    return str(name)


def _described(operands: Operands) -> dict[str, Value]:
    """Tell the student's function of the instruction: plain facts that decoding gave."""
    instruction = operands.instruction
    facts: dict[str, Value] = {"length": instruction.length, "text": instruction.text}
    if instruction.family is Sensitive.MOV_CR:
        general = operands.general()
        facts["control"] = operands.system()
        facts["register"] = GENERAL[getattr(general, "number", 0)]
        facts["to_control"] = general is not instruction.operands[0]
    for operand in instruction.operands:
        if isinstance(operand, Memory):
            facts["address"] = operands.linear(operand)
    return facts


# --- the monitor with the student's part in it --------------------------------------------------------------


class WithStudent(TrapAndEmulate):
    """vlab's monitor, with the emulation of ``names`` by ``student``."""

    student: Student
    names: tuple[str, ...]

    def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
        self.actions: Mapping[Sensitive, Action] = MappingProxyType(
            {_FAMILIES[name]: self._asking(name) for name in self.names}
        )
        super().__init__(parts, paging)

    def _asking(self, name: str) -> Action:
        def act(operands: Operands) -> Verdict:
            cpu = GuestCpu(self, operands)
            self.student.call(name, cpu, _described(operands))
            operands.cpu.follow_segments()
            return cpu.verdict

        return act


def yours(trial: Trial, guest: bytes | str, *names: str) -> VM:
    """Make the guest under the monitor with the student's functions in it."""
    monitor = type("Yours", (WithStudent,), {"student": trial.student, "names": names})
    return trial.vm(guest, monitor=monitor, memory="2M")


def ours(trial: Trial, guest: bytes | str) -> VM:
    """Make the same guest under the reference monitor."""
    return trial.vm(guest, monitor="trap-emulate", memory="2M")


def _equivalent(trial: Trial, code: bytes, *names: str, hint: str = "") -> None:
    guest = image(code)
    follow(yours(trial, guest, *names), ours(trial, guest), hint=hint)


# --- guests, made by chance ---------------------------------------------------------------------------------


def _filler(rng: Random) -> bytes:
    """Some innocuous code, so that addresses and registers are other ones each time."""
    choices = (
        b"\x90",  # nop
        bytes((0xB8 + rng.choice((1, 2, 6, 7)),)) + struct.pack("<I", rng.getrandbits(32)),  # mov reg, imm
        b"\x83\xc3" + bytes((rng.randrange(1, 120),)),  # add ebx, imm
        b"\x31\xed",  # xor ebp, ebp
    )
    return b"".join(rng.choice(choices) for _ in range(rng.randrange(4)))


def _mixed(rng: Random, *instructions: bytes, turns: int = 4) -> bytes:
    """The instructions in some order, several times, with filler between them."""
    found = [each for each in instructions for _ in range(turns)]
    rng.shuffle(found)
    return b"".join(_filler(rng) + each for each in found)


def _in_ring_3(rng: Random, instruction: bytes, flags: int = 2) -> bytes:
    """A guest that tries an instruction in ring 3; its #GP handler keeps error code and EIP, and ends."""

    def kernel(code: Code) -> None:
        code.add(_filler(rng))
        enter_ring_3(code, "user", flags)
        code.add("user", _filler(rng), instruction, b"\xcd\x20")  # and int 20h

    def refused(code: Code) -> None:
        code.add(b"\x58\x8b\x14\x24", leave(13))  # pop eax: the error code; mov edx, [esp]: EIP

    return rings(kernel, {13: refused})


# --- CLI and STI --------------------------------------------------------------------------------------------

CLI, STI = b"\xfa", b"\xfb"
_BOTH: Final = ("cli", "sti")


def _flag_follows(trial: Trial) -> None:
    code = STI + _mixed(trial.rng, CLI, STI)
    _equivalent(
        trial,
        code + leave(0),
        *_BOTH,
        hint="which bit the guest means, and where the monitor keeps it; EIP moves behind the instruction",
    )


def _shadow_kept(trial: Trial) -> None:
    """Stop the guest behind an STI that turned interrupts on."""
    guest = image(CLI + _filler(trial.rng) + STI + leave(0))
    vm = yours(trial, guest, *_BOTH)
    for _ in range(_SOON):
        vm.step()
        if vm.disassemble(1, at=vm.exits[-1].rip)[0].endswith("sti"):
            break
    if not vm.machine.processor.core.interrupt_shadow:
        raise Broken(
            "after an STI that turned interrupts on, an interrupt could come before the next instruction",
            hint='"STI" in APM3: the instruction after it still runs first, so that STI; HLT is safe',
            vm=vm,
        )


def _cli_refused(trial: Trial) -> None:
    for instruction in (CLI, STI):
        _equivalent(
            trial, _in_ring_3(trial.rng, instruction), *_BOTH,
            hint='what CLI and STI compare before they do anything (APM3, "CLI": CPL and IOPL)',
        )  # fmt: skip


def _cli_allowed(trial: Trial) -> None:
    guest = _in_ring_3(trial.rng, STI + _mixed(trial.rng, CLI, STI, turns=2), flags=0x3002)
    _equivalent(trial, guest, *_BOTH, hint="a program whose IOPL is 3 may use CLI and STI in ring 3")


# --- MOV CRn and LGDT ---------------------------------------------------------------------------------------

_REGISTERS: Final = ("mov_cr", "lgdt")
_NUMBERS: Final = {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "esi": 6, "edi": 7}


def _to_control(number: int, register: int) -> bytes:
    return bytes((0x0F, 0x22, 0xC0 | number << 3 | register))


def _from_control(number: int, register: int) -> bytes:
    return bytes((0x0F, 0x20, 0xC0 | number << 3 | register))


def _load(register: int, value: int) -> bytes:
    return bytes((0xB8 + register,)) + struct.pack("<I", value)


def _controls_follow(trial: Trial) -> None:
    rng, code = trial.rng, b""
    for _ in range(6):
        register, number = rng.choice(list(_NUMBERS.values())), rng.choice((0, 2, 3))
        value = {0: 0x11 | rng.choice((0, 0x2E)), 2: rng.getrandbits(32), 3: rng.getrandbits(20) << 12}[
            number
        ]
        code += _filler(rng) + _load(register, value) + _to_control(number, register)
        code += _from_control(rng.choice((0, 2, 3)), rng.choice(list(_NUMBERS.values())))
    hint = "insn['to_control'] tells the direction, and insn['register'] names the general register"
    _equivalent(trial, code + leave(0), *_REGISTERS, hint=hint)


def _table_follows(trial: Trial) -> None:
    rng = trial.rng
    place, base, limit = SCRATCH + 4 * rng.randrange(16, 64), rng.getrandbits(31), rng.getrandbits(16)
    store = b"\x66\xc7\x05" + struct.pack("<IH", place, limit)  # mov word [place], limit
    store += b"\xc7\x05" + struct.pack("<II", place + 2, base)  # mov dword [place + 2], base
    code = store + _filler(rng) + b"\x0f\x01\x15" + struct.pack("<I", place)  # lgdt [place]
    hint = "the operand in memory is the limit, 2 bytes, and behind it the base, 4 bytes (APM2 4.6.2)"
    _equivalent(trial, code + leave(0), *_REGISTERS, hint=hint)


def _controls_refused(trial: Trial) -> None:
    rng = trial.rng
    instruction = rng.choice(
        (_from_control(0, 0), _to_control(3, 1), b"\x0f\x01\x15" + struct.pack("<I", SCRATCH))
    )
    _equivalent(
        trial, _in_ring_3(rng, instruction), *_REGISTERS,
        hint="what has to be looked at first: these instructions belong to ring 0",
    )  # fmt: skip


def _paging_follows(trial: Trial) -> None:
    """A guest that turns paging on: one 4 MB page over everything it uses, mapped twice."""
    rng = trial.rng
    directory = 0x11000 + 0x1000 * rng.randrange(16)
    alias = rng.randrange(4, 200) << 22
    code = b""
    for place, entry in ((directory, 0x83), (directory + 4 * (alias >> 22), 0x83)):
        code += b"\xc7\x05" + struct.pack("<II", place, entry)
    code += _load(0, 0x10) + _to_control(4, 0)  # CR4.PSE
    code += _load(2, directory) + _to_control(3, 2) + _filler(rng)
    code += _load(3, 0x80000011) + _to_control(0, 3)
    code += b"\xc7\x05" + struct.pack("<II", alias + SCRATCH, 0x600D)  # through the alias
    code += b"\xa1" + struct.pack("<I", SCRATCH)  # mov eax, [SCRATCH]
    _equivalent(trial, code + leave(0), *_REGISTERS, hint="cpu.set_control also turns the guest's paging on")


# --- HLT and IRET -------------------------------------------------------------------------------------------

_RETURNS: Final = ("hlt", "iret")


def _sleeps(trial: Trial) -> None:
    code = _filler(trial.rng) + b"\xfa\xf4" + SPIN
    guest = image(code)
    vm = yours(trial, guest, *_RETURNS)
    hint = "cpu.halt() says that the guest sleeps; EIP has to be behind the HLT all the same"
    stop = trial.run(vm, exits=50, hint=hint)
    if stop.kind is not StopKind.HALTED:
        ended = stop.story.splitlines()[0]
        raise Broken(f"after CLI and HLT the guest sleeps for good; here: {ended}", hint=hint, vm=vm)


def _hlt_refused(trial: Trial) -> None:
    _equivalent(
        trial, _in_ring_3(trial.rng, b"\xf4"), *_RETURNS,
        hint="HLT belongs to ring 0 (APM3, \"HLT\"); this guest gets to ring 3 by your IRET",
    )  # fmt: skip


def _returns_inside(trial: Trial) -> None:
    rng = trial.rng

    def kernel(code: Code) -> None:
        for turn in range(3):
            flags = 2 | rng.choice((0, 0x200)) | rng.choice((0, 0x40)) | rng.choice((0, 1))
            code.add(
                _filler(rng), b"\x68" + struct.pack("<I", flags), b"\x68" + struct.pack("<I", KERNEL_CODE)
            )
            code.add(b"\x68").word(f"behind {turn}").add(b"\xcf", b"\x0f\x0b", f"behind {turn}")  # iret; ud2
        code.add(leave(0))

    hint = "IRET pops EIP, CS and EFLAGS, in this order, and leaves ESP behind them"
    _equivalent(trial, rings(kernel, {}), *_RETURNS, hint=hint)


def _returns_outside(trial: Trial) -> None:
    rng = trial.rng

    def kernel(code: Code) -> None:
        code.add(_filler(rng))
        enter_ring_3(code, "user", 2 | rng.choice((0, 0x200, 0x40)))
        code.add("user", _filler(rng), b"\xcd\x20")  # int 20h

    hint = "the RPL of the popped CS is an outer ring: ESP and SS are on the stack, too"
    _equivalent(trial, rings(kernel, {}), *_RETURNS, hint=hint)


def _whole_guest(trial: Trial) -> None:
    """The bundled guest `rings`, with the student's HLT and IRET."""
    vm = yours(trial, "rings", *_RETURNS)
    stop = trial.run(vm)
    if stop.exit_code != 0:
        raise Broken(
            f"the guest 'rings' ended with '{stop.story.splitlines()[0]}'",
            hint="its kernel goes to ring 3 and comes back ten times: by IRET, and in ring 3 HLT is refused",
            vm=vm,
        )


# --- the exercises ------------------------------------------------------------------------------------------

EXERCISES: Final = (
    Exercise(
        "interrupt-flag",
        "CLI and STI",
        defines=_BOTH,
        invariants=(
            Invariant(
                "follows",
                3,
                "the guest's own IF follows its CLIs and STIs, and nothing else changes",
                _flag_follows,
            ),
            Invariant(
                "shadow", 1, "no interrupt comes between an STI and the instruction after it", _shadow_kept
            ),
            Invariant(
                "refused", 2, "in ring 3 with IOPL 0 the guest gets #GP with error code 0", _cli_refused
            ),
            Invariant("allowed", 1, "in ring 3 with IOPL 3 they do what they do in ring 0", _cli_allowed),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", _flag_follows, hidden=True
            ),
        ),
        hints=(
            "The real EFLAGS.IF is always 1 while the guest runs. Where is the guest's?",
            "Look at cpu.interrupt_flag. And who moves EIP behind the instruction, if not you?",
            "Refuse if cpu.cpl > cpu.iopl: cpu.fault(13, 0). Else change the flag and move cpu.eip.",
        ),
    ),
    Exercise(
        "registers",
        "MOV CRn and LGDT",
        defines=_REGISTERS,
        invariants=(
            Invariant(
                "controls", 3, "CR0, CR2 and CR3 are the guest's own, in both directions", _controls_follow
            ),
            Invariant("table", 2, "LGDT gives the guest the GDT that it names", _table_follows),
            Invariant("refused", 2, "in ring 3 the guest gets #GP with error code 0", _controls_refused),
            Invariant("paging", 2, "a guest that turns paging on runs on", _paging_follows),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", _controls_follow, hidden=True
            ),
        ),
        hints=(
            "There are two directions: insn['to_control'] says which.",
            "getattr(cpu, insn['register']) reads the general register, setattr writes it.",
            "LGDT: cpu.read(insn['address'], 2) is the limit, and the base is the 4 bytes behind it.",
        ),
    ),
    Exercise(
        "sleep-and-return",
        "HLT and IRET",
        defines=_RETURNS,
        invariants=(
            Invariant("sleeps", 1, "HLT lets the guest sleep", _sleeps),
            Invariant("refused", 1, "in ring 3 HLT is #GP with error code 0", _hlt_refused),
            Invariant(
                "inside", 2, "IRET within ring 0 takes EIP, CS and EFLAGS from the stack", _returns_inside
            ),
            Invariant("outside", 3, "IRET to ring 3 takes ESP and SS, too", _returns_outside),
            Invariant("kernel", 2, "the guest `rings` runs to its end", _whole_guest),
            Invariant(
                "hidden", 1, "all of that on guests that you have not seen", _returns_outside, hidden=True
            ),
        ),
        hints=(
            "IRET is the way into a ring as well as back from one: what it finds on the stack decides.",
            "The words are at cpu.esp: EIP, CS, EFLAGS. If cs & 3 > cpu.cpl, ESP and SS follow.",
            "Set cpu.eflags last; set cpu.esp where the ring stays: return_to_outer_ring loads it.",
        ),
    ),
)
