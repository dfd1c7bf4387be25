"""Encodings that the emulator takes otherwise than the manual has them, and what depends on their ring.

Sections are those of AMD APM vol. 3, rev. 3.36.
"""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, Bench
from vlab.isa.svm_exits import SvmExit
from vlab.isa.vectors import Vector

X = SvmExit
UD, GP = X.EXCP_DE + Vector.UD, X.EXCP_DE + Vector.GP
FAULTS = 1 << Vector.UD | 1 << Vector.GP


@pytest.mark.parametrize("prefix", ["66", "f2", "f3", "f0"])
def test_movnti_ignores_prefixes_that_make_it_undefined(lab: Bench, prefix: str) -> None:
    """66h, F2h and F3h before 0F C3 name no instruction (appendix A), and LOCK is for others (1.2.5): #UD."""
    lab.intercept(FAULTS)
    state = lab.flat32()
    state.rax, state.rsi = 0x11223344, DATA
    assert lab.run(state, prefix + "0fc306 f4") == X.HLT
    assert (lab.core.rip, lab.peek(DATA, 8)) == (CODE + 4, 0x11223344)


def test_movnti_to_a_register_is_undefined(lab: Bench) -> None:
    lab.intercept(FAULTS)
    assert lab.run(lab.flat32(), "0fc3c0 f4") == UD


# --- the instructions of AMD-V ------------------------------------------------------------------------------

CODES = {
    "vmrun": ("0f01d8", X.VMRUN), "vmload": ("0f01da", X.VMLOAD), "vmsave": ("0f01db", X.VMSAVE),
    "stgi": ("0f01dc", X.STGI), "clgi": ("0f01dd", X.CLGI), "invlpga": ("0f01df", X.INVLPGA),
}  # fmt: skip
ANYWHERE = {"vmmcall": ("0f01d9", X.VMMCALL), "skinit": ("0f01de", X.SKINIT)}
INTERCEPTS = tuple(code for _, code in (CODES | ANYWHERE).values())


@pytest.mark.parametrize("name", CODES | ANYWHERE)
@pytest.mark.parametrize("user", [False, True])
def test_without_amd_v_its_instructions_are_undefined_in_every_ring(
    lab: Bench, name: str, user: bool
) -> None:
    """#UD for EFER.SVME = 0, whatever the ring ("VMRUN"; APM2 15.4)."""
    lab.intercept(FAULTS)
    for state in (lab.flat32(user=user), lab.long64(user=user)):
        assert lab.run(state, (CODES | ANYWHERE)[name][0] + "f4") == UD


@pytest.mark.parametrize("name", CODES)
def test_in_guest_mode_the_ring_is_checked_before_the_intercept(lab: Bench, name: str) -> None:
    """EFER.SVME is 1 there whatever the guest is shown: #GP in ring 3 (APM2 15.5.1, 15.9)."""
    lab.intercept(FAULTS, *INTERCEPTS)
    code, intercept = CODES[name]
    for user, expected in ((False, intercept), (True, GP)):
        for state in (lab.flat32(user=user), lab.long64(user=user)):
            assert lab.run(state, code + "f4") == expected
    assert lab.processor.info1 == 0
    assert lab.run(lab.real(), code + "f4") == UD  # recognized in protected mode alone


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("name", ANYWHERE)
def test_vmmcall_and_skinit_are_intercepted_in_every_ring(lab: Bench, name: str, user: bool) -> None:
    """SKINIT should be #GP in ring 3 first (APM2 15.9)."""
    lab.intercept(FAULTS, *INTERCEPTS)
    code, intercept = ANYWHERE[name]
    assert lab.run(lab.long64(user=user), code + "f4") == intercept
