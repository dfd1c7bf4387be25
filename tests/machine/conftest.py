"""One machine for the tests that need a real processor, powered on anew for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machine.lab import Bench


@pytest.fixture(scope="session")
def _machine() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def lab(_machine: Bench) -> Bench:
    """A machine as it is after power-on, with nothing intercepted."""
    _machine.reset()
    return _machine
