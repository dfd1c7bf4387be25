"""Which view belongs to what: the rich display of vlab's objects in a notebook, and `vlab.show`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, cast

from vlab.errors import UnusableInput

#: What is displayed as what: module and name of the type, module and name of its view.
VIEWS: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("vlab.session", "VM"): ("vlab.widgets.dashboard", "dashboard_of"),
    ("vlab.devices.vga_text", "VgaText"): ("vlab.widgets.screen", "Screen"),
    ("vlab.vmm.devices", "Devices"): ("vlab.widgets.board", "Board"),
    ("vlab.trace.exits", "Exits"): ("vlab.widgets.exits_view", "ExitsView"),
    ("vlab.trace.file", "TraceFile"): ("vlab.widgets.inspector", "opened"),
    ("vlab.vmm.translation.statistics", "Statistics"): ("vlab.widgets.translation_view", "TranslationView"),
    ("vlab.vmm.walks", "GuestWalk"): ("vlab.widgets.page_walk", "PageWalk"),
}


def view_of(value: object) -> Any:
    """Make the view of one of vlab's objects; None for any other object."""
    for kind in type(value).__mro__:
        found = VIEWS.get((kind.__module__, kind.__qualname__))
        if found is not None:
            module, name = found
            return getattr(import_module(module), name)(_owner(value) or value)
    return None


def _owner(value: object) -> object:
    """Find the VM whose screen or devices these are: their views take the VM itself."""
    from vlab.session import open_vms

    for vm in open_vms():
        if value is vm.screen or value is vm.devices:
            return vm
    return None


def register(formatter: Any) -> None:
    """Have IPython's formatter for MIME bundles display vlab's objects as their views."""
    for module, name in VIEWS:
        formatter.for_type_by_name(module, name, _bundle)


def _bundle(value: object, **options: Any) -> Any:
    """What an object's view says it is displayed as; in a terminal nothing but its repr."""
    if _in_terminal():
        return {}, {}
    made = view_of(value)
    bundle: Callable[..., Any] = made._repr_mimebundle_
    return bundle(**options)


def _in_terminal() -> bool:
    from IPython.core.getipython import get_ipython

    return any(kind.__name__ == "TerminalInteractiveShell" for kind in type(get_ipython()).__mro__)


def show(*subjects: object, columns: int = 1, at: int | None = None) -> Any:
    """Compose views: of VMs, exits, walks and so on, or widgets made before. columns: how many side by side.

    at: the number of an exit, counted from 1: each subject, which is then a VM, ``vm.exits`` or a loaded
    trace, is opened in the inspector, with that exit under the cursor. The guest stays where it is. Raises
    UnusableInput for what has no view, and for an exit that is not in the trace.
    """
    from vlab.widgets.together import Together

    if columns < 1:
        raise UnusableInput(f"columns: {columns} is too few; at least 1 view is in a row")
    return Together([_shown(subject, at) for subject in subjects], columns)


def _shown(subject: object, at: int | None) -> Any:
    import ipywidgets

    if at is not None:
        from vlab.widgets.inspector import Inspector

        return Inspector(cast("Any", subject), at)  # which says of what it cannot show that it cannot
    made = subject if isinstance(subject, ipywidgets.Widget) else view_of(subject)
    if made is None:
        raise UnusableInput(
            f"show: {subject!r} has no view; give a VM, vm.exits, vm.walk(address) or a widget"
        )
    return made
