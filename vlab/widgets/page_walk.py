"""A page walk: every reference to memory in the order in which the hardware makes them, and what comes of it.

Three kinds: the guest's own tables alone on the bare machine, the guest's beside the monitor's under shadow
paging, and the two-dimensional walk under nested paging (AMD APM vol. 2, rev. 3.42, 15.25).
"""

from __future__ import annotations

from operator import index
from typing import Any, ClassVar

import traitlets

from vlab.addresses import held_in, read_address
from vlab.errors import UnusableInput
from vlab.session import VM
from vlab.vmm.walks import GuestWalk
from vlab.widgets.view import LiveView
from vlab.widgets.walk_drawing import draw, draw_inner
from vlab.widgets.walk_facts import NESTED, WalkFacts


class PageWalk(LiveView):
    """The walk of one linear address of ``subject``: a VM, walked anew as it runs, or a GuestWalk.

    address: a number, text such as "0xc0100000", or the name of a register that holds one (RIP, RSP, CR2,
    GDTR, IDTR); None is RIP. Raises UnusableInput. ``wanted``: what the reader typed; ``problem``: what is
    wrong with that.
    """

    script: ClassVar[str] = "page_walk.js"
    styles: ClassVar[tuple[str, ...]] = ("page_walk.css",)

    wanted = traitlets.Unicode("RIP").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    fixed = traitlets.Bool(False, help="whether there is no VM to ask for another address").tag(sync=True)
    drawing = traitlets.Unicode("").tag(sync=True)
    inner = traitlets.List(traitlets.Unicode(), help="a drawing for each row of the grid").tag(sync=True)
    details = traitlets.Dict(help="of the references, by label").tag(sync=True)
    places: Any = traitlets.List(help="registers that hold an address: name, address").tag(sync=True)
    story = traitlets.Unicode("").tag(sync=True)

    def __init__(self, subject: VM | GuestWalk, address: int | str | None = None, **traits: Any) -> None:
        if address is not None:
            traits["wanted"] = _text(address)
            read_address(traits["wanted"], {})
        self._walk: GuestWalk | None = None
        if isinstance(subject, GuestWalk):
            if address is not None:
                raise UnusableInput(
                    f"address: {address!r} is for a VM; this walk is one of {subject.linear:#x} already"
                )
            super(LiveView, self).__init__(fixed=True, wanted=f"{subject.linear:#x}", **traits)
            self._show(subject)
            return
        if not isinstance(subject, VM):
            raise UnusableInput(
                f"subject: {subject!r} has no page walk; give a VM, or what vm.walk(va) gives"
            )
        super().__init__(subject, **traits)
        self.observe(self._asked, "wanted")

    @property
    def vm(self) -> VM:
        """The virtual machine. Raises UnusableInput when it is gone, and for a walk by itself."""
        if self.fixed:
            raise UnusableInput("vm: this is one walk, made once; PageWalk(vm) follows a VM")
        return super().vm

    def refresh(self) -> None:
        """Walk again."""
        vm = self.vm
        places = held_in(vm.registers())
        try:
            linear = read_address(self.wanted, places)
        except UnusableInput as problem:
            self.problem = str(problem)
            return
        walk = vm.walk(linear)
        with self.hold_sync():
            self.problem = ""
            self.places = [[name, f"{address:#x}"] for name, address in places.items()]
            if walk != self._walk:
                self._show(walk)

    def _asked(self, _change: object) -> None:
        """The reader typed something, or clicked at an address."""
        try:
            self.refresh()
        except UnusableInput as problem:
            self.problem = str(problem)

    def _show(self, walk: GuestWalk) -> None:
        self._walk = walk
        facts = WalkFacts(walk)
        with self.hold_sync():
            self.drawing = draw(facts)
            self.details = {shown.label: facts.detail(shown) for shown in facts.references}
            nested = facts.kind == NESTED
            self.inner = [draw_inner(facts, row) for row in range(len(facts.rows))] if nested else []
            self.story = "\n".join([str(walk), *facts.outcome()])

    def picture(self) -> str:
        """Draw the walk."""
        return self.drawing

    def words(self) -> str:
        """List the walk, and what comes of it."""
        return self.story


def _text(address: object) -> str:
    """Give an argument as ``read_address`` reads it, or as its error shows it."""
    if isinstance(address, str):
        return address
    try:
        return repr(address) if isinstance(address, bool) else f"{index(address):#x}"  # type: ignore[arg-type]
    except TypeError:
        return repr(address)
