"""The guest's processor while its kernel runs as a translation.

Between two instructions of the guest's that the monitor has to do with, the real RIP is in the cache. For
whoever looks meanwhile, a device in the middle of an IN for one, the guest's RIP is where that was made from.
"""

from __future__ import annotations

from collections.abc import Callable

from vlab.machine import registers as reg
from vlab.vmm.deprivileged.virtual_core import VirtualCore


class TranslatedCore(VirtualCore):
    """``in_cache``: the processor executes a translation; ``locate(rip)`` gives the guest's RIP then."""

    in_cache = False
    locate: Callable[[int], int] = staticmethod(lambda rip: rip)

    @property
    def rip(self) -> int:
        """The guest's RIP."""
        rip = self.words[reg.RIP]
        return self.locate(rip) if self.in_cache else rip

    @rip.setter
    def rip(self, value: int) -> None:
        self.words[reg.RIP] = value
