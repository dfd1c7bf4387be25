"""Why x86 could not be virtualized: find the instruction that breaks a guest, and repair the two worst.

The first exercise's guests hold one sensitive instruction that does not trap at CPL 1, planted among harmless
ones. They run twice, on AMD-V, where all is right, and under trap-and-emulate, and tell by a byte to port 80h
how far they are. The second has the student's PUSHF and POPF in the monitor. Sections are those of the AMD64
Architecture Programmer's Manual, vol. 3, rev. 3.36 (APM3), by instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from reprlib import repr as shorten
from types import MappingProxyType
from typing import ClassVar, Final

from vlab.grading.equivalence import follow
from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import (
    KERNEL_CODE,
    KERNEL_DATA,
    SCRATCH,
    STACK,
    TASK,
    Code,
    enter_ring_3,
    image,
    leave,
    rings,
)
from vlab.isa.sensitive import Sensitive
from vlab.isa.svm_exits import SvmExit
from vlab.session import VM
from vlab.vmm.deprivileged.operands import Operands
from vlab.vmm.deprivileged.sites import Action
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.tenant import Parts
from vlab.vmm.trap_emulate import TrapAndEmulate
from vlab.vmm.verdicts import RESUME, Verdict

_32: Final = 0xFFFFFFFF
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_FREE: Final = (0, 3, 6, 7)
"""EAX, EBX, ESI and EDI: ECX and EDX are operands of what is planted."""

# --- guests with one wrong instruction ----------------------------------------------------------------------

CHECKPOINT: Final = 0x80
_REACHED: Final = bytes((0xE6, CHECKPOINT, 0xEB, 0x00))  # out 80h, al; jmp to the next
_CLI, _STI, _PUSHF, _POPF = b"\xfa", b"\xfb", b"\x9c", b"\x9d"
_DATA: Final = SCRATCH
_AREA: Final = 0x100
"""Bytes of the guest's data at SCRATCH, and of its stack below STACK."""


def _push(value: int) -> bytes:
    return b"\x68" + struct.pack("<I", value)


def _load(register: int, value: int) -> bytes:
    return bytes((0xB8 + register,)) + struct.pack("<I", value)


def _ordinary(rng: Random) -> bytes:
    """Something that is nobody's business."""
    one, other = rng.sample(_FREE, 2)
    return rng.choice(
        (
            _load(one, rng.getrandbits(32)),
            bytes((0x01, 0xC0 | one << 3 | other)),  # add
            bytes((0x31, 0xC0 | one << 3 | other)),  # xor
            bytes((0x89, 0x05 | one << 3))
            + struct.pack("<I", _DATA + 4 * rng.randrange(16)),  # mov [mem], reg
            bytes((0x0F, 0xC8 | one)),  # bswap
        )
    )


def _decoy(rng: Random) -> bytes:
    """What looks wrong, or traps, and is right: of DS, or with the interrupt flag as it really is."""
    one = rng.choice(_FREE)
    return rng.choice(
        (
            bytes((0x8C, 0xD8 | one)),  # mov reg, ds
            b"\x1e" + bytes((0x58 | one,)),  # push ds; pop reg
            _CLI,
            b"\x0f\x20" + bytes((0xC0 | one,)),  # mov reg, cr0: it traps
            b"\x0f\x06",  # clts: it traps
        )
    )


def _harmless(rng: Random) -> bytes:
    """What does harm elsewhere and none here.

    With the guest's own IF at 1, as the real one is, PUSHF shows what is right. POPF may leave IF alone where
    it is to stay. The real LDTR is empty as the guest's is, and CR0 has the same low bits.
    """
    one = rng.choice(_FREE)
    saved = _STI + _PUSHF + bytes((0x58 | one,)) + _CLI
    kept = _STI + _push(0x202) + _POPF + _CLI
    local_table = bytes((0x0F, 0x00, 0xC0 | one))  # sldt reg
    machine_status = b"\x0f\x01\x25" + struct.pack("<I", _DATA)  # smsw [mem]
    return rng.choice((saved, kept, _push(2) + _POPF, machine_status, local_table))


@dataclass(frozen=True, slots=True)
class Planted:
    """An instruction that goes wrong. before: what it needs. after: what later shows it in a register."""

    code: bytes
    before: bytes = b""
    after: bytes = b""


def _in_registers(rng: Random) -> Planted:
    one = rng.choice(_FREE)
    needs = struct.pack("<I", rng.choice((KERNEL_CODE, KERNEL_DATA)))
    return rng.choice(
        (
            Planted(bytes((0x8C, 0xC8 | one))),  # mov reg, cs
            Planted(bytes((0x8C, 0xD0 | one))),  # mov reg, ss
            Planted(bytes((0x0F, 0x00, 0xC8 | one))),  # str reg
            Planted(bytes((0x0F, 0x02, 0xC1 | one << 3)), b"\xb9" + needs),  # mov ecx, selector; lar reg, ecx
            Planted(bytes((0x0F, 0x03, 0xC1 | one << 3)), _load(one, 0) + _load(1, TASK)),  # lsl reg, ecx
        )
    )


def _in_memory(rng: Random) -> Planted:
    one, place = rng.choice(_FREE), struct.pack("<I", _DATA + 0x80 + 8 * rng.randrange(8))
    pop = bytes((0x58 | one,))
    fetch = bytes((0x8B, 0x05 | one << 3)) + place  # mov reg, [place]
    return rng.choice(
        (
            Planted(_PUSHF, after=pop),
            Planted(b"\x0e", after=pop),  # push cs
            Planted(b"\x16", after=pop),  # push ss
            Planted(b"\x0f\x01\x05" + place, after=fetch),  # sgdt [place]
            Planted(b"\x0f\x01\x0d" + place, after=fetch),  # sidt [place]
        )
    )


def _in_flags(rng: Random) -> Planted:
    if rng.randrange(2):
        return Planted(_POPF, _push(0x202))  # the guest's IF was 0
    return Planted(_POPF, _STI + _push(2))


@dataclass(frozen=True, slots=True)
class Made:
    """A guest. planted: the address of the instruction, None without one."""

    guest: bytes
    planted: int | None


def make(
    rng: Random, kind: Callable[[Random], Planted] | None, decoys: int = 1, *, late: bool = False
) -> Made:
    """Make a guest of some segments, each of which ends at a checkpoint.

    kind: of what is planted in one of them. decoys: how many segments before it have one of its kind in a
    harmless place. late: whether a later segment brings the wrong result from memory into a register.
    """
    planted = None if kind is None else kind(rng)
    where = rng.randrange(decoys + 1, decoys + 4)
    harmless = set(rng.sample(range(where), decoys))
    found: list[int] = []

    def kernel(code: Code) -> None:
        code.add(_REACHED)
        for number in range(where + 3):
            pieces = [_ordinary(rng) for _ in range(rng.randrange(1, 4))] + [_decoy(rng)]
            rng.shuffle(pieces)
            if number in harmless:
                pieces.insert(rng.randrange(len(pieces) + 1), _harmless(rng))
            code.add(*pieces)
            if planted is not None and number == where:
                code.add(_CLI, planted.before)
                found.append(code.here)
                code.add(planted.code)
            if planted is not None and late and number == where + 1:
                code.add(planted.after)
            code.add(_REACHED)
        code.add(leave(0))

    whole = image(rings(kernel, {}))
    return Made(whole, found[0] if found else None)


# --- the debugger -------------------------------------------------------------------------------------------


class Debugger(Facade):
    """Two machines with the same guest, at the same checkpoint: "right" and "wrong"."""

    offers = ("step", "registers", "memory", "disassemble")
    read_only = ("areas",)

    def __init__(self, trial: Trial, guest: bytes) -> None:
        self.areas: list[Value] = [[_DATA, _AREA], [STACK - _AREA, _AREA]]
        self._trial = trial
        self.machines = {
            "right": trial.vm(guest, memory="2M"),
            "wrong": trial.vm(guest, memory="2M", monitor="trap-emulate"),
        }
        self.steps = 0
        self.step()

    def step(self) -> bool:
        """Run both to the next checkpoint; False when the guest has ended before there was one."""
        self.steps += 1
        going = [self._next(vm) for vm in self.machines.values()]
        return all(going)

    def _next(self, vm: VM) -> bool:
        while not (vm.ended or vm.step().final):
            last = vm.exits[-1]
            if last.reason == "IOIO" and last.info1 & 0xFFFF == CHECKPOINT:
                return True
            if vm.exits.total > _MOST_EXITS:
                raise Broken(f"the guest had not come to its end after {_MOST_EXITS} exits", vm=vm)
        return False

    def registers(self, machine: str) -> dict[str, Value]:
        """Give the general registers, EIP and EFLAGS of a machine, as its guest sees them."""
        state = self._machine(machine).registers()
        values: dict[str, Value] = {name: getattr(state, f"r{name[1:]}") & _32 for name in GENERAL}
        return values | {"eip": state.rip, "eflags": state.rflags}

    def memory(self, machine: str, address: int, size: int) -> bytes:
        """Give bytes of a machine's memory."""
        vm = self._machine(machine)
        first, count = _number("address", address), _number("size", size)
        if count > _PAGE or first + count > vm.memory_bytes:
            raise ValueError(
                f"{count} bytes at {first:#x}: give at most {_PAGE}, inside of the guest's memory"
            )
        return bytes(vm.memory[first : first + count])

    def disassemble(self, address: int, count: int) -> list[Value]:
        """Give instructions from an address on, as [address, text]."""
        lines = self.machines["right"].disassemble(max(1, min(_number("count", count), 32)), at=address)
        return [[int(each.partition(":")[0], 16), each.partition(": ")[2]] for each in lines]

    def _machine(self, name: str) -> VM:
        if name not in self.machines:
            raise ValueError(f"machine is {shorten(name)}; it is 'right' or 'wrong'")
        return self.machines[name]

    def text(self, address: int) -> str:
        """Give the text of one instruction."""
        return self.machines["right"].disassemble(1, at=address)[0].partition(": ")[2]


_MOST_EXITS: Final = 2_000
_PAGE: Final = 4096


def _number(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _32:
        raise ValueError(f"{name} is {shorten(value)}; it is to be a whole number of 32 bits")
    return value


def _found(trial: Trial, made: Made, hint: str) -> Debugger:
    """Have the student search, and compare."""
    debugger = Debugger(trial, made.guest)
    said = trial.student.call("find", debugger)
    wrong = debugger.machines["wrong"]
    if said is not None and (isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= _32):
        raise Broken(f"find gave {shorten(said)}, and it is to give an address or None", hint=hint, vm=wrong)
    if said == made.planted:
        return debugger
    if said is None:
        assert made.planted is not None
        raise Broken(
            f"find gave None; `{debugger.text(made.planted)}` at {made.planted:#x} goes wrong",
            hint=hint,
            vm=wrong,
        )
    blamed = f"find gave {said:#x}, `{debugger.text(said)}`"
    if made.planted is None:
        raise Broken(f"{blamed}; nothing is wrong with this guest", hint=hint, vm=wrong)
    raise Broken(
        f"{blamed}; it is `{debugger.text(made.planted)}` at {made.planted:#x} that goes wrong",
        hint=hint,
        vm=wrong,
    )


_COMPARE: Final = (
    "Compare both machines at each checkpoint; the first difference was made since the one before."
)


def _finds_registers(trial: Trial) -> None:
    _found(trial, make(trial.rng, _in_registers), _COMPARE)


def _finds_memory(trial: Trial) -> None:
    hint = "Compare the memory, too: what was pushed or stored wrong reaches a register later, or never."
    _found(trial, make(trial.rng, _in_memory, late=True), hint)


def _finds_flags(trial: Trial) -> None:
    hint = "POPF brings no wrong value anywhere: it leaves IF alone. That is in EFLAGS."
    _found(trial, make(trial.rng, _in_flags), hint)


def _decoys(trial: Trial) -> None:
    hint = (
        "PUSHF shows what is right while the guest has interrupts on. Whether it goes wrong, a run can tell."
    )
    _found(trial, make(trial.rng, _in_registers, decoys=3), hint)


def _nothing(trial: Trial) -> None:
    debugger = _found(trial, make(trial.rng, None, decoys=2), "A guest can be all right: then it is None.")
    if not all(vm.ended for vm in debugger.machines.values()):
        raise Broken("find gave None before the guest had come to its end", vm=debugger.machines["wrong"])


def _finds_others(trial: Trial) -> None:
    for kind, late in ((_in_memory, False), (_in_flags, False), (_in_registers, False), (_in_memory, True)):
        _found(trial, make(trial.rng, kind, decoys=2, late=late), _COMPARE)


FIND: Final = Exercise(
    "find",
    "Find the instruction that breaks the guest",
    ("find",),
    (
        Invariant("registers", 2, "it is found when a register shows it", _finds_registers),
        Invariant("memory", 2, "it is found when memory alone shows it at first", _finds_memory),
        Invariant("flags", 2, "it is found when only EFLAGS.IF shows it", _finds_flags),
        Invariant("decoys", 1, "the same instructions are not blamed where they do no harm", _decoys),
        Invariant("nothing", 1, "nothing is blamed in a guest that is all right", _nothing),
        Invariant("others", 3, "all of it holds for other guests", _finds_others, hidden=True),
    ),
    hints=(
        "Two parts: find the segment, from checkpoint to checkpoint, that makes a difference; read its code.",
        "Remember EIP of the checkpoint before, and disassemble from there. `out 0x80, al` is the end.",
        "Compare debugger.registers(...) and debugger.memory(...) of both areas, of both machines.",
    ),
)


# --- the second exercise: PUSHF and POPF, as if they trapped ------------------------------------------------

_FIELDS: Final = ("esp", "eip", "eflags")
_POPPED: Final = 0x247FD5
"""What POPF can change: CF PF AF ZF SF TF IF DF OF IOPL NT AC ID (APM3 "POPF")."""
_ESP: Final = GENERAL.index("esp")


class GuestCpu(Facade):
    """The guest's virtual processor at a PUSHF or POPF."""

    fields = _FIELDS
    read_only = ("cpl", "iopl")
    offers = ("read", "write")

    def __init__(self, operands: Operands) -> None:
        self._cpu = cpu = operands.cpu
        self._values = {"esp": cpu.words[_ESP] & _32, "eip": cpu.rip, "eflags": cpu.rflags}
        self.cpl, self.iopl = cpu.cpl, cpu.iopl

    def __getattr__(self, name: str) -> int:
        values: dict[str, int] = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(name)
        return values[name]

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FIELDS:
            self._values[name] = _number(name, value)
        else:
            super().__setattr__(name, value)

    def read(self, address: int) -> int:
        """Read 4 bytes at a linear address."""
        return self._cpu.read(_number("address", address), 4)

    def write(self, address: int, value: int) -> None:
        """Write 4 bytes at a linear address."""
        self._cpu.write(_number("address", address), 4, _number("value", value))

    def carry_out(self) -> None:
        """Give the virtual processor what was decided. Raises Broken for what it cannot have."""
        rip = self._cpu.rip
        if self._values["eip"] != rip + 1:
            raise Broken(
                f"EIP is {self._values['eip']:#x} afterwards; the instruction at {rip:#x} has 1 byte",
                hint="The monitor has done the instruction's work, so it has to go past it: cpu.eip += 1.",
            )
        fixed = (self._values["eflags"] ^ self._cpu.rflags) & ~_POPPED
        if fixed & ~_RF:
            raise Broken(
                f"EFLAGS was {self._cpu.rflags:#x} and is {self._values['eflags']:#x} afterwards; "
                f"bits {fixed:#x} are not for POPF to change",
                hint="Take the bits in FLAGS from the stack, and all others from cpu.eflags.",
            )
        self._cpu.words[_ESP] = self._values["esp"]
        self._cpu.rip = self._values["eip"]
        self._cpu.rflags = self._values["eflags"]


_RF: Final = 1 << 16
_REPAIRED: Final = frozenset((SvmExit.PUSHF, SvmExit.POPF))


class Repaired(TrapAndEmulate):
    """The monitor on a processor whose PUSHF and POPF trap, with vlab's own emulation of them."""

    repaired: ClassVar[frozenset[int]] = _REPAIRED


def with_student(student: Student) -> type[Repaired]:
    """Make the same monitor with the student's emulation."""

    def asking(name: str) -> Action:
        def act(operands: Operands) -> Verdict:
            cpu = GuestCpu(operands)
            student.call(name, cpu)
            cpu.carry_out()
            return RESUME

        return act

    table = MappingProxyType({Sensitive.PUSHF: asking("pushf"), Sensitive.POPF: asking("popf")})

    class Yours(Repaired):
        """With the student's PUSHF and POPF."""

        actions: Mapping[Sensitive, Action] = table

        def __init__(self, parts: Parts, paging: ShadowPaging) -> None:
            super().__init__(parts, paging)

    return Yours


def _flags(rng: Random, privileged: bool) -> int:
    """Some flags without TF and NT, which would lead elsewhere."""
    value = rng.getrandbits(22) & _POPPED & ~0x4100 | 2
    return value if privileged else value & ~0x3000


def _same(trial: Trial, guest: bytes, hint: str) -> None:
    yours = trial.vm(guest, monitor=with_student(trial.student), memory="2M")
    follow(yours, trial.vm(guest, monitor=Repaired, memory="2M"), hint=hint)


def _pushing(rng: Random, turns: int) -> bytes:
    pop = (bytes((0x58 | one,)) for one in rng.choices(_FREE, k=turns))
    return b"".join(rng.choice((_CLI, _STI)) + _ordinary(rng) + _PUSHF + each for each in pop)


def _popping(rng: Random, turns: int) -> bytes:
    return b"".join(_ordinary(rng) + _push(_flags(rng, privileged=True)) + _POPF for _ in range(turns))


def _pushes(trial: Trial) -> None:
    code = _CLI + _PUSHF + b"\x58" + _pushing(trial.rng, 4)  # pop eax
    _same(trial, image(code + leave(0)), "PUSHF shows the guest's own flags, cpu.eflags, below the old ESP.")


def _pops(trial: Trial) -> None:
    code = _push(0x202) + _POPF + _push(2) + _POPF + _popping(trial.rng, 4)
    _same(trial, image(code + leave(0)), "In ring 0 POPF changes all that is in FLAGS, IF and IOPL too.")


def _in_ring_3(rng: Random, flags: int, values: list[int]) -> bytes:
    def kernel(code: Code) -> None:
        enter_ring_3(code, "user", flags)
        code.add("user", *(_ordinary(rng) + _push(value) + _POPF for value in values), b"\xcd\x20")  # int 20h

    return image(rings(kernel, {}))


def _programs(trial: Trial) -> None:
    rng = trial.rng
    for flags in (2, 0x202):
        values = [0x3202, 2, 0x3002, *(_flags(rng, privileged=True) for _ in range(2))]
        rng.shuffle(values)
        hint = "In ring 3, IOPL never changes; IF does if CPL is not above IOPL."
        _same(trial, _in_ring_3(rng, flags, values), hint)


def _allowed(trial: Trial) -> None:
    values = [0x3002, 0x3202, 0x3002, *(_flags(trial.rng, privileged=True) | 0x3000 for _ in range(2))]
    hint = "A program whose IOPL is 3 may change IF with POPF: CPL is not above IOPL."
    _same(trial, _in_ring_3(trial.rng, 0x3202, values), hint)


def _boots(trial: Trial) -> None:
    word = "".join(trial.rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8))
    vm = trial.vm("wren", monitor=with_student(trial.student), memory="16M", trace="full")
    trial.run(vm, lambda vm: bool(vm.ended) or "$ " in vm.console.text)
    if not vm.ended:
        vm.send(f"echo {word}\n")
        trial.run(vm, lambda vm: bool(vm.ended) or f"\n{word}\r\n" in vm.console.text, exits=5_000)
    if vm.ended:
        last = vm.console.text.strip().rpartition("\n")[2]
        raise Broken(f"wren ended, and the last that it said is {last!r}", hint=_KERNEL, vm=vm)


_KERNEL: Final = (
    "wren saves its flags by PUSHF before a critical section, and restores them by POPF behind it."
)


def _others_follow(trial: Trial) -> None:
    rng = trial.rng
    parts = [_pushing(rng, 2), _popping(rng, 2), _pushing(rng, 2), _popping(rng, 2)]
    rng.shuffle(parts)
    _same(
        trial,
        image(_CLI + _PUSHF + b"\x58" + b"".join(parts) + leave(0)),
        "Both, one after the other, in ring 0.",
    )
    values = [0x3202, 2, 0x3002, 0x202]
    rng.shuffle(values)
    _same(trial, _in_ring_3(rng, 0x202, values), "POPF in ring 3, with IOPL 0.")


REPAIR: Final = Exercise(
    "repair",
    "PUSHF and POPF, repaired",
    ("pushf", "popf"),
    (
        Invariant("pushes", 2, "PUSHF shows the guest's own IF", _pushes),
        Invariant("pops", 2, "POPF changes the guest's own IF and IOPL in ring 0", _pops),
        Invariant("programs", 2, "POPF in ring 3 leaves IOPL alone, and IF if IOPL is 0", _programs),
        Invariant("allowed", 1, "POPF in ring 3 changes IF if IOPL is 3", _allowed),
        Invariant("boots", 2, "wren boots to its shell, and the shell answers", _boots),
        Invariant("others", 2, "all of it holds for other guests", _others_follow, hidden=True),
    ),
    hints=(
        "PUSHF: ESP goes down by 4, the flags go there, and EIP moves on by 1. POPF is the way back.",
        "POPF takes the bits in FLAGS from the stack: cpu.eflags & ~FLAGS | value & FLAGS.",
        "Before that, take IOPL out of FLAGS if cpu.cpl > 0, and IF if cpu.cpl > cpu.iopl.",
    ),
)

EXERCISES: tuple[Exercise, ...] = (FIND, REPAIR)
