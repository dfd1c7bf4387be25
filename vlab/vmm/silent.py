"""A sensitive instruction that went by without a trap, and what the guest got instead of what was right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Silent:
    """One instruction that did not trap. ``saw``: what the guest got; ``should``: what was right."""

    rip: int
    text: str
    saw: str
    should: str

    def describe(self) -> str:
        """Tell it in one line."""
        return f"{self.rip:#x}: {self.text} did not trap: {self.saw}, where {self.should}"
