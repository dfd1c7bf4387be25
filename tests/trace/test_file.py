from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.errors import UnusableInput
from vlab.trace import Exits, Kind, Recorder, TraceFileError, load, save

METADATA = {
    "guest": "hello",
    "monitor": "hardware",
    "paging": "nested",
    "memory": 1 << 27,
    "clock": "deterministic",
}
PREFIX = struct.Struct("<8sHHIQ")


@pytest.fixture
def written(make, fill, tmp_path: Path) -> Path:
    recorder = make()
    fill(recorder, 40)
    recorder.event(Kind.INTERRUPT, 40_000, 5, 0, 1, 0x20)
    path = tmp_path / "run.vlabtrace"
    save(path, recorder, METADATA)
    return path


def parts(whole: bytes) -> tuple[dict, bytes]:
    _, _, _, length, _ = PREFIX.unpack_from(whole)
    return json.loads(whole[PREFIX.size : PREFIX.size + length]), whole[PREFIX.size + length : -32]


def sealed(header: object, columns: bytes, version: int = 1, flags: int = 0) -> bytes:
    """Make a file whose checksum is right, whatever is in it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = PREFIX.size + len(text) + len(columns) + 32
    body = PREFIX.pack(b"\x8fvlabtr\n", version, flags, len(text), length) + text + columns
    return body + hashlib.sha256(body).digest()


def test_a_trace_comes_back_as_it_was(make, fill, tmp_path: Path) -> None:
    recorder = make(capacity=100)
    fill(recorder, 250)
    recorder.event(Kind.IO, 1 << 40, 5, 0, 1, 0x3F8, 0x41, flags=1)
    path = tmp_path / "run.vlabtrace"
    save(path, recorder, METADATA, durations=True)
    trace = load(path)
    assert trace.metadata == METADATA
    assert trace.durations
    assert trace.digest == recorder.digest() == trace.exits.digest()
    assert (trace.exits.source.rows() == recorder.rows()).all()
    assert trace.exits.total == 250
    assert trace.exits.dropped == recorder.dropped == 151
    assert trace.exits.by_reason().equals(Exits(recorder).by_reason())
    assert trace.exits.frame().equals(Exits(recorder).frame())
    assert trace.exits.source.event_counts == (0, 0, 1, 0)


@settings(max_examples=30)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.integers(0, 1),
            st.integers(0, 5),
            st.integers(0, 3),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**16 - 1),
            st.integers(0, 2**32 - 1),
            st.integers(0, 255),
        ),
        max_size=20,
    )
)
def test_any_values_survive_the_way_through_a_file(tmp_path_factory, rows: list[tuple[int, ...]]) -> None:
    recorder = Recorder(["A", "B"], level="full")
    for row in rows:
        recorder.record(*row)
    path = tmp_path_factory.mktemp("trace") / "t"
    save(path, recorder, {}, durations=True)
    assert (load(path).exits.source.rows() == recorder.rows()).all()


def test_a_trace_of_counters_comes_back_with_its_counts(make, tmp_path: Path) -> None:
    recorder = make("counters")
    recorder.counts[:] = [3, 0, 2, 1]
    save(tmp_path / "t", recorder, {})
    exits = load(tmp_path / "t").exits
    assert exits.by_reason().to_dict() == {"CPUID": 3, "IO": 2, "NPF": 1}
    assert len(exits) == 0


def test_identical_runs_make_identical_files(make, fill, tmp_path: Path) -> None:
    for name, duration in (("a", 10), ("b", 999)):
        recorder = make()
        fill(recorder, 5000, duration=duration)
        save(tmp_path / name, recorder, METADATA if name == "a" else dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load(tmp_path / "a").exits[0].duration == 0
    assert not load(tmp_path / "a").durations


def test_a_selection_can_be_saved_too(make, fill, tmp_path: Path) -> None:
    recorder = make()
    fill(recorder, 20)
    save(tmp_path / "t", Exits(recorder).where(reason="NPF"), {})
    assert [event.info1 for event in load(tmp_path / "t").exits] == [3, 7, 11, 15, 19]


def test_a_regular_trace_takes_a_few_bytes_an_exit(make, fill, tmp_path: Path) -> None:
    recorder = make()
    fill(recorder, 20_000)
    save(tmp_path / "t", recorder, {})
    assert (tmp_path / "t").stat().st_size < 20_000 * 2


def test_any_changed_byte_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    for at in range(len(whole)):
        for change in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= change
            written.write_bytes(damaged)
            with pytest.raises(TraceFileError):
                load(written)


def test_any_truncation_is_noticed(written: Path) -> None:
    whole = written.read_bytes()
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        with pytest.raises(TraceFileError):
            load(written)
    written.write_bytes(whole + b"x")
    with pytest.raises(TraceFileError, match="was changed since it was written"):
        load(written)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_trace(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("trace") / "t"
    for whole in (data, b"\x8fvlabtr\n" + data, sealed(data, b""), sealed(b"{}", data)):
        path.write_bytes(whole)
        with pytest.raises(TraceFileError):
            load(path)


def test_each_defect_has_its_own_sentence(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    header, columns = parts(whole)
    changed = bytearray(whole)
    changed[-40] ^= 1
    for data, sentence in (
        (b"", "this is no vlab trace: it is empty; `vlab run --trace FILE` writes one"),
        (
            b"\x7fELF\x02\x01",
            r"this is no vlab trace: it starts with the bytes 7F 45 4C 46 02 01 \(\.ELF\.\.\); `vlab",
        ),
        (sealed(header, columns, version=7), "has format 7, and this vlab reads up to 1: use a newer vlab"),
        (sealed(header, columns, version=0), "has format 0, flags 0x0, which nothing writes"),
        (sealed(header, columns, flags=2), "has format 1, flags 0x2, which nothing writes"),
        (whole[:200], rf"is cut short: 200 of {len(whole):,} bytes are there; copy it again"),
        (whole[:10], "is cut short: 10 bytes are there"),
        (bytes(changed), "was changed since it was written: its checksum does not match"),
    ):
        written.write_bytes(data)
        with pytest.raises(TraceFileError, match=sentence) as caught:
            load(written)
        assert str(caught.value).startswith(f"{written}: ")
        assert "\n" not in str(caught.value)
        assert caught.value.exit_status == 2
    with pytest.raises(TraceFileError, match="missing: the trace cannot be read: No such file or directory"):
        load(tmp_path / "missing")
    with pytest.raises(TraceFileError, match="the trace cannot be read: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("rows", 41.5, "2 whole numbers were expected"),
        ("rows", True, "2 whole numbers were expected"),
        ("rows", -1, "out of range"),
        ("rows", 40, "does not hold 40 values"),
        ("rows", 10**15, "do not fill the file"),
        ("dropped", 1 << 63, "out of range"),
        ("reasons", ["A"], "1 whole numbers were expected"),
        ("reasons", "CPUID", "its reasons are not names"),
        ("handlers", [1], "its handlers are not names"),
        ("counts", [1, 2, 3, None], "4 whole numbers were expected"),
        ("event_counts", [1], "4 whole numbers were expected"),
        ("level", "loud", "its level or its columns are not those of this format"),
        ("columns", [], "its level or its columns are not those of this format"),
        ("columns", [[]], "its level or its columns are not those of this format"),
        ("columns", 5, "not subscriptable|not iterable"),
        ("metadata", [], "its metadata, digest or durations are of another type"),
        ("digest", None, "its metadata, digest or durations are of another type"),
        ("durations", 1, "its metadata, digest or durations are of another type"),
    ],
)
def test_a_header_that_lies_is_refused(written: Path, key: str, value: object, sentence: str) -> None:
    header, columns = parts(written.read_bytes())
    written.write_bytes(sealed(header | {key: value}, columns))
    with pytest.raises(TraceFileError, match=f"the trace was written wrongly: .*({sentence})"):
        load(written)
    header.pop(key)
    written.write_bytes(sealed(header, columns))
    with pytest.raises(TraceFileError, match="the trace was written wrongly"):
        load(written)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"null", b"[]", b"\xff", b"", b"{}", b'{"rows":'])
def test_a_header_that_is_no_header_is_refused(written: Path, text: bytes) -> None:
    written.write_bytes(sealed(text, b""))
    with pytest.raises(TraceFileError, match="the trace was written wrongly"):
        load(written)


@pytest.mark.parametrize(("name", "code"), [("reason", 4), ("mode", 6), ("kind", 4)])
def test_a_code_without_a_name_is_refused(make, fill, tmp_path: Path, name: str, code: int) -> None:
    recorder = make()
    fill(recorder, 3)
    frozen = recorder.rows()
    frozen[name][1] = code
    from vlab.trace.storage import StoredTrace

    trace = StoredTrace(
        "full", recorder.reasons, tuple(recorder.handlers), (1, 1, 1, 0), (0, 0, 0, 0), 0, frozen
    )
    save(tmp_path / "t", Exits(trace), {})
    with pytest.raises(TraceFileError, match=f"the trace was written wrongly: its {name} {code} has no name"):
        load(tmp_path / "t")


def test_a_column_that_unpacks_to_too_much_is_not_unpacked(written: Path) -> None:
    header, columns = parts(written.read_bytes())
    bomb = zlib.compress(bytes(50_000_000))
    first = header["columns"][0][2]
    header["columns"][0][2] = len(bomb)
    written.write_bytes(sealed(header, bomb + columns[first:]))
    with pytest.raises(TraceFileError, match="column time does not hold 41 values"):
        load(written)


def test_a_failed_write_leaves_the_old_file_and_no_other(make, fill, written: Path, monkeypatch) -> None:
    before = written.read_bytes()
    recorder = make()
    fill(recorder, 3)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TraceFileError, match="the trace cannot be written: No space left on device"):
        save(written, recorder, {})
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_a_write_into_no_directory_says_so(make, tmp_path: Path) -> None:
    with pytest.raises(TraceFileError, match="run: the trace cannot be written: No such file or directory"):
        save(tmp_path / "nowhere" / "run", make(), {})
    with pytest.raises(TraceFileError, match="the trace cannot be written: Is a directory"):
        save(tmp_path, make(), {})


def test_a_device_is_written_to_and_not_replaced(make, tmp_path: Path) -> None:
    null = Path("/dev/null")
    if not null.is_char_device():
        pytest.skip("there is no /dev/null here")
    save(null, make(), {})
    assert null.is_char_device()


def test_a_symbolic_link_stays_one(make, written: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    try:
        link.symlink_to(written)
    except OSError:
        pytest.skip("symbolic links cannot be made here")
    save(link, make(), {"guest": "other"})
    assert link.is_symlink()
    assert load(written).metadata == {"guest": "other"}


def test_metadata_that_is_no_json_is_refused_by_name(make, tmp_path: Path) -> None:
    with pytest.raises(
        UnusableInput, match=r"metadata: 'when' cannot be written as JSON: .*; use plain values"
    ):
        save(tmp_path / "t", make(), {"guest": "hello", "when": np.float32(1)})
    with pytest.raises(UnusableInput, match="metadata: 'share' cannot be written as JSON"):
        save(tmp_path / "t", make(), {"share": float("nan")})
    assert not (tmp_path / "t").exists()
