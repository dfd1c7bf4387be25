"""How a guest came to execute where no memory is, as far as its stack still tells."""

from __future__ import annotations

from vlab.isa.state import CpuState, Mode
from vlab.machine.core import LiveCore
from vlab.machine.faults import CpuFault
from vlab.machine.mmu import NestedFault
from vlab.machine.processor import Processor
from vlab.vmm import guest_code

_LONGEST_CALL = 8
_BIG = 1 << 10  # D/B in segment attributes
_PAGE = 0x1000


def is_lost(processor: Processor) -> bool:
    """Whether no memory is at RIP, by the tables that the processor has: an open bus, or nothing at all."""
    core = processor.core
    try:
        place = core.mmu.translate(processor.linear_rip(), core.paging, user=core.cpl == 3, fetch=True)
    except NestedFault:
        return True
    except CpuFault:
        return False
    return place >= core.engine.memory.size


def tell(core: LiveCore, gpa: int | None = None) -> str:
    """Tell that the guest is where no memory is, and how it got there if that can be seen.

    core: the processor as the guest sees it. gpa: the guest-physical address, where it is known.
    """
    state = core.state()
    place = guest_code.linear(state, state.rip)
    where = f"{place:#x}" if gpa in (None, place) else f"{place:#x} (guest-physical {gpa:#x})"
    if not place % _PAGE and _read(core, place - 1, 1):
        return f"the guest ran on, or jumped, to {where}, where no memory is"
    return f"the guest jumped to {where}, where no memory is{_way(core, state)}"


def _way(core: LiveCore, state: CpuState) -> str:
    """Look at the stack for a CALL that pushed its return address, or for a RET that popped ours."""
    size, top = _stack(state)
    pushed = int.from_bytes(_read(core, top, size), "little")
    for length in range(2, _LONGEST_CALL + 1):
        code = _read(core, guest_code.linear(state, pushed - length), length) if pushed >= length else b""
        found = guest_code.instructions(state, code, pushed - length, 1)
        if found and found[0][1] == length and found[0][2].startswith("call "):
            return f": {found[0][2]!r} at {pushed - length:#x} called it"
    popped = _read(core, top - size, size)
    if popped and int.from_bytes(popped, "little") == state.rip:
        return f": a RET, perhaps, for this address lay on the stack at {top - size:#x}"
    return ""


def _stack(state: CpuState) -> tuple[int, int]:
    """Give the bytes of a near return address, and the linear address of the top of the stack."""
    if state.mode is Mode.LONG64:
        return 8, state.rsp
    size = 4 if state.mode in (Mode.PROTECTED32, Mode.COMPAT) else 2
    pointer = state.rsp & (0xFFFFFFFF if state.ss.attributes & _BIG else 0xFFFF)
    return size, state.ss.base + pointer & 0xFFFFFFFF


def _read(core: LiveCore, linear: int, size: int) -> bytes:
    """Read memory as the guest would; nothing where it cannot, or where there is none."""
    try:
        for place in (linear, linear + size - 1):
            if core.mmu.translate(place, core.paging, user=core.cpl == 3) >= core.engine.memory.size:
                return b""
        return core.read_bytes(linear, size, user=core.cpl == 3)
    except (CpuFault, NestedFault):
        return b""
