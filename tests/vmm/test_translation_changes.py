"""Code that the guest changes, by writing to it or by mapping other code in its place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vlab
from tests.vmm.translation_lab import (
    EDGE_FRAMES,
    EDGE_TABLE,
    OUT,
    PROGRAM,
    Lab,
    edge_table,
    entries,
    open_lab,
    program32,
    to_ring,
    world32,
)

WRITES = {
    "the same block": "b932000000880d16000400b0000fb6c00105003000004975ec",
    "the next block": "b932000000880d18000400eb00b0000fb6c0010500300000e2eb",
    "through another linear address": "b932000000880d16508000b0000fb6c0010500300000e2ed",
    "a function in another page": "b932000000890d01000300ba00000300ffd20105003000004975ea",
    "a function that is called directly": "b932000000890d01000300e8e6fffeff0105003000004975ec",
    "code beside data": "b928000000e80a000000010500300000e2f3eb10a12a000400ff052a000400c300000000",
    "code beside a stack": (
        "b8000600000f22e0bc6f000400b93c00000051e84d0000000105003000009c9d59e2efeb780000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "00000000008b0424db058f000400db1d97000400f30f7e058f000400660fd6059f000400c30500000000000000000000"
        "00000000000000000000000000"
    ),
    "code that nothing can be sure of": (
        "b8000600000f22e0bc9f000400b93c00000051db059f000400db1da7000400f30f7e059f000400660fd605af00040088"
        "0d40000400b0000fb6c0010500300000880d53000400eb00b00000050430000059e2bfeb580000000000000000000000"
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000050000000000000000000000000000000000000000000000"
    ),
    "by a string instruction": (
        "bb1e000000fcbe37000400bf00000300b906000000f3a4e8dafffeff010500300000ff05380004004b75dbeb06b80700"
        "0000c3"
    ),
}
REMAPS = {
    "a frame, INVLPG": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f013d00008000bb00008000ffd3d12500300000010500300000e8a4ff7b00d12500300000010500300000c705"
        "00400200070008000f013d00008000497593"
    ),
    "a table, INVLPG": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f013d00008000bb00008000ffd3d12500300000010500300000e8a4ff7b00d12500300000010500300000c705"
        "08000200074002000f013d00008000497593"
    ),
    "no frame, INVLPG": (
        "bb00008000ffd3d12500300000010500300000c70500400200000000000f013d00008000bb00008000ffd3"
    ),
    "a frame, CR3": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f20d80f22d8bb00008000ffd3d12500300000010500300000e8a5ff7b00d12500300000010500300000c70500"
        "400200070008000f20d80f22d8497595"
    ),
    "a table, CR3": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f20d80f22d8bb00008000ffd3d12500300000010500300000e8a5ff7b00d12500300000010500300000c70508"
        "000200074002000f20d80f22d8497595"
    ),
    "no frame, CR3": "bb00008000ffd3d12500300000010500300000c70500400200000000000f20d80f22d8bb00008000ffd3",
    "a frame, CR4.PGE": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f20e035800000000f22e0bb00008000ffd3d12500300000010500300000e8a0ff7b00d1250030000001050030"
        "0000c70500400200070008000f20e035800000000f22e049758b"
    ),
    "a table, CR4.PGE": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f20e035800000000f22e0bb00008000ffd3d12500300000010500300000e8a0ff7b00d1250030000001050030"
        "0000c70508000200074002000f20e035800000000f22e049758b"
    ),
    "no frame, CR4.PGE": (
        "bb00008000ffd3d12500300000010500300000c70500400200000000000f20e035800000000f22e0bb00008000ffd3"
    ),
    "a frame, CR4.PSE": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f20e083f0100f22e0bb00008000ffd3d12500300000010500300000e8a2ff7b00d12500300000010500300000"
        "c70500400200070008000f20e083f0100f22e049758f"
    ),
    "a table, CR4.PSE": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f20e083f0100f22e0bb00008000ffd3d12500300000010500300000e8a2ff7b00d12500300000010500300000"
        "c70508000200074002000f20e083f0100f22e049758f"
    ),
    "no frame, CR4.PSE": (
        "bb00008000ffd3d12500300000010500300000c70500400200000000000f20e083f0100f22e0bb00008000ffd3"
    ),
    "a frame, CR0.WP": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f20c035000001000f22c0bb00008000ffd3d12500300000010500300000e8a0ff7b00d1250030000001050030"
        "0000c70500400200070008000f20c035000001000f22c049758b"
    ),
    "a table, CR0.WP": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f20c035000001000f22c0bb00008000ffd3d12500300000010500300000e8a0ff7b00d1250030000001050030"
        "0000c70508000200074002000f20c035000001000f22c049758b"
    ),
    "no frame, CR0.WP": (
        "bb00008000ffd3d12500300000010500300000c70500400200000000000f20c035000001000f22c0bb00008000ffd3"
    ),
    "a frame, CR0.PG": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050040020007"
        "1008000f20c00fbaf01f0f22c00fbae81f0f22c0bb00008000ffd3d12500300000010500300000e89aff7b00d1250030"
        "0000010500300000c70500400200070008000f20c00fbaf01f0f22c00fbae81f0f22c0490f857bffffff"
    ),
    "a table, CR0.PG": (
        "b906000000bb00008000ffd3d12500300000010500300000e8d9ff7b00d12500300000010500300000c7050800020007"
        "a002000f20c00fbaf01f0f22c00fbae81f0f22c0bb00008000ffd3d12500300000010500300000e89aff7b00d1250030"
        "0000010500300000c70508000200074002000f20c00fbaf01f0f22c00fbae81f0f22c0490f857bffffff"
    ),
    "no frame, CR0.PG": (
        "bb00008000ffd3d12500300000010500300000c70500400200000000000f20c00fbaf01f0f22c00fbae81f0f22c0bb00"
        "008000ffd3"
    ),
}
"""EDGE is called, led elsewhere, and called again, by CALL EBX and by CALL rel32."""
SPACES = {
    "functions": (
        "b928000000bb00008000ffd3d12500300000010500300000b800c002000f22d8bb00008000ffd3d12500300000010500"
        "300000b8000002000f22d8e2c8"
    ),
    "direct calls": (
        "b928000000e8ecff7b00d12500300000010500300000b800c002000f22d8e8d3ff7b00d12500300000010500300000b8"
        "000002000f22d8e2cc"
    ),
}
"""Two address spaces take turns; EDGE is another function in each."""
TRAMPOLINES = {
    "paging off and on": (
        "b9140000000f20c00fbaf01f0f22c0ff05003000000fbae81f0f22c0e804000000e2e2eb0883050430000002c3"
    ),
    "to real mode and back": (
        "b90600000051892540300000ea1d0000005800b860008ed08ed88ec00f20c06625feffff7f0f22c0ea37000040"
        "31c08ed08ed88ec0bc006f83060030039c8f060830e814000f20c0660d010000800f22c066ea680004000800ff"
        "060430c3b8100000008ed08ed88ec08b254030000059497592"
    ),
    "to long mode and back": (
        "b9050000000f20c00fbaf01f0f22c00f20e083c8200f22e0b800d002000f22d851b9800000c00f320d00010000"
        "0f30590f20c00fbae81f0f22c083050030000001e83b000000ea570004007800830425083000000548b8887766"
        "55443322114889042510300000e8110000009c8f0425183000006a08689300040048cb4989e0c3830504300000"
        "03c30f20c00fbaf01f0f22c051b9800000c00f3225fffeffff0f30590f20e083e0df0f22e0b8000002000f22d8"
        "0f20c00fbae81f0f22c0490f8540ffffff"
    ),
}
"""Each goes to and fro a few times."""
USER = "b932000000890d01000300ba00000300ffd20105003000004975ea"
"""Fifty times: mov [30001h], ecx; mov edx, 30000h; call edx; add [OUT], eax."""
FUNCTION = b"\xb8\x07\0\0\0\xc3"  # mov eax, 7; ret
FRAMES = {
    EDGE_FRAMES: FUNCTION,
    EDGE_FRAMES + 0x1000: b"\xb8\x02\0\0\0\x90\xc3",
    0x30000: FUNCTION,
    0x2A000: entries({0: EDGE_FRAMES + 0x1000 | 7}),
    0x2C000: entries({0: 0x21007, 2: 0x2A007}),
    EDGE_TABLE: edge_table(page5=PROGRAM | 7),
}
LONG = {
    0x2D000: entries({0: 0x2E007}, wide=True),
    0x2E000: entries({0: 0x2F007}, wide=True),
    0x2F000: entries({0: 0x87, 1: 0x200087}, wide=True),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("name", WRITES)
def test_a_kernel_that_writes_to_its_code_runs_what_it_wrote(lab: Lab, name: str) -> None:
    outcome = lab.twins(program32(WRITES[name]), world32() | FRAMES)
    assert outcome.events() == []
    assert any(outcome.words(OUT, 2))


@pytest.mark.parametrize("place", range(0xFF0, 0x1001, 2), ids=hex)
def test_an_instruction_across_the_end_of_a_page_changes_with_either_part(lab: Lab, place: int) -> None:
    """MOV EAX, ..; ADD [OUT], EAX; RET at ``place`` behind 30000h: a byte of each part is written in turn."""
    site = 0x30000 + place
    body = b""
    for part in (1, 4):
        body += b"\x88\x0d" + (site + part).to_bytes(4, "little")  # mov [site + part], cl
        body += b"\xba" + site.to_bytes(4, "little") + b"\xff\xd2"  # mov edx, site; call edx
    body += b"\x49\x75" + bytes((-len(body) - 3 & 0xFF,))  # dec ecx; jnz to the first
    function = b"\xb8\x44\x33\x22\x11\x01\x05" + OUT.to_bytes(4, "little") + b"\xc3"
    outcome = lab.twins(program32(b"\xb9\x0c\0\0\0" + body), world32() | {site: function})
    assert outcome.words(OUT, 1)[0] & 0xFF == 2 * sum(range(13))


@pytest.mark.parametrize("flags", [0x202, 0x3002], ids=["run directly", "translated"])
def test_a_program_that_writes_to_a_function_runs_what_it_wrote(lab: Lab, flags: int) -> None:
    outcome = lab.twins(program32(USER, to_ring(3, flags)), world32() | FRAMES)
    assert outcome.words(OUT, 1) == (sum(range(51)),)


@pytest.mark.parametrize("name", REMAPS)
def test_code_that_is_mapped_elsewhere_is_other_code_once_the_guest_has_flushed(lab: Lab, name: str) -> None:
    outcome = lab.twins(program32(REMAPS[name]), world32() | FRAMES)
    assert bool(outcome.events()) == name.startswith("no frame")


@pytest.mark.parametrize("name", SPACES)
def test_two_address_spaces_have_each_its_own_code(lab: Lab, name: str) -> None:
    lab.twins(program32(SPACES[name]), world32() | FRAMES)


@pytest.mark.parametrize("name", TRAMPOLINES)
def test_a_change_of_mode_goes_on_in_the_code_of_the_new_mode(lab: Lab, name: str) -> None:
    outcome = lab.twins(program32(TRAMPOLINES[name]), world32() | LONG)
    assert outcome.events() == []


@pytest.mark.parametrize("how", ["as the host", "as a device"])
def test_code_that_somebody_else_writes_is_run_as_written(lab: Lab, how: str) -> None:
    """A loop on a function, until that gives 9: mov edx, 30000h; again: call edx; cmp al, 9; jne again."""

    def write(vm: vlab.VM) -> None:
        vm.run(lambda vm: vm.virtual_time_ns > 200_000)
        if how == "as the host":
            vm.memory[0x30001] = 9
        else:
            memory = vm.vmm.memory
            memory.ram[0x30001] = 9
            memory.on_written(0x30001, 1)

    program = program32("ba00000300ffd23c0975fa")
    outcome = lab.run(program, "binary-translation", world32() | FRAMES, before=write)
    assert outcome.stop.exit_code == 3, outcome.stop


def test_the_guest_reads_its_own_bytes_where_its_code_was_translated(lab: Lab) -> None:
    """It copies them: cld; mov esi, PROGRAM; mov edi, 30000h; mov ecx, 40h; rep movsb."""
    program = program32("fcbe00000400bf00000300b940000000f3a4")
    outcome = lab.twins(program, world32())
    assert outcome.memory[0x30000 : 0x30000 + len(program)] == program
