"""Numbers that student code gives."""

from __future__ import annotations

import pytest

from vlab.grading.facade import unsigned


@pytest.mark.parametrize(
    ("value", "bits"), [(0, 1), (1, 1), (0xFFFF_FFFF, 32), ((1 << 64) - 1, 64), (True, 8)]
)
def test_a_number_that_fits_is_taken(value: int, bits: int) -> None:
    taken = unsigned("leaf", value, bits)
    assert taken == value
    assert type(taken) is int


@pytest.mark.parametrize("value", [-1, 1 << 16, 1.0, "7", None])
def test_what_does_not_fit_is_shown_with_what_to_give(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"is no number of 16 bits; give a whole number from 0 to 0xffff$"
    ) as told:
        unsigned("port", value, 16)
    assert str(told.value).startswith(f"port: {value!r} ")


def test_a_huge_number_is_shown_in_part() -> None:
    with pytest.raises(ValueError, match=r"^rax: 1000\d+\.\.\.\d+ is no number of 64 bits"):
        unsigned("rax", 10**1000)
