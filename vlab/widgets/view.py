"""What all views are: a live widget where there is a browser, a picture or words where there is not."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import anywidget
import traitlets

from vlab.comms import heard_where_sent
from vlab.errors import UnusableInput
from vlab.widgets import bundle
from vlab.widgets.watching import watch

if TYPE_CHECKING:
    from vlab.session import VM
    from vlab.trace.exits import Exits

_Subject = TypeVar("_Subject")


class Scripted(anywidget.AnyWidget):
    """A widget whose subclasses name their ES module in static/, ``script``, and its style sheets."""

    script: ClassVar[str]
    styles: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        script = cls.__dict__.get("script")
        if script is not None:  # traitlets makes classes of its own, too
            cls._esm, cls._css = bundle.module(script), bundle.style(*cls.styles)
        super().__init_subclass__(**options)

    def open(self) -> None:
        """Open the line to the browser."""
        super().open()
        heard_where_sent(self.comm)


class Told:
    """``picture()`` draws it as SVG and ``words()`` tells it as text.

    These stand for the widget in places without a kernel: GitHub, an exported notebook, a terminal.
    """

    @abstractmethod
    def picture(self) -> str | None:
        """Draw what it shows now as an SVG document; None where words say it better."""

    @abstractmethod
    def words(self) -> str:
        """Tell what it shows now in a few lines."""

    def stand_ins(self) -> dict[str, str]:
        """Give both by their MIME types."""
        picture = self.picture()
        drawn = {} if picture is None else {"image/svg+xml": picture}
        return drawn | {"text/plain": self.words()}


class View(Told, Scripted):
    """A view that is one widget."""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give the live view and what stands for it."""
        found = super()._repr_mimebundle_(**options)
        if found is None:
            return None
        data, metadata = found
        return data | self.stand_ins(), metadata


class LiveView(View):
    """A view of a virtual machine, which follows it while it runs.

    It does not keep the VM alive: a notebook keeps every view that it has ever shown. ``refresh()`` is called
    some times a second while the guest makes progress, in a thread of its own, and once when it stops;
    it must be quick, and sends what changed by setting traits.
    """

    alive = traitlets.Bool(True, help="whether there still is a virtual machine").tag(sync=True)

    def __init__(self, vm: VM, **traits: Any) -> None:
        from vlab.session import VM

        if not isinstance(vm, VM):
            raise UnusableInput(f"vm: {vm!r} is no virtual machine; make one with vlab.VM('hello')")
        self._vm = weakref.ref(vm)
        super().__init__(**traits)
        self.refresh()
        watch(vm, self)

    @property
    def vm(self) -> VM:
        """The virtual machine. Raises UnusableInput when it is gone."""
        vm = self._vm()
        if vm is None or not self.alive:
            raise UnusableInput("the VM of this view is gone; run the cell that makes it again")
        return vm

    @abstractmethod
    def refresh(self) -> None:
        """Look at the VM and set the traits."""


def owner_of(exits: Exits) -> VM | None:
    """Find the VM that these exits, or all of which they are a part, come from; None where none is open."""
    from vlab.session import open_vms

    return next((vm for vm in open_vms() if vm.exits.source is exits.source), None)


def of_type(name: str, value: object, kind: type[_Subject], hint: str) -> _Subject:
    """Check an argument; raises UnusableInput with what to do."""
    if not isinstance(value, kind):
        raise UnusableInput(f"{name}: {value!r} is no {kind.__name__}; {hint}")
    return value
