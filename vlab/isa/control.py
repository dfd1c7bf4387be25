"""The control registers, EFER, the flags and the debug registers.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.fields import Register, bit, bits


class CR0(Register, width=64, reference="APM2 3.1.1"):
    """Protection, paging, caching and x87 control."""

    PE = bit(0, "protection enable: protected mode")
    MP = bit(1, "monitor coprocessor: WAIT traps while TS is set")
    EM = bit(2, "emulation: x87 instructions trap")
    TS = bit(3, "task switched: the next x87 or SSE instruction traps")
    ET = bit(4, "extension type: reads as 1")
    NE = bit(5, "numeric error: x87 errors raise #MF instead of an external interrupt")
    WP = bit(16, "write protect: the supervisor too obeys read-only pages")
    AM = bit(18, "alignment mask: lets RFLAGS.AC check alignment at CPL 3")
    NW = bit(29, "not write-through: ignored by hardware")
    CD = bit(30, "cache disable")
    PG = bit(31, "paging")


class CR3(Register, width=64, reference="APM2 3.1.2"):
    """Root of the page tables for legacy and 4-level paging (for PAE see CR3Pae)."""

    PWT = bit(3, "page-level write-through for the top table")
    PCD = bit(4, "page-level cache disable for the top table")
    BASE = bits(12, 51, "frame number of the top table")


class CR3Pae(Register, width=64, reference="APM2 5.2.1"):
    """Root of the page tables for legacy PAE paging: four pointers, aligned to 32 bytes."""

    PWT = bit(3, "page-level write-through for the page-directory-pointer table")
    PCD = bit(4, "page-level cache disable for the page-directory-pointer table")
    BASE = bits(5, 31, "address of the page-directory-pointer table, in units of 32 bytes")


class CR4(Register, width=64, reference="APM2 3.1.3"):
    """Extensions that system software has to turn on."""

    VME = bit(0, "virtual-8086 mode extensions")
    PVI = bit(1, "protected-mode virtual interrupts")
    TSD = bit(2, "time stamp disable: RDTSC only at CPL 0")
    DE = bit(3, "debugging extensions: I/O breakpoints, no DR4 and DR5")
    PSE = bit(4, "page size extensions: 4 MB pages in legacy paging")
    PAE = bit(5, "physical address extensions: 64-bit page-table entries")
    MCE = bit(6, "machine check enable")
    PGE = bit(7, "page global enable: the G bit keeps a translation over CR3 writes")
    PCE = bit(8, "performance counters readable at CPL 3")
    OSFXSR = bit(9, "the operating system saves SSE state with FXSAVE")
    OSXMMEXCPT = bit(10, "the operating system handles #XF")
    UMIP = bit(11, "user-mode instruction prevention: SGDT SIDT SLDT SMSW STR only at CPL 0")
    LA57 = bit(12, "57-bit linear addresses: 5-level paging")
    FSGSBASE = bit(16, "RDFSBASE, WRFSBASE, RDGSBASE and WRGSBASE at any CPL")
    PCIDE = bit(17, "process-context identifiers in CR3")
    OSXSAVE = bit(18, "the operating system uses XSAVE and XCR0")
    SMEP = bit(20, "supervisor-mode execution prevention: no fetch from user pages")
    SMAP = bit(21, "supervisor-mode access prevention: no access to user pages unless RFLAGS.AC")
    PKE = bit(22, "memory protection keys")
    CET = bit(23, "shadow stacks")


class EFER(Register, width=64, reference="APM2 3.1.7"):
    """Extended feature enable register (MSR 0xC0000080)."""

    SCE = bit(0, "SYSCALL and SYSRET enable")
    LME = bit(8, "long mode enable: long mode begins when paging is turned on")
    LMA = bit(10, "long mode active: set by the processor")
    NXE = bit(11, "no-execute enable: bit 63 of page-table entries means NX")
    SVME = bit(12, "secure virtual machine enable: VMRUN and its companions")
    LMSLE = bit(13, "long mode segment limit enable")
    FFXSR = bit(14, "fast FXSAVE and FXRSTOR")
    TCE = bit(15, "translation cache extension")
    MCOMMIT = bit(17, "MCOMMIT instruction enable")
    INTWB = bit(18, "interruptible WBINVD and WBNOINVD")
    UAIE = bit(20, "upper address ignore")
    AIBRSE = bit(21, "automatic IBRS")


class EFlags(Register, width=64, reference="APM2 3.1.6"):
    """RFLAGS: status, control and system flags."""

    FIXED = 1 << 1

    CF = bit(0, "carry")
    PF = bit(2, "parity of the low byte")
    AF = bit(4, "carry out of bit 3")
    ZF = bit(6, "zero")
    SF = bit(7, "sign")
    TF = bit(8, "trap: #DB after each instruction")
    IF = bit(9, "interrupts are taken")
    DF = bit(10, "direction: string instructions count down")
    OF = bit(11, "signed overflow")
    IOPL = bits(12, 13, "I/O privilege level: highest CPL that may use CLI, STI, IN and OUT")
    NT = bit(14, "nested task: IRET returns through the TSS link")
    RF = bit(16, "resume: no instruction breakpoint on the next instruction")
    VM = bit(17, "virtual-8086 mode")
    AC = bit(18, "alignment check; with CR4.SMAP, allows access to user pages")
    VIF = bit(19, "virtual interrupt flag (CR4.VME or CR4.PVI)")
    VIP = bit(20, "virtual interrupt pending (CR4.VME or CR4.PVI)")
    ID = bit(21, "can be changed: CPUID exists")


_BREAK_ON = {0: "execute", 1: "write", 2: "I/O", 3: "read or write"}
_LENGTH = {0: "1 byte", 1: "2 bytes", 2: "8 bytes", 3: "4 bytes"}


class DR6(Register, width=64, reference="APM2 13.1.1.3"):
    """Debug status: why #DB was raised."""

    FIXED = 0xFFFF07F0

    B0 = bit(0, "breakpoint 0 met")
    B1 = bit(1, "breakpoint 1 met")
    B2 = bit(2, "breakpoint 2 met")
    B3 = bit(3, "breakpoint 3 met")
    BLD = bit(11, "0: a bus lock was the cause")
    BD = bit(13, "a debug register was accessed while DR7.GD was set")
    BS = bit(14, "single step: RFLAGS.TF was set")
    BT = bit(15, "task switch to a TSS with its T bit set")


class DR7(Register, width=64, reference="APM2 13.1.1.4"):
    """Debug control: which breakpoints are armed, on what, and how wide."""

    FIXED = 1 << 10

    L0 = bit(0, "breakpoint 0 armed for this task")
    G0 = bit(1, "breakpoint 0 armed for all tasks")
    L1 = bit(2, "breakpoint 1 armed for this task")
    G1 = bit(3, "breakpoint 1 armed for all tasks")
    L2 = bit(4, "breakpoint 2 armed for this task")
    G2 = bit(5, "breakpoint 2 armed for all tasks")
    L3 = bit(6, "breakpoint 3 armed for this task")
    G3 = bit(7, "breakpoint 3 armed for all tasks")
    LE = bit(8, "exact local breakpoints: ignored")
    GE = bit(9, "exact global breakpoints: ignored")
    GD = bit(13, "general detect: #DB on any access to a debug register")
    RW0 = bits(16, 17, "what meets breakpoint 0", _BREAK_ON)
    LEN0 = bits(18, 19, "width of breakpoint 0", _LENGTH)
    RW1 = bits(20, 21, "what meets breakpoint 1", _BREAK_ON)
    LEN1 = bits(22, 23, "width of breakpoint 1", _LENGTH)
    RW2 = bits(24, 25, "what meets breakpoint 2", _BREAK_ON)
    LEN2 = bits(26, 27, "width of breakpoint 2", _LENGTH)
    RW3 = bits(28, 29, "what meets breakpoint 3", _BREAK_ON)
    LEN3 = bits(30, 31, "width of breakpoint 3", _LENGTH)


class XCR0(Register, width=64, reference="APM2 11.5.2"):
    """XFEATURE_ENABLED_MASK: the state that XSAVE manages."""

    X87 = bit(0, "x87 state: reads as 1")
    SSE = bit(1, "XMM registers and MXCSR")
    YMM = bit(2, "upper halves of the YMM registers")
    PKRU = bit(9, "protection key rights")
    LWP = bit(62, "lightweight profiling")


DECLARED: Final[dict[str, type[Register]]] = {"rflags": EFlags, "cr0": CR0, "cr4": CR4, "efer": EFER}
"""The fields of `vlab.isa.state.CpuState` whose bits have names."""
