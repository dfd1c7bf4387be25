"""What is tried of a student's emulation, one exercise after the other.

Sections are those of the AMD64 Architecture Programmer's Manual, vol. 2, rev. 3.42 (APM2), and vol. 3,
rev. 3.36 (APM3).
"""

from __future__ import annotations

import struct
from typing import Final

from guests_02 import TRAP, filler, from_control, in_ring_3, load, mixed, to_control
from machine_02 import equivalent, yours

from vlab.grading.exercise import Broken
from vlab.grading.trial import Trial
from vlab.guests.programs import KERNEL_CODE, SCRATCH, SPIN, Code, enter_ring_3, image, leave, rings
from vlab.isa.vectors import Vector
from vlab.session import StopKind

_SOON: Final = 20


# --- CLI and STI --------------------------------------------------------------------------------------------

CLI, STI = b"\xfa", b"\xfb"
BOTH: Final = ("cli", "sti")


def flag_follows(trial: Trial) -> None:
    """Run CLI and STI in some order, in ring 0."""
    code = STI + mixed(trial.rng, CLI, STI)
    equivalent(
        trial,
        code + leave(0),
        *BOTH,
        hint="which bit the guest means, and where the monitor keeps it; EIP moves behind the instruction",
    )


def shadow_kept(trial: Trial) -> None:
    """Stop the guest behind an STI that turned interrupts on."""
    guest = image(CLI + filler(trial.rng) + STI + leave(0))
    vm = yours(trial, guest, *BOTH)
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


def cli_refused(trial: Trial) -> None:
    """Run CLI and STI in ring 3 with IOPL 0."""
    for instruction in (CLI, STI):
        equivalent(
            trial, in_ring_3(trial.rng, instruction), *BOTH, status=Vector.GP,
            hint='what CLI and STI compare before they do anything (APM3, "CLI": CPL and IOPL)',
        )  # fmt: skip


def cli_allowed(trial: Trial) -> None:
    """Run CLI and STI in ring 3 with IOPL 3."""
    guest = in_ring_3(trial.rng, STI + mixed(trial.rng, CLI, STI, turns=2), flags=0x3002)
    hint = "a program whose IOPL is 3 may use CLI and STI in ring 3"
    equivalent(trial, guest, *BOTH, status=TRAP, hint=hint)


# --- MOV CRn and LGDT ---------------------------------------------------------------------------------------

REGISTERS: Final = ("mov_cr", "lgdt")
_NUMBERS: Final = {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "esi": 6, "edi": 7}


def controls_follow(trial: Trial) -> None:
    """Write and read CR0, CR2 and CR3."""
    rng, code = trial.rng, b""
    for _ in range(6):
        register, number = rng.choice(list(_NUMBERS.values())), rng.choice((0, 2, 3))
        value = {0: 0x11 | rng.choice((0, 0x2E)), 2: rng.getrandbits(32), 3: rng.getrandbits(20) << 12}[
            number
        ]
        code += filler(rng) + load(register, value) + to_control(number, register)
        code += from_control(rng.choice((0, 2, 3)), rng.choice(list(_NUMBERS.values())))
    hint = "insn['to_control'] tells the direction, and insn['register'] names the general register"
    equivalent(trial, code + leave(0), *REGISTERS, hint=hint)


def table_follows(trial: Trial) -> None:
    """Run an LGDT, in ring 0."""
    rng = trial.rng
    place, base, limit = SCRATCH + 4 * rng.randrange(16, 64), rng.getrandbits(31), rng.getrandbits(16)
    store = b"\x66\xc7\x05" + struct.pack("<IH", place, limit)  # mov word [place], limit
    store += b"\xc7\x05" + struct.pack("<II", place + 2, base)  # mov dword [place + 2], base
    code = store + filler(rng) + b"\x0f\x01\x15" + struct.pack("<I", place)  # lgdt [place]
    hint = "the operand in memory is the limit, 2 bytes, and behind it the base, 4 bytes (APM2 4.6.2)"
    equivalent(trial, code + leave(0), *REGISTERS, hint=hint)


def controls_refused(trial: Trial) -> None:
    """Run one of the instructions in ring 3."""
    rng = trial.rng
    instruction = rng.choice(
        (from_control(0, 0), to_control(3, 1), b"\x0f\x01\x15" + struct.pack("<I", SCRATCH))
    )
    equivalent(
        trial, in_ring_3(rng, instruction), *REGISTERS, status=Vector.GP,
        hint="what has to be looked at first: these instructions belong to ring 0",
    )  # fmt: skip


def paging_follows(trial: Trial) -> None:
    """A guest that turns paging on: one 4 MB page over everything it uses, mapped twice."""
    rng = trial.rng
    directory = 0x11000 + 0x1000 * rng.randrange(16)
    alias = rng.randrange(4, 200) << 22
    code = b""
    for place, entry in ((directory, 0x83), (directory + 4 * (alias >> 22), 0x83)):
        code += b"\xc7\x05" + struct.pack("<II", place, entry)
    code += load(0, 0x10) + to_control(4, 0)  # CR4.PSE
    code += load(2, directory) + to_control(3, 2) + filler(rng)
    code += load(3, 0x80000011) + to_control(0, 3)
    code += b"\xc7\x05" + struct.pack("<II", alias + SCRATCH, 0x600D)  # through the alias
    code += b"\xa1" + struct.pack("<I", SCRATCH)  # mov eax, [SCRATCH]
    equivalent(trial, code + leave(0), *REGISTERS, hint="cpu.set_control also turns the guest's paging on")


# --- HLT and IRET -------------------------------------------------------------------------------------------

RETURNS: Final = ("hlt", "iret")


def sleeps(trial: Trial) -> None:
    """Let the guest sleep for good."""
    code = filler(trial.rng) + b"\xfa\xf4" + SPIN
    guest = image(code)
    vm = yours(trial, guest, *RETURNS)
    hint = "cpu.halt() says that the guest sleeps; EIP has to be behind the HLT all the same"
    stop = trial.run(vm, exits=50, hint=hint)
    if stop.kind is not StopKind.HALTED:
        ended = stop.headline
        raise Broken(f"after CLI and HLT the guest sleeps for good; here: {ended}", hint=hint, vm=vm)


def hlt_refused(trial: Trial) -> None:
    """Run HLT in ring 3."""
    equivalent(
        trial, in_ring_3(trial.rng, b"\xf4"), *RETURNS, status=Vector.GP,
        hint="HLT belongs to ring 0 (APM3, \"HLT\"); this guest gets to ring 3 by your IRET",
    )  # fmt: skip


def returns_inside(trial: Trial) -> None:
    """Return by IRET within ring 0."""
    rng = trial.rng

    def kernel(code: Code) -> None:
        for turn in range(3):
            flags = 2 | rng.choice((0, 0x200)) | rng.choice((0, 0x40)) | rng.choice((0, 1))
            code.add(
                filler(rng), b"\x68" + struct.pack("<I", flags), b"\x68" + struct.pack("<I", KERNEL_CODE)
            )
            code.add(b"\x68").word(f"behind {turn}").add(b"\xcf", b"\x0f\x0b", f"behind {turn}")  # iret; ud2
        code.add(leave(0))

    hint = "IRET pops EIP, CS and EFLAGS, in this order, and leaves ESP behind them"
    equivalent(trial, rings(kernel, {}), *RETURNS, hint=hint)


def returns_outside(trial: Trial) -> None:
    """Return by IRET to ring 3."""
    rng = trial.rng

    def kernel(code: Code) -> None:
        code.add(filler(rng))
        enter_ring_3(code, "user", 2 | rng.choice((0, 0x200, 0x40)))
        code.add("user", filler(rng), bytes((0xCD, TRAP)))

    hint = "the RPL of the popped CS is an outer ring: ESP and SS are on the stack, too"
    equivalent(trial, rings(kernel, {}), *RETURNS, status=TRAP, hint=hint)


def whole_guest(trial: Trial) -> None:
    """The bundled guest `rings`, with the student's HLT and IRET."""
    vm = yours(trial, "rings", *RETURNS)
    stop = trial.run(vm)
    if stop.exit_code != 0:
        raise Broken(
            f"the guest 'rings' ended with '{stop.headline}'",
            hint="its kernel goes to ring 3 and comes back ten times: by IRET, and in ring 3 HLT is refused",
            vm=vm,
        )
