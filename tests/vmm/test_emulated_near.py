"""Near JMP, CALL and RET, Jcc, LOOPcc and JrCXZ: carried out on a virtual processor as the bare one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.vmm.emulated_lab import EDGE, WORLDS, Encoder, Twins, twins
from vlab.isa.sensitive import NEAR, Sensitive
from vlab.isa.vectors import Vector
from vlab.vmm.deprivileged import near, stores
from vlab.vmm.deprivileged.decode import decode

SEED, CASES = 5_000, 120


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(tmp_path_factory.mktemp("near")) as made:
        yield made


# --- random instructions ------------------------------------------------------------------------------------


def size_of(encoder: Encoder, *, swapped: bool, wide: bool = False) -> int:
    """Give the operand size of a near transfer in bytes."""
    if encoder.bits == 64:
        return 2 if swapped and not wide else 8
    return 2 if (encoder.bits == 16) != swapped else 4


def target(encoder: Encoder, size: int) -> int:
    """Give an address that a transfer may lead to: within the limit of CS, or canonical."""
    random, limit = encoder.random, encoder.state.cs.limit
    if size == 8:
        return random.getrandbits(47) | random.choice((0, 0x1FFFF)) << 47
    return random.getrandbits(8 * size) & limit


def relative(encoder: Encoder) -> bytes:
    """JMP, CALL and Jcc with a displacement. The bare processor's Jcc can leave the 32 bits of EIP behind."""
    random = encoder.random
    swapped, wide = random.random() < 0.4, encoder.bits == 64 and random.random() < 0.2
    prefix = encoder.prefix(swapped=swapped, wide=wide)
    if random.random() < 0.4:
        return prefix + random.choice((b"\xeb", bytes((0x70 | random.randrange(16),)))) + random.randbytes(1)
    size = size_of(encoder, swapped=swapped, wide=wide)
    opcode = random.choice((b"\xe8", b"\xe9", bytes((0x0F, 0x80 | random.randrange(16)))))
    if size == 4 and encoder.state.cs.limit == 0xFFFF:  # from 1000h to E000h
        return prefix + opcode + random.randrange(-0xF00, 0x1F00).to_bytes(4, "little", signed=True)
    if size == 4:
        return prefix + opcode + random.randrange(-0x10000, 1 << 31).to_bytes(4, "little", signed=True)
    return prefix + opcode + random.randbytes(2 if size == 2 else 4)


def indirect(encoder: Encoder) -> bytes:
    """JMP and CALL through a register or memory."""
    random, state = encoder.random, encoder.state
    swapped, wide = random.random() < 0.4, random.random() < 0.2
    prefix = encoder.prefix(swapped=swapped, wide=wide) + b"\xff"
    size = size_of(encoder, swapped=swapped, wide=wide)
    field, place = random.choice((2, 4)), target(encoder, size)
    if random.random() < 0.4:
        number = random.choice((0, 1, 2, 3, 5, 6, 7))
        register = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")[number]
        mask = (1 << 8 * size) - 1
        setattr(state, register, getattr(state, register) & ~mask | place)
        return prefix + encoder.register(field, number)
    offset = encoder.place(8, split=False)
    encoder.poke(offset, place.to_bytes(size, "little"))
    return prefix + encoder.memory(field, offset)


def back(encoder: Encoder) -> bytes:
    """RET, with a count that has no sign to the processor underneath either."""
    random, state = encoder.random, encoder.state
    swapped, wide = random.random() < 0.4, random.random() < 0.2
    size = size_of(encoder, swapped=swapped, wide=wide)
    small = encoder.bits != 64 and not state.ss.attributes & 1 << 10
    top = (0 if encoder.bits == 64 else state.ss.base) + (state.rsp & 0xFFFF if small else state.rsp)
    encoder.bench.poke(top, target(encoder, size).to_bytes(size, "little"))
    prefix = encoder.prefix(swapped=swapped, wide=wide)
    if random.random() < 0.5:
        return prefix + b"\xc3"
    return prefix + b"\xc2" + random.choice((0, 4, 0x123, 0x7FFF)).to_bytes(2, "little")


def count(encoder: Encoder) -> bytes:
    """LOOP, LOOPE, LOOPNE and JrCXZ with counts near 0 in 16, 32 and 64 bits."""
    random, state = encoder.random, encoder.state
    low = random.choice((0, 1, 2, 0x10000, 0x10001, 0x100000000, 0x100000001))
    state.rcx = low if encoder.bits == 64 else low & 0xFFFFFFFF
    prefix = encoder.prefix(swapped=random.random() < 0.4) + (b"\x67" if random.random() < 0.5 else b"")
    return prefix + bytes((0xE0 | random.randrange(4),)) + random.randbytes(1)


KINDS: dict[str, Callable[[Encoder], bytes]] = {
    "relative": relative, "indirect": indirect, "back": back, "count": count,
}  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_random_transfers_lead_where_the_bare_processor_goes(pair: Twins, world: str) -> None:
    for seed in range(SEED, SEED + CASES):
        random = Random(f"{world} {seed}")
        state = pair.world(world, random)
        kind = random.choice(tuple(KINDS))
        code = KINDS[kind](Encoder(pair.bench, state, random))
        found = pair.differences(state, code)
        assert not found, f"seed {seed}, {kind} {code.hex()}: " + "; ".join(found)


def test_every_condition_is_the_processors_for_every_flag(pair: Twins) -> None:
    state = pair.world("32", Random(1))
    for flags in range(32):
        state.rflags = (
            2 | flags & 1 | (flags & 2) << 1 | (flags & 4) << 4 | (flags & 8) << 4 | (flags & 16) << 7
        )
        for condition in range(16):
            code = bytes((0x70 | condition, 0x20))
            found = pair.differences(state, code)
            assert not found, f"flags {state.rflags:#x}, {code.hex()}: " + "; ".join(found)


# --- where nothing can be reached ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["FFE0", "FFD0", "C3", "C20800", "FF2425 00000200", "FF1425 00000200"])
def test_a_target_that_is_not_canonical_is_a_general_protection_fault(pair: Twins, code: str) -> None:
    state = pair.world("64", Random(1))
    state.rax, state.rsp = 1 << 47, 0x3FF00
    for place in (state.rsp, 0x20000):
        pair.bench.poke(place, (1 << 47).to_bytes(8, "little"))
    after = pair.emulated(state, bytes.fromhex(code))
    assert after.fault == (Vector.GP, 0, 0)
    assert after.state == state
    assert after.memory == bytes(pair.bench.ram[:0x90000]) + bytes(pair.bench.ram[EDGE - 256 : EDGE + 256])


@pytest.mark.parametrize("world", ["real", "v86", "16"])
@pytest.mark.parametrize("code", ["66E900000100", "66E800000100", "66FFE0", "66FFD0", "66C3", "66E2FE"])
def test_a_target_beyond_the_limit_of_the_code_segment_is_a_general_protection_fault(
    pair: Twins, world: str, code: str
) -> None:
    state = pair.world(world, Random(1))
    state.rax, state.rcx = 0x10000, 5
    if code == "66E2FE":
        state.cs.limit = state.rip - 1 if world == "16" else state.cs.limit
        state.rip = state.rip if world == "16" else 0x10000
    state.rsp = 0x8000
    pair.bench.poke(state.ss.base + 0x8000, (0x10000).to_bytes(4, "little"))
    after = pair.emulated(state, bytes.fromhex(code))
    assert after.fault == (Vector.GP, 0, 0)
    assert after.state == state


def test_a_branch_that_is_not_taken_does_not_look_at_its_target(pair: Twins) -> None:
    state = pair.world("16", Random(1))
    state.rflags = 2
    after = pair.emulated(state, bytes.fromhex("660F8400000100"))  # je
    assert (after.fault, after.state.rip) == (None, state.rip + 7)


def test_the_count_of_ret_has_no_sign(pair: Twins) -> None:
    """The processor underneath has one."""
    state = pair.world("32", Random(1))
    assert pair.emulated(state, bytes.fromhex("C20080")).state.rsp == state.rsp + 4 + 0x8000


# --- decoding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "bits", "family", "name"),
    [
        ("E800000000", 32, Sensitive.CALL_NEAR, "call"), ("F2E900000000", 64, Sensitive.JMP_NEAR, "jmp"),
        ("FF20", 32, Sensitive.JMP_NEAR, "jmp"), ("FF28", 32, Sensitive.JMP_FAR, "jmp"),
        ("FF10", 64, Sensitive.CALL_NEAR, "call"), ("FF18", 64, Sensitive.CALL_FAR, "call"),
        ("F3C3", 64, Sensitive.RET_NEAR, "ret"), ("CB", 32, Sensitive.RET_FAR, "retf"),
        ("3E7400", 32, Sensitive.JCC, "je"), ("E300", 16, Sensitive.JCC, "jcxz"),
        ("0FA0", 64, Sensitive.STORE_SEGMENT, "push"), ("8CD8", 16, Sensitive.STORE_SEGMENT, "mov"),
    ],
)  # fmt: skip
def test_transfers_and_stores_are_told_apart(code: str, bits: int, family: Sensitive, name: str) -> None:
    instruction = decode(bytes.fromhex(code) + bytes(4), bits)
    assert instruction is not None
    assert (instruction.family, instruction.name) == (family, name)


@pytest.mark.parametrize(
    ("code", "length", "size"),
    [("66E81000", 4, 2), ("66480F8410000000", 8, 8), ("66EB10", 3, 2), ("E910000000", 5, 4)],
)
def test_an_operand_size_prefix_in_64_bit_code_shortens_the_displacement(
    code: str, length: int, size: int
) -> None:
    instruction = decode(bytes.fromhex(code) + b"\x90" * 4, 64)
    assert instruction is not None
    assert (instruction.length, instruction.size) == (length, size)


def test_instructions_that_are_no_transfers_stay_unknown() -> None:
    for code in ("90", "FFF0", "50", "C8000000", "FF00", "0F1F00"):
        assert decode(bytes.fromhex(code) + bytes(4), 32) is None


def test_trap_and_emulate_carries_none_of_them_out(pair: Twins) -> None:
    for family in {*stores.ACTIONS, *near.ACTIONS}:
        code = {Sensitive.STORE_SEGMENT: "0E", Sensitive.JCC: "7400", Sensitive.SMSW: "0F01E0"}.get(family)
        if code is not None:
            instruction = decode(bytes.fromhex(code), 32)
            assert instruction is not None
            assert pair.monitor.emulator.prepare(instruction) is None
            assert pair.emulator.prepare(instruction) is not None
    assert frozenset(near.ACTIONS) == NEAR
