"""From a basic block of the guest's to one in the cache.

Most instructions are copied: on the processor underneath they do to the guest's registers and memory what
they should. What is sensitive becomes a call-out to the monitor, or inline code where that is short; and
every transfer of control becomes a jump to the translation of its target. A block goes on behind a
conditional jump; it ends where nothing comes behind, or with its page. Sections are those of AMD APM vol. 2,
rev. 3.42.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from vlab.machine.core import CS_BASE
from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST, prefix_count
from vlab.machine.memory import PAGE
from vlab.machine.mmu import NestedFault
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.translation import encode, flag_code, near_code, select
from vlab.vmm.translation.blocks import Block, BlockMap, CallOut
from vlab.vmm.translation.code_cache import CodeCache
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.draft import Draft
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.source import SourceCode
from vlab.vmm.translation.window import Window
from vlab.vmm.translation.workshop import Workshop

MOST: Final = 40
"""Instructions of the longest block."""
_CHUNK: Final = 8
"""Instructions decoded at a time."""
_SIMPLE: Final = frozenset((How.JUMP, How.BRANCH, How.LOOP))
"""Transfers that are translated inline for any ring and stack."""
_64: Final = (1 << 64) - 1


class Translator(Workshop):
    """Translates for one guest."""

    def __init__(
        self,
        cpu: VirtualCore,
        emulator: Emulator,
        cache: CodeCache,
        blocks: BlockMap,
        source: SourceCode,
        window: Window,
    ) -> None:
        super().__init__(emulator, source)
        self._cpu = cpu
        self._cache = cache
        self._map = blocks
        self._window = window

    def translate(self, rip: int, context: Context) -> Block:
        """Make the block at ``rip``; raises CpuFault or NestedFault where the guest cannot fetch it.

        Raises CacheFull.
        """
        linear = rip if context.wide else rip + self._cpu.words[CS_BASE] & 0xFFFFFFFF
        page = self.source.page(linear, user=context.ring == 3)
        block = Block(rip, linear, context, self._cache.used, transient=page.loose)
        draft = Draft(block, self._cache, self._map, page, self.breakpoints)
        for found in self.instructions(draft):
            if block.instructions and linear + block.source in self.breakpoints:
                break
            block.source += len(found.code)
            block.instructions += 1
            if self._add(draft, found):
                return draft.finish()
        if block.instructions:
            draft.leave(rip + block.source)
        else:
            self._refuse(draft)
        return draft.finish()

    def _refuse(self, draft: Draft) -> None:
        """End with the fault of what is no instruction, or one of more than 15 bytes (APM2 8.2.14)."""
        block = draft.block
        code = b"".join(page.seen for page in draft.pages)[block.linear % PAGE :][: 2 * LONGEST]
        if select.is_too_long(code, draft.bits):
            draft.add(block.rip, bytes((encode.CALL_OUT,)))  # not known as one, so the fault is the guest's
        else:
            self.undefined(draft, block.rip)

    def instructions(self, draft: Draft) -> Iterator[Found]:
        """Decode from the block's start to the end of its page; one that crosses that is the last.

        Override it to have some translated differently: ``Found.how`` decides.
        """
        block, seen = draft.block, draft.pages[0].seen
        most = 1 if block.context.step or block.transient else MOST
        while block.instructions < most:
            place, before = block.linear % PAGE + block.source, block.instructions
            if place >= PAGE:
                return
            rip, count = block.rip + block.source, min(_CHUNK, most - block.instructions)
            yield from select.decode(seen[place : place + _CHUNK * LONGEST], rip, draft.bits, count)
            if block.instructions == before:
                if place > PAGE - LONGEST:
                    yield from self._across(draft, seen[place:])
                return

    def _across(self, draft: Draft, code: bytes) -> Iterator[Found]:
        """Decode the instruction that begins with ``code`` and ends in the next page."""
        block = draft.block
        following = (block.linear | PAGE - 1) + 1 & (_64 if block.context.wide else 0xFFFFFFFF)
        try:
            behind = self.source.page(following, user=block.context.ring == 3)
        except (CpuFault, NestedFault):
            if block.instructions:
                return  # it will fault when it is executed
            raise
        draft.pages.append(behind)
        block.transient |= behind.loose
        yield from select.decode(code + behind.seen[:LONGEST], block.rip + block.source, draft.bits, 1)

    def _add(self, draft: Draft, found: Found) -> bool:
        """Translate one instruction; say whether it ends the block."""
        how, context = found.how, draft.context
        if how is How.COPY:
            linear = draft.block.linear + found.rip - draft.block.rip
            if self.slow and linear in self.slow and linear not in self.fast:
                draft.mark(found.rip)
                return draft.call_out(CallOut(found.rip, context, draft.block, None))
            draft.add(found.rip, found.code)
            return False
        if how is How.RELATIVE:
            return self._add_relative(draft, found)
        if context.step or not (context.plain or how in _SIMPLE):
            return self.out(draft, found)
        return _TRANSLATIONS[how](self, draft, found)

    def _add_relative(self, draft: Draft, found: Found) -> bool:
        """Translate one whose operand is relative to RIP, such that the operand is where it was."""
        code, place = found.code, select.displacement_place(found.code, draft.bits)
        there = found.rip + len(code) + int.from_bytes(code[place : place + 4], "little", signed=True)
        end = self._window.place.high + draft.place + len(code)
        new = encode.signed(there - end & _64, True)
        if encode.fits(new) or "[eip" in found.operands:  # an address of 32 bits wraps around
            draft.add(found.rip, code[:place] + (new & 0xFFFFFFFF).to_bytes(4, "little") + code[place + 4 :])
            return False
        if found.name == "lea":
            draft.add(found.rip, encode.load_address(code, there & _64))
            return False
        self.far.add(draft.block.linear + found.rip - draft.block.rip)
        draft.mark(found.rip)
        return draft.call_out(CallOut(found.rip, draft.context, draft.block, None))


def _selector(shop: Workshop, draft: Draft, found: Found) -> bool:
    """MOV r, CS or SS: the real RPL is 1 where the guest's is 0."""
    start = prefix_count(found.code, long_mode=draft.context.wide)
    register, rex = found.code[start + 1] & 7, found.code[start - 1 : start]
    if register == encode.RSP or (draft.context.wide and rex and rex[0] & 0xF0 == 0x40):
        return shop.out(draft, found)
    draft.add(found.rip, found.code + found.code[:start] + encode.decrement(register))
    return False


_TRANSLATIONS: Final[dict[How, Callable[[Workshop, Draft, Found], bool]]] = {
    How.OUT: Workshop.out,
    How.JUMP: near_code.jump,
    How.CALL: near_code.call,
    How.RETURN: near_code.leave_by_return,
    How.BRANCH: near_code.branch,
    How.LOOP: near_code.loop,
    How.CLEAR: flag_code.clear,
    How.SET: flag_code.set_,
    How.PUSH_FLAGS: flag_code.push,
    How.POP_FLAGS: flag_code.pop,
    How.SELECTOR: _selector,
}
