"""The translations of one guest, and what is done to them: found, made, linked, and thrown away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from vlab.machine.machine import Machine
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.paging.shadow.registers import VirtualRegisters
from vlab.vmm.paging.shadow.space import ShadowSpace
from vlab.vmm.translation import encode
from vlab.vmm.translation.blocks import Block, BlockMap, Link, Position
from vlab.vmm.translation.code_cache import GATES, CacheFull, CodeCache
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.indirect import MOST, Lookup
from vlab.vmm.translation.source import SourceCode
from vlab.vmm.translation.translator import Translator
from vlab.vmm.translation.window import Window


@dataclass(slots=True)
class Counts:
    """What was done so far: blocks translated, with their instructions and bytes, and the bytes made of them.

    links: jumps from block to block that were put in afterwards. unlinked: ends of blocks that led to the
    monitor for want of one. targets: those of indirect jumps that a
    lookup knows. misses: lookups that ended at the monitor. dropped: blocks whose source changed. slow:
    instructions translated anew because they kept faulting. flushes: how often the cache was emptied.
    """

    blocks: int = 0
    instructions: int = 0
    source_bytes: int = 0
    code_bytes: int = 0
    links: int = 0
    targets: int = 0
    misses: int = 0
    unlinked: int = 0
    dropped: int = 0
    slow: int = 0
    flushes: int = 0

    @property
    def expansion(self) -> float:
        """Bytes of translation for each byte of the guest's."""
        return self.code_bytes / self.source_bytes if self.source_bytes else 0.0


class Translations:
    """One guest's. on_flush is called when the processor must forget the whole cache."""

    translator_type: ClassVar[type[Translator]] = Translator

    def __init__(
        self,
        machine: Machine,
        cpu: VirtualCore,
        emulator: Emulator,
        space: ShadowSpace,
        registers: VirtualRegisters,
    ) -> None:
        self.cache = CodeCache(machine)
        self.window = Window(machine, self.cache, space, registers)
        self.map = BlockMap()
        self.source = SourceCode(machine.memory, cpu, space)
        self.source.on_change = self._changed
        self._translator = self.translator_type(cpu, emulator, self.cache, self.map, self.source, self.window)
        self.counts = Counts()
        self.emptied = False

    # --- finding and making -------------------------------------------------------------------------------

    def block(self, rip: int, linear: int, context: Context) -> Block:
        """Give the block at ``rip``; raises CpuFault and NestedFault."""
        block = self.map.find(rip, context)
        if block is not None:
            if block.linear == linear:
                return block
            self.drop((block,))  # another code segment
        try:
            return self._make(rip, context)
        except CacheFull:
            self.empty()
            return self._make(rip, context)

    def _make(self, rip: int, context: Context) -> Block:
        block, counts = self._translator.translate(rip, context), self.counts
        counts.blocks += 1
        counts.instructions += block.instructions
        counts.source_bytes += block.source
        counts.code_bytes += block.size
        return block

    def position(self, offset: int) -> Position:
        """Say where the guest is when the processor is at ``offset`` in the cache."""
        position = (self.map.code if offset < GATES else self.map.gates).find(offset)
        assert position is not None, f"nothing was translated to {offset:#x}"
        return position

    def is_far(self, linear: int) -> bool:
        """Say whether an access is a call-out because its operand is out of its translation's reach."""
        return linear in self._translator.far

    # --- links --------------------------------------------------------------------------------------------

    def link(self, link: Link, target: Block) -> None:
        """Have a way out lead to ``target`` by itself, if both blocks are to stay."""
        if not link.block.alive or link.block.transient or link.target is target or target.transient:
            return
        if target.linear in self._translator.breakpoints:
            return
        self._patch(link, target.start)
        link.target = target
        target.incoming.add(link)
        self.counts.links += 1

    def _patch(self, link: Link, target: int) -> None:
        if link.via is not None:
            self.cache.patch(link.via, encode.distance(link.via, target))
        else:
            self.cache.patch(link.place, encode.jump(link.place, target, link.block.context.bits))

    def _unlink(self, link: Link) -> None:
        link.target = None
        if link.via is not None:
            self.cache.patch(link.via, encode.distance(link.via, link.place))
        else:
            self.cache.patch(link.place, encode.hole(link.block.context.bits))
        self.map.stubs[link.place] = link

    def learn(self, lookup: Lookup, target: int) -> Link | None:
        """Have a lookup know one target more; give the link that leads there, None when it cannot."""
        if not lookup.block.alive or not lookup.accepts(target):
            return None
        if len(lookup.links) == MOST:
            self._begin_anew(lookup)
        tail, start, hole = lookup.tail, self.cache.used, encode.hole(lookup.context.bits)
        try:
            gate = self.cache.append_gate(hole) if lookup.gated else None
            added = lookup.extend(target, start, gate)
            self.cache.append(added.code)
        except CacheFull:
            self.empty()
            return None
        self.map.code.add(added.positions)
        if gate is not None:
            self.map.gates.add([Position(gate, target, lookup.context, lookup.block)])
        self.map.stubs[added.call_out] = lookup
        self.map.hits.add(added.hit)
        self.map.stubs[added.link.place] = added.link
        self.cache.patch(tail, encode.jump(tail, start, lookup.context.bits))
        lookup.block.links.append(added.link)
        self.counts.targets += 1
        self.counts.code_bytes += len(added.code)
        return added.link

    def stop_at(self, breakpoints: frozenset[int]) -> None:
        """Have no link lead to these linear addresses, so that the monitor hears of each arrival."""
        if breakpoints != self._translator.breakpoints:
            self.empty()
            self._translator.breakpoints = breakpoints

    def _begin_anew(self, lookup: Lookup) -> None:
        for link in lookup.begin_anew():
            if link.target is not None:
                link.target.incoming.discard(link)
        self.cache.patch(lookup.place, encode.hole(lookup.context.bits))

    # --- throwing away ------------------------------------------------------------------------------------

    def slow_down(self, block: Block, linear: int) -> None:
        """Have the instruction at ``linear`` be a call-out from now on: it keeps faulting."""
        self._translator.slow.add(linear)
        self.counts.slow += 1
        self.drop((block,))

    def speed_up(self, block: Block, linear: int) -> None:
        """Take that back: it is none that the monitor carries out."""
        self._translator.slow.discard(linear)
        self._translator.fast.add(linear)
        self.drop((block,))

    def drop(self, blocks: Iterable[Block]) -> None:
        """Throw blocks away: nothing leads to them any more."""
        for block in blocks:
            if not block.alive:
                continue
            block.alive = False
            if self.map.blocks.get(block.key) is block:
                del self.map.blocks[block.key]
            for page in block.pages:
                page.blocks.discard(block)
            for link in block.links:
                if link.target is not None:
                    link.target.incoming.discard(link)
            for link in tuple(block.incoming):
                self._unlink(link)
            block.incoming.clear()

    def _changed(self, blocks: list[Block]) -> None:
        self.counts.dropped += len(blocks)
        self.drop(blocks)

    def empty(self) -> None:
        """Throw all away, and what was learned of the guest's habits."""
        self.counts.flushes += 1
        self.map.clear()
        self.cache.clear()
        self.source.clear()
        self._translator.forget()
        self.emptied = True

    def close(self) -> None:
        """Give the frames back."""
        self.cache.close()
