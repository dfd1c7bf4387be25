from __future__ import annotations

import pytest

from vlab.trace import Kind, Recorder
from vlab.trace.storage import column, freeze


def test_a_column_comes_out_in_order_of_time(make, fill) -> None:
    recorder = make(capacity=100)
    fill(recorder, 250)
    assert column(recorder, "time").tolist() == [1000 * n for n in range(150, 250)]


def test_two_identical_runs_have_the_same_digest_whatever_their_durations(make, fill) -> None:
    one, other = make(), make()
    fill(one, 100, duration=5)
    fill(other, 100, duration=70_000)
    assert one.digest() == other.digest()


def test_the_digest_does_not_depend_on_the_order_in_which_handlers_registered() -> None:
    digests = set()
    for names in (["a", "b"], ["unused", "b", "a"]):
        recorder = Recorder(["X", "Y"], names, level="full")
        for name in ("b", "a", "b"):
            recorder.record(1, 1, 5, 0, 0, 0, 0, recorder.handler_code(name), 0, 0)
        digests.add(recorder.digest())
    assert len(digests) == 1


@pytest.mark.parametrize("changed", range(11))
def test_every_field_but_the_duration_changes_the_digest(make, changed: int) -> None:
    fields = [1000, 2, 5, 3, 0x1234, 11, 12, 1, 99, 0]
    reference, recorder = make(), make()
    reference.record(*fields)
    if changed < len(fields):
        fields[changed] += 1 if changed != 2 else -1
    else:
        recorder.event(Kind.INTERRUPT, 5, 5, 0, 0, 0x20)
    recorder.record(*fields)
    duration = 8
    assert (recorder.digest() == reference.digest()) == (changed == duration)


def test_the_digest_covers_the_counts_when_no_exit_is_kept(make) -> None:
    one, other = make("counters"), make("counters")
    assert one.digest() == other.digest()
    one.counts[2] += 1
    assert one.digest() != other.digest()


def test_a_frozen_trace_stays_as_it_was(make, fill) -> None:
    recorder = make()
    fill(recorder, 10)
    frozen, digest = freeze(recorder), recorder.digest()
    recorder.handler_code("new")
    fill(recorder, 10, start=10)
    assert (frozen.total, len(frozen.rows())) == (10, 10)
    assert frozen.rows(2)["info1"].tolist() == [8, 9]
    assert freeze(frozen).total == 10
    recorder.clear()
    fill(recorder, 10)
    assert recorder.digest() == digest
