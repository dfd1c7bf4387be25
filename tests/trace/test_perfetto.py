from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlab.trace import Exits, Kind, TraceFileError, load, save
from vlab.trace.perfetto import export


def exported(path: Path, trace, **options) -> list[dict]:
    count = export(path, trace, **options)
    document = json.loads(path.read_text())
    assert document["displayTimeUnit"] == "ns"
    assert len(document["traceEvents"]) == count
    return document["traceEvents"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


def test_an_exit_is_a_slice_on_the_track_of_its_vcpu(make, out: Path) -> None:
    recorder = make()
    recorder.record(1_234_567, 3, 5, 0, 0x1000, 4, 0xFEE00000, 3, 2500, 1)
    (slice_,) = (event for event in exported(out, recorder) if event["ph"] == "X")
    assert slice_ == {
        "ph": "X",
        "pid": 1,
        "tid": 1,
        "ts": 1234.567,
        "dur": 2.5,
        "cat": "exit",
        "name": "NPF",
        "args": {
            "rip": "0x1000",
            "mode": "64-bit",
            "ring": 0,
            "info1": "0x4",
            "info2": "0xfee00000",
            "handler": "paging",
            "handler_ns": 2500,
        },
    }


def test_the_process_and_the_tracks_have_names(make, fill, out: Path) -> None:
    recorder = make()
    fill(recorder, 2)
    names = [event for event in exported(out, recorder, title="linux (nested)") if event["ph"] == "M"]
    assert [(event["name"], event["args"]["name"]) for event in names] == [
        ("process_name", "linux (nested)"),
        ("thread_name", "vcpu 0"),
    ]


def test_a_slice_never_reaches_the_next_exit_of_its_vcpu(make, fill, out: Path) -> None:
    recorder = make()
    fill(recorder, 3, duration=5000)
    recorder.record(2500, 0, 5, 0, 0, 0, 0, 0, 100, 7)
    slices = [event for event in exported(out, recorder) if event["ph"] == "X"]
    assert [event["dur"] for event in slices] == [1.0, 1.0, 5.0, 0.1]


def test_other_events_are_instants_with_their_meaning(make, out: Path) -> None:
    recorder = make()
    recorder.event(Kind.INTERRUPT, 1000, 5, 0, 0x1000, 0x20)
    recorder.event(Kind.IO, 2000, 5, 0, 0x1000, 0x3F8, 0x41, flags=1)
    recorder.event(Kind.IO, 3000, 5, 0, 0x1000, 0x3FD, 0x60)
    recorder.event(Kind.MARK, 4000, 5, 0, 0x1000, 1, 2)
    instants = [event for event in exported(out, recorder) if event["ph"] == "i"]
    assert [event["name"] for event in instants] == ["interrupt 0x20", "write 0x3f8", "read 0x3fd", "mark"]
    assert instants[0]["args"]["vector"] == "0x20"
    assert instants[1]["args"]["value"] == "0x41"
    assert {event["cat"] for event in instants} == {"interrupt", "io", "mark"}


def test_a_decoder_tells_what_the_qualification_means(make, fill, out: Path) -> None:
    recorder = make()
    fill(recorder, 3)

    def describe(reason: str, info1: int, info2: int) -> dict[str, object]:
        return {"port": hex(info1)} if reason == "IO" else {}

    slices = [event for event in exported(out, recorder, describe=describe) if event["ph"] == "X"]
    assert [event["args"]["qualification"] for event in slices] == [{}, {}, {"port": "0x2"}]


@pytest.mark.parametrize("count", [1, 3, 5000])
def test_the_counter_track_counts_every_exit_once_by_reason(make, fill, out: Path, count: int) -> None:
    recorder = make()
    fill(recorder, count)
    counters = [event for event in exported(out, recorder) if event["ph"] == "C"]
    assert 1 <= len(counters) <= 500
    totals: dict[str, int] = {}
    for event in counters:
        for name, value in event["args"].items():
            totals[name] = totals.get(name, 0) + value
    assert totals == Exits(recorder).by_reason().to_dict()
    assert len({tuple(event["args"]) for event in counters}) == 1


def test_a_trace_without_records_exports_as_an_empty_process(make, out: Path) -> None:
    assert [event["ph"] for event in exported(out, make("counters"))] == ["M"]


def test_a_loaded_file_exports_as_the_live_trace_does(make, fill, out: Path, tmp_path: Path) -> None:
    recorder = make()
    fill(recorder, 100)
    save(tmp_path / "t", recorder, {}, durations=True)
    assert exported(out, load(tmp_path / "t").exits) == exported(out, recorder)


def test_names_are_written_as_json_strings(out: Path) -> None:
    from vlab.trace import Recorder

    recorder = Recorder(['a"b\\\n'], ['"'], level="full")
    recorder.record(1, 0, 5, 0, 0, 0, 0, 0, 0, 0)
    (slice_,) = (event for event in exported(out, recorder) if event["ph"] == "X")
    assert slice_["name"] == 'a"b\\\n'


def test_an_export_that_cannot_be_written_says_why(make, tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="out: the export cannot be written: No such file or directory"):
        export(tmp_path / "nowhere" / "out", make())
