"""A finished run as plain data: the object that --json writes, and what two runs must share to agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from vlab.session import VM

__all__ = ["RunRecord", "guest_failed", "record", "top_reasons"]


class ExitCounts(TypedDict):
    """How often the guest left for its monitor, in all and by reason."""

    total: int
    by_reason: dict[str, int]


class RunRecord(TypedDict):
    """One run. `blocks` is None where nothing counts them; `state_hash` covers registers and memory."""

    guest: str
    monitor: str
    paging: str
    memory_bytes: int
    clock: str
    wall_seconds: float
    exits: ExitCounts
    interrupts_delivered: int
    blocks: int | None
    state_hash: str
    stop_reason: str
    console: str


def record(vm: VM, stop_reason: str, wall_seconds: float) -> RunRecord:
    """Take down how a run of `vm` went. The machine must be stopped."""
    reasons = {str(reason): int(count) for reason, count in vm.exits.by_reason().items()}
    return {
        "guest": vm.guest.name,
        "monitor": vm.monitor,
        "paging": vm.paging,
        "memory_bytes": vm.memory_bytes,
        "clock": vm.clock,
        "wall_seconds": round(wall_seconds, 3),
        "exits": {"total": int(vm.exits.total), "by_reason": reasons},
        "interrupts_delivered": vm.interrupts_delivered,
        "blocks": vm.blocks,
        "state_hash": vm.state_hash(),
        "stop_reason": stop_reason,
        "console": vm.console.text,
    }


def guest_failed(stop: Stop) -> bool:
    """Whether the guest failed: it said so itself, or it went where it could not say any more."""
    return stop.kind in (StopKind.TRIPLE_FAULT, StopKind.FAILED) or bool(stop.exit_code)


def top_reasons(counts: ExitCounts, limit: int) -> str:
    """Name the most frequent exit reasons with their counts, most frequent first."""
    ranked = sorted(counts["by_reason"].items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ranked[:limit])
