"""A computer that several virtual machines share."""

from __future__ import annotations

from vlab.errors import UnusableInput
from vlab.machine.machine import Machine as HardwareMachine
from vlab.vmm import factory


class Machine(HardwareMachine):
    """A computer that several virtual machines share: ``VM(..., machine=machine)``.

    memory: bytes or text such as "512M", for all of its guests together; the monitors' tables come on top.
    """

    def __init__(self, memory: str | int = "512M") -> None:
        size = factory.memory_size(memory)
        super().__init__(size + factory.OVERHEAD * max(1, size >> 27))

    def close(self) -> None:
        """Give the computer back. Raises UnusableInput while virtual machines are on it."""
        with self.lock:
            if self.users:
                raise UnusableInput(
                    f"close: {self.users} virtual machines are still on this machine; close them first"
                )
            super().close()
