"""The model-specific registers that system software meets, each with its meaning and its value after reset.

Numbers and resets are those of AMD APM vol. 2, rev. 3.44 (APM2), appendix A; the few configuration registers
that it leaves to the processor's own manual (PATCH_*, NB_CFG, *_CFG, OSVW_*) are those of family 17h.
"""

from __future__ import annotations

from enum import IntEnum

from vlab.isa import control
from vlab.isa.fields import Register, bit, bits


class ApicBase(Register, width=64, reference="APM2 16.3.1"):
    """Where the local APIC is, and whether it is on."""

    BSC = bit(8, "this is the boot processor")
    EXTD = bit(10, "x2APIC mode")
    AE = bit(11, "APIC enable")
    BASE = bits(12, 51, "frame number of the register page")


class Star(Register, width=64, reference="APM2 6.1.1"):
    """Segment selectors of SYSCALL and SYSRET."""

    SYSCALL_EIP = bits(0, 31, "target of SYSCALL outside long mode")
    SYSCALL_CS = bits(32, 47, "CS that SYSCALL loads; SS is 8 above")
    SYSRET_CS = bits(48, 63, "CS that SYSRET loads for 32-bit code; 64-bit code is 16 above, SS 8 above")


class VmCr(Register, width=64, reference="APM2 15.30.1"):
    """Global control of AMD-V."""

    DPD = bit(0, "debug port disable")
    R_INIT = bit(1, "INIT is redirected to #SX")
    DIS_A20M = bit(2, "A20 masking is off")
    LOCK = bit(3, "SVMDIS cannot be changed")
    SVMDIS = bit(4, "EFER.SVME cannot be set")


class MtrrCap(Register, width=64, reference="APM2 7.7.1"):
    """What memory-type range registers there are."""

    VCNT = bits(0, 7, "number of variable ranges")
    FIX = bit(8, "fixed ranges exist")
    WC = bit(10, "write combining exists")


class MtrrDefType(Register, width=64, reference="APM2 7.7.2"):
    """The memory type of addresses that no range covers."""

    TYPE = bits(0, 7, "default type", {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB"})
    FE = bit(10, "fixed ranges are on")
    E = bit(11, "range registers are on")


class DebugCtl(Register, width=64, reference="APM2 13.1.1.6"):
    """Debug features beside DR7."""

    LBR = bit(0, "record the last branches")
    BTF = bit(1, "RFLAGS.TF stops at branches only")
    BLCKDB = bit(2, "#DB after a bus lock at CPL above 0")
    FLBRI = bit(11, "freeze the branch records at a counter interrupt")
    FPMCI = bit(12, "freeze the performance counters at a counter interrupt")


class Msr(IntEnum):
    """An MSR: its value is the number in ECX; ``meaning``, ``reset`` and ``register`` say the rest."""

    meaning: str
    reset: int
    register: type[Register] | None

    def __new__(
        cls, number: int, meaning: str = "", reset: int = 0, register: type[Register] | None = None
    ) -> Msr:
        """Declare one MSR; ``Msr(number)`` looks one up, ValueError when it is not declared."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        member.reset = reset
        member.register = register
        return member

    TSC = 0x10, "time stamp counter"
    APIC_BASE = 0x1B, "local APIC base address", 0xFEE00900, ApicBase
    SPEC_CTRL = 0x48, "speculation control"
    PRED_CMD = 0x49, "speculation commands"
    PATCH_LEVEL = 0x8B, "microcode patch level"
    MPERF = 0xE7, "maximum-frequency clock count"
    APERF = 0xE8, "actual-frequency clock count"
    MTRR_CAP = 0xFE, "memory-type range capabilities", 0x508, MtrrCap
    SYSENTER_CS = 0x174, "CS that SYSENTER loads"
    SYSENTER_ESP = 0x175, "stack pointer that SYSENTER loads"
    SYSENTER_EIP = 0x176, "target of SYSENTER"
    MCG_CAP = 0x179, "machine-check capabilities"
    MCG_STATUS = 0x17A, "machine-check status"
    MCG_CTL = 0x17B, "machine-check control"
    DEBUG_CTL = 0x1D9, "debug control", 0, DebugCtl
    LAST_BRANCH_FROM = 0x1DB, "source of the last branch"
    LAST_BRANCH_TO = 0x1DC, "target of the last branch"
    LAST_INT_FROM = 0x1DD, "source of the last branch before an exception"
    LAST_INT_TO = 0x1DE, "target of the last branch before an exception"
    MTRR_PHYS_BASE0 = 0x200, "variable range 0: base and type"
    MTRR_PHYS_MASK0 = 0x201, "variable range 0: mask"
    MTRR_PHYS_BASE1 = 0x202, "variable range 1: base and type"
    MTRR_PHYS_MASK1 = 0x203, "variable range 1: mask"
    MTRR_PHYS_BASE2 = 0x204, "variable range 2: base and type"
    MTRR_PHYS_MASK2 = 0x205, "variable range 2: mask"
    MTRR_PHYS_BASE3 = 0x206, "variable range 3: base and type"
    MTRR_PHYS_MASK3 = 0x207, "variable range 3: mask"
    MTRR_PHYS_BASE4 = 0x208, "variable range 4: base and type"
    MTRR_PHYS_MASK4 = 0x209, "variable range 4: mask"
    MTRR_PHYS_BASE5 = 0x20A, "variable range 5: base and type"
    MTRR_PHYS_MASK5 = 0x20B, "variable range 5: mask"
    MTRR_PHYS_BASE6 = 0x20C, "variable range 6: base and type"
    MTRR_PHYS_MASK6 = 0x20D, "variable range 6: mask"
    MTRR_PHYS_BASE7 = 0x20E, "variable range 7: base and type"
    MTRR_PHYS_MASK7 = 0x20F, "variable range 7: mask"
    MTRR_FIX_64K_00000 = 0x250, "types of 0x00000-0x7ffff, 64 KB each"
    MTRR_FIX_16K_80000 = 0x258, "types of 0x80000-0x9ffff, 16 KB each"
    MTRR_FIX_16K_A0000 = 0x259, "types of 0xa0000-0xbffff, 16 KB each"
    MTRR_FIX_4K_C0000 = 0x268, "types of 0xc0000-0xc7fff, 4 KB each"
    MTRR_FIX_4K_C8000 = 0x269, "types of 0xc8000-0xcffff, 4 KB each"
    MTRR_FIX_4K_D0000 = 0x26A, "types of 0xd0000-0xd7fff, 4 KB each"
    MTRR_FIX_4K_D8000 = 0x26B, "types of 0xd8000-0xdffff, 4 KB each"
    MTRR_FIX_4K_E0000 = 0x26C, "types of 0xe0000-0xe7fff, 4 KB each"
    MTRR_FIX_4K_E8000 = 0x26D, "types of 0xe8000-0xeffff, 4 KB each"
    MTRR_FIX_4K_F0000 = 0x26E, "types of 0xf0000-0xf7fff, 4 KB each"
    MTRR_FIX_4K_F8000 = 0x26F, "types of 0xf8000-0xfffff, 4 KB each"
    PAT = 0x277, "page attribute table", 0x0007040600070406
    MTRR_DEF_TYPE = 0x2FF, "default memory type", 0, MtrrDefType
    MC0_CTL = 0x400, "machine-check bank 0 control"
    MC0_STATUS = 0x401, "machine-check bank 0 status"
    MC0_ADDR = 0x402, "machine-check bank 0 address"
    MC0_MISC = 0x403, "machine-check bank 0 detail"
    XSS = 0xDA0, "supervisor state that XSAVES manages"
    EFER = 0xC0000080, "extended feature enable", 0, control.EFER
    STAR = 0xC0000081, "segments of SYSCALL and SYSRET", 0, Star
    LSTAR = 0xC0000082, "target of SYSCALL from 64-bit code"
    CSTAR = 0xC0000083, "target of SYSCALL from compatibility mode"
    SFMASK = 0xC0000084, "flags that SYSCALL clears", 0, control.EFlags
    FS_BASE = 0xC0000100, "FS base"
    GS_BASE = 0xC0000101, "GS base"
    KERNEL_GS_BASE = 0xC0000102, "the GS base that SWAPGS exchanges"
    TSC_AUX = 0xC0000103, "what RDTSCP gives in ECX"
    TSC_RATIO = 0xC0000104, "scale of the guest's time stamp counter", 1 << 32
    PERF_EVT_SEL0 = 0xC0010000, "performance event select 0"
    PERF_EVT_SEL1 = 0xC0010001, "performance event select 1"
    PERF_EVT_SEL2 = 0xC0010002, "performance event select 2"
    PERF_EVT_SEL3 = 0xC0010003, "performance event select 3"
    PERF_CTR0 = 0xC0010004, "performance counter 0"
    PERF_CTR1 = 0xC0010005, "performance counter 1"
    PERF_CTR2 = 0xC0010006, "performance counter 2"
    PERF_CTR3 = 0xC0010007, "performance counter 3"
    SYSCFG = 0xC0010010, "system configuration"
    HWCR = 0xC0010015, "hardware configuration"
    IORR_BASE0 = 0xC0010016, "I/O range 0 base"
    IORR_MASK0 = 0xC0010017, "I/O range 0 mask"
    IORR_BASE1 = 0xC0010018, "I/O range 1 base"
    IORR_MASK1 = 0xC0010019, "I/O range 1 mask"
    TOP_MEM = 0xC001001A, "top of memory below 4 GB"
    TOP_MEM2 = 0xC001001D, "top of memory above 4 GB"
    NB_CFG = 0xC001001F, "northbridge configuration"
    PATCH_LOADER = 0xC0010020, "write loads a microcode patch"
    NAME_STRING0 = 0xC0010030, "processor name, bytes 0 to 7"
    NAME_STRING1 = 0xC0010031, "processor name, bytes 8 to 15"
    NAME_STRING2 = 0xC0010032, "processor name, bytes 16 to 23"
    NAME_STRING3 = 0xC0010033, "processor name, bytes 24 to 31"
    NAME_STRING4 = 0xC0010034, "processor name, bytes 32 to 39"
    NAME_STRING5 = 0xC0010035, "processor name, bytes 40 to 47"
    INT_PENDING = 0xC0010055, "interrupt-pending message"
    PSTATE_LIMIT = 0xC0010061, "P-state limit"
    PSTATE_CONTROL = 0xC0010062, "P-state control"
    PSTATE_STATUS = 0xC0010063, "P-state status"
    SMBASE = 0xC0010111, "base of the system-management memory", 0x30000
    SMM_ADDR = 0xC0010112, "address of the protected system-management range"
    SMM_MASK = 0xC0010113, "mask of the protected system-management range"
    VM_CR = 0xC0010114, "AMD-V control", 0, VmCr
    IGNNE = 0xC0010115, "ignore numeric error"
    SMM_CTL = 0xC0010116, "system-management mode control"
    VM_HSAVE_PA = 0xC0010117, "physical address where VMRUN saves the host"
    SVM_KEY = 0xC0010118, "unlocks SVMDIS"
    OSVW_ID_LENGTH = 0xC0010140, "number of valid workaround bits"
    OSVW_STATUS = 0xC0010141, "workaround bits"
    LS_CFG = 0xC0011020, "load-store configuration"
    IC_CFG = 0xC0011021, "instruction cache configuration"
    DC_CFG = 0xC0011022, "data cache configuration"
    DE_CFG = 0xC0011029, "decode configuration"


def find(number: int) -> Msr | None:
    """Give the declared MSR with this number, or None."""
    try:
        return Msr(number)
    except ValueError:
        return None


def name(number: int) -> str:
    """Name an MSR: ``EFER``, or ``MSR 0xc0011022`` when it is not declared."""
    known = find(number)
    return known.name if known is not None else f"MSR {number:#x}"
