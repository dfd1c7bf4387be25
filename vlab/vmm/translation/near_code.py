"""Near transfers of control: each becomes a jump to the translation of its target, or a lookup of it.

What the guest's code puts onto its stack is its own return address. An operand-size prefix makes a transfer
one of another width than its code; those few go to the monitor. Sections are those of AMD APM vol. 3, rev.
3.36, by instruction.
"""

from __future__ import annotations

from typing import Final

from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST, prefix_count
from vlab.machine.memory import PAGE
from vlab.machine.mmu import NestedFault
from vlab.vmm.translation import encode, indirect, select
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.indirect import Kind, Lookup
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.workshop import Workshop

_OPERAND_SIZE, _ADDRESS_SIZE = 0x66, 0x67
_SIB: Final = 4
_64: Final = (1 << 64) - 1


def _odd(found: Found, draft: Draft) -> bool:
    start = prefix_count(found.code, long_mode=draft.context.wide)
    return _OPERAND_SIZE in found.code[:start]


def _target(found: Found) -> int | None:
    """Give where a direct transfer leads; None for an indirect one."""
    return int(found.operands, 0) & _64 if found.operands[:1].isdigit() else None


def jump(shop: Workshop, draft: Draft, found: Found) -> bool:
    """JMP near."""
    if _odd(found, draft):
        return shop.out(draft, found)
    target = _target(found)
    if target is not None:
        if not _is_return(shop, draft, target):
            draft.leave(target)
        return True
    start = prefix_count(found.code, long_mode=draft.context.wide)
    modrm = found.code[start + 1]
    extended = draft.context.wide and start and found.code[start - 1] & 0xF1 == 0x41
    register = modrm & 7 | (8 if extended else 0)
    if not draft.context.plain or modrm >> 6 != 3 or register == encode.RSP:
        return shop.out(draft, found)
    return _look_up(shop, draft, found, indirect.jump_register(register, draft.context.wide))


def _is_return(shop: Workshop, draft: Draft, target: int) -> bool:
    """Translate a jump to a RET as that RET; say whether it is one.

    Some kernels jump to a single one, lest the processor speculate. A lookup of each place's own knows few
    targets, where that one's would have to know all there are.
    """
    linear = draft.block.linear - draft.block.rip + target & (_64 if draft.context.wide else 0xFFFFFFFF)
    if not draft.context.plain or linear % PAGE > PAGE - LONGEST or linear in shop.breakpoints:
        return False
    try:
        page = shop.source.page(linear, user=False)
    except (CpuFault, NestedFault):
        return False
    for found in select.decode(page.seen[linear % PAGE :][:LONGEST], target, draft.bits, 1):
        if found.how is How.RETURN and not page.loose:
            if page not in draft.pages:
                draft.pages.append(page)
            draft.block.elsewhere = linear
            return leave_by_return(shop, draft, found)
    return False


def branch(shop: Workshop, draft: Draft, found: Found) -> bool:
    """Jcc. What follows it belongs to the block."""
    target = _target(found)
    assert target is not None
    if _odd(found, draft):
        return shop.out(draft, found)
    draft.add(found.rip, encode.branch(select.condition(found.name), draft.bits))
    draft.branch(target)
    return False


def loop(shop: Workshop, draft: Draft, found: Found) -> bool:
    """LOOP and JCXZ reach 127 bytes only: over a jump to what follows, to a jump to the target."""
    target = _target(found)
    assert target is not None
    if _odd(found, draft):
        return shop.out(draft, found)
    prefix = b"\x66" if draft.bits == 16 else b""
    draft.add(found.rip, prefix + found.code[:-1] + bytes((encode.jump_size(draft.bits),)))
    draft.leave(found.rip + len(found.code))
    draft.leave(target)
    return True


def call(shop: Workshop, draft: Draft, found: Found) -> bool:
    """CALL near."""
    wide, back, target = draft.context.wide, found.rip + len(found.code), _target(found)
    if _odd(found, draft) or (wide and not encode.fits(encode.signed(back, True))):
        return shop.out(draft, found)
    if target is not None:
        draft.add(found.rip, encode.push_constant(back))
        draft.leave(target)
        return True
    load = _load_target(found, wide)
    if load is None:
        return shop.out(draft, found)
    return _look_up(shop, draft, found, indirect.call(load, back, wide))


def _load_target(found: Found, wide: bool) -> bytes | None:
    """Make MOV rcx, r/m of CALL r/m, to come behind a PUSH; None where that would not give the same."""
    start = prefix_count(found.code, long_mode=wide)
    prefixes, modrm = bytearray(found.code[:start]), found.code[start + 1]
    rest = found.code[start + 2 :]
    memory, rm = modrm >> 6 != 3, modrm & 7
    if memory and _ADDRESS_SIZE in prefixes and (not wide or "[eip" in found.operands):
        return None
    if (memory and rm == _SIB and rest[0] & 7 == encode.RSP) or (not memory and rm == encode.RSP):
        return None
    if "[rip" in found.operands:  # where this will be is not known yet, but what it means is
        target = found.rip + len(found.code) + int.from_bytes(rest[:4], "little", signed=True)
        if not encode.fits(encode.signed(target & _64, True)):
            return None
        modrm, rest = modrm & 0x38 | _SIB, b"\x25" + (target & 0xFFFFFFFF).to_bytes(4, "little")
    if wide:
        rex = prefixes.pop() if prefixes and prefixes[-1] & 0xF0 == 0x40 else 0x40
        prefixes.append(rex & ~4 | 8)
    return bytes(prefixes) + bytes((0x8B, modrm & 0xC7 | encode.RCX << 3)) + rest


def leave_by_return(shop: Workshop, draft: Draft, found: Found, *, enabled: bool = False) -> bool:
    """RET near. enabled: STI came before it, so it leads to code for interrupts on."""
    if _odd(found, draft):
        return shop.out(draft, found)
    released = int(found.operands, 0) if found.operands else 0
    kind = indirect.near_return(released, draft.context.wide)
    return _look_up(shop, draft, found, kind, enabled=enabled)


def _look_up(shop: Workshop, draft: Draft, found: Found, kind: Kind, *, enabled: bool = False) -> bool:
    """End the block with a lookup, which knows no target yet."""
    stub = shop.stub(draft, found)
    assert stub is not None
    after = draft.context.with_interrupts(True) if enabled else draft.context
    draft.mark(found.rip, None, after)
    return draft.call_out(Lookup(found.rip, after, draft.block, kind, stub, draft.place, draft.place))
