"""A translated block taken apart: what became of each instruction, where it leads, and who leads to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vlab.isa.sensitive import Sensitive, mnemonic
from vlab.machine.memory import PAGE
from vlab.vmm.translation import encode, select
from vlab.vmm.translation.blocks import Block, CallOut, Link, Position
from vlab.vmm.translation.code_cache import GATES
from vlab.vmm.translation.context import COUNT, Context
from vlab.vmm.translation.indirect import Lookup
from vlab.vmm.translation.library import Translations
from vlab.vmm.translation.select import Found, How

COMPARISONS: Final = 4
"""So many of a lookup's comparisons are shown as code."""
_JUMP: Final = 0xE9
_UD2: Final = b"\x0f\x0b"


class Fate(StrEnum):
    """What became of an instruction, or what a piece of translated code is for."""

    COPIED = "copied"
    CHANGED = "changed"
    CALL_OUT = "call-out"
    CHAINED = "chained"
    UNLINKED = "not linked"
    GATE = "gate"
    LOOKUP = "lookup"
    NOTHING = "nothing to do"
    FAULT = "fault"
    SPARE = "out of use"


MEANINGS: Final = {
    Fate.COPIED: "the guest's own bytes",
    Fate.CHANGED: "other code, which does the same for the guest",
    Fate.CALL_OUT: "HLT: it faults, and the monitor carries the instruction out",
    Fate.CHAINED: "a jump straight to the translation of its target",
    Fate.UNLINKED: "HLT until its target is translated: the monitor then writes a jump over it",
    Fate.GATE: "a jump through a page that the monitor takes away while an interrupt waits",
    Fate.LOOKUP: "the target is compared with those that were seen before",
    Fate.NOTHING: "a NOP: the interrupt flag is part of which translation this is",
    Fate.FAULT: "the exception that the guest's processor raises here",
    Fate.SPARE: "HLT that nothing leads to while its jump is linked",
}
_CHANGES: Final = {
    How.RELATIVE: "another displacement, from the cache to the same operand",
    How.SELECTOR: "then 1 less: the processor's RPL is 1 where the guest's is 0",
    How.CALL: "pushes the guest's own return address",
    How.PUSH_FLAGS: "then clears IF in what was pushed, for the guest has interrupts off",
    How.POP_FLAGS: "tests what is popped: TF or IOPL lead to the monitor, IF chooses one of two ways out",
    How.LOOP: "reaches 127 bytes only: over the first of two ways out to the second",
}
_TRANSFERS: Final = (How.JUMP, How.CALL, How.LOOP, How.POP_FLAGS)


@dataclass(frozen=True, slots=True)
class Way:
    """A way from block to block. rip, context: where it leads. by: "jump", "branch", "gate" or "lookup".

    block: the one at its other end, its target or where it comes from; None while it is not linked.
    """

    rip: int
    context: Context
    by: str
    block: Block | None

    @property
    def key(self) -> int:
        """That of the block that is or would be at ``rip``."""
        return self.rip * COUNT + self.context.code


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of a block. offset, size: in the cache. rip: the guest's, of the instruction it is for.

    source: that instruction, empty on further lines for it and on ways out. code: the translation as text.
    words: more on its fate. way: the index of the way out that it is in ``Anatomy.ways``, or None.
    """

    offset: int
    size: int
    rip: int
    source: str
    code: str
    fate: Fate
    words: str = ""
    way: int | None = None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One block. ways: out of it. arrivals: the ways that lead to it, by the address they come from."""

    block: Block
    lines: tuple[Line, ...]
    ways: tuple[Way, ...]
    arrivals: tuple[Way, ...]


def source_of(block: Block) -> bytes:
    """Give the guest's bytes that a block was made of."""
    offset = block.linear % PAGE
    return b"".join(page.seen for page in block.pages[:2])[offset : offset + block.source]


def take_apart(block: Block, translations: Translations, base: int) -> Anatomy:
    """Take a block apart. base: the address that offset 0 of the cache has for its kind of code."""
    taken = _Taken(block, translations, base)
    arrivals = sorted(block.incoming, key=lambda link: (link.block.rip, link.block.context.code, link.place))
    return Anatomy(
        block,
        tuple(taken.lines()),
        tuple(Way(link.rip, link.context, taken.by(link), link.target) for link in taken.links),
        tuple(
            Way(link.rip, link.context, _by(link, find_lookup(link.block, translations)), link.block)
            for link in arrivals
        ),
    )


def find_lookup(block: Block, translations: Translations) -> Lookup | None:
    """Give the lookup that a block ends with."""
    stubs = translations.map.stubs
    found = (stubs.get(each.offset) for each in reversed(translations.map.code.run(block.start)))
    return next((stub for stub in found if isinstance(stub, Lookup)), None)


def _by(link: Link, lookup: Lookup | None) -> str:
    if lookup is not None and link in lookup.links:
        return "lookup"
    return "branch" if link.via is not None else "gate" if link.place >= GATES else "jump"


class _Taken:
    """A block that is being taken apart. ``links``: its ways out, without those that a lookup forgot."""

    def __init__(self, block: Block, translations: Translations, base: int) -> None:
        self._block = block
        self._bits = block.context.bits
        self._cache = translations.cache
        self._map = translations.map
        self._base = base
        self._lookup = find_lookup(block, translations)
        self._source = list(select.decode(source_of(block), block.rip, self._bits, block.instructions))
        self._at = {found.rip: found for found in self._source}
        inside = range(block.start, block.start + block.size)
        own = [
            link
            for link in block.links
            if link.via is not None or link.place in inside or (link.place >= GATES and not self._lookup)
        ]
        self.links: list[Link] = own + (self._lookup.links if self._lookup else [])
        self._ways = {link.place: number for number, link in enumerate(own)}
        self._shown: set[int] = set()

    def by(self, link: Link) -> str:
        """Say how a way leads out."""
        return _by(link, self._lookup)

    def lines(self) -> Iterator[Line]:
        """Give its lines in the order of the cache, and behind a lookup its comparisons."""
        block = self._block
        positions = self._map.code.run(block.start)
        ends = [*(each.offset for each in positions[1:]), block.start + block.size]
        for position, end in zip(positions, ends, strict=True):
            code = self._cache.read(position.offset, end - position.offset)
            way = self._ways.get(position.offset)
            if way is None and (target := self._jump_target(position.offset)) is not None:
                way = self._ways.get(target) if target >= GATES else None
            yield self._line(position, code) if way is None else self._way_out(position, code, way)
        if self._lookup is not None:
            yield from self._comparisons(self._lookup)

    # --- ways out -----------------------------------------------------------------------------------------

    def _way_out(self, position: Position, code: bytes, way: int) -> Line:
        link = self.links[way]
        fate = _fate(link)
        last = self._source[-1] if self._source else None
        if link.via is not None:
            branch = next(each for each in self._source if each.how is How.BRANCH and self._is_of(each, link))
            words = f"way out of {branch.name} at {branch.rip:#x}"
            fate = fate if link.target is None else Fate.SPARE
            return self._told(position, code, branch.rip, fate, words, way)
        turns_off = last is not None and last.how is How.CLEAR and self._block.context.interrupts
        if last is None or (last.how not in _TRANSFERS and not turns_off):
            words = "on with interrupts on" if link.place >= GATES else "the block ends here"
            text = self._text(position.offset, code)
            return Line(position.offset, len(code), position.rip, "", text, fate, words, way)
        words = "on with interrupts off" if turns_off else ""
        if last.how is How.POP_FLAGS:
            words = f"on with interrupts {'on' if link.context.interrupts else 'off'}"
        return self._told(position, code, last.rip, fate, words, way)

    def _is_of(self, branch: Found, link: Link) -> bool:
        """Say whether a way out is the one of a conditional jump."""
        assert link.via is not None
        position = self._map.code.find(link.via)
        return position is not None and position.rip == branch.rip

    def _jump_target(self, offset: int) -> int | None:
        """Give the offset that a jump at ``offset`` leads to; None where there is no jump."""
        code = self._cache.read(offset, 6)
        start = code[0] == 0x66
        if code[start] != _JUMP:
            return None
        end = start + 5
        return offset + end + int.from_bytes(code[start + 1 : end], "little", signed=True)

    def _comparisons(self, lookup: Lookup) -> Iterator[Line]:
        """The comparisons of a lookup, which are elsewhere in the cache."""
        place: int | None = lookup.place
        first = len(self.links) - len(lookup.links)
        for number, link in enumerate(lookup.links[:COMPARISONS]):
            start = None if place is None else self._jump_target(place)
            if start is None:
                return
            tail = self._map.code.run(start)[-4].offset + 2  # behind the JRCXZ
            code = self._cache.read(start, tail - start)
            words = f"is it {link.rip:#x}?"
            yield Line(
                start,
                tail - start,
                lookup.rip,
                "",
                self._text(start, code),
                _fate(link),
                words,
                first + number,
            )
            place = tail
        more = len(lookup.links) - COMPARISONS
        if more > 0:
            words = f"{more} more comparison{'s' * (more > 1)} behind these"
            yield Line(lookup.tail, 0, lookup.rip, "", "...", Fate.LOOKUP, words)

    # --- instructions -------------------------------------------------------------------------------------

    def _line(self, position: Position, code: bytes) -> Line:
        """Tell of code that is no way out."""
        stub = self._map.stubs.get(position.offset)
        if isinstance(stub, Lookup):
            owner = position.rip if position.rip in self._at else self._source[-1].rip
            elsewhere = "" if owner == position.rip else f"it leads to the RET at {position.rip:#x}; "
            gated = ", then through a gate: STI came before" if stub.gated else ""
            words = f"{elsewhere}{_known(len(stub.links))}{gated}"
            return self._told(position, code, owner, Fate.LOOKUP, words)
        if isinstance(stub, CallOut):
            family = Sensitive(stub.family)
            words = "a memory access that keeps faulting, or is out of the cache's reach"
            if family is not Sensitive.ACCESS:
                words = f"the monitor carries out {mnemonic(family)}"
            return self._told(position, code, position.rip, Fate.CALL_OUT, words)
        found = self._at.get(position.rip)
        if found is None or (code == _UD2 and found.code != _UD2):
            words = "#UD: no instruction of the guest's processor" if code == _UD2 else "#GP: over 15 bytes"
            return self._told(position, code, position.rip, Fate.FAULT, words)
        return self._told(position, code, position.rip, *self._change(position, found, code))

    def _change(self, position: Position, found: Found, code: bytes) -> tuple[Fate, str, int | None]:
        """Say what became of an instruction that is carried out in the cache."""
        if found.how in (How.CLEAR, How.SET):
            state = "off already" if found.how is How.CLEAR else "on already"
            behind = found.how is How.SET and not self._block.context.interrupts
            return (
                Fate.NOTHING,
                "on behind the next instruction" if behind else f"interrupts are {state}",
                None,
            )
        if found.how is How.BRANCH:
            after = position.offset + len(code)
            way = next(n for n, link in enumerate(self.links) if link.via == after - 4)
            if self.links[way].target is None:
                return Fate.UNLINKED, "leads to its way out below", way
            return Fate.CHAINED, "", way
        if code == found.code and found.how is not How.POP_FLAGS:
            shadow = position.undo is not None
            return Fate.COPIED, "in the interrupt shadow of STI" if shadow else "", None
        return Fate.CHANGED, _CHANGES.get(found.how, ""), None

    def _told(
        self, position: Position, code: bytes, rip: int, fate: Fate, words: str, way: int | None = None
    ) -> Line:
        text = self._text(position.offset, code)
        found = self._at.get(rip)
        source = ""
        if found is not None and rip not in self._shown:
            self._shown.add(rip)
            source = select.texts(found.code, rip, self._bits)[0]
        return Line(position.offset, len(code), rip, source, text, fate, words, way)

    def _text(self, offset: int, code: bytes) -> str:
        if code[0] == encode.CALL_OUT:
            return "hlt"
        return "; ".join(select.texts(code, self._base + offset, self._bits)) or code.hex(" ")


def _fate(link: Link) -> Fate:
    if link.target is None:
        return Fate.UNLINKED
    return Fate.GATE if link.place >= GATES else Fate.CHAINED


def _known(count: int) -> str:
    return f"{count or 'no'} target{'s' * (count != 1)} known so far"
