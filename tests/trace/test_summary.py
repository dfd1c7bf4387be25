from __future__ import annotations

import json

from vlab.trace import Exits, Kind, summarize
from vlab.trace.summary import Place, Share


def test_a_summary_tells_totals_times_and_places(make) -> None:
    recorder = make()
    for n in range(10):
        recorder.record(
            10**9 + n * 10**8, 3 if n < 4 else 0, 5, 0, 0x1000 if n < 6 else 0x2000 + n, 0, 0, n % 2, 5, 0
        )
        recorder.event(Kind.INTERRUPT, 10**9 + n * 10**8, 5, 0, 0, 0x20 if n else 0x24)
    recorder.event(Kind.IO, 2 * 10**9, 5, 0, 0, 0x3F8)
    summary = summarize(recorder, places=2)
    assert (summary.level, summary.total, summary.kept, summary.dropped) == ("full", 10, 10, 0)
    assert (summary.interrupts, summary.accesses) == (10, 1)
    assert (summary.start_ns, summary.end_ns, summary.exits_per_second) == (10**9, 2 * 10**9, 10.0)
    assert summary.reasons == (Share("CPUID", 6, 0.6), Share("NPF", 4, 0.4))
    assert summary.handlers == (Share("cpuid", 5, 0.5), Share("idle", 5, 0.5))
    assert summary.places == (Place(0x1000, 6, "NPF"), Place(0x2006, 1, "CPUID"))
    assert summary.vectors == ((0x20, 9), (0x24, 1))
    assert summary.digest == recorder.digest()


def test_a_summary_of_counters_has_totals_only(make) -> None:
    recorder = make("counters")
    recorder.counts[:] = [1, 0, 3, 0]
    summary = summarize(Exits(recorder))
    assert summary.reasons == (Share("IO", 3, 0.75), Share("CPUID", 1, 0.25))
    assert (summary.kept, summary.exits_per_second, summary.places, summary.handlers) == (0, 0.0, (), ())


def test_a_summary_of_nothing_divides_by_nothing(make) -> None:
    summary = summarize(make("off"))
    assert (summary.total, summary.reasons, summary.start_ns) == (0, (), 0)


def test_the_kept_part_of_a_long_run_is_told_from_the_whole(make, fill) -> None:
    recorder = make(capacity=100)
    fill(recorder, 1000)
    summary = summarize(recorder)
    assert (summary.total, summary.kept, summary.dropped) == (1000, 100, 900)
    assert summary.start_ns == 900_000


def test_a_summary_can_be_written_as_json(make, fill) -> None:
    recorder = make()
    fill(recorder, 10)
    assert json.loads(json.dumps(summarize(recorder).as_dict()))["reasons"][0]["name"] == "CPUID"
