"""The exit codes of AMD-V, and what EXITINFO1 and EXITINFO2 mean for each.

Codes are those of AMD APM vol. 2, rev. 3.44 (APM2), appendix C; the layouts are at the sections named.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vlab.isa.fields import Register, bit, bits
from vlab.isa.vectors import PageFaultError, SelectorError


class SvmExit(IntEnum):
    """EXITCODE values (APM2 appendix C, table C-1). EXCP_n is exception vector n."""

    READ_CR0 = 0x000
    READ_CR1 = 0x001
    READ_CR2 = 0x002
    READ_CR3 = 0x003
    READ_CR4 = 0x004
    READ_CR5 = 0x005
    READ_CR6 = 0x006
    READ_CR7 = 0x007
    READ_CR8 = 0x008
    READ_CR9 = 0x009
    READ_CR10 = 0x00A
    READ_CR11 = 0x00B
    READ_CR12 = 0x00C
    READ_CR13 = 0x00D
    READ_CR14 = 0x00E
    READ_CR15 = 0x00F
    WRITE_CR0 = 0x010
    WRITE_CR1 = 0x011
    WRITE_CR2 = 0x012
    WRITE_CR3 = 0x013
    WRITE_CR4 = 0x014
    WRITE_CR5 = 0x015
    WRITE_CR6 = 0x016
    WRITE_CR7 = 0x017
    WRITE_CR8 = 0x018
    WRITE_CR9 = 0x019
    WRITE_CR10 = 0x01A
    WRITE_CR11 = 0x01B
    WRITE_CR12 = 0x01C
    WRITE_CR13 = 0x01D
    WRITE_CR14 = 0x01E
    WRITE_CR15 = 0x01F
    READ_DR0 = 0x020
    READ_DR1 = 0x021
    READ_DR2 = 0x022
    READ_DR3 = 0x023
    READ_DR4 = 0x024
    READ_DR5 = 0x025
    READ_DR6 = 0x026
    READ_DR7 = 0x027
    READ_DR8 = 0x028
    READ_DR9 = 0x029
    READ_DR10 = 0x02A
    READ_DR11 = 0x02B
    READ_DR12 = 0x02C
    READ_DR13 = 0x02D
    READ_DR14 = 0x02E
    READ_DR15 = 0x02F
    WRITE_DR0 = 0x030
    WRITE_DR1 = 0x031
    WRITE_DR2 = 0x032
    WRITE_DR3 = 0x033
    WRITE_DR4 = 0x034
    WRITE_DR5 = 0x035
    WRITE_DR6 = 0x036
    WRITE_DR7 = 0x037
    WRITE_DR8 = 0x038
    WRITE_DR9 = 0x039
    WRITE_DR10 = 0x03A
    WRITE_DR11 = 0x03B
    WRITE_DR12 = 0x03C
    WRITE_DR13 = 0x03D
    WRITE_DR14 = 0x03E
    WRITE_DR15 = 0x03F
    EXCP_DE = 0x040
    EXCP_DB = 0x041
    EXCP_NMI = 0x042
    EXCP_BP = 0x043
    EXCP_OF = 0x044
    EXCP_BR = 0x045
    EXCP_UD = 0x046
    EXCP_NM = 0x047
    EXCP_DF = 0x048
    EXCP_9 = 0x049
    EXCP_TS = 0x04A
    EXCP_NP = 0x04B
    EXCP_SS = 0x04C
    EXCP_GP = 0x04D
    EXCP_PF = 0x04E
    EXCP_15 = 0x04F
    EXCP_MF = 0x050
    EXCP_AC = 0x051
    EXCP_MC = 0x052
    EXCP_XF = 0x053
    EXCP_20 = 0x054
    EXCP_CP = 0x055
    EXCP_22 = 0x056
    EXCP_23 = 0x057
    EXCP_24 = 0x058
    EXCP_25 = 0x059
    EXCP_26 = 0x05A
    EXCP_27 = 0x05B
    EXCP_HV = 0x05C
    EXCP_VC = 0x05D
    EXCP_SX = 0x05E
    EXCP_31 = 0x05F
    INTR = 0x060
    NMI = 0x061
    SMI = 0x062
    INIT = 0x063
    VINTR = 0x064
    CR0_SEL_WRITE = 0x065
    IDTR_READ = 0x066
    GDTR_READ = 0x067
    LDTR_READ = 0x068
    TR_READ = 0x069
    IDTR_WRITE = 0x06A
    GDTR_WRITE = 0x06B
    LDTR_WRITE = 0x06C
    TR_WRITE = 0x06D
    RDTSC = 0x06E
    RDPMC = 0x06F
    PUSHF = 0x070
    POPF = 0x071
    CPUID = 0x072
    RSM = 0x073
    IRET = 0x074
    SWINT = 0x075
    INVD = 0x076
    PAUSE = 0x077
    HLT = 0x078
    INVLPG = 0x079
    INVLPGA = 0x07A
    IOIO = 0x07B
    MSR = 0x07C
    TASK_SWITCH = 0x07D
    FERR_FREEZE = 0x07E
    SHUTDOWN = 0x07F
    VMRUN = 0x080
    VMMCALL = 0x081
    VMLOAD = 0x082
    VMSAVE = 0x083
    STGI = 0x084
    CLGI = 0x085
    SKINIT = 0x086
    RDTSCP = 0x087
    ICEBP = 0x088
    WBINVD = 0x089
    MONITOR = 0x08A
    MWAIT = 0x08B
    MWAIT_CONDITIONAL = 0x08C
    XSETBV = 0x08D
    RDPRU = 0x08E
    EFER_WRITE_TRAP = 0x08F
    CR0_WRITE_TRAP = 0x090
    CR1_WRITE_TRAP = 0x091
    CR2_WRITE_TRAP = 0x092
    CR3_WRITE_TRAP = 0x093
    CR4_WRITE_TRAP = 0x094
    CR5_WRITE_TRAP = 0x095
    CR6_WRITE_TRAP = 0x096
    CR7_WRITE_TRAP = 0x097
    CR8_WRITE_TRAP = 0x098
    CR9_WRITE_TRAP = 0x099
    CR10_WRITE_TRAP = 0x09A
    CR11_WRITE_TRAP = 0x09B
    CR12_WRITE_TRAP = 0x09C
    CR13_WRITE_TRAP = 0x09D
    CR14_WRITE_TRAP = 0x09E
    CR15_WRITE_TRAP = 0x09F
    INVLPGB = 0x0A0
    INVLPGB_ILLEGAL = 0x0A1
    INVPCID = 0x0A2
    MCOMMIT = 0x0A3
    TLBSYNC = 0x0A4
    BUSLOCK = 0x0A5
    IDLE_HLT = 0x0A6
    NPF = 0x400
    AVIC_INCOMPLETE_IPI = 0x401
    AVIC_NOACCEL = 0x402
    VMGEXIT = 0x403
    INVALID_PMC = 0xFFFF_FFFF_FFFF_FFFC
    IDLE_REQUIRED = 0xFFFF_FFFF_FFFF_FFFD
    BUSY = 0xFFFF_FFFF_FFFF_FFFE
    INVALID = 0xFFFF_FFFF_FFFF_FFFF


EXCEPTION_BASE: Final = int(SvmExit.EXCP_DE)
"""Exit code of exception vector 0; the other 31 follow."""


_SEGMENTS: Final = dict(enumerate(("ES", "CS", "SS", "DS", "FS", "GS")))


class IoExitInfo(Register, width=64, reference="APM2 15.10.2"):
    """EXITINFO1 of IOIO; EXITINFO2 is the address of the next instruction."""

    IN = bit(0, "IN or INS, not OUT or OUTS")
    STR = bit(2, "INS or OUTS")
    REP = bit(3, "with a REP prefix")
    SZ8 = bit(4, "8-bit operand")
    SZ16 = bit(5, "16-bit operand")
    SZ32 = bit(6, "32-bit operand")
    A16 = bit(7, "16-bit address")
    A32 = bit(8, "32-bit address")
    A64 = bit(9, "64-bit address")
    SEG = bits(10, 12, "segment of INS and OUTS", _SEGMENTS)
    PORT = bits(16, 31, "port")

    @property
    def operand_bytes(self) -> int:
        """Width of the access: 1, 2 or 4 (0 when no size bit is set)."""
        return self >> 4 & 7

    @property
    def address_bytes(self) -> int:
        """Width of the address of INS and OUTS: 2, 4 or 8 (0 when no size bit is set)."""
        return (self >> 7 & 7) << 1

    @classmethod
    def make(
        cls, port: int, size: int, *, is_in: bool, string: bool = False, rep: bool = False
    ) -> IoExitInfo:
        """Give the qualification of an access of ``size`` bytes (1, 2 or 4) at ``port``."""
        if size not in (1, 2, 4):
            raise ValueError(f"size: {size} is not the width of a port access; give 1, 2 or 4")
        return cls(size << 4).replace(IN=is_in, STR=string, REP=rep, PORT=port)


class SmiInfo(Register, width=64, reference="APM2 15.13.3"):
    """EXITINFO1 of SMI; EXITINFO2 is the address of the I/O instruction when VALID is set."""

    EXTERNAL = bit(0, "from outside, not from I/O trapping")
    MCREDIR = bit(1, "a redirected machine check")
    SEG = bits(10, 12, "segment of INS and OUTS", _SEGMENTS)
    IN = bit(32, "IN or INS, not OUT or OUTS")
    VALID = bit(33, "raised during an I/O instruction")
    STR = bit(34, "INS or OUTS")
    REP = bit(35, "with a REP prefix")
    SZ8 = bit(36, "8-bit operand")
    SZ16 = bit(37, "16-bit operand")
    SZ32 = bit(38, "32-bit operand")
    A16 = bit(39, "16-bit address")
    A32 = bit(40, "32-bit address")
    A64 = bit(41, "64-bit address")
    TF = bit(43, "RFLAGS.TF")
    BRP = bits(44, 47, "I/O breakpoints met")
    PORT = bits(48, 63, "port")


class CrAccess(Register, width=64, reference="APM2 15.8.1"):
    """EXITINFO1 of reads and writes of control registers."""

    GPR = bits(0, 3, "general register of the MOV")
    MOV = bit(63, "the instruction is MOV, not CLTS, LMSW or SMSW")


class DrAccess(Register, width=64, reference="APM2 15.8.1"):
    """EXITINFO1 of reads and writes of debug registers."""

    GPR = bits(0, 3, "general register of the MOV")


class IntnInfo(Register, width=64, reference="APM2 15.8.2"):
    """EXITINFO1 of SWINT."""

    VECTOR = bits(0, 7, "the number in INT n")


class MsrAccess(Register, width=64, reference="APM2 15.11"):
    """EXITINFO1 of MSR; the number is in ECX."""

    W = bit(0, "WRMSR, not RDMSR")


class TaskSwitchSource(Register, width=64, reference="APM2 15.14.1"):
    """EXITINFO1 of TASK_SWITCH."""

    SELECTOR = bits(0, 15, "selector of the incoming TSS")


class TaskSwitchInfo(Register, width=64, reference="APM2 15.14.1"):
    """EXITINFO2 of TASK_SWITCH."""

    ERRORCODE = bits(0, 31, "error code to push in the new task, when EV is set")
    IRET = bit(36, "caused by IRET")
    JMP = bit(38, "caused by a far jump")
    EV = bit(44, "caused by an exception that has an error code")
    RF = bit(48, "RFLAGS.RF that the outgoing TSS would hold")


class NptFaultInfo(Register, width=64, reference="APM2 15.25.6"):
    """EXITINFO1 of NPF; EXITINFO2 is the guest-physical address."""

    P = bit(0, "the nested page was present: a protection violation")
    W = bit(1, "the access was a write")
    U = bit(2, "the access was by the user; the nested walk always is")
    RSVD = bit(3, "a reserved bit was set in a nested entry")
    I = bit(4, "the access was an instruction fetch")  # noqa: E741  the manual's name
    SS = bit(6, "the access was to a shadow stack")
    RMP = bit(31, "reverse-map check failed")
    FINAL = bit(32, "while translating the guest's final physical address")
    TABLE = bit(33, "while translating a guest page table's address")
    SSS = bit(37, "the page was a supervisor shadow stack and that is checked")


@dataclass(frozen=True, slots=True)
class ExitLayout:
    """What EXITINFO1 and EXITINFO2 mean: a Register that decodes each (or None) and a line of text."""

    info1: type[Register] | None
    meaning1: str
    info2: type[Register] | None
    meaning2: str


_NOTHING: Final = ExitLayout(None, "undefined", None, "undefined")
_SELECTOR: Final = ExitLayout(SelectorError, "error code", None, "undefined")
_ERROR_CODE: Final = ExitLayout(None, "error code", None, "undefined")

_LAYOUTS: Final[dict[int, ExitLayout]] = {
    SvmExit.EXCP_NP: _SELECTOR,
    SvmExit.EXCP_SS: _SELECTOR,
    SvmExit.EXCP_GP: _SELECTOR,
    SvmExit.EXCP_PF: ExitLayout(PageFaultError, "error code", None, "faulting linear address"),
    SvmExit.EXCP_AC: _ERROR_CODE,
    SvmExit.EXCP_CP: _ERROR_CODE,
    SvmExit.EXCP_SX: _ERROR_CODE,
    SvmExit.SMI: ExitLayout(SmiInfo, "source", None, "address of the I/O instruction"),
    SvmExit.SWINT: ExitLayout(IntnInfo, "software interrupt number", None, "undefined"),
    SvmExit.INVLPG: ExitLayout(None, "linear address", None, "undefined"),
    SvmExit.IOIO: ExitLayout(IoExitInfo, "the access", None, "address of the next instruction"),
    SvmExit.MSR: ExitLayout(MsrAccess, "read or write", None, "undefined"),
    SvmExit.TASK_SWITCH: ExitLayout(TaskSwitchSource, "incoming TSS", TaskSwitchInfo, "cause"),
    SvmExit.NPF: ExitLayout(NptFaultInfo, "the fault", None, "guest-physical address"),
}
_CR_LAYOUT: Final = ExitLayout(CrAccess, "the MOV's register", None, "undefined")
_DR_LAYOUT: Final = ExitLayout(DrAccess, "the MOV's register", None, "undefined")


def layout(code: int) -> ExitLayout:
    """Give the meaning of EXITINFO1 and EXITINFO2 for an exit code, known or not."""
    if code < SvmExit.READ_DR0:
        return _CR_LAYOUT
    if code < SvmExit.EXCP_DE:
        return _DR_LAYOUT
    return _LAYOUTS.get(code, _NOTHING)


def vector_of(code: int) -> int | None:
    """Give the exception vector that an exit code stands for, or None."""
    return code - EXCEPTION_BASE if EXCEPTION_BASE <= code < EXCEPTION_BASE + 32 else None


def name(code: int) -> str:
    """Name an exit code as the manual does without its prefix: ``CPUID``, ``EXCP_PF``, ``exit 0x123``."""
    try:
        return SvmExit(code).name
    except ValueError:
        return f"exit {code:#x}"
