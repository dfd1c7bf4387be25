"""vlab: a laboratory for virtualization, where real guests run under monitors written in readable Python.

>>> import vlab
>>> vm = vlab.VM("hello", monitor="hardware", paging="nested")
>>> stop = vm.run()

The names below are imported on first use, so that ``import vlab`` itself costs almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlab import guests
    from vlab.session import VM, Machine, Stop

__version__ = "0.1.0"

#: Public name -> the module that defines it. A module that ends in the name itself is the submodule.
_HOMES = {
    "VM": "vlab.session",
    "Machine": "vlab.session",
    "Stop": "vlab.session",
    "guests": "vlab.guests",
}

__all__ = ["VM", "Machine", "Stop", "__version__", "guests"]


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
