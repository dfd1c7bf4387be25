"""Returns and indirect jumps: the target is looked up in the cache, by code.

A translator cannot know where RET goes, so it asks each time: is it where it went before? The targets that
were seen stand in the code itself, one comparison each, for the translated code may not read the cache. The
comparison is a subtraction by LEA and a JRCXZ, which leave the flags alone; the register for it is had by
exchanging it with the guest's own stack slot or register, which are put right again on the way out. What
matches none of them goes to the monitor, which adds the new target to the chain.

Each kind says how the target gets into RCX, and how everything is put back. ``bias``: what was subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.translation import encode
from vlab.vmm.translation.blocks import Block, CallOut, Link, Position, Redo, Undo
from vlab.vmm.translation.context import Context

MOST: Final = 192
"""Targets that one chain knows: the last of them still costs a hundredth of a call-out. A full one is begun
anew, for the guest may be at other things by now."""
_RCX, _RSP = encode.RCX, encode.RSP


@dataclass(frozen=True, slots=True)
class Kind:
    """How one instruction's target is looked up.

    enter: code that brings the target into RCX. leave(bias): code that puts the guest's state back when
    nothing matched. hit(target): code that does what the instruction does, once the target is known.
    undo(bias): the same as ``leave``, for a monitor that finds the guest in the middle.
    """

    enter: bytes
    leave: Callable[[int], bytes]
    hit: Callable[[int], bytes]
    undo: Callable[[int], Undo]


def _mask(wide: bool) -> int:
    return (1 << 64) - 1 if wide else (1 << 32) - 1


def near_return(released: int, wide: bool) -> Kind:
    """RET: RCX changes places with the return address. released: bytes of parameters to drop."""
    swap, mask, size = encode.exchange_top(_RCX, wide), _mask(wide), 8 if wide else 4

    def undo(bias: int) -> Undo:
        def put_back(cpu: VirtualCore) -> Redo:
            words = cpu.words
            place = cpu.segment("ss").base + words[_RSP] & mask
            begun, kept = words[_RCX], cpu.read(place, size)
            target = begun + bias & mask
            words[_RCX] = kept
            cpu.write(place, size, target)

            def begin_again() -> bool:
                if cpu.read(place, size) != target:
                    return False
                words[_RCX] = begun
                cpu.write(place, size, kept)
                return True

            return begin_again

        return put_back

    return Kind(
        enter=swap,
        leave=lambda bias: encode.add(_RCX, bias, wide) + swap,
        hit=lambda target: (
            encode.move_constant(_RCX, target, wide) + swap + encode.drop(size + released, wide)
        ),
        undo=undo,
    )


def jump_register(register: int, wide: bool) -> Kind:
    """JMP r: RCX changes places with the register."""
    swap, mask = b"" if register == _RCX else encode.exchange(register, wide), _mask(wide)

    def undo(bias: int) -> Undo:
        def put_back(cpu: VirtualCore) -> Redo:
            words = cpu.words
            begun, kept = words[_RCX], words[register]
            words[_RCX] = kept
            words[register] = begun + bias & mask

            def begin_again() -> bool:
                words[register] = kept
                words[_RCX] = begun
                return True

            return begin_again

        return put_back

    return Kind(
        enter=swap,
        leave=lambda bias: encode.add(_RCX, bias, wide) + swap,
        hit=lambda target: encode.move_constant(_RCX, target, wide) + swap,
        undo=undo,
    )


def call(load: bytes, back: int, wide: bool) -> Kind:
    """CALL r or CALL [m]: RCX waits where the return address will be. load: MOV rcx, r or [m], behind a PUSH.

    back: the return address.
    """
    size = 8 if wide else 4

    def undo(_bias: int) -> Undo:
        def put_back(cpu: VirtualCore) -> Redo:
            words = cpu.words
            place, begun = words[_RSP], words[_RCX]
            words[_RCX] = cpu.read(cpu.segment("ss").base + place & _mask(wide), size)
            words[_RSP] = place + size & _mask(wide)

            def begin_again() -> bool:
                cpu.write(cpu.segment("ss").base + place & _mask(wide), size, words[_RCX])
                words[_RSP], words[_RCX] = place, begun
                return True

            return begin_again

        return put_back

    return Kind(
        enter=encode.push(_RCX) + load,
        leave=lambda _bias: encode.pop(_RCX),
        hit=lambda _target: encode.move_constant(_RCX, back, wide) + encode.exchange_top(_RCX, wide),
        undo=undo,
    )


@dataclass(eq=False, slots=True)
class Lookup:
    """The lookup at one place. rip: the guest's, of the instruction. call_out: carries it out where it must.

    place: offset of the instruction's translation. tail: of the code for "nothing matched", over which the
    next comparison is written. bias: what those before have subtracted. links: to the targets it knows.
    """

    rip: int
    context: Context
    block: Block
    kind: Kind
    call_out: CallOut
    place: int
    tail: int = 0
    bias: int = 0
    links: list[Link] = field(default_factory=list)

    def miss(self) -> tuple[bytes, int]:
        """Give the code for "nothing matched", and the offset in it of its call-out."""
        code = self.kind.leave(self.bias)
        return code + encode.hole(self.context.bits), len(code)

    def accepts(self, target: int) -> bool:
        """Say whether a comparison reaches a new target."""
        if not self.context.wide:
            return True
        number = encode.signed(target, True)
        return encode.fits(number) and encode.fits(number - encode.signed(self.bias, True))

    def begin_anew(self) -> list[Link]:
        """Forget the targets; give the links to them. The caller puts a call-out at ``place``."""
        links, self.links = self.links, []
        self.tail, self.bias = self.place, 0
        return links

    @property
    def gated(self) -> bool:
        """Whether it leads to code for interrupts on, for STI came before it."""
        return self.context is not self.block.context

    def _undo(self, bias: int) -> Undo:
        """Give what puts the guest back; behind STI it is in the interrupt shadow."""
        put_back = self.kind.undo(bias)

        def in_shadow(cpu: VirtualCore) -> Redo:
            redo = put_back(cpu)
            cpu.begin_shadow()

            def begin_again() -> bool:
                cpu.end_shadow()
                return redo()

            return begin_again

        return in_shadow if self.gated else put_back

    def extend(self, target: int, start: int, gate: int | None) -> Extension:
        """Write the comparison with ``target`` for offset ``start``; the caller leads the old tail there.

        gate: where it leads, if it is ``gated``.
        """
        context, block = self.context, self.block
        positions = []
        code = b""
        if not self.links:
            code = self.kind.enter
            positions.append(Position(start, self.rip, context, block))
        positions.append(Position(start + bool(code), self.rip, context, block, self._undo(self.bias)))
        code += encode.add(_RCX, self.bias - target, context.wide)
        undo, self.bias = self._undo(target), target
        positions.append(Position(start + len(code), self.rip, context, block, undo))
        tail, call_out = self.miss()
        code += encode.jump_if_zero(len(tail))
        self.tail = start + len(code)
        positions.append(Position(self.tail + call_out, self.rip, context, block))
        hit = self.tail + len(tail)
        positions.append(Position(hit, self.rip, context, block, undo))
        code += tail + self.kind.hit(target)
        place = start + len(code)
        link = Link(target, context, block, place if gate is None else gate)
        positions.append(Position(place, target, context, block))
        bits = context.bits
        code += encode.hole(bits) if gate is None else encode.jump(place, gate, bits)
        self.links.append(link)
        return Extension(code, positions, link, self.tail + call_out, hit)


class Extension(NamedTuple):
    """A comparison more: its code, where the guest is in it, where it leads.

    call_out, hit: offsets of where it calls the monitor, and of where it goes on with the target found.
    """

    code: bytes
    positions: list[Position]
    link: Link
    call_out: int
    hit: int
