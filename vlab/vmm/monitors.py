"""The monitors there are, by the names that the command line uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vlab.errors import UnusableInput
from vlab.vmm.bare import BareMachine
from vlab.vmm.deprivileged.monitor import DeprivilegedMonitor
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
_DEPRIVILEGED: Final[dict[str, type[DeprivilegedMonitor]]] = {
    "trap-emulate": TrapAndEmulate,
    "binary-translation": BinaryTranslation,
}
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


def choose(monitor: str, paging: str | PagingStrategy | None) -> tuple[str, str | PagingStrategy]:
    """Check a choice, and fill in the monitor's first paging where none is given.

    Raises UnusableInput for a monitor or paging that there is not.
    """
    if monitor not in _WAYS:
        raise UnusableInput(f"monitor: there is no {monitor!r}; choose one of {', '.join(_WAYS)}")
    ways = _WAYS[monitor]
    if paging is None:
        return monitor, ways[0]
    if isinstance(paging, str) and paging not in ways:
        raise UnusableInput(
            f"paging: {paging!r} does not go with the monitor {monitor}; choose {' or '.join(ways)}"
        )
    if not isinstance(paging, str) and monitor in _NO_STRATEGY:
        raise UnusableInput(f"paging: {_NO_STRATEGY[monitor]}; leave it out")
    return monitor, paging


def make(monitor: str, paging: str | PagingStrategy, parts: Parts) -> Monitor:
    """Make the monitor for a checked choice."""
    if monitor == "none":
        return BareMachine(parts)
    if monitor == "paravirtual" and paging == "direct":
        return ParavirtualMonitor(parts)
    strategy = PAGING[paging]() if isinstance(paging, str) else paging
    if monitor == "hardware":
        return HardwareMonitor(parts, strategy)
    if not isinstance(strategy, ShadowPaging):
        raise UnusableInput(
            f"paging: {strategy.name!r} cannot serve the monitor {monitor}; derive it from ShadowPaging"
        )
    if monitor == "paravirtual":
        return ParavirtualMonitor(parts, strategy)
    return _DEPRIVILEGED[monitor](parts, strategy)
