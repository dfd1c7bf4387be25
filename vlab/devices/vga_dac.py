"""The VGA's colour table: 256 colours of 18 bits behind ports 3C6h to 3C9h.

Reference: IBM PS/2 Hardware Interface Technical Reference (1988), "Video Digital-to-Analog Converter".
"""

from __future__ import annotations

from vlab.devices.vga_registers import DacState

_COMPONENT_MASK = 0x3F


class Dac:
    """The table and its address register, which moves on after every third read or write of a component."""

    def __init__(self) -> None:
        self.restore(DacState())

    def read_state(self) -> int:
        """Read port 3C7h: 3 after a read index was written, 0 after a write index."""
        return 3 if self._reading else 0

    def read_index(self) -> int:
        """Read port 3C8h."""
        return self._index

    def write_index(self, index: int, reading: bool) -> None:
        """Write port 3C7h (to read colours) or 3C8h (to write them)."""
        self._index = index
        self._component = 0
        self._reading = reading

    def read_component(self) -> int:
        """Read port 3C9h: red, green and blue in turn."""
        value = self._colours[3 * self._index + self._component]
        self._advance()
        return value

    def write_component(self, value: int) -> None:
        """Write port 3C9h: the colour changes when its third component has come."""
        self._latch[self._component] = value & _COMPONENT_MASK
        if self._component == 2:
            self._colours[3 * self._index : 3 * self._index + 3] = self._latch
        self._advance()

    def _advance(self) -> None:
        self._component += 1
        if self._component == 3:
            self._component = 0
            self._index = self._index + 1 & 0xFF

    def save(self) -> DacState:
        """Return the table and where it is being read or written."""
        return DacState(
            mask=self.mask,
            index=self._index,
            component=self._component,
            reading=self._reading,
            latch=bytes(self._latch),
            colours=bytes(self._colours),
        )

    def restore(self, state: DacState) -> None:
        """Take over the state."""
        self.mask = state.mask
        self._index = state.index
        self._component = state.component
        self._reading = state.reading
        self._latch = bytearray(state.latch)
        self._colours = bytearray(state.colours)
