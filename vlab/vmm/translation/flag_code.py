"""CLI, STI, PUSHF and POPF: the interrupt flag is where the program counter is (see ``context``).

Sections are those of AMD APM vol. 3, rev. 3.36, by instruction.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.control import EFlags
from vlab.machine.instructions import LONGEST
from vlab.machine.memory import PAGE
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.translation import encode, near_code, select
from vlab.vmm.translation.blocks import Redo
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.workshop import Workshop

_STRANGE: Final = EFlags.TF.mask | EFlags.IOPL.mask
"""Flags that POPF leaves to the monitor when they are set in what it pops."""
_INTERRUPTS: Final = EFlags.IF.mask
_ZERO, _NOT_ZERO = 4, 5  # conditions
_NOP: Final = b"\x90"


def clear(_shop: Workshop, draft: Draft, found: Found) -> bool:
    """CLI: on with the code for interrupts off."""
    if not draft.context.interrupts:
        draft.add(found.rip, _NOP)
        return False
    draft.leave(found.rip + len(found.code), draft.context.with_interrupts(False))
    return True


def set_(shop: Workshop, draft: Draft, found: Found) -> bool:
    """STI: the next instruction runs where interrupts are off, then on with the code for interrupts on."""
    if draft.context.interrupts:
        draft.add(found.rip, _NOP)
        return False
    behind = _behind(shop, draft, found)
    if behind is None:
        return shop.out(draft, found)
    enabled = draft.context.with_interrupts(True)
    draft.add(found.rip, _NOP)
    if behind.how is How.RETURN:
        draft.block.source += len(behind.code)
        draft.block.instructions += 1
        return near_code.leave_by_return(shop, draft, behind, enabled=True)
    draft.mark(behind.rip, _in_shadow, enabled)
    draft.code += behind.code
    draft.block.source += len(behind.code)
    draft.block.instructions += 1
    draft.leave(behind.rip + len(behind.code), enabled)
    return True


def _behind(shop: Workshop, draft: Draft, found: Found) -> Found | None:
    """Give the instruction behind STI, if it can be copied and is in the same page."""
    linear = draft.block.linear + draft.block.source
    place = linear - draft.pages[0].linear
    known = linear in shop.slow or linear in shop.breakpoints
    if place > PAGE - LONGEST or known or draft.block.transient:
        return None
    seen, rip = draft.pages[0].seen[place : place + LONGEST], found.rip + len(found.code)
    behind = next(select.decode(seen, rip, draft.bits, 1), None)
    return behind if behind is not None and behind.how in (How.COPY, How.RETURN) else None


def _in_shadow(cpu: VirtualCore) -> Redo:
    """The instruction behind STI faulted: it is in the interrupt shadow all the same."""
    cpu.begin_shadow()

    def begin_again() -> bool:
        cpu.end_shadow()
        return True

    return begin_again


def push(shop: Workshop, draft: Draft, found: Found) -> bool:
    """PUSHF: the processor's own flags are the guest's, but for IF."""
    if len(found.code) != 1:
        return shop.out(draft, found)
    draft.add(found.rip, found.code)
    if not draft.context.interrupts:
        draft.code += encode.clear_pushed_interrupt_flag(draft.context.wide)
    return False


def pop(shop: Workshop, draft: Draft, found: Found) -> bool:
    """POPF: on with the code for what it does to the interrupt flag. Tests spoil flags that it sets anew."""
    stub = shop.stub(draft, found)
    assert stub is not None
    if len(found.code) != 1:
        return shop.out(draft, found)
    following, size = found.rip + 1, 1 + encode.jump_size(draft.bits)
    wanted = encode.test_top(_INTERRUPTS) + encode.branch(_ZERO, draft.bits)
    # A strange flag leads to the call-out at the end; IF clear leads over the first of two ways out.
    strange = len(wanted) + 4 + 2 * size
    draft.add(found.rip, encode.test_top(_STRANGE) + encode.branch(_NOT_ZERO, draft.bits))
    draft.code += strange.to_bytes(4, "little") + wanted + size.to_bytes(4, "little")
    for interrupts in (True, False):
        draft.add(found.rip, encode.POP_FLAGS)
        draft.leave(following, draft.context.with_interrupts(interrupts))
    draft.mark(found.rip)
    return draft.call_out(stub)
