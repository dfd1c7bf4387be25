"""A bench for one device: virtual time, a log of what its pins did, and a restored twin beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from vlab.devices.state import DeviceState, decode, encode

SIZES = st.sampled_from([1, 2, 4, 8])
VALUES = st.one_of(
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**65), 2**65),
    st.sampled_from([-1, 1 << 64]),
)

Operation = tuple[Any, ...]


class Bench:
    """One device with its surroundings; `build(bench)` makes the device."""

    def __init__(self, build: Callable[[Bench], Any], time: int = 0) -> None:
        self.time = time
        self.due: int | None = None
        self.log: list[tuple[Any, ...]] = []
        self.device = build(self)

    def now(self) -> int:
        return self.time

    def schedule(self, due: int | None) -> None:
        self.due = due

    def pin(self, name: str) -> Callable[..., None]:
        """Make a callable that logs its arguments under `name`."""
        return lambda *arguments: self.log.append((name, *arguments))

    def wait(self, ns: int) -> None:
        """Let time pass, with `expire` when the device asked for it (a bounded number of times)."""
        end = self.time + ns
        for _ in range(50):
            if self.due is None or self.due > end:
                break
            self.time, self.due = max(self.time, self.due), None
            self.device.expire()
        self.time = end

    def do(self, operation: Operation) -> Any:
        """Do `("wait", ns)` or a method of the device with its arguments."""
        name, *arguments = operation
        return self.wait(*arguments) if name == "wait" else getattr(self.device, name)(*arguments)


def through_json(state: DeviceState) -> Any:
    """Return the state as it comes back from a file."""
    return decode(type(state), json.loads(json.dumps(encode(state))))


def check_twin(build: Callable[[Bench], Any], program: Iterable[Operation], cut: int) -> None:
    """Run a program on one device and, from operation `cut` on, also on a twin restored from the first."""
    original = Bench(build)
    operations = list(program)
    for operation in operations[:cut]:
        original.do(operation)
    saved = original.device.save()
    assert original.device.save() == saved, "saving changes the device"
    twin = Bench(build, time=original.time)
    twin.device.restore(through_json(saved))
    assert twin.device.save() == saved
    assert twin.due == original.due
    original.log.clear()
    twin.log.clear()
    for operation in operations[cut:]:
        assert twin.do(operation) == original.do(operation), operation
        assert twin.log == original.log, operation
        assert twin.device.save() == original.device.save(), operation
        assert twin.due == original.due, operation


def register_programs(offsets: st.SearchStrategy[int], *others: st.SearchStrategy[Any]) -> Any:
    """Make programs of reads, writes and the given other operations."""
    reads = st.tuples(st.just("read"), offsets, SIZES)
    writes = st.tuples(st.just("write"), offsets, VALUES, SIZES)
    return st.lists(st.one_of(reads, writes, *others), max_size=60)
