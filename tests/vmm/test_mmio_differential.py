"""The monitor carries an instruction out as the processor does: both do it, and everything is compared.

Each case is run twice from one state, with RAM at the operand's address and with a device there whose
accesses leave the guest. Registers, the flags that the manual defines, the operand and all other memory must
agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.vmm.mmio_cases import (
    AF,
    ARITHMETIC,
    BITS,
    LOGICAL,
    OF,
    PF,
    SF,
    STRINGS,
    Case,
    Encoder,
    Form,
    constant,
    sizes,
)
from tests.vmm.mmio_lab import MmioLab
from vlab.isa.state import GENERAL_REGISTERS

CASES = 25


@pytest.fixture(scope="module")
def lab() -> Iterator[MmioLab]:
    lab = MmioLab()
    yield lab
    lab.close()


def opcode(byte: int, size: int, escape: bytes = b"") -> bytes:
    """Give the opcode of an operation whose byte form is ``byte``."""
    return escape + bytes((byte | (size > 1),))


def assert_agreement(lab: MmioLab, case: Case, random: Random) -> None:
    device, other = random.randbytes(4096), random.randbytes(8192)
    if random.random() < 0.3:  # equal bytes, for the comparisons
        device, other = bytes(4096), bytes(8192)
    start = case.state.copy()
    lab.fill(device, other)
    real = lab.in_memory(start, case.code)
    lab.fill(device, other)
    ours = lab.on_device(start, case.code)
    what = f"{start.mode.value}: {case.code.hex(' ')}"
    for name in (*GENERAL_REGISTERS, "rip"):
        want, got = getattr(real.state, name), getattr(ours.state, name)
        assert got == want, f"{what}: {name} is {got:#x}, the processor has {want:#x}"
    differ = (real.state.rflags ^ ours.state.rflags) & ~case.undefined
    assert not differ, f"{what}: RFLAGS {ours.state.rflags:#x}, the processor has {real.state.rflags:#x}"
    ours.state.rflags = real.state.rflags
    assert ours.state == real.state, what
    assert ours.device == real.device, what
    assert ours.other == real.other, what
    assert ours.stack == real.stack, what


Draw = Callable[[Random, int], Form]


def arithmetic(name: str) -> dict[str, Draw]:
    place = ARITHMETIC.index(name)
    undefined = AF if name in LOGICAL else 0
    lockable = name != "cmp"

    def from_register(_random: Random, size: int) -> Form:
        return Form(opcode(place * 8, size), size, undefined=undefined, lockable=lockable)

    def to_register(_random: Random, size: int) -> Form:
        return Form(opcode(place * 8 + 2, size), size, undefined=undefined)

    def with_constant(random: Random, size: int) -> Form:
        value = constant(random, size)
        return Form(opcode(0x80, size), size, place, value, undefined, lockable)

    def with_short_constant(random: Random, size: int) -> Form:
        size = max(size, 2)
        return Form(b"\x83", size, place, constant(random, 1), undefined, lockable)

    return {
        f"{name} m,r": from_register,
        f"{name} r,m": to_register,
        f"{name} m,i": with_constant,
        f"{name} m,i8": with_short_constant,
    }


def extension(byte: int) -> Draw:
    """MOVZX (B6h) and MOVSX (BEh): from 1 or 2 bytes to anything."""

    def draw(random: Random, size: int) -> Form:
        source = random.choice((1, 2))
        return Form(opcode(byte, source, b"\x0f"), source, operation=max(2, size))

    return draw


def bit_test(place: int) -> dict[str, Draw]:
    name = ("bt", "bts", "btr", "btc")[place]
    undefined, lockable = OF | SF | AF | PF, name != "bt"

    def by_register(_random: Random, size: int) -> Form:
        code = bytes((0x0F, 0xA3 + 8 * place))
        return Form(code, max(size, 2), None, b"", undefined, lockable, 0, bits_from_register=True)

    def by_constant(random: Random, size: int) -> Form:
        return Form(b"\x0f\xba", max(size, 2), 4 + place, random.randbytes(1), undefined, lockable)

    return {f"{name} m,r": by_register, f"{name} m,i": by_constant}


FORMS: dict[str, Draw] = {
    "mov m,r": lambda _random, size: Form(opcode(0x88, size), size),
    "mov r,m": lambda _random, size: Form(opcode(0x8A, size), size),
    "mov m,i": lambda random, size: Form(opcode(0xC6, size), size, 0, constant(random, size)),
    "movnti m,r": lambda _random, size: Form(b"\x0f\xc3", max(size, 4), operation=8 if size == 8 else 1),
    "movzx r,m": extension(0xB6),
    "movsx r,m": extension(0xBE),
    "xchg m,r": lambda _random, size: Form(opcode(0x86, size), size, lockable=True),
    "test m,r": lambda _random, size: Form(opcode(0x84, size), size, undefined=AF),
    "test m,i": lambda random, size: Form(opcode(0xF6, size), size, 0, constant(random, size), AF),
    "not m": lambda _random, size: Form(opcode(0xF6, size), size, 2, lockable=True),
    "neg m": lambda _random, size: Form(opcode(0xF6, size), size, 3),  # LOCK NEG: see test_mmio
    "inc m": lambda _random, size: Form(opcode(0xFE, size), size, 0, lockable=True),
    "dec m": lambda _random, size: Form(opcode(0xFE, size), size, 1, lockable=True),
    "xadd m,r": lambda _random, size: Form(opcode(0xC0, size, b"\x0f"), size, lockable=True),
}
for name in ARITHMETIC:
    FORMS |= arithmetic(name)
for place in range(4):
    FORMS |= bit_test(place)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("form", FORMS)
def test_an_instruction_does_to_a_device_what_it_does_to_memory(lab: MmioLab, form: str, bits: int) -> None:
    random = Random(f"{form} {bits}")
    for _ in range(CASES):
        drawn = FORMS[form](random, random.choice(sizes(bits)))
        assert_agreement(lab, Encoder(lab, bits, random).instruction(drawn), random)


@pytest.mark.parametrize("bits", BITS)
def test_cmpxchg_agrees_when_equal_and_when_not(lab: MmioLab, bits: int) -> None:
    random = Random(bits)
    for _ in range(6 * CASES):
        size = random.choice(sizes(bits))
        form = Form(opcode(0xB0, size, b"\x0f"), size, lockable=True)
        encoder = Encoder(lab, bits, random)
        encoder.state.rax &= random.choice((0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
        case = encoder.instruction(form)
        if size == 4 and case.state.rax >> 32:
            continue  # the engine clears the upper half of RAX even when nothing is loaded into EAX
        assert_agreement(lab, case, random)


def test_movsxd_agrees(lab: MmioLab) -> None:
    random = Random(63)
    for _ in range(CASES):
        encoder = Encoder(lab, 64, random)
        # The decoder does not know it with a 32-bit address and without REX.W, which nobody writes.
        form = Form(b"\x63", 4, operation=8 if encoder.width == 4 else random.choice((4, 8)))
        assert_agreement(lab, encoder.instruction(form), random)


@pytest.mark.parametrize("bits", BITS)
def test_a_move_to_or_from_an_absolute_address_agrees(lab: MmioLab, bits: int) -> None:
    random = Random(bits)
    for _ in range(CASES):
        assert_agreement(lab, Encoder(lab, bits, random).absolute_move(random.choice(sizes(bits))), random)


def test_a_move_relative_to_rip_agrees(lab: MmioLab) -> None:
    random = Random(5)
    for _ in range(2 * CASES):
        assert_agreement(lab, Encoder(lab, 64, random).relative_move(random.choice(sizes(64))), random)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", STRINGS)
def test_a_string_instruction_agrees_repeated_or_not(lab: MmioLab, name: str, bits: int) -> None:
    random = Random(f"{name} {bits}")
    for _ in range(2 * CASES):
        assert_agreement(lab, Encoder(lab, bits, random).string(name, random.choice(sizes(bits))), random)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("push", [True, False], ids=["push", "pop"])
def test_push_and_pop_agree(lab: MmioLab, push: bool, bits: int) -> None:
    random = Random(f"{push} {bits}")
    for _ in range(CASES):
        size = random.choice((2, 8) if bits == 64 else (2, 4))
        assert_agreement(lab, Encoder(lab, bits, random).stack(size, push=push), random)
