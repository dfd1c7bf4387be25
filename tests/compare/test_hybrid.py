"""One disk read in full virtualization, in paravirtualization and in between: the same bytes, other exits."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from io import BytesIO

import pytest

from vlab.compare import hybrid
from vlab.compare.hybrid import Reading, Way, archive, checksum, complaints, measure, ways
from vlab.vmm import monitors


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    patch = pytest.MonkeyPatch()
    patch.setattr(hybrid, "SECTORS", 9)
    patch.setattr(hybrid, "REPETITIONS", 1)
    try:
        return measure()
    finally:
        patch.undo()


def test_every_monitor_reads_in_full_and_as_a_hybrid_and_the_paravirtual_ones_by_hypercall() -> None:
    unmodified = [way for way in monitors.available() if way[0] not in ("paravirtual", "trap-emulate")]
    expected = {(kind, *way) for way in unmodified for kind in ("full", "hybrid")}
    expected |= {("para", "paravirtual", paging) for paging in ("direct", "shadow")}
    assert {(way.kind, way.monitor, way.paging) for way in ways()} == expected


def test_all_read_the_same_bytes(readings: list[Reading]) -> None:
    assert all(each.right for each in readings)
    assert len({each.console for each in readings}) == 1


def test_on_the_bare_machine_nothing_exits(readings: list[Reading]) -> None:
    assert [each.total for each in readings if each.way.monitor == "none"] == [0, 0]


def test_each_word_of_an_emulated_disk_is_an_exit_under_every_monitor(readings: list[Reading]) -> None:
    for each in readings:
        if each.way.kind == "full" and each.exits:
            assert 256 <= each.exits["IOIO"] / each.sectors <= 262, each.way


def test_a_paravirtual_driver_needs_a_few_exits_for_a_page(readings: list[Reading]) -> None:
    for each in readings:
        if each.way.kind == "hybrid" and each.exits:
            assert 5 <= each.exits["IOIO"] <= 12, each.way  # one more request, of eight sectors; a tick


def test_a_hypercall_is_one_exit(readings: list[Reading]) -> None:
    for each in readings:
        if each.way.kind == "para":
            assert "IOIO" not in each.exits
            assert 1 <= each.exits["VMMCALL"] <= 8


def test_the_archive_is_one_that_others_read_and_is_the_same_each_time() -> None:
    data = archive({"one": b"x" * 700, "two": b""})
    assert data == archive({"one": b"x" * 700, "two": b""})
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        assert tar.getnames() == ["one", "two"]
        file = tar.extractfile("one")
        assert file is not None
        assert file.read() == b"x" * 700


def test_the_checksum_is_that_of_the_program() -> None:
    assert checksum(b"\1\2") == 31 + 2
    assert checksum(b"\xff" * 100) < 1 << 32


def test_other_bytes_and_a_driver_that_saves_little_are_complained_about() -> None:
    full = Reading(Way("full", "hardware", "nested"), 10, {"IOIO": 5000}, 0.1, True, "")
    other = replace(full, way=Way("hybrid", "hardware", "nested"), exits={"IOIO": 60})
    assert complaints([full, replace(other, exits={"IOIO": 50})]) == []
    (little,) = complaints([full, other])
    assert little == (
        "full: wren under hardware/nested took 5,000 exits and the hybrid 60: "
        "a paravirtual driver should take less than a hundredth"
    )
    (wrong,) = complaints([replace(full, right=False, console="?"), replace(other, exits={})])
    assert wrong == "full: wren under hardware/nested did not read what is on the disk; its console: '?'"
