from __future__ import annotations

import pytest

from vlab.errors import TraceUnavailable, UnusableInput
from vlab.isa.state import Mode
from vlab.trace import ExitEvent, Exits, Kind, Recorder

RIP = 0xFFFF_FFFF_8100_0000


@pytest.fixture
def exits(make, fill) -> Exits:
    recorder = make()
    fill(recorder, 9)
    recorder.event(Kind.INTERRUPT, 9000, 5, 0, RIP, 0x20)
    fill(recorder, 1, start=9)
    return Exits(recorder)


def test_length_and_total_count_exits_only(exits: Exits) -> None:
    assert len(exits) == exits.total == 10
    assert exits.dropped == 0


def test_an_index_gives_the_typed_event(exits: Exits) -> None:
    assert exits[3] == ExitEvent(
        time=3000,
        reason="NPF",
        qualification=(3, 2),
        rip=RIP + 3,
        mode=Mode.LONG64,
        ring=3,
        handler="paging",
        duration=1500,
        vcpu=0,
    )


def test_negative_indices_count_exits_from_the_end(exits: Exits) -> None:
    assert [exits[i].info1 for i in (-1, -2, -10)] == [9, 8, 0]


@pytest.mark.parametrize("index", [10, -11, 10**9, -(10**9)])
def test_an_index_outside_says_how_many_there_are(exits: Exits, index: int) -> None:
    with pytest.raises(IndexError, match=rf"exits\[{index}\]: there are 10 exits in the trace"):
        _ = exits[index]


@pytest.mark.parametrize(
    "piece",
    [
        slice(None),
        slice(2, 5),
        slice(-3, None),
        slice(-3, None, 2),
        slice(-3, None, -1),
        slice(-100, None),
        slice(None, None, -1),
        slice(8, 2),
        slice(-4, -1),
    ],
)
def test_slices_are_those_of_a_list(exits: Exits, piece: slice) -> None:
    part = exits[piece]
    assert isinstance(part, Exits)
    assert [event.info1 for event in part] == list(range(10))[piece]
    assert part.total == len(part) == len(range(10)[piece])


def test_a_long_trace_is_not_copied_for_its_last_exits(make, fill, monkeypatch) -> None:
    recorder = make()
    fill(recorder, 5000)
    for _ in range(200):
        recorder.event(Kind.INTERRUPT, 0, 5, 0, 0, 0x20)
    copied = []
    rows = Recorder.rows

    def counted(self, newest=None):
        table = rows(self, newest)
        copied.append(len(table))
        return table

    monkeypatch.setattr(Recorder, "rows", counted)
    exits = Exits(recorder)
    assert exits[-1].info1 == 4999
    assert [event.info1 for event in exits[-2:]] == [4998, 4999]
    assert max(copied) < 2000


def test_a_view_follows_the_machine(make, fill) -> None:
    recorder = make()
    exits = Exits(recorder)
    assert (len(exits), list(exits)) == (0, [])
    fill(recorder, 3)
    assert [event.time for event in exits] == [0, 1000, 2000]
    fill(recorder, 3, start=3)
    assert len(exits) == 6
    assert exits[5].time == 5000
    recorder.clear()
    assert len(exits) == 0


def test_the_frame_has_the_promised_columns_and_types(exits: Exits) -> None:
    frame = exits.frame()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "time_ns": "int64",
        "reason": "category",
        "rip": "uint64",
        "mode": "category",
        "ring": "uint8",
        "info1": "uint64",
        "info2": "uint64",
        "handler": "category",
        "duration_ns": "int64",
        "vcpu": "uint8",
    }
    assert frame["reason"].tolist() == [
        "CPUID",
        "HLT",
        "IO",
        "NPF",
        "CPUID",
        "HLT",
        "IO",
        "NPF",
        "CPUID",
        "HLT",
    ]
    assert frame["mode"].unique().tolist() == ["LONG64"]
    assert frame["handler"].iloc[1] == "idle"
    assert int(frame["rip"].iloc[6]) == RIP + 6
    assert frame.groupby("reason", observed=True).size().to_dict() == {
        "CPUID": 3,
        "HLT": 3,
        "IO": 2,
        "NPF": 2,
    }


def test_a_frame_of_no_exits_has_the_same_columns(make, exits: Exits) -> None:
    empty = Exits(make()).frame()
    assert len(empty) == 0
    assert list(empty) == list(exits.frame())


def test_events_are_of_every_kind_and_only_exits_have_a_reason(exits: Exits) -> None:
    events = exits.events()
    assert len(events) == 11
    assert list(events) == ["kind", *exits.frame(), "flags"]
    interrupt = events[events["kind"] == "INTERRUPT"]
    assert interrupt["info1"].tolist() == [0x20]
    assert interrupt["reason"].isna().all()
    assert events["reason"].notna().sum() == 10


def test_counts_by_reason_come_largest_first_then_by_name(exits: Exits) -> None:
    series = exits.by_reason()
    assert list(series.items()) == [("CPUID", 3), ("HLT", 3), ("IO", 2), ("NPF", 2)]
    assert (series.name, series.index.name, str(series.dtype)) == ("exits", "reason", "int64")


def test_counts_by_handler_leave_out_those_never_used(exits: Exits) -> None:
    assert exits.where(reason=["IO", "HLT"]).by_handler().to_dict() == {"idle": 3, "ports": 2}


def test_counts_by_reason_include_what_no_longer_fits(make, fill) -> None:
    recorder = make(capacity=10)
    fill(recorder, 100)
    exits = Exits(recorder)
    assert exits.by_reason().sum() == exits.total == 100
    assert (len(exits), exits.dropped) == (10, 90)


def test_level_counters_gives_counts_and_says_how_to_get_more(make) -> None:
    recorder = make("counters")
    recorder.counts[1] += 5
    exits = Exits(recorder)
    assert exits.by_reason().to_dict() == {"HLT": 5}
    assert exits.total == 5
    assert len(exits) == 0
    for question in (
        exits.frame,
        exits.events,
        exits.by_handler,
        exits.where,
        lambda: exits[0],
        lambda: exits[-1],
        lambda: exits[:],
        lambda: list(exits),
    ):
        with pytest.raises(
            TraceUnavailable,
            match=r'"counters" does not keep single exits; make the VM with VM\(\.\.\., trace="full"\)',
        ):
            question()


def test_level_off_does_not_pretend_that_there_were_no_exits(make) -> None:
    with pytest.raises(
        TraceUnavailable, match=r'level "off"; make the VM with VM\(\.\.\., trace="counters"\)'
    ):
        Exits(make("off")).by_reason()


def test_exits_kept_before_the_level_went_down_can_still_be_read(make, fill) -> None:
    recorder = make()
    fill(recorder, 4)
    recorder.set_level("off")
    exits = Exits(recorder)
    assert len(exits.frame()) == 4
    assert exits.by_reason().sum() == 4


def test_where_selects_by_every_argument(exits: Exits) -> None:
    def chosen(**arguments) -> list[int]:
        return [event.info1 for event in exits.where(**arguments)]

    assert chosen() == list(range(10))
    assert chosen(reason="NPF") == [3, 7]
    assert chosen(reason=("NPF", "HLT")) == [1, 3, 5, 7, 9]
    assert chosen(handler="cpuid") == [0, 4, 8]
    assert chosen(rip=RIP + 2) == [2, 9]
    assert chosen(rip=RIP + 2 - (1 << 64)) == [2, 9]
    assert chosen(rip=range(RIP + 5, 1 << 64)) == [5, 6]
    assert chosen(rip=range(RIP)) == []
    assert chosen(rip=range(5, 5)) == []
    assert chosen(ring=3) == [1, 3, 5, 7, 9]
    assert chosen(mode=Mode.REAL, vcpu=0) == []
    assert chosen(reason="CPUID", ring=0, vcpu=0, mode=Mode.LONG64) == [0, 4, 8]


def test_a_selection_is_a_trace_of_its_own(exits: Exits) -> None:
    part = exits.where(reason="NPF")
    assert part.by_reason().to_dict() == {"NPF": 2}
    assert part.where(ring=0).total == 0
    assert len(part.frame()) == 2


def test_an_unknown_reason_or_handler_is_refused_with_the_nearest(exits: Exits) -> None:
    with pytest.raises(
        UnusableInput, match=r"reason: this trace has no reason named 'CPIUD'; did you mean CPUID\?"
    ):
        exits.where(reason="CPIUD")
    with pytest.raises(
        UnusableInput, match=r"no handler named 'zzz'; by_handler\(\) lists those that occurred"
    ):
        exits.where(handler=["cpuid", "zzz"])


def test_the_repr_says_what_there_was(make, fill, exits: Exits) -> None:
    assert repr(exits) == "<Exits: 10 exits: CPUID 3, HLT 3, IO 2, NPF 2>"
    assert repr(Exits(make())) == "<Exits: 0 exits>"
    counters = make("counters")
    counters.counts[0] = 1234
    assert repr(Exits(counters)) == '<Exits: 1,234 exits (trace level "counters"): CPUID 1,234>'
    small = make(capacity=4)
    fill(small, 10)
    assert "10 exits (the oldest 6 records were dropped): CPUID" in repr(Exits(small))


def test_the_html_table_escapes_names_and_sums_up_the_rest() -> None:
    recorder = Recorder([f"<R{n}>" for n in range(13)])
    recorder.counts[:] = [10] * 10 + [5, 3, 2]
    text = Exits(recorder)._repr_html_()
    assert "<td>&lt;R0&gt;</td><td>10</td><td>9.1%</td>" in text
    assert "<td>3 more reasons</td><td>10</td><td>9.1%</td>" in text
    assert "0 exits" in Exits(Recorder(["X"]))._repr_html_()


def test_an_exit_by_an_unnamed_handler_shows_its_code() -> None:
    recorder = Recorder(["X"], level="full")
    recorder.record(1, 0, 0, 0, 0, 0, 0, 7, 0, 0)
    exits = Exits(recorder)
    assert exits[0].handler == "#7"
    assert exits.frame()["handler"].tolist() == ["#7"]
    assert exits.by_handler().to_dict() == {"#7": 1}


def test_the_digest_is_that_of_the_recorder(exits: Exits) -> None:
    assert exits.digest() == exits.source.digest()
