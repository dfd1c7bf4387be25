"""What a browser must know of a register to show it bit by bit: its fields, as they are declared."""

from __future__ import annotations

from typing import Any

from vlab.isa.fields import Register


def described(kind: type[Register]) -> dict[str, Any]:
    """Describe a kind of register for register_rows.js, from the highest bit down as manuals draw it."""
    return {
        "reference": kind.REFERENCE,
        "fields": [
            [
                field.name,
                field.lo,
                field.hi,
                field.meaning,
                {str(n): t for n, t in (field.values or {}).items()},
            ]
            for field in reversed(kind.fields())
        ],
    }
