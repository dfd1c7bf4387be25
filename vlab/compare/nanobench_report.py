"""What the nanobenchmarks gave as plain data: what `vlab nanobench --json` writes and notebooks compare."""

from __future__ import annotations

from vlab.compare.orderings import Check, Verdict, check, verdicts
from vlab.costs.model import Cycles, of_operation
from vlab.costs.readings import Results, Way
from vlab.costs.table import Costs, load


def report(
    results: Results,
    costs: Costs | None = None,
    checks: list[Check] | None = None,
    found: list[Verdict] | None = None,
) -> dict[str, object]:
    """Give readings, modelled cycles, verdicts and checks as what JSON can hold.

    costs: the cost table, the package's own for None. checks, found: those made of it before, if they were.
    """
    costs = load() if costs is None else costs
    checks = check(results, costs) if checks is None else checks
    found = verdicts(results, costs) if found is None else found
    return {
        "operations": [
            _reading(results, costs, name, way) for name in results.operations for way in results.ways
        ],
        "refused": [
            {"monitor": each.way.monitor, "paging": each.way.paging, "why": each.why}
            for each in results.refused
        ],
        "verdicts": [
            {
                "generation": each.generation,
                "software": each.software_way.name,
                "hardware": each.hardware_way.name,
                "software_cycles": round(each.software, 1),
                "hardware_cycles": round(each.hardware, 1),
                "software_wins": each.software_wins,
                "software_is_cheaper_in": list(each.cheaper),
            }
            for each in found
        ],
        "checks": [{"claim": each.claim, "holds": each.holds, "detail": each.detail} for each in checks],
    }


def _reading(results: Results, costs: Costs, name: str, way: Way) -> dict[str, object]:
    reading, slowdown = results.of(name, way), results.slowdown(name, way)
    return {
        "operation": name,
        "guest": way.kernel,
        "monitor": way.monitor,
        "paging": way.paging,
        "exits": {"total": round(reading.total, 4), "by_reason": dict(reading.exits)},
        "monitor_instructions": reading.instructions,
        "blocks": reading.blocks,
        "seconds": reading.seconds,
        "over_bare": None if slowdown is None else round(slowdown, 3),
        "cycles": {
            each.name: _cycles(of_operation(costs, each, name, way, reading))
            for each in costs.generations.values()
        },
    }


def _cycles(cycles: Cycles | None) -> dict[str, object] | None:
    if cycles is None:
        return None
    return {
        "guest": round(cycles.guest, 1),
        "exits": round(cycles.exits, 1),
        "total": round(cycles.total, 1),
        "sure": cycles.sure.name.lower(),
    }
