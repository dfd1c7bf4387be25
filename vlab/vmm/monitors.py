"""The monitors there are, by the names that the command line uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.errors import UnusableInput
from vlab.vmm.bare import BareMachine
from vlab.vmm.hardware import HardwareMonitor
from vlab.vmm.monitor import Monitor
from vlab.vmm.paging.nested import NestedPaging
from vlab.vmm.paging.shadow import ShadowPaging
from vlab.vmm.paging.strategy import PagingStrategy
from vlab.vmm.paravirtual.monitor import ParavirtualMonitor
from vlab.vmm.tenant import Parts
from vlab.vmm.translation.monitor import BinaryTranslation
from vlab.vmm.trap_emulate import TrapAndEmulate

PAGING: Final[dict[str, Callable[[], PagingStrategy]]] = {"nested": NestedPaging, "shadow": ShadowPaging}
_WAYS: Final = {
    "none": ("direct",),
    "trap-emulate": ("shadow",),
    "binary-translation": ("shadow",),
    "paravirtual": ("direct", "shadow"),
    "hardware": ("nested", "shadow"),
}
_CLASSES: Final[dict[str, type[Monitor]]] = {
    "none": BareMachine,
    "trap-emulate": TrapAndEmulate,
    "binary-translation": BinaryTranslation,
    "paravirtual": ParavirtualMonitor,
    "hardware": HardwareMonitor,
}
Choice = str | type[Monitor]
"""A monitor by name, or a class of the user's own, derived from one of vlab's."""
_NO_STRATEGY: Final = {
    "none": "the bare machine has no monitor to use a paging strategy",
}
_PARAVIRTUAL: Final = ("wren-paravirt",)
"""The bundled guests that know a monitor, and run under no other."""


def available() -> list[tuple[str, str]]:
    """Give every (monitor, paging) that there is, the bare machine first."""
    return [(monitor, paging) for monitor, pagings in _WAYS.items() for paging in pagings]


def ways_for(guest: str) -> list[tuple[str, str]]:
    """Give every (monitor, paging) that can run a bundled guest: a paravirtual one has its own."""
    return [way for way in available() if (way[0] == "paravirtual") == (guest in _PARAVIRTUAL)]


def technique(monitor: object) -> str:
    """Give the name of the technique: that of vlab's own class from which the user's is derived.

    Raises UnusableInput for a monitor that there is not.
    """
    if isinstance(monitor, str):
        if monitor not in _WAYS:
            raise UnusableInput(f"monitor: there is no {monitor!r}; choose one of {', '.join(_WAYS)}")
        return monitor
    names = [
        name for name, base in _CLASSES.items() if isinstance(monitor, type) and issubclass(monitor, base)
    ]
    if names:
        return names[0]
    what = f"{monitor.__name__} is not derived from" if isinstance(monitor, type) else f"{monitor!r} is not"
    known = ", ".join(base.__name__ for base in _CLASSES.values())
    raise UnusableInput(f"monitor: {what} one of vlab's monitors; give a name, or a class made from {known}")


def choose(monitor: Choice, paging: str | PagingStrategy | None) -> str | PagingStrategy:
    """Check a choice, and give the paging: the technique's first where none is given.

    Raises UnusableInput for a monitor or paging that there is not.
    """
    name = technique(monitor)
    ways = _WAYS[name]
    if paging is None:
        return ways[0]
    if isinstance(paging, str) and paging not in ways:
        raise UnusableInput(
            f"paging: {paging!r} does not go with the monitor {name}; choose {' or '.join(ways)}"
        )
    if not isinstance(paging, str) and name in _NO_STRATEGY:
        raise UnusableInput(f"paging: {_NO_STRATEGY[name]}; leave it out")
    return paging


def make(monitor: Choice, paging: str | PagingStrategy, parts: Parts) -> Monitor:
    """Make the monitor for a checked choice."""
    name = technique(monitor)
    kind: Callable[..., Monitor] = _CLASSES[monitor] if isinstance(monitor, str) else monitor
    if paging == "direct":
        return kind(parts)
    strategy = PAGING[paging]() if isinstance(paging, str) else paging
    if name != "hardware" and not isinstance(strategy, ShadowPaging):
        raise UnusableInput(
            f"paging: {strategy.name!r} cannot serve the monitor {name}; derive it from ShadowPaging"
        )
    return kind(parts, strategy)
