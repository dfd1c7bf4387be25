"""The journal: what is written survives any crash, stands as long as nothing changed, and is read back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.grading.batch import Secret
from vlab.grading.journal import Graded, Journal, Results, Stamp
from vlab.grading.result import ExerciseMark, InvariantMark

STAMP = Stamp("d" * 64, "0.1.0/abc", "f00d")
GRADED = Graded(
    "Zoë Müller",
    "02",
    "class.zip: zoe/02.ipynb",
    STAMP,
    (
        ExerciseMark(
            "greet",
            "Greeting",
            (
                InvariantMark("a", "it greets", 0.1, 0.1),
                InvariantMark("b", "it stays", 0.2, 0.0, "it went", "look at HLT", b"\0trace\xff"),
            ),
        ),
    ),
    {"greet": "# exercise: greet\nprint('ä')"},
    notes=("A cell was moved.",),
    seconds=0.25,
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "graded") as made:
        yield made


def test_a_result_comes_back_as_it_was(journal: Journal) -> None:
    journal.write(GRADED)
    assert journal.find("Zoë Müller", "02") == GRADED
    assert journal.path("Zoë Müller", "02").name == "Zoë Müller.json"
    assert [each.name for each in journal.path("x", "02").parent.iterdir()] == ["Zoë Müller.json"]


def test_a_result_stands_until_what_it_was_made_from_changes(journal: Journal) -> None:
    assert not journal.done("Zoë Müller", "02", STAMP)
    journal.write(GRADED)
    assert journal.done("Zoë Müller", "02", STAMP)
    for changed in ({"digest": "0"}, {"engine": "0.2.0"}, {"secret": "beef"}):
        assert not journal.done("Zoë Müller", "02", replace(STAMP, **changed))


def test_an_error_of_ours_is_kept_and_tried_again(journal: Journal) -> None:
    journal.write(replace(GRADED, error="the worker process ended with signal 9"))
    assert not journal.done("Zoë Müller", "02", STAMP)
    found = journal.find("Zoë Müller", "02")
    assert found is not None
    assert found.error == "the worker process ended with signal 9"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"format": 2}', b"[" * 200_000, b"\xff", b"null"]
)
def test_what_is_no_result_counts_as_none(journal: Journal, content: bytes) -> None:
    journal.write(GRADED)
    journal.path("Zoë Müller", "02").write_bytes(content)
    assert journal.find("Zoë Müller", "02") is None
    assert not journal.done("Zoë Müller", "02", STAMP)


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path) as first:
        first.write(GRADED)
        left = first.path("x", "02").with_name(".x.json.12.tmp")
        left.write_text("{")
    with Journal(tmp_path):
        assert not left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked in another way there")
def test_two_gradings_at_a_time_do_not_write_to_one_directory(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(UnusableInput, match=r"^out: another `vlab grade` writes to '"):
        Journal(tmp_path)
    with Journal(tmp_path) as free:
        assert free.directory == tmp_path


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UnusableInput, match=r"^out: '.*file' cannot be written \(.*\); name another directory"
    ):
        Journal(tmp_path / "file")


def test_a_disk_that_is_full_is_told_with_what_to_do(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        UnusableInput, match=r"cannot be written \(No space left on device\); make room, and run"
    ):
        journal.write(GRADED)
    assert journal.find("Zoë Müller", "02") is None


def test_results_are_read_when_they_are_looked_at(journal: Journal) -> None:
    journal.write(GRADED)
    journal.write(replace(GRADED, student="bob"))
    results = Results(journal, [("Zoë Müller", "02"), ("bob", "02"), ("nobody", "02")])
    assert [each.student for each in results] == ["Zoë Müller", "bob"]
    assert results[-1].student == "bob"
    assert results[:1] == [GRADED]
    journal.path("bob", "02").write_text("{")
    with pytest.raises(UnusableInput, match=r"bob\.json' is broken; delete it and run this again"):
        list(results)


def test_marks_are_summed_and_traces_can_be_left_out() -> None:
    assert (GRADED.points, GRADED.earned) == (pytest.approx(0.3), 0.1)
    text = json.dumps(GRADED.to_json(traces=False))
    assert "trace" not in text


# --- the secret -------------------------------------------------------------------------------------------


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = Secret.of(tmp_path)
    assert Secret.of(tmp_path) == first
    assert len(first.text) == 64
    if sys.platform != "win32":
        assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_the_fingerprint_tells_secrets_apart_and_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("correct horse battery\n")
    (tmp_path / "b").write_text("correct horse battery staple\n")
    one, other = (Secret.read(tmp_path / name) for name in "ab")
    assert one.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 16
    assert "horse" not in one.fingerprint


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("geheim\n")
    with pytest.raises(
        UnusableInput, match=r"short' holds 6 characters, and 16 or more are needed; write a line"
    ):
        Secret.read(tmp_path / "short")
    (tmp_path / "raw").write_bytes(b"\xff" * 40)
    with pytest.raises(UnusableInput, match=r"^secret: '.*raw' cannot be read as text"):
        Secret.read(tmp_path / "raw")
