"""The page-table entries of legacy, PAE and 4-level paging, as registers.

Sections are those of AMD APM vol. 2, rev. 3.44 (APM2). Bits that a class does not declare must be zero,
except that the walker (vlab.isa.paging) also refuses frames beyond the processor's physical addresses.
"""

from __future__ import annotations

from vlab.isa.fields import Register, bit, bits


class PageEntry(Register, width=64):
    """What all entries have in common."""

    P = bit(0, "present")
    PWT = bit(3, "page-level write-through")
    PCD = bit(4, "page-level cache disable")
    FRAME = bits(12, 51, "frame number of the next table or of the page")

    @property
    def address(self) -> int:
        """Physical address of the table or page that the entry points to."""
        return self & type(self).FRAME.mask


class _Mapping(PageEntry, width=64):
    """An entry that takes part in protection: all but the PDPTEs of PAE."""

    RW = bit(1, "writable")
    US = bit(2, "accessible at CPL 3")
    A = bit(5, "accessed: set by the processor")


# Legacy paging, 32-bit entries (APM2 5.2.2).


class LegacyPde(_Mapping, width=32, reference="APM2 5.2.2, figure 5-5"):
    """Legacy page-directory entry that points to a page table; also a 4 MB entry while CR4.PSE is 0."""

    IGN6 = bit(6, "ignored")
    PS = bit(7, "page size: 0, or ignored while CR4.PSE is 0")
    IGN8 = bit(8, "ignored")
    AVL = bits(9, 11, "free for software")
    FRAME = bits(12, 31, "frame number of the page table")


class LegacyPdeLarge(_Mapping, width=32, reference="APM2 5.2.2, figure 5-8"):
    """Legacy page-directory entry that maps a 4 MB page."""

    D = bit(6, "dirty: set by the processor")
    PS = bit(7, "page size: 1")
    G = bit(8, "global")
    AVL = bits(9, 11, "free for software")
    PAT = bit(12, "memory type, high bit")
    FRAME_HIGH = bits(13, 20, "physical address, bits 39:32")
    FRAME = bits(22, 31, "physical address, bits 31:22")

    @property
    def address(self) -> int:
        """Physical address of the page: up to 40 bits."""
        return (self & LegacyPdeLarge.FRAME.mask) | self.FRAME_HIGH << 32


class LegacyPte(_Mapping, width=32, reference="APM2 5.2.2, figure 5-6"):
    """Legacy page-table entry: a 4 KB page."""

    D = bit(6, "dirty: set by the processor")
    PAT = bit(7, "memory type, high bit")
    G = bit(8, "global")
    AVL = bits(9, 11, "free for software")
    FRAME = bits(12, 31, "frame number of the page")


# PAE paging, 64-bit entries (APM2 5.2.3).


class PaePdpe(PageEntry, width=64, reference="APM2 5.2.3, figure 5-10"):
    """One of the four page-directory-pointer entries of PAE paging; it carries no protection.

    Read on demand like any other entry, as AMD processors do in SVM guest mode (APM2 15.25, "Legacy PAE
    Mode"), not at MOV CR3.
    """

    AVL = bits(9, 11, "free for software")


class PaePde(_Mapping, width=64, reference="APM2 5.2.3, figure 5-11"):
    """PAE page-directory entry that points to a page table."""

    IGN6 = bit(6, "ignored")
    PS = bit(7, "page size: 0")
    IGN8 = bit(8, "ignored")
    AVL = bits(9, 11, "free for software")
    NX = bit(63, "no execute (with EFER.NXE)")


class PaePdeLarge(_Mapping, width=64, reference="APM2 5.2.3, figure 5-15"):
    """PAE page-directory entry that maps a 2 MB page."""

    D = bit(6, "dirty: set by the processor")
    PS = bit(7, "page size: 1")
    G = bit(8, "global")
    AVL = bits(9, 11, "free for software")
    PAT = bit(12, "memory type, high bit")
    FRAME = bits(21, 51, "physical address, bits 51:21")
    NX = bit(63, "no execute (with EFER.NXE)")


class PaePte(_Mapping, width=64, reference="APM2 5.2.3, figure 5-12"):
    """PAE page-table entry: a 4 KB page."""

    D = bit(6, "dirty: set by the processor")
    PAT = bit(7, "memory type, high bit")
    G = bit(8, "global")
    AVL = bits(9, 11, "free for software")
    NX = bit(63, "no execute (with EFER.NXE)")


# 4-level paging (APM2 5.3).


class _LongMapping(_Mapping, width=64):
    """An entry of long mode, where the high bits belong to software."""

    AVL = bits(9, 11, "free for software")
    AVL_HIGH = bits(52, 62, "free for software (62:59 are the key under CR4.PKE)")
    NX = bit(63, "no execute (with EFER.NXE)")


class Pml4e(_LongMapping, width=64, reference="APM2 5.3.3, figure 5-20"):
    """Page-map level-4 entry: points to a page-directory-pointer table; bits 7 and 8 must be zero."""

    IGN6 = bit(6, "ignored")


class Pdpe(_LongMapping, width=64, reference="APM2 5.3.3, figure 5-21"):
    """Page-directory-pointer entry that points to a page directory."""

    IGN6 = bit(6, "ignored")
    PS = bit(7, "page size: 0")
    IGN8 = bit(8, "ignored")


class PdpeLarge(_LongMapping, width=64, reference="APM2 5.3.5, figure 5-34"):
    """Page-directory-pointer entry that maps a 1 GB page."""

    D = bit(6, "dirty: set by the processor")
    PS = bit(7, "page size: 1")
    G = bit(8, "global")
    PAT = bit(12, "memory type, high bit")
    FRAME = bits(30, 51, "physical address, bits 51:30")


class Pde(_LongMapping, width=64, reference="APM2 5.3.3, figure 5-22"):
    """Page-directory entry that points to a page table."""

    IGN6 = bit(6, "ignored")
    PS = bit(7, "page size: 0")
    IGN8 = bit(8, "ignored")


class PdeLarge(_LongMapping, width=64, reference="APM2 5.3.4, figure 5-29"):
    """Page-directory entry that maps a 2 MB page."""

    D = bit(6, "dirty: set by the processor")
    PS = bit(7, "page size: 1")
    G = bit(8, "global")
    PAT = bit(12, "memory type, high bit")
    FRAME = bits(21, 51, "physical address, bits 51:21")


class Pte(_LongMapping, width=64, reference="APM2 5.3.3, figure 5-23"):
    """Page-table entry: a 4 KB page."""

    D = bit(6, "dirty: set by the processor")
    PAT = bit(7, "memory type, high bit")
    G = bit(8, "global")
