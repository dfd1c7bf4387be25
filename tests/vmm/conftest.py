"""A machine that the tests of a session share; each takes and returns its own frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vlab.machine.machine import Machine


@pytest.fixture(scope="session")
def shadow_machine() -> Iterator[Machine]:
    machine = Machine(64 << 20)
    yield machine
    machine.close()
