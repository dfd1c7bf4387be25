"""The virtual CPU that a hardware-assisted monitor shows its guest: CPUID and MSR policy.

Only features that the machine has are shown, so guest code runs unmodified at full speed; the hypervisor bit
and the leaves from 4000_0000h say that it is virtual (AMD APM vol. 3, rev. 3.36, appendix E.3).
"""

from __future__ import annotations

from typing import Final

from vlab.isa.msr import Msr
from vlab.machine.identity import Identity

BRAND: Final = "vlab virtual CPU"
HYPERVISOR: Final = b"vlabvlabvlab"


def virtual_identity(*, apic: bool = True) -> Identity:
    """Give the CPUID leaves of a virtual CPU."""
    return Identity(brand=BRAND, apic=apic, hypervisor=HYPERVISOR)


REFUSED_MSRS: Final = frozenset(
    (Msr.VM_CR, Msr.VM_HSAVE_PA, Msr.SVM_KEY, Msr.SMBASE, Msr.SMM_ADDR, Msr.SMM_MASK)
)
"""Registers of the host's that a guest without AMD-V of its own must not see: #GP."""
