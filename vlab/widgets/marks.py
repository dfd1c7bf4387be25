"""How exit reasons are told apart: each has a sign and a colour, the same in every view, beside its name.

The colours are variables of static/marks.css. Two reasons may share a sign or a colour, but never both.
"""

from __future__ import annotations

from typing import Final

from vlab.vmm.exits import REASONS

SIGNS: Final = "●■▲◆▼★✚○□△◇"
COLOURS: Final = 8


def sign(reason: str) -> str:
    """Give the sign of a reason; a dot for what is none."""
    return SIGNS[REASONS.index(reason) % len(SIGNS)] if reason in REASONS else "·"


def colour(reason: str) -> str:
    """Give the colour of a reason, as CSS writes it; that of faint text for what is none."""
    if reason not in REASONS:
        return "var(--vlab-faint)"
    return f"var(--vlab-mark-{REASONS.index(reason) % COLOURS})"


def labelled(reason: str) -> str:
    """Give the sign and the name."""
    return f"{sign(reason)} {reason}"
