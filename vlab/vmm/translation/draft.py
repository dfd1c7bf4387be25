"""A block on the way into the cache: its code so far, and where the guest is in it."""

from __future__ import annotations

from typing import Final

from vlab.vmm.translation import encode
from vlab.vmm.translation.blocks import Block, BlockMap, CallOut, Link, Position, Undo
from vlab.vmm.translation.code_cache import CodeCache
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.source import SourcePage


class Draft:
    """One block being made. ``code``: of it so far. ``pages``: what it is made from.

    breakpoints: linear addresses that no link may lead to.
    """

    def __init__(
        self, block: Block, cache: CodeCache, blocks: BlockMap, page: SourcePage, breakpoints: frozenset[int]
    ) -> None:
        self.block: Final = block
        self.context: Final = block.context
        self.bits: Final = block.context.bits
        self.code = bytearray()
        self.pages = [page]
        self._cache = cache
        self._map = blocks
        self._breakpoints = breakpoints
        self._positions: list[Position] = []
        self._branches: list[Link] = []

    @property
    def place(self) -> int:
        """Offset in the cache of what comes next."""
        return self.block.start + len(self.code)

    def mark(self, rip: int, undo: Undo | None = None, context: Context | None = None) -> None:
        """Note that what comes next is at the guest's ``rip``."""
        self._positions.append(Position(self.place, rip, context or self.context, self.block, undo))

    def add(self, rip: int, code: bytes) -> None:
        """Add the translation of the instruction at ``rip``."""
        self.mark(rip)
        self.code += code

    # --- ways out -----------------------------------------------------------------------------------------

    def cut(self, rip: int) -> int:
        """Give an address as RIP takes it after a jump."""
        return rip & ((1 << self.bits) - 1)

    def known(self, rip: int, context: Context) -> Block | None:
        """Give the block at ``rip`` of this block's code segment, if links may lead there."""
        target, block = self._map.find(rip, context), self.block
        if target is None or target.linear in self._breakpoints:
            return None
        return target if target.linear - target.rip == block.linear - block.rip else None

    def leave(self, rip: int, context: Context | None = None) -> None:
        """End with a way to the guest's ``rip``: a jump, if there is a translation already."""
        link = Link(self.cut(rip), context or self.context, self.block)
        self.block.links.append(link)
        if link.context.interrupts and not self.context.interrupts:
            self.mark(link.rip, None, link.context)
            link.place = self.gate(link)
            self.code += encode.jump(self.place, link.place, self.bits)
            return
        link.place = self.place
        self.mark(link.rip, None, link.context)
        target = self.known(link.rip, link.context)
        if target is None:
            self.code += encode.hole(self.bits)
            self._map.stubs[link.place] = link
        else:
            self.code += encode.jump(link.place, target.start, self.bits)
            link.target = target
            target.incoming.add(link)

    def gate(self, link: Link) -> int:
        """Make the gate of a link that leads to code for interrupts on; give its offset."""
        gate = self._cache.append_gate(encode.hole(self.bits))
        self._map.gates.add([Position(gate, link.rip, link.context, self.block)])
        self._map.stubs[gate] = link
        return gate

    def branch(self, rip: int) -> None:
        """Add the last four bytes of a conditional jump, which lead straight to the target in the end."""
        link = Link(self.cut(rip), self.context, self.block, 0, self.place)
        target = self.known(link.rip, link.context)
        if target is not None:
            link.target = target
            target.incoming.add(link)
        self.code += encode.distance(self.place, target.start if target else 0)
        self.block.links.append(link)
        self._branches.append(link)

    def call_out(self, stub: CallOut | Lookup) -> bool:
        """End with a call-out; gives True."""
        self._map.stubs[self.place] = stub
        self.code += encode.hole(self.bits)
        return True

    # --- the end ------------------------------------------------------------------------------------------

    def finish(self) -> Block:
        """Put the block into the cache and make it known; raises CacheFull."""
        self._add_ways_out()
        block = self.block
        block.size = len(self.code)
        block.pages = tuple(self.pages)
        self._cache.append(self.code)
        self._map.code.add(self._positions)
        self._map.starts.add(block.start)
        if not block.transient:
            self._map.blocks[block.key] = block
            for page in self.pages:
                page.blocks.add(block)
        return block

    def _add_ways_out(self) -> None:
        """Put the call-outs of conditional jumps behind the block's end."""
        for link in self._branches:
            assert link.via is not None
            link.place = self.place
            if link.target is None:
                place = link.via - self.block.start
                self.code[place : place + 4] = encode.distance(link.via, link.place)
            self.mark(link.rip)
            self.code += encode.hole(self.bits)
            self._map.stubs[link.place] = link
