"""SGDT, SMSW, LAR, MOV from DS and their kin: carried out on a virtual processor as the bare one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.machine.lab import CODE32, GDT, IDT, LDT, TSS_SELECTOR
from tests.vmm.emulated_lab import EDGE, PROTECTED, WORLDS, Encoder, Twins, twins
from vlab.isa.state import CpuState, Segment, TableRegister
from vlab.isa.vectors import Vector

SEED, CASES = 4_000, 120
TABLES = {"sgdt": 0, "sidt": 1}
WORDS = {"sldt": (0, 0), "str": (0, 1), "smsw": (1, 4)}
RIGHTS = {"lar": 2, "lsl": 3}
CHECKS = {"verr": 4, "verw": 5}
PUSHES = {"cs": b"\x0e", "ss": b"\x16", "ds": b"\x1e", "es": b"\x06", "fs": b"\x0f\xa0", "gs": b"\x0f\xa8"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(tmp_path_factory.mktemp("stores")) as made:
        yield made


# --- random instructions ------------------------------------------------------------------------------------


def table(encoder: Encoder) -> bytes:
    """SGDT or SIDT. With 16-bit operands the processor underneath stores 24 bits of the base."""
    random, state = encoder.random, encoder.state
    swapped = random.random() < 0.5
    narrow = swapped if encoder.bits != 16 else not swapped
    width = 24 if narrow else 47 if encoder.bits == 64 else 32
    state.idtr = TableRegister(random.getrandbits(width), random.getrandbits(16))
    state.gdtr.limit = random.getrandbits(16)
    size = 10 if encoder.bits == 64 else 6
    field = TABLES[random.choice(tuple(TABLES))]
    return (
        encoder.prefix(swapped=swapped)
        + b"\x0f\x01"
        + encoder.memory(field, encoder.place(size, split=False))
    )


def word(encoder: Encoder) -> bytes:
    """SLDT, STR or SMSW. Outside 64-bit code the processor underneath knows SMSW with 16 bits only."""
    random = encoder.random
    name = random.choice(tuple(WORDS))
    opcode, field = WORDS[name]
    swapped, in_register = random.random() < 0.5, random.random() < 0.5
    if name == "smsw" and encoder.bits != 64:
        swapped = encoder.bits == 32
    prefix = encoder.prefix(swapped=swapped, wide=random.random() < 0.3) + bytes((0x0F, opcode))
    if in_register:
        return prefix + encoder.register(field, random.randrange(8))
    return prefix + encoder.memory(field, encoder.place(2))


def segment(encoder: Encoder) -> bytes:
    """MOV from a segment register."""
    random = encoder.random
    field = random.randrange(6)
    prefix = encoder.prefix(swapped=random.random() < 0.5, wide=random.random() < 0.3) + b"\x8c"
    if random.random() < 0.5:
        return prefix + encoder.register(field, random.randrange(8))
    return prefix + encoder.memory(field, encoder.place(2))


def push(encoder: Encoder) -> bytes:
    """PUSH of a segment register."""
    random = encoder.random
    names = ("fs", "gs") if encoder.bits == 64 else tuple(PUSHES)
    prefix = encoder.prefix(swapped=random.random() < 0.5, wide=random.random() < 0.2)
    return prefix + PUSHES[random.choice(names)]


def descriptor(encoder: Encoder) -> bytes:
    """LAR, LSL, VERR or VERW of a random descriptor."""
    random, state = encoder.random, encoder.state
    selector = random.choice((random.getrandbits(8), random.getrandbits(8) & ~3, random.getrandbits(9)))
    if random.random() < 0.05:
        selector &= 3
    place = (LDT if selector & 4 else GDT) + (selector & 0x1F8)
    raw = encoder.bench.peek(place, 8)
    if random.random() < 0.6:  # a segment that may well be seen
        raw |= random.choice((0x6000, 0x7000, 0x7C00)) << 32
    if state.efer >> 10 & 1 and raw >> 40 & 0x1F in (1, 3, 4, 5):  # which the processor underneath takes
        raw &= ~(7 << 40)
    encoder.bench.poke(place, raw.to_bytes(8, "little"))
    prefix = encoder.prefix(swapped=random.random() < 0.4, wide=random.random() < 0.3) + b"\x0f"
    kinds = {**RIGHTS, **CHECKS}
    name = random.choice(tuple(kinds))
    field = random.randrange(8) if name in RIGHTS else kinds[name]
    opcode = bytes((kinds[name] if name in RIGHTS else 0,))
    if random.random() < 0.5:
        number = random.choice((0, 1, 2, 3, 5, 6, 7))
        register = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")[number]
        setattr(state, register, getattr(state, register) & ~0xFFFF | selector)
        return prefix + opcode + encoder.register(field, number)
    offset = encoder.place(2)
    encoder.poke(offset, selector.to_bytes(2, "little"))
    return prefix + opcode + encoder.memory(field, offset)


KINDS: dict[str, Callable[[Encoder], bytes]] = {
    "table": table, "word": word, "segment": segment, "push": push, "descriptor": descriptor,
}  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_random_stores_do_what_the_bare_processor_does(pair: Twins, world: str) -> None:
    for seed in range(SEED, SEED + CASES):
        random = Random(f"{world} {seed}")
        state = pair.world(world, random)
        if world in PROTECTED:
            for name in ("es", "fs", "gs"):
                setattr(state, name, Segment(random.getrandbits(16), 0, 0xFFFFFFFF, 0xCF3))
            state.ldtr = Segment(random.getrandbits(16) & ~7, LDT, random.choice((0xFF, 0x17)), 0x82)
            state.gdtr = TableRegister(GDT, random.choice((0xFF, 0x13F, 0x27)))
        kind = random.choice(tuple(KINDS))
        code = KINDS[kind](Encoder(pair.bench, state, random))
        found = pair.differences(state, code)
        assert not found, f"seed {seed}, {kind} {code.hex()}: " + "; ".join(found)


# --- what is to be seen in one look -------------------------------------------------------------------------


def state32(pair: Twins) -> CpuState:
    state = pair.world("32", Random(1))
    state.ldtr = Segment(0x60, LDT, 0xFF, 0x82)
    return state


def test_sgdt_stores_a_limit_and_the_whole_base_whatever_the_operand_size(pair: Twins) -> None:
    state = state32(pair)
    state.gdtr = TableRegister(0x89ABCDEF, 0x1234)
    for prefix in ("", "66"):
        after = pair.emulated(state, bytes.fromhex(f"{prefix}0F010425 00000200".replace("0425", "05")))
        assert after.memory[0x20000:0x20006] == bytes.fromhex("3412EFCDAB89")


def test_sidt_in_64_bit_code_stores_ten_bytes(pair: Twins) -> None:
    state = pair.world("64", Random(1))
    state.idtr = TableRegister(0xFFFF800000001000, 0xFFF)
    after = pair.emulated(state, bytes.fromhex("0F010C2500000200"))
    assert after.memory[0x20000:0x2000A] == bytes.fromhex("FF0F00100000 0080FFFF")


@pytest.mark.parametrize(
    ("world", "code", "expected"),
    [
        ("32", "0F01E0", 0x00000011), ("32", "660F01E0", 0xFFFF0011), ("real", "0F01E0", 0xFFFF0010),
        ("real", "660F01E0", 0x60000010), ("64", "0F01E0", 0x80000011), ("64", "480F01E0", 0x80000011),
        ("64", "660F01E0", 0xFFFFFFFFFFFF0011),
    ],
)  # fmt: skip
def test_smsw_gives_a_register_as_much_of_cr0_as_it_takes(
    pair: Twins, world: str, code: str, expected: int
) -> None:
    state = pair.world(world, Random(1))
    state.rax = 0xFFFFFFFFFFFFFFFF if world == "64" else 0xFFFFFFFF
    if world == "real":
        state.cr0 = 0x60000010
    assert pair.emulated(state, bytes.fromhex(code)).state.rax == expected


def test_sldt_and_str_of_a_register_clear_what_is_above(pair: Twins) -> None:
    state = state32(pair)
    state.rax = 0xFFFFFFFF
    assert pair.emulated(state, bytes.fromhex("0F00C0")).state.rax == 0x60
    assert pair.emulated(state, bytes.fromhex("0F00C8")).state.rax == TSS_SELECTOR
    assert pair.emulated(state, bytes.fromhex("660F00C8")).state.rax == 0xFFFF0000 | TSS_SELECTOR


@pytest.mark.parametrize("world", ["real", "v86"])
@pytest.mark.parametrize("code", ["0F00C0", "0F00C8", "0F02C3", "0F03C3", "0F00E0", "0F00E8"])
def test_what_concerns_descriptors_is_undefined_outside_protected_mode(
    pair: Twins, world: str, code: str
) -> None:
    after = pair.emulated(pair.world(world, Random(1)), bytes.fromhex(code))
    assert after.fault == (Vector.UD, 0, 0)


def test_pushing_a_selector_writes_the_whole_item(pair: Twins) -> None:
    state = state32(pair)
    pair.bench.poke(state.rsp - 4, b"\xee" * 4)
    after = pair.emulated(state, b"\x0e")
    assert after.memory[state.rsp - 4 : state.rsp] == bytes((CODE32, 0, 0, 0))
    assert after.state.rsp == state.rsp - 4


LEGACY = {"0F02C3": (1, 2, 3, 4, 5, 9, 0xB, 0xC), "0F03C3": (1, 2, 3, 9, 0xB)}
LONG = {"0F02C3": (2, 9, 0xB, 0xC), "0F03C3": (2, 9, 0xB)}


@pytest.mark.parametrize("code", LEGACY)
@pytest.mark.parametrize(("world", "valid"), [("32", LEGACY), ("64", LONG), ("compat", LONG)])
def test_lar_and_lsl_take_the_system_segments_of_the_mode(
    pair: Twins, world: str, valid: dict[str, tuple[int, ...]], code: str
) -> None:
    state = pair.world(world, Random(1))
    taken = []
    for kind in range(16):
        pair.bench.poke(GDT + 0x60, (0x0000E0001234FFFF | kind << 40).to_bytes(8, "little"))
        state.rbx = 0x60
        after = pair.emulated(state, bytes.fromhex(code)).state
        if after.rflags & 0x40:
            taken.append(kind)
            assert after.rax == (0xE000 | kind << 8 if code == "0F02C3" else 0xFFFF)
        else:
            assert after.rax == state.rax
    assert tuple(taken) == valid[code]


def test_a_descriptor_on_a_page_that_is_not_there_is_a_page_fault(pair: Twins) -> None:
    state = pair.world("64", Random(1))
    state.gdtr, state.rbx = TableRegister(EDGE - 0x60, 0xFF), 0x60
    pair.edge(0)
    after = pair.emulated(state, bytes.fromhex("0F02C3"))
    assert after.fault == (Vector.PF, 0, EDGE)
    assert after.state == state


def test_a_store_that_faults_changes_nothing(pair: Twins) -> None:
    state = pair.world("64 user", Random(1))
    pair.edge(0)
    state.rsp = EDGE + 4
    before = bytes(pair.bench.ram[EDGE - 0x100 : EDGE + 0x100])
    for code, address in (("0FA0", EDGE), ("0F010425 00002000", EDGE), ("8C1C25FFFF1F00", EDGE)):
        after = pair.emulated(state, bytes.fromhex(code))
        assert after.fault == (Vector.PF, 6, address)
        assert after.state == state
        assert after.memory.endswith(before)


def test_the_guests_own_idt_is_shown_not_the_processors(pair: Twins) -> None:
    state = state32(pair)
    after = pair.emulated(state, bytes.fromhex("0F010D00000200"))
    assert after.memory[0x20000:0x20006] == bytes.fromhex("FF0F") + IDT.to_bytes(4, "little")
    assert pair.monitor.core.idtr == TableRegister(0, 0)
