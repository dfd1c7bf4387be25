from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.errors import UnusableInput
from vlab.trace import Kind, Recorder
from vlab.trace.events import RECORD_SIZE
from vlab.trace.ring import CHUNK_RECORDS, Ring


def numbers(recorder: Recorder) -> list[int]:
    infos: list[int] = recorder.rows()["info1"].tolist()
    return infos


def test_an_exit_is_counted_and_kept_with_every_field(make) -> None:
    recorder = make()
    recorder.record(7, 3, 5, 3, 0xFFFF_FFFF_8100_0000, (1 << 64) - 1, 2, 1, 1234, 9)
    (row,) = recorder.rows()
    assert {name: int(row[name]) for name in row.dtype.names} == {
        "time": 7,
        "rip": 0xFFFF_FFFF_8100_0000,
        "info1": (1 << 64) - 1,
        "info2": 2,
        "duration": 1234,
        "reason": 3,
        "handler": 1,
        "mode": 5,
        "ring": 3,
        "vcpu": 9,
        "flags": 0,
        "kind": Kind.EXIT,
    }
    assert recorder.total == 1
    assert recorder.counts == [0, 0, 0, 1]


@given(
    numbers=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 4, st.integers(0, 1 << 40)),
    origin=st.tuples(st.integers(0, 3), st.integers(0, 65535), *[st.integers(0, 255)] * 3),
)
def test_an_exit_recorded_from_its_origin_is_the_same_record(
    numbers: tuple[int, ...], origin: tuple[int, ...]
) -> None:
    reasons = ("CPUID", "HLT", "IO", "NPF")
    one, other = Recorder(reasons, level="full"), Recorder(reasons, level="full")
    time, rip, info1, info2, duration = numbers
    reason, handler, mode, ring, vcpu = origin
    for _ in range(2):  # the first finds no chunk yet
        one.record(time, reason, mode, ring, rip, info1, info2, handler, duration, vcpu)
        other.record_from(other.origin(*origin), time, rip, info1, info2, duration)
    assert one.rows().tobytes() == other.rows().tobytes()
    assert one.counts == other.counts


def test_an_origin_is_refused_for_a_reason_without_a_name_and_a_number_beyond_its_field(make) -> None:
    recorder = make()
    with pytest.raises(IndexError):
        recorder.origin(17, 0, 0, 0)
    with pytest.raises(UnusableInput, match="origin: handler 65536, mode 1, ring 2, vcpu 3: "):
        recorder.origin(0, 65536, 1, 2, 3)
    assert recorder.counts == [0, 0, 0, 0]


def test_a_handler_that_took_an_hour_is_kept_with_the_longest_duration(make) -> None:
    recorder = make()
    recorder.record(1, 0, 0, 0, 0, 0, 0, 0, 3600 * 10**9, 0)
    recorder.record(2, 0, 0, 0, 0, 0, 0, 0, 5, 0)
    assert recorder.rows()["duration"].tolist() == [(1 << 32) - 1, 5]
    assert recorder.total == 2


def test_a_reason_without_a_name_is_neither_kept_nor_counted(make) -> None:
    recorder = make()
    with pytest.raises(IndexError):
        recorder.record(1, 17, 0, 0, 0, 0, 0, 0, 0, 0)
    assert recorder.total == 0


@pytest.mark.parametrize(
    "capacity", [1, 2, 1000, CHUNK_RECORDS - 1, CHUNK_RECORDS, CHUNK_RECORDS + 1, 10_000]
)
def test_a_full_trace_keeps_the_newest_exits_in_order(make, fill, capacity: int) -> None:
    recorder = make(capacity=capacity)
    count = 2 * capacity + 17
    fill(recorder, count)
    assert numbers(recorder) == list(range(count - capacity, count))
    assert recorder.dropped == count - capacity
    assert recorder.total == count


def test_memory_grows_with_a_short_run_and_stops_at_the_capacity(make, fill) -> None:
    recorder = make(capacity=20_000)
    assert recorder.nbytes == 0
    fill(recorder, 1000)
    assert recorder.nbytes == CHUNK_RECORDS * RECORD_SIZE
    fill(recorder, 40_000)
    full = recorder.nbytes
    assert full == (20_000 + 1) * RECORD_SIZE
    fill(recorder, 40_000)
    assert recorder.nbytes == full


def test_a_million_exits_cost_no_more_memory_than_the_first_thousand(make, fill) -> None:
    recorder = make(capacity=1000)
    fill(recorder, 1000)
    before = recorder.nbytes
    fill(recorder, 999_000, start=1000)
    assert recorder.nbytes == before
    assert numbers(recorder) == list(range(999_000, 1_000_000))


def test_the_slow_path_is_taken_once_a_chunk(make, fill, monkeypatch) -> None:
    """The cost of an exit stays flat because all but one in CHUNK_RECORDS only pack."""
    slow = []
    append = Ring.append
    monkeypatch.setattr(Ring, "append", lambda self, record: (slow.append(1), append(self, record)))
    fill(make(), 5 * CHUNK_RECORDS)
    assert len(slow) == 5


@settings(max_examples=40)
@given(
    capacity=st.integers(1, 12),
    steps=st.lists(st.tuples(st.sampled_from(["write", "mark", "back"]), st.integers(0, 9)), max_size=25),
)
def test_marks_and_truncation_behave_like_a_list_that_is_cut(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    recorder = Recorder(["X"], level="full", capacity=capacity)
    model: list[int] = []  # all that was ever written and not taken back
    lost = 0  # how many of the model's first records are gone
    marks = [(recorder.mark(), list(model))]
    serial = 0
    for step, amount in steps:
        if step == "write":
            for _ in range(amount):
                serial += 1
                recorder.record(serial, 0, 0, 0, 0, serial, 0, 0, 0, 0)
                model.append(serial)
            lost = max(lost, len(model) - capacity)
        elif step == "mark":
            marks.append((recorder.mark(), list(model)))
        else:
            mark, past = marks[amount % len(marks)]
            recorder.truncate(mark)
            assert recorder.total == len(past)
            kept = numbers(recorder)
            # What is kept belongs to the past of the mark, and is its end.
            assert kept == past[len(past) - len(kept) :]
            if past == model[: len(past)]:
                assert len(kept) == len(past) - min(lost, len(past))
            model, lost = past[:], len(past) - len(kept)
        assert numbers(recorder) == model[lost:]
        assert recorder.dropped == lost


def test_stepping_back_and_running_again_gives_the_same_trace(make, fill) -> None:
    straight, stepped = make(capacity=500), make(capacity=500)
    fill(straight, 1200)
    fill(stepped, 1000)
    mark = stepped.mark()
    fill(stepped, 150, start=1000, duration=99)
    stepped.truncate(mark)
    fill(stepped, 200, start=1000, duration=77)
    assert stepped.digest() == straight.digest()
    assert stepped.counts == straight.counts


def test_going_forward_again_to_a_later_mark_finds_its_records(make, fill) -> None:
    recorder = make()
    fill(recorder, 10)
    early = recorder.mark()
    fill(recorder, 10, start=10)
    late = recorder.mark()
    recorder.truncate(early)
    recorder.truncate(late)
    assert numbers(recorder) == list(range(20))
    assert recorder.total == 20


def test_a_mark_of_another_history_restores_the_counts_without_its_records(make, fill) -> None:
    recorder = make()
    fill(recorder, 10)
    early = recorder.mark()
    fill(recorder, 10, start=10)
    late = recorder.mark()
    recorder.truncate(early)
    fill(recorder, 15, start=500)
    recorder.truncate(late)
    assert (recorder.total, recorder.dropped, numbers(recorder)) == (20, 20, [])
    fill(recorder, 5, start=20)
    assert numbers(recorder) == list(range(20, 25))


def test_a_mark_from_a_snapshot_on_disk_restores_the_counts_of_a_new_recorder(make, fill) -> None:
    old, new = make(capacity=100_000), make(capacity=100_000)
    fill(old, 50_000)
    new.truncate(old.mark())
    fill(new, 3, start=50_000)
    assert new.total == 50_003
    assert new.dropped == 50_000
    assert numbers(new) == [50_000, 50_001, 50_002]
    assert new.mark().counts == (12501, 12501, 12501, 12500)


def test_a_mark_of_a_recorder_with_other_reasons_is_refused(make) -> None:
    with pytest.raises(
        UnusableInput, match="snapshot: its trace counts 1 exit reasons, this one 4; it comes from"
    ):
        make().truncate(Recorder(["X"]).mark())


def test_the_lists_of_counts_stay_the_same_objects(make, fill) -> None:
    recorder = make()
    counts, events = recorder.counts, recorder.event_counts
    mark = recorder.mark()
    fill(recorder, 10)
    recorder.truncate(mark)
    recorder.clear()
    fill(recorder, 4)
    assert recorder.counts is counts
    assert recorder.event_counts is events
    assert counts == [1, 1, 1, 1]


def test_clear_forgets_exits_counts_and_memory(make, fill) -> None:
    recorder = make(capacity=100)
    fill(recorder, 500)
    recorder.clear()
    assert (recorder.total, recorder.dropped, recorder.nbytes, numbers(recorder)) == (0, 0, 0, [])
    fill(recorder, 3)
    assert numbers(recorder) == [0, 1, 2]


def test_interrupts_stand_between_the_exits_and_are_not_exits(make, fill) -> None:
    recorder = make()
    fill(recorder, 1)
    recorder.event(Kind.INTERRUPT, 5, 5, 0, 0x1000, 0x20)
    recorder.event(Kind.IO, 6, 5, 0, 0x1000, 0x3F8, 0x41, flags=1)
    fill(recorder, 1, start=1)
    assert recorder.rows()["kind"].tolist() == [Kind.EXIT, Kind.INTERRUPT, Kind.IO, Kind.EXIT]
    assert recorder.event_counts == [0, 1, 1, 0]
    assert recorder.total == 2


def test_events_are_counted_but_not_kept_at_level_counters(make) -> None:
    recorder = make("counters")
    recorder.event(Kind.INTERRUPT, 5, 5, 0, 0x1000, 0x20)
    assert recorder.event_counts[Kind.INTERRUPT] == 1
    assert len(recorder.rows()) == 0
    recorder.set_level("off")
    recorder.event(Kind.INTERRUPT, 5, 5, 0, 0x1000, 0x20)
    assert recorder.event_counts[Kind.INTERRUPT] == 1


def test_the_level_shows_in_the_flags_of_the_hot_path(make) -> None:
    recorder = make("off")
    seen = []
    for level in ("off", "counters", "full"):
        recorder.set_level(level)
        seen.append((recorder.level, recorder.counting, recorder.full))
    assert seen == [("off", False, False), ("counters", True, False), ("full", True, True)]


def test_an_unknown_level_or_capacity_is_refused_with_the_choices(make) -> None:
    with pytest.raises(UnusableInput, match="trace: 'fulll' is not a level; write off, counters or full"):
        make("fulll")
    with pytest.raises(UnusableInput, match="capacity: 0 is too small; a trace keeps at least 1 record"):
        make(capacity=0)


def test_a_handler_is_registered_once(make) -> None:
    recorder = make()
    assert recorder.handler_code("ports") == 2
    assert recorder.handler_code("student") == recorder.handler_code("student") == 4
    assert recorder.handlers[-1] == "student"


def test_the_65537th_handler_is_refused() -> None:
    recorder = Recorder(["X"], [str(n) for n in range(1 << 16)])
    with pytest.raises(UnusableInput, match="handler: 'more' is one too many; a trace names 65536"):
        recorder.handler_code("more")


def test_only_the_newest_records_are_copied_when_asked(make, fill) -> None:
    recorder = make(capacity=10_000)
    fill(recorder, 25_000)
    assert recorder.rows(3)["info1"].tolist() == [24_997, 24_998, 24_999]
    assert len(recorder.rows(1 << 40)) == 10_000
    assert len(recorder.rows(0)) == 0


def test_a_copy_does_not_follow_the_recorder(make, fill) -> None:
    recorder = make(capacity=10)
    fill(recorder, 10)
    rows = recorder.rows()
    fill(recorder, 10, start=10)
    assert rows["info1"].tolist() == list(range(10))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_a_reader_beside_the_writer_always_sees_consecutive_whole_records(make) -> None:
    recorder = make(capacity=3000)
    done = threading.Event()
    seen: deque[int] = deque(maxlen=10_000)
    faults: list[str] = []

    def read() -> None:
        while not done.is_set():
            rows = recorder.rows()
            first = rows["info1"].astype(np.int64)
            if len(rows) > 3000 or (len(rows) and (np.diff(first) != 1).any()):
                faults.append(f"records {first[:3]}... are not consecutive")
            if (rows["info2"] != rows["info1"]).any() or (rows["time"] != rows["info1"]).any():
                faults.append("a record is torn")
            seen.append(len(rows))

    reader = threading.Thread(target=read)
    reader.start()
    n = 0
    while n < 50_000 or (len(seen) < 100 and reader.is_alive()):
        for _ in range(1000):
            recorder.record(n, 0, 5, 0, n, n, n, 0, n, 0)
            n += 1
    done.set()
    reader.join()
    assert not faults
    assert len(seen) >= 100
    assert seen[-1] > 0
