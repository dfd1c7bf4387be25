"""Registers declared from fields: decoding, replacing, and the declarations that are refused."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.isa.control import CR0, DR6, DR7, EFER, EFlags
from vlab.isa.fields import Field, Register, bit, bits
from vlab.isa.page_entries import Pte

WORDS = st.integers(0, 2**64 - 1)


def test_a_field_is_the_declaration_on_the_class_and_a_number_on_a_value() -> None:
    assert isinstance(CR0.PG, Field)
    assert (CR0.PG.name, CR0.PG.lo, CR0.PG.hi, CR0.PG.mask) == ("PG", 31, 31, 1 << 31)
    assert CR0(0x80000011).PG == 1
    assert CR0(0x11).PG == 0
    assert EFlags(0x3202).IOPL == 3


def test_a_register_value_is_an_int_with_a_telling_repr() -> None:
    value = CR0(0x80050033)
    assert value == 0x80050033
    assert repr(value) == "CR0(0x80050033: PG AM WP NE ET MP PE)"
    assert repr(EFlags(0x3246)) == "EFlags(0x3246: IOPL=3 IF ZF PF)"
    assert repr(CR0(0)) == "CR0(0x0)"


def test_the_repr_names_contents_and_shows_reserved_bits() -> None:
    assert repr(DR7(0x10000)) == "DR7(0x10000: RW0=write)"
    assert repr(EFER(1 << 63 | 1)) == "EFER(0x8000000000000001: SCE reserved=0x8000000000000000)"
    assert repr(Pte(0x1234001)) == "Pte(0x1234001: FRAME=0x1234 P)"


@given(WORDS)
def test_decoding_and_replacing_with_the_same_contents_changes_nothing(word: int) -> None:
    for register in (CR0, EFER, EFlags, DR7, Pte):
        value = register(word)
        assert value.replace(**value.decode()) == word


@given(WORDS, WORDS, st.sampled_from(EFlags.fields() + Pte.fields() + DR7.fields()))
def test_inserting_a_content_gives_it_back_and_leaves_the_other_bits(
    word: int, other: int, field: Field
) -> None:
    content = other & ((1 << field.width) - 1)
    changed = field.insert(word, content)
    assert field.extract(changed) == content
    assert changed & ~field.mask == word & ~field.mask


@given(WORDS)
def test_declared_fields_and_reserved_bits_together_are_the_register(word: int) -> None:
    total = EFER(word) & EFER.reserved_mask()
    for field in EFER.fields():
        assert not field.mask & EFER.reserved_mask()
        total |= field.extract(word) << field.lo
    assert total == word


def test_replace_gives_the_same_class_and_leaves_the_original() -> None:
    before = CR0(0x11)
    after = before.replace(PG=1, WP=1)
    assert type(after) is CR0
    assert (before, after) == (0x11, 0x80010011)


def test_the_repr_leaves_out_reserved_bits_that_always_read_as_1() -> None:
    assert repr(EFlags(2)) == "EFlags(0x2)"
    assert repr(DR7(0x400)) == "DR7(0x400)"
    assert repr(DR6(0xFFFF4FF0)) == "DR6(0xffff4ff0: BS BLD)"
    assert repr(EFlags(0x8002)) == "EFlags(0x8002: reserved=0x8000)"


def test_describe_lists_fields_from_the_highest_bit_with_named_contents() -> None:
    shown = DR7(0b11 << 16).describe()
    assert (shown[0].name, shown[0].bits) == ("LEN3", "31:30")
    assert next(f for f in shown if f.name == "RW0").label == "read or write"
    assert (shown[-1].name, shown[-1].bits, shown[-1].value) == ("L0", "0", 0)


def test_a_register_survives_pickling() -> None:
    value = CR0(0x11)
    assert pickle.loads(pickle.dumps(value)) == value
    assert type(pickle.loads(pickle.dumps(value))) is CR0


def test_a_subclass_keeps_the_fields_and_may_narrow_one() -> None:
    class Narrow(Pte, width=64):
        FRAME = bits(12, 39, "frame number, 40-bit physical addresses")

    assert Narrow.FRAME.hi == 39
    assert Narrow.fields()[0].name == "P"
    assert Pte.FRAME.hi == 51


def test_a_content_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^IOPL: 0x4 does not fit in 2 bits \(give 0\.\.0x3\)$"):
        EFlags(2).replace(IOPL=4)
    with pytest.raises(ValueError, match=r"^PG: -0x1 does not fit in 1 bit \(give 0\.\.0x1\)$"):
        CR0.PG.insert(0, -1)


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        TypeError, match=r"^CR0 has no field 'PAGING'; its fields are: PE MP EM TS ET NE WP AM"
    ):
        CR0(0).replace(PAGING=1)


def test_a_value_wider_than_the_register_is_refused() -> None:
    class Small(Register, width=8):
        LOW = bits(0, 3, "low half")

    assert Small(255).LOW == 15
    with pytest.raises(ValueError, match=r"^Small: 0x100 does not fit in 8 bits$"):
        Small(256)
    with pytest.raises(ValueError, match=r"^Small: -0x1 does not fit in 8 bits$"):
        Small(-1)


def test_overlapping_fields_stop_the_class() -> None:
    with pytest.raises(TypeError, match=r"^Bad: HIGH \(bits 7:3\) overlaps LOW \(bits 3:0\)$"):

        class Bad(Register, width=8):
            LOW = bits(0, 3, "low")
            HIGH = bits(3, 7, "high")


def test_a_field_outside_the_register_stops_the_class() -> None:
    with pytest.raises(TypeError, match=r"^Bad\.TOP: bits 8 are outside its 8 bits$"):

        class Bad(Register, width=8):
            TOP = bit(8, "one too far")


def test_a_field_that_hides_a_method_stops_the_class() -> None:
    with pytest.raises(TypeError, match=r"^Bad\.replace: a field cannot hide a method of Register or int$"):

        class Bad(Register, width=8):
            replace = bit(0, "no")  # type: ignore[assignment]


def test_an_empty_range_of_bits_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"^bits\(4, 3\): the low bit must be 0 or more and not above the high bit$"
    ):
        bits(4, 3, "nothing")


def test_width_and_reference_may_be_attributes() -> None:
    class Plain(Register):
        WIDTH = 16
        REFERENCE = "APM2 1.1"
        TOP = bit(15, "top")

    assert Plain(0x8000).TOP == 1
    with pytest.raises(ValueError, match="does not fit in 16 bits"):
        Plain(0x10000)
