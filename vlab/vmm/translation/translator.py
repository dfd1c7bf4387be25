"""From a basic block of the guest's to one in the cache.

Most instructions are copied: on the processor underneath they do to the guest's registers and memory what
they should. What is sensitive becomes a call-out to the monitor, or inline code where that is short; and
every transfer of control becomes a jump to the translation of its target. Sections are those of AMD APM vol.
3, rev. 3.36, by instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from vlab.isa.control import EFlags
from vlab.machine.core import CS_BASE
from vlab.machine.faults import CpuFault
from vlab.machine.instructions import LONGEST, prefix_count
from vlab.machine.memory import PAGE
from vlab.machine.mmu import NestedFault
from vlab.vmm.deprivileged import decode as sensitive
from vlab.vmm.deprivileged.emulator import Emulator
from vlab.vmm.deprivileged.virtual_core import VirtualCore
from vlab.vmm.mmio_decode import Immediate, Register
from vlab.vmm.translation import encode, indirect, select
from vlab.vmm.translation.blocks import Block, BlockMap, CallOut, Link, Position, Undo
from vlab.vmm.translation.code_cache import CodeCache
from vlab.vmm.translation.context import Context
from vlab.vmm.translation.indirect import Kind, Lookup
from vlab.vmm.translation.select import Found, How
from vlab.vmm.translation.source import SourceCode, SourcePage
from vlab.vmm.translation.window import base

MOST: Final = 40
"""Instructions of the longest block."""
_CHUNK: Final = 8
"""Instructions decoded at a time."""
_STRANGE: Final = EFlags.TF.mask | EFlags.IOPL.mask
"""Flags that POPF leaves to the monitor when they are set in what it pops."""
_INTERRUPTS: Final = EFlags.IF.mask
_ZERO, _NOT_ZERO = 4, 5  # conditions
_OPERAND_SIZE: Final = 0x66


class Untranslatable(Exception):
    """The guest's code cannot be translated; the text says which and why."""


class _Draft(NamedTuple):
    """A block being made. code: of it so far; start: its offset. exits: ways out that come behind its end.

    pages: what it is made from.
    """

    block: Block
    start: int
    code: bytearray
    positions: list[Position]
    exits: list[Link]
    pages: list[SourcePage]

    @property
    def place(self) -> int:
        """Offset of what comes next."""
        return self.start + len(self.code)


class Translator:
    """Translates for one guest.

    ``slow``: addresses of accesses that are better carried out by the monitor; ``fast``: of those that are
    none that it can carry out. ``breakpoints``: addresses at which a block begins and no link arrives.
    """

    def __init__(
        self, cpu: VirtualCore, emulator: Emulator, cache: CodeCache, blocks: BlockMap, source: SourceCode
    ) -> None:
        self._cpu = cpu
        self._emulator = emulator
        self._cache = cache
        self._map = blocks
        self._source = source
        self.slow: set[int] = set()
        self.fast: set[int] = set()
        self.breakpoints: frozenset[int] = frozenset()
        self._how: Final[dict[How, Callable[[_Draft, Found], bool]]] = {
            How.RELATIVE: self._relative,
            How.OUT: self._out,
            How.JUMP: self._jump,
            How.CALL: self._call,
            How.RETURN: self._return,
            How.BRANCH: self._branch,
            How.LOOP: self._loop,
            How.CLEAR: self._clear,
            How.SET: self._set,
            How.PUSH_FLAGS: self._push_flags,
            How.POP_FLAGS: self._pop_flags,
            How.SELECTOR: self._selector,
        }

    def forget(self) -> None:
        """Forget what was learned of the guest."""
        self.slow.clear()
        self.fast.clear()

    # --- blocks -------------------------------------------------------------------------------------------

    def translate(self, rip: int, context: Context) -> Block:
        """Make the block at ``rip``; raises CpuFault or NestedFault where the guest cannot fetch it.

        Raises CacheFull, and Untranslatable.
        """
        linear = self._linear(rip, context)
        page = self._source.page(linear, user=context.ring == 3)
        block = Block(rip, linear, context, self._cache.used, transient=page.loose)
        draft = _Draft(block, block.start, bytearray(), [], [], [page])
        for found in self._instructions(block, draft.pages):
            if block.instructions and linear + block.source in self.breakpoints:
                break
            block.source += len(found.code)
            block.instructions += 1
            if self._add(draft, found):
                return self._finish(draft)
        if block.instructions:
            self._leave(draft, Link(rip + block.source, context, block))
        else:
            self._undefined(draft, rip)
        return self._finish(draft)

    def _linear(self, rip: int, context: Context) -> int:
        if context.wide:
            return rip
        return rip + self._cpu.words[CS_BASE] & 0xFFFFFFFF

    def _instructions(self, block: Block, pages: list[SourcePage]) -> Iterator[Found]:
        """Decode from the block's start to the end of its page; one that crosses that is the last."""
        seen, bits = pages[0].seen, block.context.bits
        most = 1 if block.context.step or block.transient else MOST
        while block.instructions < most:
            place, before = block.linear % PAGE + block.source, block.instructions
            if place >= PAGE:
                return
            rip, count = block.rip + block.source, min(_CHUNK, most - block.instructions)
            yield from select.decode(seen[place : place + _CHUNK * LONGEST], rip, bits, count)
            if block.instructions == before:
                if place <= PAGE - LONGEST:
                    return  # no instruction
                yield from self._across(block, pages, seen[place:])
                return

    def _across(self, block: Block, pages: list[SourcePage], code: bytes) -> Iterator[Found]:
        """Decode the instruction that begins with ``code`` and ends in the next page."""
        try:
            behind = self._source.page((block.linear | PAGE - 1) + 1, user=block.context.ring == 3)
        except (CpuFault, NestedFault):
            if block.instructions:
                return  # it will fault when it is executed
            raise
        pages.append(behind)
        rip = block.rip + block.source
        yield from select.decode(code + behind.seen[:LONGEST], rip, block.context.bits, 1)

    def _finish(self, draft: _Draft) -> Block:
        """Put the block into the cache and make it known."""
        block = draft.block
        self._add_exits(draft)
        block.size = len(draft.code)
        block.pages = tuple(draft.pages)
        self._cache.append(draft.code)
        self._map.code.add(draft.positions)
        if not block.transient:
            self._map.blocks[block.key] = block
            for page in draft.pages:
                page.blocks.add(block)
        return block

    def _add(self, draft: _Draft, found: Found) -> bool:
        """Translate one instruction; say whether it ends the block."""
        how, context = found.how, draft.block.context
        if self.slow and how is How.COPY and self._linear(found.rip, context) in self.slow - self.fast:
            self._mark(draft, found.rip)
            return self._call_out(draft, CallOut(found.rip, context, draft.block, None))
        if how is How.COPY:
            self._mark(draft, found.rip)
            draft.code.extend(found.code)
            return False
        if how is not How.RELATIVE and (context.step or not (context.plain or how in _SIMPLE)):
            return self._out(draft, found)
        return self._how[how](draft, found)

    def _mark(self, draft: _Draft, rip: int, undo: Undo | None = None) -> None:
        """Note that what comes next is at the guest's ``rip``."""
        draft.positions.append(Position(draft.place, rip, draft.block.context, draft.block, undo))

    # --- ways out -----------------------------------------------------------------------------------------

    def _leave(self, draft: _Draft, link: Link) -> None:
        """End the block with a way to the next one: a jump, if that is there already."""
        context = draft.block.context
        if link.context.interrupts and not context.interrupts:
            self._leave_through_gate(draft, link)
            return
        link.place = draft.place
        draft.positions.append(Position(link.place, link.rip, link.context, draft.block))
        target = self._known(link.rip, link.context, draft.block)
        if target is None:
            draft.code.extend(encode.hole(context.bits))
            self._map.stubs[link.place] = link
        else:
            draft.code.extend(encode.jump(link.place, target.start, context.bits))
            link.target = target
            target.incoming.add(link)
        draft.block.links.append(link)

    def _known(self, rip: int, context: Context, block: Block) -> Block | None:
        """Give the block at ``rip`` of the code segment that ``block`` is in."""
        target = self._map.find(rip, context)
        if target is not None and target.linear in self.breakpoints:
            return None
        same = target is not None and target.linear - target.rip == block.linear - block.rip
        return target if same else None

    def _leave_through_gate(self, draft: _Draft, link: Link) -> None:
        """End the block with a jump to a gate, which leads on to code for interrupts on."""
        bits = draft.block.context.bits
        gate = self._cache.append_gate(encode.hole(bits))
        link.place = gate
        self._mark(draft, link.rip)
        draft.positions[-1] = draft.positions[-1]._replace(context=link.context)
        draft.code.extend(encode.jump(draft.place, gate, bits))
        self._map.gates.add([Position(gate, link.rip, link.context, draft.block)])
        self._map.stubs[gate] = link
        draft.block.links.append(link)

    def _call_out(self, draft: _Draft, stub: CallOut) -> bool:
        self._map.stubs[draft.place] = stub
        draft.code.append(encode.CALL_OUT)
        return True

    def _out(self, draft: _Draft, found: Found) -> bool:
        """Have the monitor carry it out; what neither knows, the processor refuses."""
        stub = self._prepare(draft, found)
        if stub is None:
            return self._undefined(draft, found.rip)
        self._mark(draft, found.rip)
        return self._call_out(draft, stub)

    def _prepare(self, draft: _Draft, found: Found) -> CallOut | None:
        instruction = sensitive.decode(found.code, draft.block.context.bits)
        trapped = None if instruction is None else self._emulator.prepare(instruction)
        return None if trapped is None else CallOut(found.rip, draft.block.context, draft.block, trapped)

    def _undefined(self, draft: _Draft, rip: int) -> bool:
        """What the guest's processor does not know: #UD."""
        self._mark(draft, rip)
        draft.code.extend(_UD2)
        return True

    # --- copies -------------------------------------------------------------------------------------------

    def _relative(self, draft: _Draft, found: Found) -> bool:
        """Copy an instruction whose operand is relative to RIP, so that it is where it was."""
        self._mark(draft, found.rip)
        draft.code.extend(self._moved(draft, found.code, found.rip, len(found.code)))
        return False

    def _moved(self, draft: _Draft, code: bytes, rip: int, length: int) -> bytes:
        """Give ``code``, an instruction of ``length`` bytes at ``rip``, for where the draft is now."""
        bits = draft.block.context.bits
        place = select.displacement_place(code, bits)
        old = int.from_bytes(code[place : place + 4], "little", signed=True)
        new = encode.signed(rip + length + old - (base(bits) + draft.place + len(code)) & (1 << 64) - 1, True)
        if not encode.fits(new):
            raise Untranslatable(f"the operand of the instruction at {rip:#x} is too far from its translation")
        return code[:place] + (new & 0xFFFFFFFF).to_bytes(4, "little") + code[place + 4 :]

    def _selector(self, draft: _Draft, found: Found) -> bool:
        """MOV r, CS or SS: the real RPL is 1 where the guest's is 0."""
        start = prefix_count(found.code, long_mode=draft.block.context.wide)
        register, rex = found.code[start + 1] & 7, found.code[start - 1 : start]
        if register == encode.RSP or (draft.block.context.wide and rex and rex[0] & 0xF0 == 0x40):
            return self._out(draft, found)
        self._mark(draft, found.rip)
        draft.code.extend(found.code + found.code[:start] + encode.decrement(register))
        return False

    # --- near transfers -----------------------------------------------------------------------------------

    def _target(self, found: Found, context: Context) -> int | None:
        """Give where a direct transfer leads; None for an indirect one."""
        if found.operands[:1].isdigit():
            return int(found.operands, 0) & ((1 << 64) - 1 if context.wide else 0xFFFFFFFF)
        return None

    def _odd(self, found: Found, context: Context) -> bool:
        """Whether an operand-size prefix makes the transfer one of another width than its code."""
        start = prefix_count(found.code, long_mode=context.wide)
        return _OPERAND_SIZE in found.code[:start]

    def _jump(self, draft: _Draft, found: Found) -> bool:
        """JMP near."""
        context = draft.block.context
        target = self._target(found, context)
        if self._odd(found, context):
            return self._out(draft, found)
        if target is not None:
            self._mark(draft, found.rip)
            if not self._jump_to_return(draft, target):
                self._leave(draft, Link(self._cut(target, context), context, draft.block))
            return True
        operand = self._operand(found, context)
        if not context.plain or not isinstance(operand, Register) or operand.number == encode.RSP:
            return self._out(draft, found)
        return self._look_up(draft, found, indirect.jump_register(operand.number, context.wide))

    def _jump_to_return(self, draft: _Draft, target: int) -> bool:
        """Translate a jump to a RET as that RET. Kernels jump to a single one, lest the processor speculate.

        Says whether that was such a jump. A lookup of each place's own knows few targets.
        """
        context, linear = draft.block.context, self._linear(target, draft.block.context)
        if not context.plain or linear % PAGE > PAGE - LONGEST or linear in self.breakpoints:
            return False
        try:
            page = self._source.page(linear, user=False)
        except (CpuFault, NestedFault):
            return False
        for found in select.decode(page.seen[linear % PAGE :][:LONGEST], target, context.bits, 1):
            if found.how is How.RETURN and not page.loose:
                if page not in draft.pages:
                    draft.pages.append(page)
                draft.block.elsewhere = linear
                return self._return(draft, found)
        return False

    def _cut(self, target: int, context: Context) -> int:
        """Give a jump's target as IP takes it."""
        return target & 0xFFFF if context.bits == 16 else target

    def _branch(self, draft: _Draft, found: Found) -> bool:
        """Jcc: it leads straight to its target in the end. What follows it belongs to the block."""
        context = draft.block.context
        target = self._target(found, context)
        assert target is not None
        if self._odd(found, context):
            return self._out(draft, found)
        self._mark(draft, found.rip)
        draft.code.extend(encode.branch(select.condition(found.name), context.bits))
        link = Link(self._cut(target, context), context, draft.block, 0, draft.place)
        known = self._known(link.rip, context, draft.block)
        if known is not None:
            link.target = known
            known.incoming.add(link)
        draft.code.extend(encode.distance(draft.place, known.start if known else 0))
        draft.exits.append(link)
        return False

    def _add_exits(self, draft: _Draft) -> None:
        """Put the call-outs of conditional jumps behind the block's end."""
        for link in draft.exits:
            assert link.via is not None
            link.place = draft.place
            if link.target is None:
                place = link.via - draft.start
                draft.code[place : place + 4] = encode.distance(link.via, link.place)
            draft.positions.append(Position(link.place, link.rip, link.context, draft.block))
            draft.code.extend(encode.hole(draft.block.context.bits))
            self._map.stubs[link.place] = link
            draft.block.links.append(link)

    def _loop(self, draft: _Draft, found: Found) -> bool:
        """LOOP and JCXZ reach 127 bytes only: over a jump to what follows, to a jump to the target."""
        context = draft.block.context
        target = self._target(found, context)
        assert target is not None
        if self._odd(found, context):
            return self._out(draft, found)
        size = encode.jump_size(context.bits)
        prefix = b"\x66" if context.bits == 16 else b""
        self._mark(draft, found.rip)
        draft.code.extend(prefix + found.code[:-1] + bytes((size,)))
        self._leave(draft, Link(found.rip + len(found.code), context, draft.block))
        self._leave(draft, Link(self._cut(target, context), context, draft.block))
        return True

    def _call(self, draft: _Draft, found: Found) -> bool:
        """CALL near: the guest's own return address goes onto its stack."""
        context = draft.block.context
        back, target = found.rip + len(found.code), self._target(found, context)
        if self._odd(found, context) or not (context.bits == 32 or encode.fits(encode.signed(back, True))):
            return self._out(draft, found)
        if target is not None:
            self._mark(draft, found.rip)
            draft.code.extend(encode.push_constant(back))
            self._leave(draft, Link(target, context, draft.block))
            return True
        load = self._load_target(found, context)
        if load is None:
            return self._out(draft, found)
        return self._look_up(draft, found, indirect.call(load, back, context.wide))

    def _load_target(self, found: Found, context: Context) -> bytes | None:
        """Make MOV rcx, r/m of CALL r/m; None where that would not give the same."""
        start = prefix_count(found.code, long_mode=context.wide)
        prefixes, modrm = bytearray(found.code[:start]), found.code[start + 1]
        rest = found.code[start + 2 :]
        memory, rm = modrm >> 6 != 3, modrm & 7
        if (memory and rm == 4 and rest[0] & 7 == encode.RSP) or (not memory and rm == encode.RSP):
            return None
        if "[rip" in found.operands:  # where this will be is not known yet, but what it means is
            target = found.rip + len(found.code) + int.from_bytes(rest[:4], "little", signed=True)
            if not encode.fits(encode.signed(target & (1 << 64) - 1, True)):
                return None
            modrm, rest = modrm & 0x38 | 4, b"\x25" + (target & 0xFFFFFFFF).to_bytes(4, "little")
        if context.wide:
            rex = prefixes.pop() if prefixes and prefixes[-1] & 0xF0 == 0x40 else 0x40
            prefixes.append(rex & ~4 | 8)
        return bytes(prefixes) + bytes((0x8B, modrm & 0xC7 | encode.RCX << 3)) + rest

    def _return(self, draft: _Draft, found: Found) -> bool:
        """RET near."""
        context = draft.block.context
        if self._odd(found, context):
            return self._out(draft, found)
        released = int(found.operands, 0) if found.operands else 0
        return self._look_up(draft, found, indirect.near_return(released, context.wide))

    def _look_up(self, draft: _Draft, found: Found, kind: Kind) -> bool:
        """End the block with a lookup, which knows no target yet."""
        self._mark(draft, found.rip)
        stub = self._prepare(draft, found)
        assert stub is not None
        lookup = Lookup(found.rip, draft.block.context, draft.block, kind, stub, draft.place, draft.place)
        self._map.stubs[draft.place] = lookup
        draft.code.extend(encode.hole(draft.block.context.bits))
        return True

    def _operand(self, found: Found, context: Context) -> Register | Immediate | object:
        instruction = sensitive.decode(found.code, context.bits)
        return None if instruction is None else instruction.operands[0]

    # --- the interrupt flag -------------------------------------------------------------------------------

    def _clear(self, draft: _Draft, found: Found) -> bool:
        """CLI: on with the code for interrupts off."""
        context = draft.block.context
        if not context.interrupts:
            self._mark(draft, found.rip)
            draft.code.append(_NOP)
            return False
        following = found.rip + len(found.code)
        self._leave(draft, Link(following, context.with_interrupts(False), draft.block))
        return True

    def _set(self, draft: _Draft, found: Found) -> bool:
        """STI: the next instruction still runs with interrupts off, then on with the code for interrupts on."""
        context, linear = draft.block.context, draft.block.linear + draft.block.source
        if context.interrupts:
            self._mark(draft, found.rip)
            draft.code.append(_NOP)
            return False
        following = found.rip + len(found.code)
        if linear % PAGE <= PAGE - LONGEST:
            seen = self._source.page(linear, user=False).seen[linear % PAGE :]
            for behind in select.decode(seen[:LONGEST], following, context.bits, 1):
                if behind.how is How.COPY and linear not in self.slow:
                    self._mark(draft, found.rip)
                    draft.code.append(_NOP)
                    enabled = context.with_interrupts(True)
                    draft.positions.append(Position(draft.place, following, enabled, draft.block, _in_shadow))
                    draft.code.extend(behind.code)
                    draft.block.source += len(behind.code)
                    draft.block.instructions += 1
                    self._leave(draft, Link(following + len(behind.code), enabled, draft.block))
                    return True
        return self._out(draft, found)

    def _push_flags(self, draft: _Draft, found: Found) -> bool:
        """PUSHF: the processor's own flags are the guest's, but for IF."""
        context = draft.block.context
        if self._odd(found, context) or len(found.code) != 1:
            return self._out(draft, found)
        self._mark(draft, found.rip)
        draft.code.extend(found.code)
        if not context.interrupts:
            draft.code.extend(encode.clear_pushed_interrupt_flag(context.wide))
        return False

    def _pop_flags(self, draft: _Draft, found: Found) -> bool:
        """POPF: on with the code for what it does to the interrupt flag. The tests spoil flags it sets anew."""
        context = draft.block.context
        if self._odd(found, context) or len(found.code) != 1:
            return self._out(draft, found)
        stub = self._prepare(draft, found)
        assert stub is not None
        following = found.rip + 1
        self._mark(draft, found.rip)
        strange = encode.test_top(_STRANGE) + encode.branch(_NOT_ZERO, context.bits)
        wanted = encode.test_top(_INTERRUPTS)
        other = encode.branch(_ZERO, context.bits)
        same = encode.POP_FLAGS + bytes(encode.jump_size(context.bits))
        # strange: Jcc call-out. wanted: Jcc off. on: POPF, jump. off: POPF, jump. call-out.
        behind = len(wanted) + len(other) + 4 + 2 * len(same)
        draft.code.extend(strange + behind.to_bytes(4, "little"))
        draft.code.extend(wanted + other + len(same).to_bytes(4, "little"))
        for interrupts in (True, False):
            self._mark(draft, found.rip)
            draft.code.extend(encode.POP_FLAGS)
            self._leave(draft, Link(following, context.with_interrupts(interrupts), draft.block))
        self._mark(draft, found.rip)
        return self._call_out(draft, stub)


def _in_shadow(cpu: VirtualCore) -> None:
    """The instruction behind STI faulted: it is in the interrupt shadow all the same."""
    cpu.begin_shadow()


_NOP: Final = 0x90
_UD2: Final = b"\x0f\x0b"
_SIMPLE: Final = frozenset((How.JUMP, How.BRANCH, How.LOOP))
"""Transfers that are translated inline for any ring and stack."""
