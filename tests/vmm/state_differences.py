"""In what two endings of a guest differ, in a few words, for the message of an assertion that fails."""

from __future__ import annotations

from vlab.isa.state import CpuState

MOST = 12
"""Bytes that are told."""


def state_differences(one: CpuState, two: CpuState) -> list[str]:
    """Give each register that is not the same, with both values."""
    pairs = ((name, getattr(one, name), getattr(two, name)) for name in CpuState.__dataclass_fields__)
    return [f"{name}: {_text(first)} {_text(second)}" for name, first, second in pairs if first != second]


def byte_differences(one: bytes, two: bytes, start: int = 0) -> list[str]:
    """Give the first bytes that are not the same, with their addresses; start: that of the first byte."""
    if one == two:  # the usual case, and much quicker
        return []
    pairs = enumerate(zip(one, two, strict=True), start)
    return [f"[{n:#x}]: {a:02x} {b:02x}" for n, (a, b) in pairs if a != b][:MOST]


def _text(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)
