"""A first computer: read a console out of exits, and answer CPUID as a monitor does.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2), and vol. 3,
rev. 3.36 (APM3); the chip is the PC16550D of its data sheet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from reprlib import repr as shorten
from typing import Any, Final

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Facade, Value
from vlab.grading.student import Student
from vlab.grading.trial import Trial
from vlab.guests.programs import HALT, SCRATCH, image, image64, leave, say
from vlab.machine.identity import Identity, Leaf
from vlab.session import VM
from vlab.trace.events import ExitEvent
from vlab.vmm import exits
from vlab.vmm.exits import HardwareExit
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.verdicts import RESUME, Verdict

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_32: Final = 0xFFFFFFFF


def _word(rng: Random, length: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(length))


# --- the first exercise: what the guest said ----------------------------------------------------------------


class SeenExit(Facade):
    """One exit, with the names that it has in ``vm.exits``."""

    read_only = ("reason", "info1", "info2", "rip", "ring")

    def __init__(self, event: ExitEvent) -> None:
        self.reason, self.rip, self.ring = event.reason, event.rip, event.ring
        self.info1, self.info2 = event.qualification


_LINE_CONTROL: Final = 0x3FB
_IN_STATUS: Final = bytes.fromhex("66 BA FD 03 EC")  # mov dx, 3FDh; in al, dx
_IN_DATA: Final = bytes.fromhex("66 BA F8 03 EC")  # mov dx, 3F8h; in al, dx
_CPUID: Final = bytes.fromhex("31 C0 0F A2")  # xor eax, eax; cpuid


def _out(port: int, value: int) -> bytes:
    """Write a byte to any port; changes AL and DX."""
    return b"\x66\xba" + struct.pack("<H", port) + bytes((0xB0, value, 0xEE))  # mov dx; mov al; out dx, al


def _listening(rng: Random) -> bytes:
    """Read the chip's status and data, which holds nothing, between two words."""
    reads = [_IN_STATUS, _IN_DATA, _IN_DATA, rng.choice((_IN_STATUS, _IN_DATA))]
    rng.shuffle(reads)
    return b"".join(say(_word(rng, 2)) + each for each in reads)


def _elsewhere(rng: Random) -> bytes:
    """Write letters to ports that are no console."""
    pieces = []
    for _ in range(5):
        port = rng.choice((0x80, 0x3F9, 0x3FF, 0x3FF))  # POST code, the chip's interrupt enable and scratch
        value = 0 if port == 0x3F9 else ord(rng.choice(_LETTERS))
        pieces.append(say(_word(rng, 2)) + _out(port, value))
    return b"".join(pieces)


def _speed(rng: Random) -> bytes:
    """Set the chip's speed: with bit 7 of its line control set, its data port is the divisor's low byte."""
    divisor = rng.randrange(0x41, 0x5B)
    closed = _out(_LINE_CONTROL, 0x80) + _out(0x3F8, divisor) + _out(0x3F9, 0) + _out(_LINE_CONTROL, 3)
    return say(_word(rng, 2)) + closed + say(_word(rng, 2))


def _heard(trial: Trial, vm: VM, hint: str) -> None:
    """Compare what the student reads out of the exits with what the chip sent."""
    seen: list[Value] = [SeenExit(each) for each in vm.exits]
    said = trial.student.call("spoken", seen)
    if not isinstance(said, str):
        raise Broken(f"spoken gave {shorten(said)}, and it is to give text", hint="Return a str.", vm=vm)
    right = vm.console.text
    if said != right:
        raise Broken(
            f"spoken gave {_short(said)} for {len(seen)} exits; the guest's console has {_short(right)}",
            hint=hint,
            vm=vm,
        )


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}... ({len(text)} characters)"


def _ran(trial: Trial, code: bytes) -> VM:
    vm = trial.vm(image(code), memory="2M")
    trial.run(vm)
    return vm


def _text(trial: Trial) -> None:
    rng = trial.rng
    code = b"".join(say(_word(rng, rng.randrange(2, 6))) + _CPUID for _ in range(3))
    _heard(trial, _ran(trial, code + HALT), "Every IOIO exit here is one character, which is in info2.")


def _reads(trial: Trial) -> None:
    code = _listening(trial.rng) + HALT
    _heard(
        trial,
        _ran(trial, code),
        "An IN is an IOIO exit too: bit 24 of info1 is set for an OUT, and not for an IN.",
    )


def _ports(trial: Trial) -> None:
    code = _elsewhere(trial.rng) + leave(0)
    _heard(trial, _ran(trial, code), "Bits 15:0 of info1 are the port; the console's is 0x3F8.")


def _divisor(trial: Trial) -> None:
    _heard(
        trial,
        _ran(trial, _speed(trial.rng) + HALT),
        "While bit 7 of port 0x3FB is set, 0x3F8 is the low byte of the speed's divisor, and no character.",
    )


def _others(trial: Trial) -> None:
    rng = trial.rng
    parts = [_listening, _elsewhere, _speed, _speed]
    rng.shuffle(parts)
    code = b"".join(part(rng) for part in parts)
    hint = "A real kernel sets the chip's speed, asks whether it is ready, and uses other chips too."
    _heard(trial, _ran(trial, code + leave(rng.randrange(8))), hint)
    wren = trial.vm("wren", memory="16M")
    trial.run(wren, "$ ")
    _heard(trial, wren, hint)


SPOKEN: Final = Exercise(
    "spoken",
    "What did the guest say?",
    ("spoken",),
    (
        Invariant("text", 2, "the text is read out of exits by OUT and CPUID", _text),
        Invariant("reads", 1, "what the guest reads from the chip is no part of its text", _reads),
        Invariant("ports", 2, "bytes for other ports are no part of it", _ports),
        Invariant("divisor", 1, "bytes that set the chip's speed are no part of it", _divisor),
        Invariant(
            "others", 2, "all that holds for other guests, and for a kernel that boots", _others, hidden=True
        ),
    ),
    hints=(
        "Go through the exits in their order, and collect characters in a string.",
        "Only 'IOIO' exits count, with bit 24 of info1 set and 0x3F8 in its bits 15:0. info2 is the code.",
        "Remember whether the last byte for 0x3FB had bit 7 set. While it has, skip what goes to 0x3F8.",
    ),
)


# --- the second exercise: CPUID -----------------------------------------------------------------------------

_REGISTERS: Final = ("eax", "ecx", "edx", "ebx")  # as in the register file
VENDOR_LEAF, FEATURES_LEAF, MONITOR_LEAF = 0, 1, 0x40000000
HYPERVISOR_PRESENT: Final = 1 << 31
"""Bit of ECX of leaf 1 (APM3 appendix E.3)."""
_LENGTH: Final = 2  # bytes of CPUID
PROCESSOR: Final = Identity()
"""What the processor itself answers, without a monitor."""


class CpuidExit(Facade):
    """The guest's processor, standing at a CPUID instruction."""

    fields = (*_REGISTERS, "rip")
    offers = ("processor",)

    def __init__(self, monitor: HardwareMonitor) -> None:
        core = monitor.core
        self._monitor = monitor
        self._values = {name: core.get_gpr(n) & _32 for n, name in enumerate(_REGISTERS)}
        self._values["rip"] = core.rip

    def __getattr__(self, name: str) -> int:
        values: dict[str, int] = self.__dict__.get("_values", {})
        if name not in values:
            raise AttributeError(name)
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.fields:
            super().__setattr__(name, value)
            return
        most = (1 << 64) - 1 if name == "rip" else _32
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            shown = hex(value) if isinstance(value, int) else shorten(value)
            raise ValueError(f"{name} cannot be {shown}: it takes whole numbers from 0 to {most:#x}")
        self._values[name] = value

    def processor(self, leaf: object, subleaf: object) -> list[int]:
        """Give EAX, EBX, ECX and EDX as the processor answers."""
        return list(PROCESSOR.cpuid(_question("leaf", leaf), _question("subleaf", subleaf)))

    def carry_out(self, before: int) -> None:
        """Do to the real processor what the student has decided. before: RIP of the instruction."""
        rip = self._values["rip"]
        if rip != before + _LENGTH:
            raise Broken(
                f"cpuid left RIP at {rip:#x}; the instruction at {before:#x} has {_LENGTH} bytes, "
                f"so the guest goes on at {before + _LENGTH:#x}",
                hint="The monitor has done the instruction's work, so it has to go past it: cpu.rip += 2.",
            )
        core, processor = self._monitor.core, self._monitor.processor
        for n, name in enumerate(_REGISTERS):
            core.set_gpr(n, self._values[name])
        processor.skip(_LENGTH)


def _question(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _32:
        raise ValueError(f"{name} is {shorten(value)}; give a whole number from 0 to {_32:#x}")
    return value


def answering(student: Student, vendor: str, name: str) -> type[HardwareMonitor]:
    """Make a monitor whose CPUID is the student's."""

    class YourMonitor(HardwareMonitor):
        """The hardware-assisted monitor, but for one handler."""

        def handle(self, exit_: HardwareExit) -> Verdict:
            """Have the student's function serve CPUID."""
            if not isinstance(exit_, exits.Cpuid):
                return super().handle(exit_)
            cpu, before = CpuidExit(self), self.core.rip
            student.call("cpuid", cpu, vendor, name)
            cpu.carry_out(before)
            return RESUME

    return YourMonitor


_ORDER: Final = ("EAX", "EBX", "ECX", "EDX")
_RECORD: Final = 16  # bytes: EAX, EBX, ECX, EDX
_TABLE: Final = SCRATCH + 0x100


def _asking(leaves: list[tuple[int, int]]) -> bytes:
    """Execute CPUID for each leaf and subleaf, and write what it gives to a table; 32- or 64-bit code."""
    code = b"\xbf" + struct.pack("<I", _TABLE)  # mov edi, _TABLE
    for leaf, subleaf in leaves:
        # mov eax, leaf; mov ecx, subleaf; cpuid
        code += b"\xb8" + struct.pack("<I", leaf) + b"\xb9" + struct.pack("<I", subleaf) + b"\x0f\xa2"
        # mov [edi], eax; mov [edi+4], ebx; mov [edi+8], ecx; mov [edi+12], edx; add edi, 16
        code += bytes.fromhex("8907 895F04 894F08 89570C 83C710")
    return code


def _saying(places: tuple[int, int, int]) -> bytes:
    """Send the 12 characters that lie in three words of the first record to the console."""
    code = bytes.fromhex("66BAF803")  # mov dx, 3F8h
    for place in places:
        for byte in range(4):
            code += (
                b"\xa0" + struct.pack("<I", _TABLE + place + byte) + b"\xee\xeb\x00"
            )  # mov al, [..]; out; jmp
    return code


def _names(rng: Random) -> tuple[str, str]:
    """Make a vendor and a monitor's name of 12 characters."""
    vendor, name = (_word(rng, 11).capitalize() for _ in range(2))
    return vendor + str(rng.randrange(10)), name + str(rng.randrange(10))


def _right(leaf: int, subleaf: int, names: tuple[str, str]) -> Leaf:
    """Give what the guest is to be told."""
    eax, ebx, ecx, edx = PROCESSOR.cpuid(leaf, subleaf)
    vendor, name = (struct.unpack("<III", each.encode()) for each in names)
    if leaf == VENDOR_LEAF:
        return eax, vendor[0], vendor[2], vendor[1]
    if leaf == FEATURES_LEAF:
        return eax, ebx, ecx | HYPERVISOR_PRESENT, edx
    if leaf == MONITOR_LEAF:
        return MONITOR_LEAF, name[0], name[1], name[2]
    return eax, ebx, ecx, edx


def _asked(
    trial: Trial,
    leaves: list[tuple[int, int]],
    hint: str,
    *,
    names: tuple[str, str] | None = None,
    code: bytes = b"",
    make: Callable[[bytes], bytes] = image,
) -> VM:
    """Run a guest that asks for leaves under the student's handler, and compare what it was told."""
    names = names or _names(trial.rng)
    monitor = answering(trial.student, *names)
    vm = trial.vm(make(_asking(leaves) + code + leave(0)), memory="2M", monitor=monitor)
    try:
        trial.run(vm, exits=500)
    except Broken as broken:
        broken.vm = vm
        raise
    table = bytes(vm.memory[_TABLE : _TABLE + _RECORD * len(leaves)])
    for number, (leaf, subleaf) in enumerate(leaves):
        told = struct.unpack_from("<IIII", table, _RECORD * number)
        for register, got, right in zip(_ORDER, told, _right(leaf, subleaf, names), strict=True):
            if got != right:
                raise Broken(
                    f"CPUID with EAX={leaf:#x}, ECX={subleaf:#x} gave the guest {register} = {_shown(got)}; "
                    f"{_shown(right)} is right",
                    hint=hint,
                    vm=vm,
                    exit=number + 1,
                )
    return vm


def _shown(value: int) -> str:
    data = value.to_bytes(4, "little")
    return f"{value:#x} ({data.decode()!r})" if data.isalnum() else f"{value:#x}"


_ALL_LEAVES: Final = (*PROCESSOR.leaves, 0x0D, 0x16, 0x80000009)
"""Those that the processor has, and some that it has not."""
_ORDINARY: Final = tuple(each for each in _ALL_LEAVES if each not in (VENDOR_LEAF, FEATURES_LEAF))


def _goes_on(trial: Trial) -> None:
    leaf = trial.rng.choice(_ORDINARY)
    _asked(
        trial, [(leaf, 0), (leaf, 0)], "For most leaves the processor's answer is what the guest is to get."
    )


def _vendor(trial: Trial) -> None:
    names = _names(trial.rng)
    hint = "The twelve characters of leaf 0 are in EBX, EDX, ECX: in this order, four in each."
    vm = _asked(trial, [(VENDOR_LEAF, 0)], hint, names=names, code=_saying((4, 12, 8)))
    if vm.console.text != names[0]:
        raise Broken(f"the guest wrote {vm.console.text!r}, and its vendor is {names[0]!r}", hint=hint, vm=vm)


def _present(trial: Trial) -> None:
    hint = "Bit 31 of ECX is set in what the processor answers; all other bits stay as they are."
    _asked(trial, [(FEATURES_LEAF, 0)], hint)


def _name(trial: Trial) -> None:
    hint = (
        "Leaf 0x40000000 has its own number in EAX, and the name in EBX, ECX, EDX: "
        "another order than that of leaf 0."
    )
    _asked(trial, [(MONITOR_LEAF, 0)], hint)


def _rest(trial: Trial) -> None:
    leaves = [(trial.rng.choice(_ORDINARY), trial.rng.randrange(3)) for _ in range(8)]
    leaves[trial.rng.randrange(8)] = (7, 1)
    _asked(trial, leaves, "Some leaves have subleaves, by ECX: ask the processor for both.")


def _long_mode(trial: Trial) -> None:
    rng = trial.rng
    leaves = [(each, 0) for each in (VENDOR_LEAF, FEATURES_LEAF, MONITOR_LEAF)]
    leaves += [(7, 1), (7, 0), *((rng.choice(_ORDINARY), rng.randrange(2)) for _ in range(6))]
    rng.shuffle(leaves)
    _asked(trial, leaves, "Look at the leaves one by one: EAX chooses.", make=image64)


CPUID_EXERCISE: Final = Exercise(
    "cpuid",
    "A handler for CPUID",
    ("cpuid",),
    (
        Invariant("goes_on", 1, "the guest goes on behind CPUID, with the processor's answer", _goes_on),
        Invariant("vendor", 2, "leaf 0 gives your vendor, and the guest prints it", _vendor),
        Invariant(
            "present", 1, "leaf 1 says that there is a monitor, and is the processor's own else", _present
        ),
        Invariant("name", 2, "leaf 4000_0000h gives the monitor's name", _name),
        Invariant("rest", 2, "all other leaves and subleaves are the processor's", _rest),
        Invariant("long_mode", 2, "all of it holds for a 64-bit guest", _long_mode, hidden=True),
    ),
    hints=(
        "Begin with the processor's answer for cpu.eax and cpu.ecx, and change what three leaves are to say.",
        "words(vendor) gives the three 32-bit words; a, b, c = words(vendor) takes them apart.",
        "Leaf 0 wants the words in EBX, EDX, ECX; leaf 0x40000000 in EBX, ECX, EDX, and EAX = 0x40000000.",
    ),
)

EXERCISES: tuple[Exercise, ...] = (SPOKEN, CPUID_EXERCISE)
