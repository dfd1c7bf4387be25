"""Readings made up for tests: as the monitors give them, without running any."""

from __future__ import annotations

from vlab.costs.operations import NAMES
from vlab.costs.readings import Reading, Results, Way

BARE, NESTED, SHADOW = Way("none", "direct"), Way("hardware", "nested"), Way("hardware", "shadow")
PARAVIRTUAL, TRANSLATION = Way("paravirtual", "direct"), Way("binary-translation", "shadow")

EXITS: dict[Way, dict[str, dict[str, float]]] = {
    BARE: {},
    PARAVIRTUAL: {
        "syscall": {"INT": 1, "VMMCALL": 1},
        "in": {"VMMCALL": 1},
        "cr": {"VMMCALL": 1},
        "pgfault": {"PF": 1, "VMMCALL": 4},
        "divzero": {"EXCEPTION": 1, "VMMCALL": 1},
        "ptemod": {"VMMCALL": 2},
        "forkwait": {"VMMCALL": 24, "INT": 3, "PF": 2},
    },
    NESTED: {"in": {"IOIO": 1}, "forkwait": {"INTR": 0.03, "IOIO": 0.06}},
    SHADOW: {
        "in": {"IOIO": 1},
        "cr": {"CR": 1},
        "pgfault": {"PF": 2, "INVLPG": 1},
        "ptemod": {"INVLPG": 1},
        "forkwait": {"PF": 11, "CR": 4, "INVLPG": 2},
    },
    TRANSLATION: {
        "syscall": {"INT": 1, "CALLOUT": 7},
        "in": {"IOIO": 1},
        "cr": {"CALLOUT": 1},
        "pgfault": {"PF": 2, "CALLOUT": 9},
        "divzero": {"EXCEPTION": 1, "CALLOUT": 7},
        "ptemod": {"CALLOUT": 1},
        "forkwait": {"PF": 11, "INT": 3, "CALLOUT": 43, "MISS": 0.6},
    },
}
"""Exits per operation."""


def results(*ways: Way) -> Results:
    """Results of these ways, the bare machine first; of all that there are for none."""
    chosen = list(ways or (BARE, PARAVIRTUAL, NESTED, SHADOW))
    readings = {
        (name, way.name): Reading(EXITS[way].get(name, {}), 0.0, 17_400.0 if name == "forkwait" else 50.0)
        for way in chosen
        for name in NAMES
    }
    return Results(NAMES, chosen, [], readings)


def with_exits(found: Results, name: str, way: Way, **exits: float) -> Results:
    """The same with other exits for one operation in one way."""
    found.readings[name, way.name] = Reading(exits, 0.0, 50.0)
    return found
