"""Settings that every test shares: Hypothesis repeats itself, a test says what it needs of the machine."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Derandomised, so that a failure here is a failure everywhere; no deadline, since machines differ.
settings.register_profile(
    "vlab",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("vlab")

# A shell starts what runs behind it with Ctrl-C ignored, which the processes of tests would inherit; IPython
# warns of an environment that is active and not its own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("VIRTUAL_ENV", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, in the open: each skip names its reason and the way to lift it."""
    if os.environ.get("VLAB_OFFLINE"):
        _skip(items, "network", "VLAB_OFFLINE is set")
    if not os.environ.get("VLAB_REBUILD"):
        _skip(items, "rebuild", "VLAB_REBUILD is not set: it fetches and builds the front end with Node.js")
    if any(item.get_closest_marker("linux") for item in items) and not os.environ.get("VLAB_REQUIRE_LINUX"):
        reason = _linux_is_missing()
        if reason:
            _skip(items, "linux", reason)


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _linux_is_missing() -> str | None:
    from vlab.guests import catalogue

    if catalogue.find("linux").available:
        return None
    return "the Linux guest is not here: `make guests` fetches it"
