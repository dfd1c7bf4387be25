"""The translation cache of a VM under binary translation: its blocks, each beside its original, and chains.

Blocks are looked at when the reader asks for one, and the list of them goes over a page at a time: the boot
of a Linux kernel makes 50,000.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Final

import traitlets

from vlab.errors import UnusableInput, VlabError
from vlab.session import VM, open_vms
from vlab.vmm.translation.anatomy import Anatomy
from vlab.vmm.translation.blocks import Block
from vlab.vmm.translation.library import Counts
from vlab.vmm.translation.statistics import Statistics
from vlab.widgets import svg
from vlab.widgets.translation_facts import FATES, ORDERS, PAGE, SIGNS, Search, detail, name_of, row
from vlab.widgets.translation_map import HEIGHT, WIDTH, draw
from vlab.widgets.translation_profile import Profiling
from vlab.widgets.view import LiveView

_STYLE: Final = "translation_view.css"
_LINES: Final = 24
"""Lines of the chosen block in the picture."""
_LINE_HEIGHT: Final = 18
_PATIENCE: Final = 0.4
"""Seconds for which a search looks at instructions before it shows what it has found so far."""
_NO_BLOCKS: Final = "the guest has no translated code yet; run it"


class TranslationView(LiveView):
    """The translation cache of ``subject``: a VM under binary translation, or its ``vm.translation``.

    Raises UnusableInput for any other. ``counts``: what was done so far. ``listed``: a page of the list of
    blocks. ``block``: the chosen one. ``seen``: what the last profile saw. ``problem``: why the last wish was
    not carried out.
    """

    script: ClassVar[str] = "translation_view.js"
    styles: ClassVar[tuple[str, ...]] = (_STYLE,)

    running = traitlets.Bool(False).tag(sync=True)
    counts: Any = traitlets.Dict(help="the fields of Counts, and the expansion").tag(sync=True)
    call_outs: Any = traitlets.List(help="families, and how many places have them").tag(sync=True)
    fates: Any = traitlets.List(FATES, help="word, sign, meaning").tag(sync=True)
    listed: Any = traitlets.Dict(help="rows, first, found, total, text, order").tag(sync=True)
    block: Any = traitlets.Dict(help="the chosen block").tag(sync=True)
    drawing = traitlets.Unicode(help="the map of the cache").tag(sync=True)
    profiling = traitlets.Bool(False).tag(sync=True)
    seen: Any = traitlets.Dict(help="what a profile saw").tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, subject: VM | Statistics, **traits: Any) -> None:
        self._guard = threading.RLock()
        self._search = Search()
        self._text, self._order, self._first = "", "made", 0
        self._found: list[Block] = []
        self._key: int | None = None
        self._anatomy: Anatomy | None = None
        self._made: tuple[object, ...] = ()
        self._profiling = Profiling(self, self._guard)
        super().__init__(_vm_of(subject), **traits)
        self.on_msg(self._asked)

    # --- following the VM ---------------------------------------------------------------------------------

    @property
    def statistics(self) -> Statistics:
        """What the monitor tells. Raises UnusableInput when the VM is gone."""
        found = self.vm.translation
        assert found is not None
        return found

    def refresh(self) -> None:
        """Look at the counts, and where the guest stands still at the blocks."""
        vm, statistics = self.vm, self.statistics
        counts = statistics.counts
        now = tuple(getattr(counts, each.name) for each in fields(Counts))
        with self._guard, self.hold_sync():
            self.running = vm.busy
            room = statistics.room
            self.counts = {
                **{each.name: value for each, value in zip(fields(Counts), now, strict=True)},
                "expansion": counts.expansion,
                "room": list(room),
                "callouts": _call_outs_done(vm),
            }
            if not vm.busy and (now, room) != self._made:
                self._made = now, room
                self._look_again(statistics)

    def _look_again(self, statistics: Statistics) -> None:
        """The cache holds something else now."""
        if not statistics.room.code:
            self._search.forget()
        self.call_outs = [list(each) for each in statistics.call_outs().items()]
        self._list()
        blocks = {block.key: block for block in statistics.translated}
        if self._key is None and self._found:
            self._key = self._found[0].key
        self._show(blocks.get(self._key) if self._key is not None else None)

    # --- what the reader asks for -------------------------------------------------------------------------

    def _asked(self, _widget: object, message: Any, _buffers: object) -> None:
        wish = message if isinstance(message, dict) else {}
        try:
            with self._guard, self.hold_sync():
                self._carry_out(wish)
                self.problem = ""
        except VlabError as error:
            self.problem = str(error)

    def _carry_out(self, wish: Mapping[str, Any]) -> None:
        match wish.get("do"):
            case "list":
                text, order, first = wish.get("text"), wish.get("order"), wish.get("first")
                self._text = self._text if text is None else str(text)
                self._order = str(order) if order in ORDERS else self._order
                self._first = first if isinstance(first, int) else 0
                self._list()
            case "choose":
                self._choose(int(str(wish.get("key")), 16))
            case "at":
                self._choose_at(int(wish.get("offset") or 0))
            case "profile":
                self.profile(
                    int(wish.get("milliseconds") or 0),
                    str(wish.get("send") or ""),
                    str(wish.get("until") or ""),
                )
            case "stop":
                self.vm.pause()

    def list_blocks(self, text: str = "", order: str = "made", first: int = 0) -> None:
        """List the blocks with ``text`` in their address, context or instructions; commas between several.

        order: "made", "address", "size" or "arrivals". first: of them to show. Raises UnusableInput.
        """
        if order not in ORDERS:
            raise UnusableInput(f"order: {order!r} is none; write one of {', '.join(ORDERS)}")
        with self._guard:
            self._text, self._order, self._first = text, order, first
            self._list(None)

    def _list(self, patience: float | None = _PATIENCE) -> None:
        blocks = self.statistics.translated
        by = ORDERS[self._order]
        found = self._search.find(blocks, self._text, patience)
        self._found = found if by is None else sorted(found, key=by)
        self._send_page(len(blocks))

    def _send_page(self, total: int) -> None:
        last = max(0, (len(self._found) - 1) // PAGE * PAGE)
        self._first = min(max(0, self._first), last) // PAGE * PAGE
        self.listed = {
            "rows": [row(each) for each in self._found[self._first : self._first + PAGE]],
            "first": self._first, "page": PAGE, "found": len(self._found), "total": total,
            "text": self._text, "order": self._order, "unread": self._search.unread,
        }  # fmt: skip

    def choose(self, rip: int) -> None:
        """Show the block that begins at the guest's ``rip``, or that it is in. Raises UnusableInput."""
        blocks = self.statistics.translated
        found = [each for each in blocks if each.rip == rip]
        found = found or [each for each in blocks if each.rip <= rip < each.rip + each.source]
        if not found:
            raise UnusableInput(
                f"rip: {rip:#x} is in no block of the cache; vm.translation.blocks lists them"
            )
        with self._guard:
            self._choose(found[0].key)

    def _choose(self, key: int) -> None:
        block = next((each for each in self.statistics.translated if each.key == key), None)
        if block is None:
            raise UnusableInput(f"the block at {name_of(key)} is not in the cache any more")
        self._key = key
        place = next((number for number, each in enumerate(self._found) if each is block), None)
        if place is not None and not self._first <= place < self._first + PAGE:
            self._first = place
            self._send_page(self.listed["total"])
        self._show(block)

    def _choose_at(self, offset: int) -> None:
        blocks = sorted(self.statistics.translated, key=lambda block: block.start)
        before = [block for block in blocks if block.start <= offset]
        if blocks:
            self._choose((before[-1] if before else blocks[0]).key)

    def _show(self, block: Block | None) -> None:
        statistics = self.statistics
        self._anatomy = None if block is None else statistics.anatomy(block)
        self.block = {} if self._anatomy is None else detail(self._anatomy)
        if self._anatomy is None and self._key is not None:
            self.block = {"gone": name_of(self._key)}
        parts = draw(statistics.room, statistics.runs(), self._anatomy)
        label = "The translation cache: how much of it is taken, in use, and where the chosen block is"
        self.drawing = svg.document(WIDTH, HEIGHT, label, *parts, styles=(_STYLE,))

    def profile(self, milliseconds: int, send: str = "", until: str = "") -> None:
        """Run the guest in the background and watch what is executed, which slows it down many times.

        milliseconds: of virtual time, at most. send: is typed first. until: text that ends it. ``seen`` has
        the result, and ``vm.pause()`` ends it early. Raises UnusableInput.
        """
        self._profiling.start(self.vm, milliseconds, send, until)

    # --- without a browser --------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the map, and the chosen block beside its original."""
        with self._guard:
            anatomy = self._anatomy
        parts = draw(self.statistics.room, self.statistics.runs(), anatomy) if self.alive else []
        lines = [] if anatomy is None else anatomy.lines
        shown = lines[:_LINES]
        for number, line in enumerate(shown):
            y = HEIGHT + 38 + number * _LINE_HEIGHT
            kind = {"class_": "code small"}
            parts += [
                svg.text(10, y, f"{line.rip:#x}" if line.source else "", **kind),
                svg.text(106, y, svg.cut(line.source, 38), **kind),
                svg.text(376, y, f"{SIGNS[line.fate]} {line.fate}", class_="small"),
                svg.text(470, y, svg.cut(line.code, 40), **kind),
            ]
        if anatomy is not None:
            more = f" (the first {_LINES} of {len(lines)} lines)" if len(lines) > _LINES else ""
            head = f"Block {name_of(anatomy.block.key)}{more}"
            parts.append(svg.text(10, HEIGHT + 16, head))
        height = HEIGHT + 40 + len(shown) * _LINE_HEIGHT if shown else HEIGHT
        return svg.document(WIDTH, height, self.words(), *parts, styles=(_STYLE,))

    def words(self) -> str:
        """Tell the counts, and of the chosen block where it leads."""
        counts = self.counts
        if not counts["blocks"]:
            return _NO_BLOCKS
        lines = [
            f"{self.listed.get('total', 0):,} blocks in the cache; {counts['blocks']:,} translated so far",
            f"{counts['instructions']:,} instructions, {counts['expansion']:.2f} bytes of code for one",
            f"links: {counts['links']:,}, targets: {counts['targets']:,}, misses: {counts['misses']:,}",
            f"dropped: {counts['dropped']:,}, flushes: {counts['flushes']:,}",
        ]
        block = self.block
        if "ways" in block:
            ways = ", ".join(
                f"{way[0]} ({way[2]}{'' if way[3] else ', not linked'})" for way in block["ways"]
            )
            lines.append(f"block {block['rip']}, {block['context']}: leads to {ways or 'the monitor alone'}")
        return "\n".join(lines)


def _call_outs_done(vm: VM) -> int:
    source = vm.exits.source
    return source.counts[source.reasons.index("CALLOUT")]


def _vm_of(subject: object) -> VM:
    """Give the VM that is meant. Raises UnusableInput."""
    if isinstance(subject, Statistics):
        owner = next((vm for vm in open_vms() if vm.translation == subject), None)
        if owner is None:
            raise UnusableInput(f"subject: {subject!r} is of a VM that is closed; make a new one")
        return owner
    if not isinstance(subject, VM) or subject.translation is None:
        raise UnusableInput(
            f"subject: {subject!r} translates nothing; make a VM that does with "
            "vlab.VM('wren', monitor='binary-translation')"
        )
    return subject
