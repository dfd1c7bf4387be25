"""A guest's code as text: what it would execute next, read through its own page tables."""

from __future__ import annotations

from vlab.isa.state import CpuState, Mode
from vlab.machine.memory import PAGE
from vlab.vmm.guest_memory import Backing
from vlab.vmm.tenant import Tenant

_MODES_16 = (Mode.REAL, Mode.V86, Mode.PROTECTED16)
_LONGEST = 15


def disassemble(tenant: Tenant, count: int, at: int | None = None) -> list[str]:
    """Disassemble the next ``count`` instructions, or those from ``at`` on: "0x7c00: hlt".

    What the monitor's tables hold at the moment does not matter: shadow tables are filled as the guest runs.
    """
    state = tenant.guest_state()
    if at is not None:
        state.rip = at
    return lines(state, _read(tenant, state, _LONGEST * count), count)


def lines(state: CpuState, code: bytes, count: int) -> list[str]:
    """Disassemble ``count`` instructions of ``code``, the bytes at the RIP of ``state``, in its mode."""
    found = [f"{address:#x}: {text}" for address, _, text in instructions(state, code, state.rip, count)]
    if not found:
        shown = code[:8].hex(" ") if code else "nothing is mapped there"
        found.append(f"{state.rip:#x}: (no instruction: {shown})")
    return found


def instructions(state: CpuState, code: bytes, address: int, count: int = 0) -> list[tuple[int, int, str]]:
    """Give address, length in bytes and text of ``count`` instructions from ``address`` on; 0 for all."""
    import capstone

    wide = capstone.CS_MODE_64 if state.mode is Mode.LONG64 else capstone.CS_MODE_32
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16 if state.mode in _MODES_16 else wide)
    return [
        (each.address, each.size, f"{each.mnemonic} {each.op_str}".rstrip())
        for each in decoder.disasm(code, address, count)
    ]


def linear(state: CpuState, offset: int) -> int:
    """Give the linear address of an offset in the code segment (APM2 4.5.3: in 64-bit mode its base is 0)."""
    return offset if state.mode is Mode.LONG64 else state.cs.base + offset & 0xFFFFFFFF


def _read(tenant: Tenant, state: CpuState, size: int) -> bytes:
    """Read the bytes at RIP, up to the first page without memory."""
    memory, code = tenant.memory, b""
    while len(code) < size:
        gpa = tenant.walk(linear(state, state.rip + len(code))).physical
        region = None if gpa is None else memory.find(gpa)
        if gpa is None or region is None or region.backing is Backing.WINDOW:
            break
        start = region.hpa - memory.hpa + gpa - region.gpa
        code += memory.ram[start : start + min(size - len(code), PAGE - gpa % PAGE)]
    return code
