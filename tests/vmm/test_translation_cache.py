"""The cache itself: when it is full, when an access keeps faulting, and what is counted of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vmm.translation_lab import (
    EDGE_FRAMES,
    EDGE_TABLE,
    OUT,
    Lab,
    edge_table,
    entries,
    open_lab,
    program32,
    program64,
    world32,
    world64,
)
from vlab.vmm.translation import code_cache
from vlab.vmm.translation.library import Counts
from vlab.vmm.translation.monitor import BinaryTranslation

CALLS = "b93c00000089c883e01fc1e0050500000300ffd00105003000009cfb909de8050000004975dfeb07b820000300ffe0"
"""Sixty times: a call to one of 32 functions, flags saved, interrupts on and restored, a jump to a RET."""
DEVICE = "b928000000890d30508000ff0500300000e2f2"
"""Forty times: mov [EDGE + 5030h], ecx; inc dword [OUT]."""
ROM = 0xF0000
FAR = 0xFFFF8000_00048000
CALL_FAR = "48b8008004000080ffffffd0"
"""mov rax, FAR; call rax."""
RELATIVE = (
    "488d1d10000000448d0d20000000668d0d300000004c8d2500b2fbff8b05e0affbff8305e0affbff07ff35e0affbff5a678b35e0ffff"
    "ff678d3de0ffffff803de0affbff059c5f4989d84d01c84d31e04901f04901d0c3"
)
"""LEA of four kinds, MOV, ADD, PUSH and CMP with operands relative to RIP and EIP; RET."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from open_lab(tmp_path_factory.mktemp("guest"))


def functions() -> dict[int, bytes]:
    """Functions of 32 bytes from 30000h on: mov eax, number; ret."""
    return {0x30000 + 32 * n: b"\xb8" + n.to_bytes(4, "little") + b"\xc3" for n in range(32)}


def counted(lab: Lab, program: bytes, memory: dict[int, bytes]) -> Counts:
    """Run it both ways; give the counts of the translated one."""
    found: list[Counts] = []

    def note(monitor: BinaryTranslation) -> None:
        found.append(monitor.translations.counts)

    lab.twins(program, world32() | memory, after=note)
    return found[0]


def test_blocks_links_targets_and_misses_are_counted(lab: Lab) -> None:
    counts = counted(lab, program32(CALLS), functions())
    assert counts.blocks > 32
    assert counts.source_bytes > counts.instructions > counts.blocks
    assert counts.expansion == counts.code_bytes / counts.source_bytes
    assert counts.misses >= counts.targets >= 32
    assert counts.links > 32


@pytest.mark.parametrize("size", [0x600, 0x700, 0x900])
def test_a_cache_that_is_always_full_is_emptied_and_the_guest_goes_on(
    lab: Lab, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "CODE_SIZE", size)
    assert counted(lab, program32(CALLS), functions()).flushes > 1


@pytest.mark.parametrize("size", [5, 9])
def test_gates_that_are_used_up_are_begun_anew(lab: Lab, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    append = code_cache.CodeCache.append_gate

    def limited(cache: code_cache.CodeCache, code: bytes) -> int:
        if cache.gates_used + len(code) > size:
            raise code_cache.CacheFull
        made.append(cache.gates_used)
        return append(cache, code)

    monkeypatch.setattr(code_cache.CodeCache, "append_gate", limited)
    counts = counted(lab, program32("fb90fa" * 6), {})  # sti; nop; cli
    assert made
    assert max(made) < size
    assert counts.flushes > 1


def test_a_write_that_keeps_reaching_no_memory_becomes_a_call_out(lab: Lab) -> None:
    counts = counted(lab, program32(DEVICE), {EDGE_TABLE: edge_table(page5=ROM | 7)})
    assert counts.slow == 1


def test_a_call_out_that_reaches_plain_memory_is_taken_back(lab: Lab) -> None:
    """The same loop again over memory: another frame in the table; invlpg [EDGE + 5000h]; dec ebp; jns."""
    remap = b"\xc7\x05" + (EDGE_TABLE + 20).to_bytes(4, "little")
    remap += (EDGE_FRAMES + 0x3000 | 7).to_bytes(4, "little") + bytes.fromhex("0f013d00508000")
    body = bytes.fromhex(DEVICE)
    again = b"\x4d\x0f\x89" + (-len(body) - len(remap) - 7 & 0xFFFFFFFF).to_bytes(4, "little")
    program = program32(b"\xbd\x01\0\0\0" + body + remap + again)
    taken_back: list[int] = []

    def note(monitor: BinaryTranslation) -> None:
        taken_back.extend(monitor.faulting.regrets.values())

    world = world32() | {EDGE_TABLE: edge_table(page5=ROM | 7)}
    outcome = lab.twins(program, world, after=note)
    assert outcome.words(OUT, 1) == (80,)
    assert taken_back == [8]


def test_a_block_whose_source_changes_is_dropped_and_linked_again(lab: Lab) -> None:
    """Ten times: inc dword [30001h]; call 30000h."""
    body = bytes.fromhex("bb0a000000") + bytes.fromhex("ff0501000300ba00000300ffd24b75f0")
    before = counted(lab, program32(""), functions())
    counts = counted(lab, program32(body), functions())
    assert counts.dropped > before.dropped
    assert counts.blocks > before.blocks


def far_world(code: str) -> dict[int, bytes]:
    """The lowest memory a second time, in the middle of the address space, with code at FAR."""
    top = entries({0: 0x21007, 256: 0x21007, 511: 0x23007}, wide=True)
    return world64() | {0x20000: top, 0x48000: bytes.fromhex(code)}


def test_code_far_from_the_cache_reaches_its_operands(lab: Lab) -> None:
    lab.twins(program64(CALL_FAR + CALL_FAR), far_world(RELATIVE), wide=True)


def test_an_operand_that_neither_the_translation_nor_the_monitor_reaches_ends_the_run(lab: Lab) -> None:
    """movdqu xmm0, [rip + 10h]."""
    enable = "0f20e00d000600000f22e0"  # mov rax, cr4; or eax, 600h; mov cr4, rax
    outcome = lab.run(
        program64(enable + CALL_FAR), "binary-translation", far_world("f30f6f0510000000c3"), wide=True
    )
    assert f"the instruction at {FAR:#x} is not emulated" in outcome.stop.story
    assert "it would not reach its operand, which is relative to RIP" in outcome.stop.story
