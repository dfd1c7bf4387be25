"""Code that runs through one mapping and is written through another, as the emulator takes it.

Processors see such a store at the latest behind a serializing instruction (AMD APM vol. 2, rev. 3.42, 7.6.1).
The emulator looks for translated code where it fills its TLB for a store, and after that at stores through
executable pages alone.
"""

from __future__ import annotations

import pytest

from tests.machine.lab import TABLES, Bench
from vlab.isa.svm_exits import SvmExit

CODE_AT, ALIAS, FRAME = 0x400000, 0x401000, 0x30000
NX, NXE = 1 << 63, 1 << 11

CALL = "ffd6"  # call rsi
FILL = "c6470801"  # mov byte [rdi + 8], 1: fills the TLB for the alias
STORE = "c6470102"  # mov byte [rdi + 1], 2: changes the operand of the code's MOV
CPUID, RELOAD = "0fa2", "0f20d8 0f22d8"  # mov rax, cr3; mov cr3, rax


def number(lab: Bench, code: str, *, executable: bool) -> int:
    """Call ``mov al, 1; ret`` in the middle of ``code`` or so, and give what its last call brought."""
    state = lab.long64()
    state.efer |= NXE
    table = TABLES + 0x4000
    lab.poke(TABLES + 0x2010, (table | 7).to_bytes(8, "little"))
    lab.poke(
        table,
        (FRAME | 7).to_bytes(8, "little") + (FRAME | 7 | (0 if executable else NX)).to_bytes(8, "little"),
    )
    lab.poke(FRAME, "b001 c3")
    state.rsi, state.rdi = CODE_AT, ALIAS
    assert lab.run(state, code + "f4") == SvmExit.HLT
    return lab.core.get_gpr(0) & 0xFF


@pytest.mark.parametrize("behind", ["", CPUID, RELOAD], ids=["", "cpuid", "cr3"])
@pytest.mark.parametrize("before", ["", FILL], ids=["", "filled"])
def test_a_store_through_an_executable_alias_changes_code_at_once(
    lab: Bench, before: str, behind: str
) -> None:
    assert number(lab, before + CALL + STORE + behind + CALL, executable=True) == 2


@pytest.mark.parametrize("before", ["", FILL + RELOAD], ids=["first", "flushed"])
def test_the_first_store_through_another_alias_changes_it_too(lab: Bench, before: str) -> None:
    assert number(lab, before + CALL + STORE + CALL, executable=False) == 2
    assert number(lab, FILL + CALL + RELOAD + STORE + CALL, executable=False) == 2


@pytest.mark.parametrize("behind", ["", CPUID, RELOAD], ids=["", "cpuid", "cr3"])
def test_a_later_one_leaves_the_old_code_running(lab: Bench, behind: str) -> None:
    """The emulator's fault; a serializing instruction does not help."""
    assert number(lab, FILL + CALL + STORE + behind + CALL, executable=False) == 1
