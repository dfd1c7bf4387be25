"""Shared memory, code that the host changes, device windows, and nested pages of every size."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, HANDLERS, RAM, Bench
from vlab.isa.svm_exits import SvmExit
from vlab.machine.memory import LARGE_PAGE, PAGE


def test_guest_and_host_see_the_same_bytes(lab: Bench) -> None:
    lab.poke(DATA, "11223344")
    assert lab.run(lab.flat32(), "a100000200 a304000200 f4") == SvmExit.HLT
    assert lab.peek(DATA + 4, 4) == 0x44332211


def test_stores_of_the_guest_reach_its_own_code_at_once(lab: Bench) -> None:
    """MOV byte [next], 43h over a NOP in the same block."""
    code = "c605" + (CODE + 7).to_bytes(4, "little").hex() + "43 90 f4"
    assert lab.run(lab.flat32(), code) == SvmExit.HLT
    assert lab.core.get_gpr(3) == 1


def test_code_that_the_host_changes_is_stale_until_it_is_flushed(lab: Bench) -> None:
    assert lab.run(lab.flat32(), "43 f4") == SvmExit.HLT
    lab.ram[CODE] = 0x4B  # DEC EBX
    lab.core.load(lab.flat32())
    assert lab.processor.run() == SvmExit.HLT
    assert lab.core.get_gpr(3) == 1
    lab.engine.flush_code()
    lab.core.load(lab.flat32())
    assert lab.processor.run() == SvmExit.HLT
    assert lab.core.get_gpr(3) == 0xFFFFFFFF


def test_a_window_gets_offset_size_and_value(lab: Bench) -> None:
    log: list[tuple[int, ...]] = []

    def read(offset: int, size: int) -> int:
        log.append((offset, size))
        return 0x1122334455667788 & (1 << 8 * size) - 1

    window = lab.machine.window(read, lambda *access: log.append(access))
    lab.map(0x600000, window)
    code = "8a06 668b4602 8b4604 894608 66894602 8806 f4"
    state = lab.flat32()
    state.rsi = 0x600000
    assert lab.run(state, code) == SvmExit.HLT
    assert log == [(0, 1), (2, 2), (4, 4), (8, 4, 0x55667788), (2, 2, 0x7788), (0, 1, 0x88)]


def test_a_quadword_access_to_a_window(lab: Bench) -> None:
    log: list[tuple[int, ...]] = []
    window = lab.machine.window(
        lambda *access: log.append(access) or 0xAABBCCDD, lambda *access: log.append(access)
    )
    lab.map(0x3FF000, window)
    lab.map(0x3FF000, window)
    state = lab.long64()
    lab.poke(state.cr3 + 0x2010, (0x600087).to_bytes(8, "little"))
    lab.map(0x600000, window)
    state.rsi = 0x400000
    assert lab.run(state, "488b06 48894608 f4") == SvmExit.HLT
    assert sum(access[1] for access in log if len(access) == 2) == 8
    assert sum(access[1] for access in log if len(access) == 3) == 8


def test_code_in_a_window_is_undefined(lab: Bench) -> None:
    """On an open bus FF FF is read, which is no instruction."""
    lab.map(0x600000, lab.machine.window(lambda _o, size: (1 << 8 * size) - 1, lambda *_access: None))
    lab.intercept(1 << 6)
    state = lab.flat32()
    state.rip = 0x600000
    assert lab.run(state) == SvmExit.EXCP_UD
    assert lab.core.rip == 0x600000


def test_page_tables_in_a_window_are_walked(lab: Bench) -> None:
    """The hardware asks the device for entries; it does not end the process."""
    lab.map(0x600000, lab.machine.window(lambda _o, _s: 0x87, lambda *_access: None))
    state = lab.flat32()
    state.cr3, state.cr4, state.cr0 = 0x600000, 0x10, 0x80000011
    assert lab.run(state, "f4") == SvmExit.HLT


# --- nested paging ----------------------------------------------------------------------------------------


def test_a_2_mib_nested_page_covers_its_range(lab: Bench) -> None:
    lab.map(RAM, lab.base, large=True)
    lab.poke(LARGE_PAGE - 4, "12345678")
    lab.poke(DATA, "abcd")
    state = lab.flat32()
    last, data = ((RAM + offset).to_bytes(4, "little").hex() for offset in (LARGE_PAGE - 4, DATA))
    code = f"a1{last} 8b1d{data} f4"
    assert lab.run(state, code) == SvmExit.HLT
    assert (lab.core.get_gpr(0), lab.core.get_gpr(3) & 0xFFFF) == (0x78563412, 0xCDAB)


def test_a_1_gib_nested_page_covers_its_range(lab: Bench) -> None:
    """Nested tables with one entry: all of it starts at host-physical 0."""
    top, middle = (lab.machine.frames.allocate() for _ in range(2))
    for table in (top, middle):
        lab.memory.zero(table, PAGE)
    lab.memory.write(top, 8, middle | 7)
    lab.memory.write(middle, 8, 0x87)
    lab.code("f4")
    state = lab.flat32()
    state.rip = lab.base + CODE
    lab.core.load(state)
    lab.processor.set_intercepts(0, 0, 0, 0, top)
    assert lab.processor.run() == SvmExit.HLT
    assert lab.processor.mmu.host_address(0x123456) == 0x123456
    lab.machine.frames.free(top)
    lab.machine.frames.free(middle)


@pytest.mark.parametrize(
    ("code", "flags", "error"),
    [
        ("a100006000", 0, 4), ("a300006000", 0, 6),
        ("a300006000", 5, 7), ("a100006000", 3, 5), ("ffe0", 0, 0x14),
        ("ffe0", 3, 0x15),
    ],
)  # fmt: skip
def test_a_nested_page_fault_says_what_was_wrong(lab: Bench, code: str, flags: int, error: int) -> None:
    """Not present, not writable, not for users: every guest access is a user's (APM2 15.25.5)."""
    lab.map(0x600000, lab.base, flags=flags)
    state = lab.flat32()
    state.rax = 0x600000
    assert lab.run(state, code) == SvmExit.NPF
    assert (lab.processor.info1, lab.processor.info2) == (error, 0x600000)
    assert lab.core.rip == (0x600000 if code == "ffe0" else CODE)
    lab.map(0x600000, lab.base)


def test_a_no_execute_bit_in_a_nested_table_is_a_nested_fault_and_not_the_end_of_the_process(
    lab: Bench,
) -> None:
    """With NX on in the host, QEMU 5.0 dereferences NULL for a guest page table behind such an entry."""
    lab.map(0x600000, lab.base | 1 << 63)
    lab.poke(0, (0x87).to_bytes(4, "little"))
    state = lab.flat32()
    state.cr3, state.cr4, state.cr0 = 0x600000, 0x10, 0x80000011
    assert lab.run(state, "f4") == SvmExit.NPF
    assert (lab.processor.info1 & 0x1F, lab.processor.info2) == (0xF, 0x600000)
    lab.map(0x600000, lab.base)


def test_the_walk_of_guest_tables_faults_in_the_nested_ones_too(lab: Bench) -> None:
    state = lab.flat32()
    state.cr3, state.cr4, state.cr0 = 0x700000, 0x10, 0x80000011
    assert lab.run(state, "f4") == SvmExit.NPF
    assert lab.processor.info2 == 0x700000
    assert lab.core.rip == CODE


def test_a_nested_page_that_is_mapped_is_used_after_a_flush(lab: Bench) -> None:
    state = lab.flat32()
    assert lab.run(state, "a100006000 f4") == SvmExit.NPF
    lab.map(0x600000, lab.base + DATA)
    lab.poke(DATA, "78563412")
    lab.processor.set_nested_root(lab.root)
    assert lab.processor.run() == SvmExit.HLT
    assert lab.core.get_gpr(0) == 0x12345678


def test_without_nested_paging_guest_tables_lead_to_host_frames(lab: Bench) -> None:
    """How a monitor with shadow tables runs its guest."""
    state = lab.long64()
    root = lab.machine.frames.allocate(3 * PAGE)
    lab.memory.zero(root, 3 * PAGE)
    lab.memory.write(root, 8, root + PAGE | 7)
    lab.memory.write(root + PAGE, 8, root + 2 * PAGE | 7)
    lab.memory.write(root + 2 * PAGE, 8, lab.base | 0x87)
    state.cr3 = root
    lab.core.load(state)
    lab.processor.set_intercepts(1 << 14, 0, 0, 0, None)
    lab.code("48a10000020000000000 48a10000400000000000")
    lab.poke(DATA, "01")
    assert lab.processor.run() == SvmExit.EXCP_PF
    assert (lab.core.get_gpr(0), lab.processor.info2) == (1, 0x400000)
    lab.machine.frames.free(root)


def test_a_loaded_state_forgets_translations(lab: Bench) -> None:
    state = lab.long64()
    assert lab.run(state, "a10000020000000000 f4") == SvmExit.HLT
    lab.poke(state.cr3 + 0x2000, (0).to_bytes(8, "little"))
    lab.intercept(1 << 14)
    lab.core.load(state)
    assert lab.processor.run() == SvmExit.EXCP_PF
    assert HANDLERS
