"""The guest cannot see the cache: the addresses where it is are the guest's own, whatever it does there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vmm.translation_lab import (
    DIRECTORY,
    EDGE,
    EDGE_FRAMES,
    FRAMES,
    OUT,
    Lab,
    open_lab,
    program32,
    program64,
    to_ring,
    world32,
    world64,
)
from vlab.isa.control import CR4
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.translation.window import PLACES

LOW, HIGH = PLACES[0]
ACCESSES = {
    "mov eax, [ebx]": "89df89deb904000000b878563412fc8b03",
    "mov [ebx], eax": "89df89deb904000000b878563412fc8903",
    "add [ebx], eax": "89df89deb904000000b878563412fc0103",
    "xchg [ebx], eax": "89df89deb904000000b878563412fc8703",
    "lock cmpxchg [ebx], ecx": "89df89deb904000000b878563412fcf00fb10b",
    "push [ebx]": "89df89deb904000000b878563412fcff33",
    "pop [ebx]": "89df89deb904000000b878563412fc8f03",
    "stosd": "89df89deb904000000b878563412fcab",
    "lodsd": "89df89deb904000000b878563412fcad",
    "cmpsb": "89df89deb904000000b878563412fca6",
    "scasb": "89df89deb904000000b878563412fcae",
    "rep stosb": "89df89deb904000000b878563412fcf3aa",
    "rep movsb": "89df89deb904000000b878563412fcbe00700000f3a4",
    "bts [ebx], eax": "89df89deb904000000b878563412fcb8050000000fab03",
    "test [ebx], eax": "89df89deb904000000b878563412fc8503",
    "call ebx": "89df89deb904000000b878563412fcffd3",
    "mov ds, [ebx]": "89df89deb904000000b878563412fc66c70310008e1b",
    "lgdt [ebx]": "89df89deb904000000b878563412fc81fb000000ff7511a100580000890366a104580000668943040f0113",
    "invlpg [ebx]": "89df89deb904000000b878563412fc0f013b",
}
"""For PROGRAM + 15: what is done at EBX."""
ACCESSES_64 = {
    "mov rax, [rbx]": "4889dfbe00300000b904000000b878563412fc488b03",
    "mov [rbx], rax": "4889dfbe00300000b904000000b878563412fc488903",
    "add [rbx], rax": "4889dfbe00300000b904000000b878563412fc480103",
    "xchg eax, [rbx]": "4889dfbe00300000b904000000b878563412fc8703",
    "lock xadd [rbx], eax": "4889dfbe00300000b904000000b878563412fcf00fc103",
    "push [rbx]": "4889dfbe00300000b904000000b878563412fcff33",
    "pop [rbx]": "4889dfbe00300000b904000000b878563412fc8f03",
    "stosq": "4889dfbe00300000b904000000b878563412fc48ab",
    "movsq": "4889dfbe00300000b904000000b878563412fc48a5",
    "rep stosb": "4889dfbe00300000b904000000b878563412fcf3aa",
    "call rbx": "4889dfbe00300000b904000000b878563412fcffd3",
    "invlpg [rbx]": "4889dfbe00300000b904000000b878563412fc0f013b",
}
"""For PROGRAM + 21: what is done at RBX."""
KEYS = {"rdpkru": "31c90f01ee", "wrpkru": "31c931c031d20f01ef", "cr4 with PKE": "0f20e00fbae8160f22e0"}
CONTROLS = "b8900000000f22e00f20e30fbae8140f22e00f20e135800000000f22e00f20e2"
"""CR4 with PGE and PSE, in EBX; with SMEP, in ECX; without PGE, in EDX."""
MAPPED = (LOW, LOW + 0xF000, LOW + 0x43F000)
MISSING = (LOW + 0x10000, LOW + 0x3FF000, LOW - 0x1000)

OPERANDS = {
    "FLD": "bb001000ffdbe3dd03dd5b10",
    "MOVDQU": "bb001000ffb8000600000f22e0f30f6f03f30f7f4310",
    "CMPXCHG8B": "bb001000ff0fc70b",
    "XLAT": "bb001000ff31c0d7",
    "FXSAVE": "bb001000ffb8000600000f22e00fae038b03",
    "a stack": "bb001000ff8d634050515a9ce80000000089e5",
    "a load across two pages": "bb001000ff8b83fe0f0000",
    "a store across two pages": "bb001000ff8983fe0f0000",
    "BOUND": "bb001000ffc7430409000000c70301000000b8050000006203",
}
"""Done at EBX = 0xFF001000, which the guest has mapped, and where the cache is."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


def at(address: int, body: str) -> bytes:
    """mov ebx, address; body."""
    return b"\xbb" + address.to_bytes(4, "little") + bytes.fromhex(body)


@pytest.mark.parametrize("name", ACCESSES)
@pytest.mark.parametrize("address", [MAPPED[0], MAPPED[2], MISSING[0], MISSING[2]], ids=hex)
def test_a_32_bit_kernel_finds_there_what_its_tables_say(lab: Lab, name: str, address: int) -> None:
    lab.twins(program32(at(address, ACCESSES[name])), world32())


@pytest.mark.parametrize("address", [*MAPPED, *MISSING], ids=hex)
@pytest.mark.parametrize("flags", [0x202, 2, 0x3202], ids=["direct", "IF=0", "IOPL=3"])
def test_a_program_finds_there_what_its_tables_say(lab: Lab, flags: int, address: int) -> None:
    """mov eax, [ebx]; inc eax; mov [ebx+8], eax: run directly, or translated."""
    body = at(address, "8b0340894308")
    outcome = lab.twins(program32(body, to_ring(3, flags)), world32())
    if address in MISSING:
        fault = outcome.events()[0]
        assert (fault.vector, fault.code, fault.cr2) == (14, 4, address)


@pytest.mark.parametrize("address", [*MAPPED, *MISSING], ids=hex)
def test_a_kernel_calls_a_function_there_or_faults_at_its_address(lab: Lab, address: int) -> None:
    outcome = lab.twins(program32(at(address, "ffd3")), world32())
    if address in MISSING:
        fault = outcome.events()[0]
        assert (fault.vector, fault.code, fault.ip, fault.cr2) == (14, 0, address, address)
    else:
        assert 0x70 <= outcome.words(OUT + 0x40, 1)[0] <= 0x7F


@pytest.mark.parametrize("name", ACCESSES_64)
@pytest.mark.parametrize(
    "address", [HIGH, HIGH + 0x43F000, HIGH + 0x100000, HIGH - 0x1000, HIGH + 0x600000, LOW], ids=hex
)
def test_a_64_bit_kernel_finds_there_what_its_tables_say(lab: Lab, name: str, address: int) -> None:
    body = "48bb" + address.to_bytes(8, "little").hex() + ACCESSES_64[name]
    lab.twins(program64(body), world64(ist=1), wide=True)


def test_a_write_there_is_in_the_guests_frame_and_not_in_the_cache(lab: Lab) -> None:
    cache: list[bytes] = []

    def note(monitor: BinaryTranslation) -> None:
        cache.append(monitor.translations.cache.read(0, 64))

    outcome = lab.run(
        program32(at(LOW + 0x1000, "c70378563412")), "binary-translation", world32(), after=note
    )
    assert outcome.words(FRAMES + 0x1000, 1) == (0x12345678,)
    assert bytes.fromhex("78563412") not in cache[0].replace(bytes.fromhex("c70378563412"), b"")


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("ring", [0, 3])
def test_the_guests_processor_has_no_protection_keys(lab: Lab, name: str, ring: int) -> None:
    enter = to_ring(3, 0x202) if ring else b""
    outcome = lab.twins(program32(KEYS[name], enter), world32())
    if "kru" in name:
        assert outcome.events()[0].vector == 6


def _supervisors_world() -> dict[int, bytes]:
    """The pages of the lowest 4 MiB are the supervisor's."""
    world = world32()
    directory = bytearray(world[DIRECTORY])
    directory[0] &= ~4
    return world | {DIRECTORY: bytes(directory)}


def test_cr4_reads_back_as_it_was_written(lab: Lab) -> None:
    outcome = lab.twins(program32(CONTROLS), _supervisors_world())
    eax, ecx, edx, ebx = outcome.words(OUT + 0x40, 4)
    smep = CR4.SMEP.mask
    assert (ebx, ecx, edx, eax) == (0x90, smep | 0x90, smep | 0x10, smep | 0x10)
    assert outcome.events() == []


def test_a_kernel_may_not_fetch_from_a_users_page_under_smep(lab: Lab) -> None:
    """Its own code is a supervisor's, and EDGE a user's."""
    smep = "bb00008000ffd30f20e00fbae8140f22e0ffd3"
    outcome = lab.twins(program32(smep), _supervisors_world() | {EDGE_FRAMES: b"\xb8\x05\0\0\0\xc3"})
    fault = outcome.events()[0]
    assert (fault.vector, fault.code, fault.ip, fault.cr2) == (14, 0x11, EDGE, EDGE)


def test_what_lies_behind_the_gates_in_the_same_2_mib_is_the_guests(lab: Lab) -> None:
    """mov ebx, 0xFF440000; mov eax, [ebx]; mov [ebx + 8], eax."""
    lab.twins(program32("bb000044ff8b03894308"), world32())


@pytest.mark.parametrize("name", OPERANDS)
def test_an_operand_where_the_cache_is_may_be_any_instructions(lab: Lab, name: str) -> None:
    moved: list[int] = []

    def note(monitor: BinaryTranslation) -> None:
        moved.append(PLACES.index(monitor.window.place))

    lab.twins(program32(OPERANDS[name]), world32(), after=note)
    assert moved == [1]


def test_a_guest_may_use_all_places_of_the_window_in_turn(lab: Lab) -> None:
    """fninit; fld qword [0xFF001000]; fstp qword [0xFD001000]: the second one is not mapped."""
    first, second = ((place.low + 0x1000).to_bytes(4, "little").hex() for place in PLACES[:2])
    outcome = lab.twins(program32(f"dbe3dd05{first}dd1d{second}"), world32())
    assert outcome.events()[0].cr2 == PLACES[1].low + 0x1000


def test_a_single_step_over_an_access_there_traps(lab: Lab) -> None:
    """push TF; popf; mov eax, [0xFF000000]; nop; mov [0xFF000008], eax; nop."""
    body = "9c810c24000100009da1000000ff90a3080000ff909c812424fffeffff9d90"
    lab.twins(program32(body), world32(steps=True))
