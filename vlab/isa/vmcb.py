"""The virtual-machine control block of AMD-V: the control area, the state-save area and their registers.

Offsets are those of AMD APM vol. 2, rev. 3.44 (APM2), appendix B, tables B-1 and B-2. Both blocks are made
with the address of the VMCB itself: ``VmcbControl(memory, vmcb)`` and ``VmcbSave(memory, vmcb)``; the
save area's fields are declared from 0x400 on.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from vlab.isa.blocks import Block, at
from vlab.isa.control import CR0, CR3, CR4, DR6, DR7, EFER, EFlags
from vlab.isa.descriptors import SegmentAttributes, Selector
from vlab.isa.fields import Register, bit, bits
from vlab.isa.state import Segment, TableRegister

VMCB_SIZE: Final = 0x1000
SAVE_AREA: Final = 0x400


class InterceptMisc1(Register, width=32, reference="APM2 15.9, table B-1 offset 00Ch"):
    """Intercept vector 3; exit code 0x60 + bit."""

    INTR = bit(0, "physical maskable interrupt")
    NMI = bit(1, "non-maskable interrupt")
    SMI = bit(2, "system-management interrupt")
    INIT = bit(3, "INIT signal")
    VINTR = bit(4, "virtual interrupt about to be taken")
    CR0_SEL_WRITE = bit(5, "CR0 write that changes other bits than TS and MP")
    IDTR_READ = bit(6, "SIDT")
    GDTR_READ = bit(7, "SGDT")
    LDTR_READ = bit(8, "SLDT")
    TR_READ = bit(9, "STR")
    IDTR_WRITE = bit(10, "LIDT")
    GDTR_WRITE = bit(11, "LGDT")
    LDTR_WRITE = bit(12, "LLDT")
    TR_WRITE = bit(13, "LTR")
    RDTSC = bit(14, "RDTSC")
    RDPMC = bit(15, "RDPMC")
    PUSHF = bit(16, "PUSHF")
    POPF = bit(17, "POPF")
    CPUID = bit(18, "CPUID")
    RSM = bit(19, "RSM")
    IRET = bit(20, "IRET")
    SWINT = bit(21, "INT n")
    INVD = bit(22, "INVD")
    PAUSE = bit(23, "PAUSE")
    HLT = bit(24, "HLT")
    INVLPG = bit(25, "INVLPG")
    INVLPGA = bit(26, "INVLPGA")
    IOIO = bit(27, "IN and OUT to ports marked in the I/O permission map")
    MSR = bit(28, "RDMSR and WRMSR marked in the MSR permission map")
    TASK_SWITCH = bit(29, "task switch")
    FERR_FREEZE = bit(30, "processor freeze on a legacy FERR error")
    SHUTDOWN = bit(31, "shutdown: a triple fault")


class InterceptMisc2(Register, width=32, reference="APM2 15.9, table B-1 offset 010h"):
    """Intercept vector 4; exit code 0x80 + bit."""

    VMRUN = bit(0, "VMRUN: must be set")
    VMMCALL = bit(1, "VMMCALL")
    VMLOAD = bit(2, "VMLOAD")
    VMSAVE = bit(3, "VMSAVE")
    STGI = bit(4, "STGI")
    CLGI = bit(5, "CLGI")
    SKINIT = bit(6, "SKINIT")
    RDTSCP = bit(7, "RDTSCP")
    ICEBP = bit(8, "ICEBP (INT1)")
    WBINVD = bit(9, "WBINVD and WBNOINVD")
    MONITOR = bit(10, "MONITOR and MONITORX")
    MWAIT = bit(11, "MWAIT and MWAITX")
    MWAIT_CONDITIONAL = bit(12, "MWAIT while the monitor is armed")
    XSETBV = bit(13, "XSETBV")
    RDPRU = bit(14, "RDPRU")
    EFER_WRITE_TRAP = bit(15, "EFER write, after it happened")
    CR_WRITE_TRAP = bits(16, 31, "CR0 to CR15 write, after it happened: one bit for each")


class InterceptMisc3(Register, width=32, reference="APM2 15.9, table B-1 offset 014h"):
    """Intercept vector 5; exit code 0xA0 + bit."""

    INVLPGB = bit(0, "INVLPGB")
    INVLPGB_ILLEGAL = bit(1, "INVLPGB with illegal operands")
    INVPCID = bit(2, "INVPCID")
    MCOMMIT = bit(3, "MCOMMIT")
    TLBSYNC = bit(4, "TLBSYNC")
    BUSLOCK = bit(5, "bus lock beyond the threshold")
    IDLE_HLT = bit(6, "HLT with no virtual interrupt pending")


class TlbControl(Register, width=8, reference="APM2 15.16.1"):
    """What VMRUN does to the TLB."""

    COMMAND = bits(
        0,
        7,
        "flush at VMRUN",
        {0: "nothing", 1: "everything", 3: "this guest's entries", 7: "this guest's non-global entries"},
    )


class IntCtl(Register, width=64, reference="APM2 15.21, table B-1 offset 060h"):
    """Virtual interrupt control."""

    V_TPR = bits(0, 7, "virtual task priority")
    V_IRQ = bit(8, "a virtual interrupt is pending")
    V_GIF = bit(9, "virtual global interrupt flag")
    V_NMI = bit(11, "a virtual NMI is pending")
    V_NMI_MASK = bit(12, "virtual NMIs are masked")
    V_INTR_PRIO = bits(16, 19, "priority of the virtual interrupt")
    V_IGN_TPR = bit(20, "the virtual interrupt ignores V_TPR")
    V_INTR_MASKING = bit(24, "RFLAGS.IF of the guest masks virtual interrupts only")
    V_GIF_ENABLE = bit(25, "the guest has a global interrupt flag of its own")
    V_NMI_ENABLE = bit(26, "NMIs of the guest are virtual")
    X2AVIC_ENABLE = bit(30, "virtual x2APIC")
    AVIC_ENABLE = bit(31, "virtual APIC")
    V_INTR_VECTOR = bits(32, 39, "vector of the virtual interrupt")


class InterruptState(Register, width=64, reference="APM2 15.21.5, table B-1 offset 068h"):
    """What masks interrupts beside RFLAGS.IF."""

    INTERRUPT_SHADOW = bit(0, "the instruction after STI or a load of SS has not finished")
    GUEST_INTERRUPT_MASK = bit(1, "the guest's RFLAGS.IF, for encrypted guests")


class EventType(IntEnum):
    """The kinds of event in EVENTINJ and EXITINTINFO (APM2 15.20)."""

    INTERRUPT = 0
    NMI = 2
    EXCEPTION = 3
    SOFTWARE = 4


class EventInjection(Register, width=64, reference="APM2 15.20"):
    """EVENTINJ, the event that VMRUN delivers first; EXITINTINFO, the one whose delivery was cut short."""

    VECTOR = bits(0, 7, "vector in the IDT")
    TYPE = bits(8, 10, "kind of event", {0: "interrupt", 2: "NMI", 3: "exception", 4: "software-interrupt"})
    EV = bit(11, "the error code is valid and is pushed")
    V = bit(31, "valid")
    ERRORCODE = bits(32, 63, "error code")

    @classmethod
    def interrupt(cls, vector: int) -> EventInjection:
        """Give the injection of an external interrupt."""
        return cls(0).replace(VECTOR=vector, TYPE=EventType.INTERRUPT, V=1)

    @classmethod
    def exception(cls, vector: int, error_code: int | None = None) -> EventInjection:
        """Give the injection of an exception, with an error code unless it is None."""
        plain = cls(0).replace(VECTOR=vector, TYPE=EventType.EXCEPTION, V=1)
        return plain if error_code is None else plain.replace(EV=1, ERRORCODE=error_code)

    @classmethod
    def software(cls, vector: int) -> EventInjection:
        """Give the injection of INT n."""
        return cls(0).replace(VECTOR=vector, TYPE=EventType.SOFTWARE, V=1)

    @classmethod
    def nmi(cls) -> EventInjection:
        """Give the injection of a non-maskable interrupt."""
        return cls(0).replace(VECTOR=2, TYPE=EventType.NMI, V=1)


class NestedControl(Register, width=64, reference="APM2 15.25.3, table B-1 offset 090h"):
    """Nested paging and memory encryption."""

    NP_ENABLE = bit(0, "nested paging")
    SEV_ENABLE = bit(1, "secure encrypted virtualization")
    SEV_ES_ENABLE = bit(2, "encrypted register state")
    GMET_ENABLE = bit(3, "guest mode execute trap")
    SSS_CHECK = bit(4, "supervisor shadow stack check")
    VTE_ENABLE = bit(5, "virtual transparent encryption")
    RO_GPT_ENABLE = bit(6, "read-only guest page tables")
    INVLPGB_ENABLE = bit(7, "the guest may use INVLPGB and TLBSYNC")


class LbrControl(Register, width=64, reference="APM2 15.23, table B-1 offset 0B8h"):
    """Virtualization of last-branch records, VMLOAD and VMSAVE, sampling and counters."""

    LBR_ENABLE = bit(0, "last-branch records are switched with the guest")
    V_VMLOAD_VMSAVE = bit(1, "VMLOAD and VMSAVE run in the guest without an exit")
    IBS_ENABLE = bit(2, "instruction-based sampling is switched with the guest")
    PMC_ENABLE = bit(3, "performance counters are switched with the guest")


class CleanBits(Register, width=32, reference="APM2 15.15.3"):
    """Groups of VMCB fields that software has not changed since the last VMRUN."""

    I = bit(0, "intercepts, TSC offset, pause filter")  # noqa: E741  the manual's name
    IOPM = bit(1, "I/O and MSR permission map addresses")
    ASID = bit(2, "address-space identifier")
    TPR = bit(3, "virtual interrupt control")
    NP = bit(4, "nested paging: control, nested CR3, PAT")
    CRX = bit(5, "CR0, CR3, CR4, EFER")
    DRX = bit(6, "DR6, DR7")
    DT = bit(7, "GDT and IDT")
    SEG = bit(8, "CS, DS, SS, ES and CPL")
    CR2 = bit(9, "CR2")
    LBR = bit(10, "last-branch records")
    AVIC = bit(11, "virtual APIC")
    CET = bit(12, "shadow stacks")


class VmcbControl(Block):
    """The control area: what is intercepted, how the guest runs, and why it stopped."""

    SIZE = SAVE_AREA
    REFERENCE = "APM2 appendix B, table B-1"

    intercept_cr_read = at(0x000, 2, "read of CR0 to CR15: one bit for each")
    intercept_cr_write = at(0x002, 2, "write of CR0 to CR15: one bit for each")
    intercept_dr_read = at(0x004, 2, "read of DR0 to DR15: one bit for each")
    intercept_dr_write = at(0x006, 2, "write of DR0 to DR15: one bit for each")
    intercept_exceptions = at(0x008, 4, "exception vectors 0 to 31: one bit for each")
    intercept_misc1 = at(0x00C, 4, "intercept vector 3", InterceptMisc1)
    intercept_misc2 = at(0x010, 4, "intercept vector 4", InterceptMisc2)
    intercept_misc3 = at(0x014, 4, "intercept vector 5", InterceptMisc3)
    pause_filter_threshold = at(0x03C, 2, "cycles between two PAUSEs of one spin loop")
    pause_filter_count = at(0x03E, 2, "PAUSEs allowed before an exit")
    iopm_base_pa = at(0x040, 8, "physical address of the I/O permission map")
    msrpm_base_pa = at(0x048, 8, "physical address of the MSR permission map")
    tsc_offset = at(0x050, 8, "added to the time stamp counter in the guest")
    asid = at(0x058, 4, "address-space identifier: not 0")
    tlb_control = at(0x05C, 1, "TLB flush at VMRUN", TlbControl)
    erap_ctl = at(0x05D, 1, "return address predictor: bit 0 size, bit 1 clear at VMRUN")
    int_ctl = at(0x060, 8, "virtual interrupt control", IntCtl)
    interrupt_state = at(0x068, 8, "interrupt shadow", InterruptState)
    exitcode = at(0x070, 8, "why the guest stopped")
    exitinfo1 = at(0x078, 8, "first qualification of the exit")
    exitinfo2 = at(0x080, 8, "second qualification of the exit")
    exitintinfo = at(0x088, 8, "the event whose delivery the exit interrupted", EventInjection)
    nested_ctl = at(0x090, 8, "nested paging", NestedControl)
    avic_apic_bar = at(0x098, 8, "guest-physical address of the virtual APIC")
    ghcb = at(0x0A0, 8, "guest-physical address of the GHCB")
    eventinj = at(0x0A8, 8, "the event that VMRUN delivers first", EventInjection)
    nested_cr3 = at(0x0B0, 8, "host-physical address of the nested page tables", CR3)
    lbr_ctl = at(0x0B8, 8, "last-branch records", LbrControl)
    clean_bits = at(0x0C0, 4, "field groups unchanged since the last VMRUN", CleanBits)
    nrip = at(0x0C8, 8, "address of the next instruction")
    bytes_fetched = at(0x0D0, 1, "number of valid instruction bytes")
    instruction_bytes = at(0x0D1, 15, "instruction bytes at the exit, first byte lowest")
    avic_backing_page = at(0x0E0, 8, "physical address of the virtual APIC's page")
    avic_logical_table = at(0x0F0, 8, "physical address of the logical APIC id table")
    avic_physical_table = at(0x0F8, 8, "physical address of the physical APIC id table")
    vmsa = at(0x108, 8, "physical address of the encrypted save area")
    bus_lock_counter = at(0x120, 2, "bus locks allowed before an exit")


class VmcbSave(Block):
    """The state-save area: the guest's registers as VMRUN loads them and #VMEXIT stores them.

    FS, GS, TR, LDTR, KernelGsBase, STAR, LSTAR, CSTAR, SFMASK and SYSENTER belong to VMLOAD and VMSAVE
    (APM2 15.5.2); VMRUN leaves them alone.
    """

    SIZE = VMCB_SIZE
    REFERENCE = "APM2 appendix B, table B-2"

    es_selector = at(0x400, 2, "ES selector", Selector)
    es_attributes = at(0x402, 2, "ES attributes", SegmentAttributes)
    es_limit = at(0x404, 4, "ES limit")
    es_base = at(0x408, 8, "ES base")
    cs_selector = at(0x410, 2, "CS selector", Selector)
    cs_attributes = at(0x412, 2, "CS attributes", SegmentAttributes)
    cs_limit = at(0x414, 4, "CS limit")
    cs_base = at(0x418, 8, "CS base")
    ss_selector = at(0x420, 2, "SS selector", Selector)
    ss_attributes = at(0x422, 2, "SS attributes", SegmentAttributes)
    ss_limit = at(0x424, 4, "SS limit")
    ss_base = at(0x428, 8, "SS base")
    ds_selector = at(0x430, 2, "DS selector", Selector)
    ds_attributes = at(0x432, 2, "DS attributes", SegmentAttributes)
    ds_limit = at(0x434, 4, "DS limit")
    ds_base = at(0x438, 8, "DS base")
    fs_selector = at(0x440, 2, "FS selector", Selector)
    fs_attributes = at(0x442, 2, "FS attributes", SegmentAttributes)
    fs_limit = at(0x444, 4, "FS limit")
    fs_base = at(0x448, 8, "FS base")
    gs_selector = at(0x450, 2, "GS selector", Selector)
    gs_attributes = at(0x452, 2, "GS attributes", SegmentAttributes)
    gs_limit = at(0x454, 4, "GS limit")
    gs_base = at(0x458, 8, "GS base")
    gdtr_limit = at(0x464, 4, "GDTR limit: the low 16 bits")
    gdtr_base = at(0x468, 8, "GDTR base")
    ldtr_selector = at(0x470, 2, "LDTR selector", Selector)
    ldtr_attributes = at(0x472, 2, "LDTR attributes", SegmentAttributes)
    ldtr_limit = at(0x474, 4, "LDTR limit")
    ldtr_base = at(0x478, 8, "LDTR base")
    idtr_limit = at(0x484, 4, "IDTR limit: the low 16 bits")
    idtr_base = at(0x488, 8, "IDTR base")
    tr_selector = at(0x490, 2, "TR selector", Selector)
    tr_attributes = at(0x492, 2, "TR attributes", SegmentAttributes)
    tr_limit = at(0x494, 4, "TR limit")
    tr_base = at(0x498, 8, "TR base")
    cpl = at(0x4CB, 1, "current privilege level: 0 in real mode, 3 in virtual-8086 mode")
    efer = at(0x4D0, 8, "EFER", EFER)
    cr4 = at(0x548, 8, "CR4", CR4)
    cr3 = at(0x550, 8, "CR3")
    cr0 = at(0x558, 8, "CR0", CR0)
    dr7 = at(0x560, 8, "DR7", DR7)
    dr6 = at(0x568, 8, "DR6", DR6)
    rflags = at(0x570, 8, "RFLAGS", EFlags)
    rip = at(0x578, 8, "RIP")
    rsp = at(0x5D8, 8, "RSP")
    s_cet = at(0x5E0, 8, "supervisor shadow-stack control")
    ssp = at(0x5E8, 8, "shadow-stack pointer")
    isst_addr = at(0x5F0, 8, "interrupt shadow-stack table")
    rax = at(0x5F8, 8, "RAX")
    star = at(0x600, 8, "STAR")
    lstar = at(0x608, 8, "LSTAR")
    cstar = at(0x610, 8, "CSTAR")
    sfmask = at(0x618, 8, "SFMASK")
    kernel_gs_base = at(0x620, 8, "KernelGsBase")
    sysenter_cs = at(0x628, 8, "SYSENTER_CS")
    sysenter_esp = at(0x630, 8, "SYSENTER_ESP")
    sysenter_eip = at(0x638, 8, "SYSENTER_EIP")
    cr2 = at(0x640, 8, "CR2")
    g_pat = at(0x668, 8, "the guest's PAT under nested paging")
    dbgctl = at(0x670, 8, "DebugCtl")
    br_from = at(0x678, 8, "LastBranchFromIP")
    br_to = at(0x680, 8, "LastBranchToIP")
    last_excp_from = at(0x688, 8, "LastIntFromIP")
    last_excp_to = at(0x690, 8, "LastIntToIP")
    dbgextnctl = at(0x698, 8, "DebugExtnCtl")
    spec_ctrl = at(0x6E0, 8, "SPEC_CTRL")

    def segment(self, name: str) -> Segment:
        """Read one of es cs ss ds fs gs ldtr tr; raises KeyError for another name."""
        return Segment(*_read_segment(self, name))

    def set_segment(self, name: str, segment: Segment) -> None:
        """Write one of es cs ss ds fs gs ldtr tr; raises KeyError for another name."""
        offset = self._base + _SEGMENT_OFFSETS[name]
        _SEGMENT.pack_into(
            self._buffer, offset, segment.selector, segment.attributes, segment.limit, segment.base
        )

    def table(self, name: str) -> TableRegister:
        """Read gdtr or idtr; raises KeyError for another name."""
        _, base, limit, _ = _read_segment(self, name)
        return TableRegister(base, limit & 0xFFFF)

    def set_table(self, name: str, table: TableRegister) -> None:
        """Write gdtr or idtr; raises KeyError for another name."""
        offset = self._base + _SEGMENT_OFFSETS[name]
        _SEGMENT.pack_into(self._buffer, offset, 0, 0, table.limit, table.base)


_SEGMENT = struct.Struct("<HHIQ")
_SEGMENT_OFFSETS = {
    name: SAVE_AREA + 16 * place
    for place, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"))
}


def _read_segment(save: VmcbSave, name: str) -> tuple[int, int, int, int]:
    """Give selector, base, limit and attributes: the order of Segment."""
    selector, attributes, limit, base = _SEGMENT.unpack_from(
        save._buffer, save._base + _SEGMENT_OFFSETS[name]
    )
    return selector, base, limit, attributes
