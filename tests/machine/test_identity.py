"""CPUID: every feature that it shows is really there, and what it does not show is #UD."""

from __future__ import annotations

import pytest

from tests.machine.lab import CODE, DATA, Bench
from vlab.isa.svm_exits import SvmExit
from vlab.machine import identity as ident
from vlab.machine.identity import Identity

UD = 6
SSE = 0x600  # CR4.OSFXSR, OSXMMEXCPT

# One instruction for each feature bit: (word, bit) -> machine code in 64-bit mode. RSI and RDI: addresses.
_FEATURES = {
    ("1d", 0): "d9e8", ("1d", 4): "0f31", ("1d", 5): "b9800000c0 0f32",
    ("1d", 8): "0fc70e", ("1d", 15): "0f44c3",
    ("1d", 19): "0fae3e", ("1d", 23): "0fefc0", ("1d", 24): "0fae06",
    ("1d", 25): "0f58c1", ("1d", 26): "660f58c1",
    ("1c", 0): "f20f7cc1", ("1c", 1): "660f3a44c100", ("1c", 9): "660f3800c1", ("1c", 13): "480fc70e",
    ("1c", 19): "660f3840c1", ("1c", 20): "f20f38f1c3", ("1c", 22): "0f38f006", ("1c", 23): "f30fb8c3",
    ("1c", 25): "660f38dcc1",
    ("xd", 20): "b9800000c0 0f32", ("xd", 22): "0fe0c1", ("xd", 27): "0f01f9", ("xd", 29): "4831c0",
    ("xc", 0): "9f 9e", ("xc", 4): "44 0f20c0", ("xc", 5): "f30fbdc3", ("xc", 6): "660f78c00404",
    ("7b", 0): "f3480faec0", ("7b", 3): "c4e260f2c1", ("7b", 8): "c4e27bf5c1",
    ("7b", 19): "660f38f6c3", ("7b", 23): "660fae3e",
}  # fmt: skip


@pytest.mark.parametrize("code", _FEATURES.values(), ids=[f"{word}.{bit}" for word, bit in _FEATURES])
def test_a_feature_that_cpuid_shows_executes(lab: Bench, code: str) -> None:
    lab.intercept(0xFFFFFFFF)
    state = lab.long64()
    state.cr4 |= SSE | 0x10000  # and FSGSBASE
    state.rsi, state.rdi, state.rcx, state.rax = DATA, DATA + 0x100, 2, DATA
    assert lab.run(state, code + "f4") == SvmExit.HLT, hex(lab.core.rip - CODE)


def test_the_table_of_instructions_has_every_bit_that_is_an_instruction() -> None:
    """The other bits are page-table and MSR features, with tests of their own."""
    others = {
        ("1d", 3), ("1d", 6), ("1d", 9), ("1d", 11), ("1d", 12),
        ("1d", 13), ("1d", 16), ("1d", 17), ("xd", 11),
        ("xd", 26), ("7b", 7),
    }  # fmt: skip
    words = {
        "1d": ident.FEATURES_EDX,
        "1c": ident.FEATURES_ECX,
        "xc": ident.EXTENDED_ECX,
        "7b": ident.LEAF_7_EBX,
    }
    words["xd"] = ident.EXTENDED_EDX & ~ident.FEATURES_EDX | 1 << 11 | 1 << 26
    shown = {(name, bit) for name, word in words.items() for bit in range(32) if word >> bit & 1}
    assert shown == set(_FEATURES) | others


def test_sysenter_is_there_in_32_bit_code(lab: Bench) -> None:
    state = lab.flat32(user=True)
    state.sysenter_cs, state.sysenter_eip, state.sysenter_esp = 8, CODE + 0x100, 0x30000
    lab.code("f4", CODE + 0x100)
    assert lab.run(state, "0f34") == SvmExit.HLT
    assert lab.core.cpl == 0


def test_syscall_is_there(lab: Bench) -> None:
    state = lab.long64(user=True)
    state.star, state.lstar = 0x18 << 32, CODE + 0x100
    lab.code("f4", CODE + 0x100)
    assert lab.run(state, "0f05") == SvmExit.HLT


def test_1_gib_pages_are_there(lab: Bench) -> None:
    state = lab.long64()
    lab.poke(state.cr3 + 0x1000, (0x87).to_bytes(8, "little"))
    assert lab.run(state, "f4") == SvmExit.HLT


@pytest.mark.parametrize("address", [0, 0x400000], ids=["PSE", "PSE36"])
def test_4_mib_pages_are_there_and_reach_beyond_4_gib(lab: Bench, address: int) -> None:
    high = 0x1_0000_0000 if address else 0
    if high:
        lab.map(high, lab.base, large=True)
    state = lab.flat32()
    state.cr3, state.cr4, state.cr0 = 0x90000, 0x10, 0x80000011
    entry = 0x87 | (high >> 32) << 13
    lab.poke(0x90000, (0x87).to_bytes(4, "little") + entry.to_bytes(4, "little"))
    lab.poke(DATA, "78563412")
    state.rbx = address + DATA
    assert lab.run(state, "8b03 f4") == SvmExit.HLT
    assert lab.core.get_gpr(0) == 0x12345678


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("0fc7f0", "RDRAND"), ("0fc7f8", "RDSEED"),
        ("0f01ca", "CLAC"), ("0f01cb", "STAC"), ("0f01c8", "MONITOR"),
        ("0f01c9", "MWAIT"), ("0f01d0", "XGETBV"), ("0fae26", "XSAVE"), ("0fae2e", "XRSTOR"),
        ("0f01ee", "RDPKRU"), ("0f01d8", "VMRUN"),
        ("0f01d9", "VMMCALL"), ("0f01da", "VMLOAD"), ("0f01dc", "STGI"),
        ("0f01dd", "CLGI"), ("0f01de", "SKINIT"), ("0f01df", "INVLPGA"),
        ("0faa", "RSM"), ("0f0f c1 9e", "3DNow!"),
        ("660f3882 06", "INVPCID"), ("0f01d1", "XSETBV"), ("0f01fd", "RDPRU"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("user", [False, True])
def test_an_instruction_that_cpuid_does_not_show_is_ud(lab: Bench, code: str, what: str, user: bool) -> None:
    lab.intercept(1 << UD | 1 << 13)
    state = lab.long64(user=user)
    state.cr4 |= SSE
    state.rsi = DATA
    assert lab.run(state, code + "f4") == SvmExit.EXCP_DE + UD, what
    assert lab.core.rip == CODE


@pytest.mark.parametrize(
    ("code", "vector"), [("660f3882 06", UD), ("660f380006", 7)], ids=["INVPCID", "PSHUFB"]
)
def test_an_instruction_that_is_not_there_is_ud_whatever_cr0_ts_says(
    lab: Bench, code: str, vector: int
) -> None:
    lab.intercept(1 << UD | 1 << 7)
    state = lab.long64()
    state.cr0 |= 8
    state.cr4 |= SSE
    state.rsi = DATA
    assert lab.run(state, code) == SvmExit.EXCP_DE + vector


def test_the_guest_sees_the_leaves(lab: Bench) -> None:
    lab.processor.identity = Identity(brand="a brand of 47 characters at the most, cut to that", svm=True)
    name = b""
    for leaf in (0x80000002, 0x80000003, 0x80000004):
        state = lab.long64()
        state.rax, state.rcx = leaf | 0xABCD << 32, 0
        lab.run(state, "0fa2 f4")
        name += b"".join(lab.core.get_gpr(n).to_bytes(4, "little") for n in (0, 3, 1, 2))
    assert name.rstrip(b"\0") == b"a brand of 47 characters at the most, cut to that"[:47]


def test_leaves_that_do_not_exist_are_zero() -> None:
    table = Identity()
    assert table.cpuid(0x12345678, 0) == table.cpuid(7, 1) == table.cpuid(0x40000000, 0) == (0, 0, 0, 0)
    assert table.cpuid(0x8000000A, 0) == (0, 0, 0, 0)


def test_the_highest_extended_leaf_is_one_that_is_there() -> None:
    table = Identity()
    top = table.cpuid(0x80000000, 0)[0]
    assert top == max(table.leaves)
    assert any(table.cpuid(top, 0))


@pytest.mark.parametrize("svm", [False, True])
def test_the_svm_profile_shows_amd_v(svm: bool) -> None:
    table = Identity(svm=svm)
    assert bool(table.cpuid(0x80000001, 0)[2] & ident.SVM) is svm
    assert bool(table.cpuid(0x8000000A, 0)[3] & 1) is svm


def test_a_hypervisor_shows_itself() -> None:
    table = Identity(hypervisor=b"vlabvlabvlab", apic=False)
    assert table.cpuid(1, 0)[2] & ident.HYPERVISOR
    assert not table.cpuid(1, 0)[3] & ident.APIC
    assert table.cpuid(0x40000000, 0)[1:] == tuple([int.from_bytes(b"vlab", "little")] * 3)


def test_the_vendor_is_spelled_across_three_registers() -> None:
    _, ebx, ecx, edx = Identity().cpuid(0, 0)
    assert b"".join(word.to_bytes(4, "little") for word in (ebx, edx, ecx)) == b"AuthenticAMD"
