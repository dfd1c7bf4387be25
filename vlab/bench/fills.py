"""What shadow paging costs where it must work: a page fault that a shadow entry answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vlab.bench.loops import FAR_PAGES, MARK, page_loop
from vlab.bench.registry import Measurement, Say, at_most, bench
from vlab.bench.timing import quiet, seconds
from vlab.session import VM

REPETITIONS = 30
PAGES: Final = FAR_PAGES // 2
"""Pages a round: the second round touches those that the first one, which also starts the guest, did not."""


@bench("shadow-fill", unit="us", bar=at_most(25))
def shadow_fill(say: Say) -> Measurement:
    """A page fault that the shadow answers: exit, walk of the guest's tables, entry, and the way back.

    A round over pages that the guest maps and has not touched, less a round over pages that it has: the
    rest is the same. No flush, no write, no fault of the guest's own is in it.
    """
    fresh, known = list[float](), list[float]()
    for repetition in range(REPETITIONS):
        if repetition % 10 == 0:
            say(f"repetition {repetition + 1} of {REPETITIONS}: new pages, known pages")
        with machine() as vm:
            fresh.append(_round(vm))
            known.append(_round(vm))
    fill = (quiet(fresh) - quiet(known)) / PAGES * 1e6
    per_page = quiet(known) / PAGES * 1e6
    return Measurement(fill, f"{PAGES:,} fills; the same round without them {per_page:.2f} us a page")


def _round(vm: VM) -> float:
    return seconds(lambda: vm.run(until=MARK))


@contextmanager
def machine() -> Iterator[VM]:
    """Make a virtual machine whose guest is about to touch ``PAGES`` new pages, and then known ones."""
    with (
        page_loop(PAGES).file() as path,
        VM(path, monitor="hardware", paging="shadow", memory="16M") as vm,
    ):
        vm.run(until=MARK)
        yield vm
