from __future__ import annotations

import dataclasses

import pytest

from vlab.isa.state import Mode
from vlab.trace.events import COLUMNS, EXIT_RECORD, MODES, RECORD, RECORD_SIZE, ExitEvent, Kind, pack_clamped
from vlab.trace.storage import DTYPE


def test_a_record_is_48_bytes_with_every_field_on_its_boundary() -> None:
    assert RECORD_SIZE == RECORD.size == EXIT_RECORD.size == DTYPE.itemsize == 48
    assert DTYPE.fields is not None
    for dtype, offset, *_ in DTYPE.fields.values():
        assert offset % dtype.itemsize == 0


def test_the_array_type_reads_what_the_struct_packs() -> None:
    import numpy as np

    values = list(range(101, 101 + len(COLUMNS)))
    row = np.frombuffer(RECORD.pack(*values), DTYPE)[0]
    assert [int(row[column.name]) for column in COLUMNS] == values


def test_an_exit_packs_to_the_same_bytes_as_a_record_of_kind_exit() -> None:
    values = list(range(1, len(COLUMNS) - 1))
    assert EXIT_RECORD.pack(*values) == RECORD.pack(*values, 0, Kind.EXIT)


def test_only_durations_differ_between_identical_runs() -> None:
    assert [column.name for column in COLUMNS if not column.deterministic] == ["duration"]


def test_the_order_of_modes_and_kinds_is_that_of_format_1() -> None:
    """A change here changes what old files mean: give the file format a new number."""
    assert [mode.name for mode in MODES] == ["REAL", "V86", "PROTECTED16", "PROTECTED32", "COMPAT", "LONG64"]
    assert [kind.name for kind in Kind] == ["EXIT", "INTERRUPT", "IO", "MARK"]


def test_numbers_that_do_not_fit_are_clamped_or_cut() -> None:
    import numpy as np

    packed = pack_clamped(Kind.EXIT, -5, 1, 2, 3, -1, 1 << 64, (1 << 65) + 7, 4, 1 << 40, 5, 6)
    row = np.frombuffer(packed, DTYPE)[0]
    assert (row["time"], row["rip"], row["info1"], row["info2"]) == (0, (1 << 64) - 1, 0, 7)
    assert (row["duration"], row["vcpu"], row["flags"]) == ((1 << 32) - 1, 5, 6)


def test_an_exit_event_tells_itself_in_one_line_and_cannot_change() -> None:
    event = ExitEvent(1_500_000, "NPF", (4, 0xFEE00000), 0x1234, Mode.LONG64, 0, "paging", 10, 0)
    assert str(event) == (
        "1.500000 ms vcpu 0: NPF (0x4, 0xfee00000) at rip 0x1234, 64-bit, ring 0, by paging"
    )
    assert (event.info1, event.info2) == (4, 0xFEE00000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.rip = 0  # type: ignore[misc]
