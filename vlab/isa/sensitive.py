"""The instructions that a monitor must not let a guest execute by itself: the sensitive ones.

Popek and Goldberg (CACM 17, 1974) call an instruction *sensitive* when it changes or shows the state that the
monitor keeps for the guest, and *privileged* when it traps outside the most privileged ring. A processor can
be virtualized by trap-and-emulate when the first are a subset of the second. On x86 they are not: Robin and
Irvine (USENIX Security 2000) list seventeen that do not trap. Names follow AMD APM vol. 3, rev. 3.36.

Near transfers of control (``NEAR``) are not sensitive. They are families here because a translator carries
them out itself when it must.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Sensitive(IntEnum):
    """The families, by the name that traces and tables show."""

    CLI = 0
    STI = 1
    PUSHF = 2
    POPF = 3
    HLT = 4
    MOV_CR = 5
    MOV_DR = 6
    CLTS = 7
    LMSW = 8
    SMSW = 9
    LGDT = 10
    LIDT = 11
    LLDT = 12
    LTR = 13
    SGDT = 14
    SIDT = 15
    SLDT = 16
    STR = 17
    LAR = 18
    LSL = 19
    VERR = 20
    VERW = 21
    INVLPG = 22
    INVD = 23
    WBINVD = 24
    RDMSR = 25
    WRMSR = 26
    RDPMC = 27
    RDTSC = 28
    IRET = 29
    INT = 30
    JMP_FAR = 31
    CALL_FAR = 32
    RET_FAR = 33
    LOAD_SEGMENT = 34
    STORE_SEGMENT = 35
    SYSCALL = 36
    SYSRET = 37
    SYSENTER = 38
    SYSEXIT = 39
    SWAPGS = 40
    JMP_NEAR = 41
    CALL_NEAR = 42
    RET_NEAR = 43
    JCC = 44
    ACCESS = 45


NEAR: Final = frozenset((Sensitive.JMP_NEAR, Sensitive.CALL_NEAR, Sensitive.RET_NEAR, Sensitive.JCC))
"""The families that are not sensitive. Jcc has LOOPcc and JrCXZ with it."""

_MNEMONICS = {
    "mov_cr": "MOV CRn", "mov_dr": "MOV DRn", "jmp_far": "JMP far", "call_far": "CALL far",
    "ret_far": "RET far", "jmp_near": "JMP near", "call_near": "CALL near", "ret_near": "RET near",
    "jcc": "Jcc, LOOPcc, JrCXZ", "load_segment": "MOV/POP/Lxx to a segment register",
    "store_segment": "MOV/PUSH from a segment register", "rdtsc": "RDTSC, RDTSCP",
}  # fmt: skip


def mnemonic(family: int) -> str:
    """Give the family's name as manuals write it: "CLI", "MOV CRn"."""
    name = Sensitive(family).name
    return _MNEMONICS.get(name.lower(), name)
