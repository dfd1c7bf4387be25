"""A counter of the 8254 that is really stepped, pulse by pulse, as the data sheet tells its modes.

It is what the arithmetic of `vlab.devices.pit_channel` is compared with. Intel 8254 data sheet (order
231164-005), "Mode Definitions". Only counts of 2 and more: 1 is illegal in modes 2 and 3.
"""

from __future__ import annotations


class SteppedCounter:
    """One counter with both bytes of the count written together."""

    def __init__(self, mode: int, bcd: bool, gate: bool) -> None:
        self.mode = mode
        self.modulus = 10_000 if bcd else 0x1_0000
        self.gate = gate
        self.written = 0
        self.count: int | None = None  # None while the data sheet leaves it undefined
        self.out = mode != 0
        self.load_next = False
        self.armed = False  # a strobe, a one-shot or a terminal count is still to come

    def write_count(self, value: int) -> None:
        self.written = value or self.modulus
        if self.mode == 0:
            self.out = False
        if self.mode in (0, 4) or (self.mode in (2, 3) and self.count is None):
            self.load_next = True

    def set_gate(self, level: bool) -> None:
        rises = level and not self.gate
        self.gate = level
        if self.mode in (2, 3) and not level:
            self.out = True
        if rises and self.mode in (1, 2, 3, 5) and self.written:
            self.load_next = True
            if self.mode == 1:
                self.out = False

    def pulse(self) -> None:
        """One CLK pulse."""
        if self.mode in (4, 5):
            self.out = True
        if self.load_next:
            self.load_next = False
            self.armed = True
            self.count = self.written & ~1 if self.mode == 3 else self.written
            if self.mode == 3:
                self.odd = self.written & 1
                self.out = True
        elif self.count is not None and (self.gate or self.mode in (1, 5)):
            self.step()

    def step(self) -> None:
        assert self.count is not None
        if self.mode == 3:
            self.step_square_wave()
            return
        self.count = (self.count - 1) % self.modulus
        if self.mode == 2:
            if self.count == 0:
                self.count = self.written
            self.out = self.count != 1
        elif self.count == 0 and self.armed:
            self.armed = False
            self.out = self.mode in (0, 1)

    def step_square_wave(self) -> None:
        assert self.count is not None
        if not (self.odd and self.out and self.count == 0):
            self.count = (self.count - 2) % self.modulus
            if self.count or (self.odd and self.out):
                return
        self.out = not self.out
        self.count = self.written & ~1
        self.odd = self.written & 1
