"""Which virtual machine a magic means: the one that was made or chosen last."""

from __future__ import annotations

import weakref
from typing import Any

from vlab.errors import UnusableInput
from vlab.session import VM, open_vms


class Current:
    """The machines of one notebook. names: its variables."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self._chosen: weakref.ref[VM] | None = None
        self._newest: weakref.ref[VM] | None = None

    def choose(self, vm: VM) -> None:
        """Mean this one until another is chosen or made."""
        self._chosen, self._newest = weakref.ref(vm), weakref.ref(open_vms()[-1])

    def get(self) -> VM:
        """Give the machine that is meant. Raises UnusableInput when there is none."""
        there = open_vms()
        if not there:
            raise UnusableInput(
                "vm: there is no virtual machine; make one with vm = vlab.VM('hello') or with a %%asm cell"
            )
        chosen = None if self._chosen is None else self._chosen()
        newest = None if self._newest is None else self._newest()
        if chosen is None or chosen.closed or newest is not there[-1]:
            return there[-1]
        return chosen

    def named(self) -> dict[str, VM]:
        """Give the variables that hold a machine which is not closed."""
        return {
            name: value
            for name, value in list(self.names.items())
            if isinstance(value, VM) and not value.closed and not name.startswith("_")
        }

    def name_of(self, vm: VM) -> str:
        """Give the variables that hold it, "-" for none."""
        return ", ".join(name for name, value in self.named().items() if value is vm) or "-"

    def use(self, name: str) -> VM:
        """Choose by the name of a variable. Raises UnusableInput, naming those that there are."""
        named = self.named()
        if name not in named:
            there = ", ".join(named) or "none at the moment"
            raise UnusableInput(f"vm: {name!r} is no variable with a virtual machine; there are: {there}")
        self.choose(named[name])
        return named[name]
