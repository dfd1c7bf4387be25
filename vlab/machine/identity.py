"""What CPUID says: the processor's features, of which each is really there.

The list is what the emulator underneath implements, less what would break a promise: RDRAND (two runs would
differ), XSAVE (its state is not part of a snapshot's promise), SMAP, MONITOR and performance counters. What
is not on the list is taken from the emulator too (``power_on``), and raises #UD. AMD APM vol. 3, rev. 3.36,
appendix E, gives the leaves.
"""

from __future__ import annotations

from typing import Final

Leaf = tuple[int, int, int, int]

VENDOR: Final = b"AuthenticAMD"
BRAND: Final = "vlab processor (AMD-V, emulated)"
FAMILY_MODEL_STEPPING: Final = 0x00800F12
"""Family 17h, model 01h, stepping 2: the first EPYC, which the emulator models."""

TSC_HZ: Final = 1_000_000_000
"""The time stamp counter advances once a virtual nanosecond."""

_FPU, _PSE, _TSC, _MSR, _PAE, _CX8, _APIC, _SEP = 0, 3, 4, 5, 6, 8, 9, 11
_MTRR, _PGE, _CMOV, _PAT, _PSE36, _CLFSH, _MMX, _FXSR, _SSE, _SSE2 = 12, 13, 15, 16, 17, 19, 23, 24, 25, 26


def _mask(*bits: int) -> int:
    return sum(1 << bit for bit in bits)


FEATURES_EDX: Final = _mask(
    _FPU, _PSE, _TSC, _MSR, _PAE, _CX8, _APIC, _SEP, _MTRR, _PGE, _CMOV, _PAT, _PSE36, _CLFSH,
    _MMX, _FXSR, _SSE, _SSE2,
)  # fmt: skip
FEATURES_ECX: Final = _mask(0, 1, 9, 13, 19, 20, 22, 23, 25)
"""SSE3 PCLMULQDQ SSSE3 CMPXCHG16B SSE4.1 SSE4.2 MOVBE POPCNT AES."""
HYPERVISOR: Final = 1 << 31
APIC: Final = 1 << _APIC
SVM: Final = 1 << 2

_SHARED_EDX: Final = FEATURES_EDX & _mask(0, 3, 4, 5, 6, 8, 9, 12, 13, 15, 16, 17, 23, 24)
EXTENDED_EDX: Final = _SHARED_EDX | _mask(11, 20, 22, 26, 27, 29)
"""SYSCALL NX MMXEXT 1-GB-pages RDTSCP LM."""
EXTENDED_ECX: Final = _mask(0, 4, 5, 6)
"""LAHF CR8-legacy ABM SSE4A."""
LEAF_7_EBX: Final = _mask(0, 3, 7, 8, 19, 23)
"""FSGSBASE BMI1 SMEP BMI2 ADX CLFLUSHOPT; not ERMS, for REP MOVSB and STOSB move byte by byte here."""
_TSC_INVARIANT: Final = 1 << 8
_BTC_NO: Final = 1 << 29
"""No branch type confusion: nothing here speculates, so a kernel need not defend itself against it."""
_SRSO_NO: Final = 1 << 29
"""Nor speculative return stack overflow (leaf 8000_0021h)."""


def _words(text: bytes) -> Leaf:
    parts = [int.from_bytes(text[start : start + 4], "little") for start in range(0, 16, 4)]
    return (parts[0], parts[1], parts[2], parts[3])


class Identity:
    """A table of CPUID leaves.

    brand: up to 47 characters. apic: whether a local APIC is there. svm: whether AMD-V is. hypervisor: the
    twelve characters of leaf 4000_0000h, None without a monitor.
    """

    def __init__(
        self, *, brand: str = BRAND, apic: bool = True, svm: bool = False, hypervisor: bytes | None = None
    ) -> None:
        edx = FEATURES_EDX if apic else FEATURES_EDX & ~APIC
        ecx = FEATURES_ECX | (HYPERVISOR if hypervisor else 0)
        vendor = _words(VENDOR)
        name = brand.encode("ascii")[:47].ljust(48, b"\0")
        self.leaves: dict[int, Leaf] = {
            0: (7, vendor[0], vendor[2], vendor[1]),
            1: (FAMILY_MODEL_STEPPING, 0x00010800, ecx, edx),
            7: (0, LEAF_7_EBX, 0, 0),
            0x80000000: (0x80000021, vendor[0], vendor[2], vendor[1]),
            0x80000001: (
                FAMILY_MODEL_STEPPING,
                0,
                EXTENDED_ECX | (SVM if svm else 0),
                EXTENDED_EDX if apic else EXTENDED_EDX & ~APIC,
            ),
            0x80000002: _words(name[:16]),
            0x80000003: _words(name[16:32]),
            0x80000004: _words(name[32:48]),
            0x80000005: (0xFF40FF18, 0xFF40FF30, 0x20080140, 0x20040140),
            0x80000006: (0, 0x42004200, 0x02006140, 0),
            0x80000007: (0, 0, 0, _TSC_INVARIANT),
            0x80000008: (0x3028, _BTC_NO, 0, 0),  # 48 linear and 40 physical address bits
            0x80000021: (_SRSO_NO, 0, 0, 0),
        }
        if svm:
            self.leaves[0x8000000A] = (1, 16, 0, 0x1)  # revision 1, 16 ASIDs, nested paging
        if hypervisor:
            words = _words(hypervisor)
            self.leaves[0x40000000] = (0x40000001, words[0], words[1], words[2])
            self.leaves[0x40000001] = (0, 0, 0, 0)

    def cpuid(self, leaf: int, subleaf: int) -> Leaf:
        """Give EAX, EBX, ECX, EDX; leaves that do not exist are zero, as on AMD processors."""
        if subleaf and leaf == 7:
            return (0, 0, 0, 0)
        return self.leaves.get(leaf, (0, 0, 0, 0))
