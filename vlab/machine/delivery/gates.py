"""The entries of the interrupt descriptor table, and the error codes of events that fail on the way.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 3A, order 253668-083 (SDM3).
A gate is handled as one number, bit positions as in `vlab.isa.descriptors.Gate`: this is a hot path.
"""

from __future__ import annotations

from vlab.isa.descriptors import (
    INTERRUPT_GATE_16,
    INTERRUPT_GATE_32,
    TASK_GATE,
    TRAP_GATE_16,
    TRAP_GATE_32,
)
from vlab.isa.vectors import Vector
from vlab.isa.vectors import name as vector_name
from vlab.machine.delivery.core import Core, read_table
from vlab.machine.faults import CpuFault, Event, EventKind

GP, NP = int(Vector.GP), int(Vector.NP)

LEGACY_GATES = frozenset({TASK_GATE, INTERRUPT_GATE_16, TRAP_GATE_16, INTERRUPT_GATE_32, TRAP_GATE_32})
LONG_GATES = frozenset({INTERRUPT_GATE_32, TRAP_GATE_32})

_SOFTWARE = (EventKind.SOFTWARE_INT, EventKind.INT3, EventKind.INTO)


def external_bit(event: Event) -> int:
    """Give EXT for error codes met on the way of ``event``: 0 only for INT n, INT3 and INTO (SDM3 6.13)."""
    return 0 if event.kind in _SOFTWARE else 1


def read_gate(core: Core, event: Event, size: int, kinds: frozenset[int], wrap: int) -> int:
    """Read and check the IDT entry of ``event``: limit, type, privilege, presence (APM2 8.7.1, 8.9.2).

    ``size``: bytes per entry, 8 or 16. ``kinds``: the gate types of this mode. ``wrap``: address mask.
    """
    vector, idtr, ext = event.vector, core.idtr, external_bit(event)
    code = vector << 3 | 2 | ext
    offset = vector * size
    if offset + size - 1 > idtr.limit:
        raise CpuFault(
            GP,
            code,
            why=f"the IDT limit {idtr.limit:#x} does not reach {vector_name(vector)} at offset {offset:#x}",
        )
    address = (idtr.base + offset) & wrap
    gate = read_table(core, address, size, f"IDT entry {vector}")
    if gate >> 40 & 0x1F not in kinds:
        raise CpuFault(
            GP, code, why=f"{_entry(vector, address)} has type {gate >> 40 & 0x1F:#x}, no gate of this mode"
        )
    if not ext and gate >> 45 & 3 < core.cpl:
        # Hardware events and ICEBP pass (APM2 8.7.4; SDM3 6.12.1.1).
        raise CpuFault(
            GP,
            code,
            why=f"{_entry(vector, address)} has DPL {gate >> 45 & 3}, closed to INT at CPL {core.cpl}",
        )
    if not gate >> 47 & 1:
        raise CpuFault(NP, code, why=f"{_entry(vector, address)} is not present")
    return gate


def _entry(vector: int, address: int) -> str:
    return f"IDT entry {vector} ({vector_name(vector)}) at {address:#x}"
