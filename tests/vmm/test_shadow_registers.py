"""The control registers that a guest under shadow paging sees, and those that the processor holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vlab.isa.paging import PagingMode
from vlab.isa.vectors import Vector
from vlab.machine.faults import CpuFault
from vlab.vmm.paging.shadow.registers import VirtualRegisters

PE, TS, ET, WP, NW, CD, PG = 1, 1 << 3, 1 << 4, 1 << 16, 1 << 29, 1 << 30, 1 << 31
PSE, PAE, PGE, OSFXSR, PCIDE, SMEP, SMAP = 1 << 4, 1 << 5, 1 << 7, 1 << 9, 1 << 17, 1 << 20, 1 << 21
SCE, LME, LMA, NXE, SVME = 1, 1 << 8, 1 << 10, 1 << 11, 1 << 12

Write = Callable[[VirtualRegisters], object]


def long_mode() -> VirtualRegisters:
    registers = VirtualRegisters()
    registers.write_cr4(PAE)
    registers.write_efer(LME)
    registers.write_cr0(PG | PE, code64=False)
    return registers


@pytest.mark.parametrize(
    ("start", "write", "why"),
    [
        (VirtualRegisters(), lambda r: r.write_cr0(1 << 32, code64=False), "bits 63:32"),
        (VirtualRegisters(), lambda r: r.write_cr0(PG, code64=False), "CR0.PG needs CR0.PE"),
        (VirtualRegisters(), lambda r: r.write_cr0(PE | NW, code64=False), "CR0.NW needs CR0.CD"),
        (VirtualRegisters(efer=LME), lambda r: r.write_cr0(PG | PE, code64=False), "long mode needs CR4.PAE"),
        (
            VirtualRegisters(cr4=PAE, efer=LME),
            lambda r: r.write_cr0(PG | PE, code64=True),
            "long mode begins with CS.L = 0",
        ),
        (long_mode(), lambda r: r.write_cr0(PE, code64=True), "cannot be turned off in 64-bit mode"),
        (long_mode(), lambda r: r.write_cr3(1 << 40), "bits 63:40 of CR3"),
        (long_mode(), lambda r: r.write_cr4(0), "CR4.PAE must stay 1"),
        (VirtualRegisters(), lambda r: r.write_cr4(SMAP), "bits 0x200000 of CR4 are reserved"),
        (VirtualRegisters(), lambda r: r.write_cr4(PCIDE), "of CR4 are reserved"),
        (VirtualRegisters(), lambda r: r.write_cr4(1 << 40), "of CR4 are reserved"),
        (VirtualRegisters(), lambda r: r.write_efer(SVME), "bits 0x1000 of EFER are reserved"),
        (long_mode(), lambda r: r.write_efer(0), "EFER.LME cannot change while paging is on"),
    ],
)
def test_what_the_processor_refuses_is_gp_and_changes_nothing(
    start: VirtualRegisters, write: Write, why: str
) -> None:
    before = (start.cr0, start.cr3, start.cr4, start.efer)
    with pytest.raises(CpuFault) as refused:
        write(start)
    assert (refused.value.vector, refused.value.error_code) == (Vector.GP, 0)
    assert why in refused.value.why
    assert (start.cr0, start.cr3, start.cr4, start.efer) == before


def test_long_mode_begins_and_ends_with_paging() -> None:
    registers = long_mode()
    assert registers.efer == LME | LMA
    assert registers.controls().mode is PagingMode.LONG
    registers.write_cr0(PE, code64=False)
    assert registers.efer == LME
    assert registers.controls().mode is PagingMode.NONE


@pytest.mark.parametrize(
    ("write", "flush"),
    [
        (lambda r: r.write_cr0(PE | PG | WP | TS, code64=False), False),
        (lambda r: r.write_cr0(PE | PG, code64=False), True),
        (lambda r: r.write_cr0(PE | WP, code64=False), True),
        (lambda r: r.write_cr3(r.cr3), True),
        (lambda r: r.write_cr4(PSE | OSFXSR), False),
        (lambda r: r.write_cr4(0), True),
        (lambda r: r.write_cr4(PSE | PGE), True),
        (lambda r: r.write_cr4(PSE | SMEP), True),
        (lambda r: r.write_cr4(PSE | PAE), True),
        (lambda r: r.write_efer(SCE), False),
        (lambda r: r.write_efer(NXE), True),
    ],
)
def test_only_what_concerns_translation_flushes(write: Write, flush: bool) -> None:
    registers = VirtualRegisters(cr0=PE | PG | WP | ET, cr3=0x1000, cr4=PSE)
    assert write(registers) is flush


def test_reserved_bits_of_cr0_read_as_zero_and_et_as_one() -> None:
    registers = VirtualRegisters()
    registers.write_cr0(PE | 1 << 10, code64=False)
    assert registers.cr0 == PE | ET


def test_cr3_has_32_bits_outside_long_mode() -> None:
    registers = VirtualRegisters()
    registers.write_cr3(0x1_2345_6018)
    assert registers.cr3 == 0x23456018


@pytest.mark.parametrize(
    "guest",
    [VirtualRegisters(), VirtualRegisters(PE | ET), VirtualRegisters(PE | PG | ET, 0x1000), long_mode()],
)
def test_the_processor_pages_always_with_wide_entries_and_nx(guest: VirtualRegisters) -> None:
    assert guest.real_cr0 & (PG | WP) == PG | WP
    assert guest.real_cr0 & PE == guest.cr0 & PE
    assert guest.real_cr4 & PAE
    assert guest.real_efer & NXE
    assert bool(guest.real_efer & LMA) == bool(guest.real_efer & LME) == bool(guest.efer & LMA)


def test_what_does_not_concern_translation_passes_through() -> None:
    guest = VirtualRegisters(cr0=PE | TS | ET | CD, cr4=OSFXSR, efer=SCE)
    assert guest.real_cr0 & ~(PG | WP) == guest.cr0
    assert guest.real_cr4 & OSFXSR
    assert guest.real_efer & SCE
