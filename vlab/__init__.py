"""vlab: a laboratory for virtualization, where real guests run under monitors written in readable Python.

>>> import vlab
>>> vm = vlab.VM("hello", monitor="hardware", paging="nested")
>>> stop = vm.run()

The names below are imported on first use, so that ``import vlab`` itself costs almost nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlab import guests
    from vlab.session import VM, Machine, Stop
    from vlab.widgets.showing import show

__version__ = "0.1.0"

#: Public name -> the module that defines it. A module that ends in the name itself is the submodule.
_HOMES = {
    "VM": "vlab.session",
    "Machine": "vlab.session",
    "Stop": "vlab.session",
    "guests": "vlab.guests",
    "show": "vlab.widgets.showing",
}

__all__ = ["VM", "Machine", "Stop", "__version__", "guests", "show"]


def __getattr__(name: str) -> object:
    """Import the module behind a public name the first time that the name is asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vlab' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    module = import_module(home)
    value = module if home.endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names as well, for completion in notebooks."""
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext vlab``: give an IPython shell the magics ``%%asm``, ``%%guest`` and ``%vm``."""
    from vlab.jupyter.magics import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext vlab``: take them away."""
    from vlab.jupyter.magics import unregister

    unregister(shell)


def _join_notebook() -> None:
    """In IPython, offer the magics, and show VMs, exits and so on as their views. No view is imported yet."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is not None and find_spec("anywidget") is not None:
        from vlab.widgets.showing import register

        register(shell.display_formatter.mimebundle_formatter)
    if shell is not None:
        load_ipython_extension(shell)
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        kernel.comm_manager.register_target("vlab.vms", _panel_opened)


def _panel_opened(comm: Any, message: Any) -> None:
    """JupyterLab's side panel asks for the virtual machines here."""
    from vlab.jupyter.panel import opened

    opened(comm, message)


_join_notebook()
