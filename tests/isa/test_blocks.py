"""Control blocks as views of memory: reading, writing, and the declarations that are refused."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.isa.blocks import Block, BlockField, at
from vlab.isa.tss import Tss16, Tss32, Tss64
from vlab.isa.vmcb import EventInjection, IntCtl, VmcbControl, VmcbSave

BLOCKS: list[type[Block]] = [Tss16, Tss32, Tss64, VmcbControl, VmcbSave]


class Sample(Block):
    SIZE = 16
    first = at(0, 2, "first word")
    wide = at(4, 8, "injection", EventInjection)
    odd = at(12, 3, "three bytes")


@st.composite
def a_field(draw: st.DrawFn) -> tuple[type[Block], BlockField[int], int]:
    block = draw(st.sampled_from(BLOCKS))
    field = draw(st.sampled_from(block.fields()))
    width = field.register.WIDTH if field.register is not None else field.size * 8
    return block, field, draw(st.integers(0, (1 << width) - 1))


@given(a_field(), st.integers(0, 64), st.randoms(use_true_random=False))
def test_a_field_keeps_what_is_written_and_no_other_byte_changes(
    case: tuple[type[Block], BlockField[int], int], offset: int, random: object
) -> None:
    block, field, value = case
    memory = bytearray(random.randbytes(offset + block.SIZE + 8))  # type: ignore[attr-defined]
    before = bytes(memory)
    view = block(memory, offset)
    setattr(view, field.name, value)
    assert getattr(view, field.name) == value
    start, end = offset + field.offset, offset + field.offset + field.size
    assert memory[start:end] == value.to_bytes(field.size, "little")
    assert memory[:start] == before[:start]
    assert memory[end:] == before[end:]


def test_a_block_reads_the_memory_itself() -> None:
    memory = bytearray(32)
    view = Sample(memory, 8)
    memory[8:10] = b"\x34\x12"
    assert view.first == 0x1234
    view.odd = 0x030201
    assert memory[20:24] == b"\x01\x02\x03\x00"


def test_a_field_with_a_register_reads_as_that_register() -> None:
    view = Sample(bytearray(16))
    view.wide = EventInjection.exception(14, 2)
    assert view.wide.VECTOR == 14
    assert view.wide.ERRORCODE == 2
    assert isinstance(Sample.wide, BlockField)
    assert Sample.wide.register is EventInjection


def test_blocks_work_over_mmap_and_memoryview_and_leave_them_closable() -> None:
    pages = mmap.mmap(-1, 4096)
    view = Sample(pages, 16)
    view.first = 7
    assert pages[16] == 7
    assert Sample(memoryview(b"\x05" + bytes(15))).first == 5
    del view
    pages.close()


def test_describe_and_dump_show_every_field_in_order() -> None:
    view = Sample(bytearray(16))
    view.first = 0xAB
    view.wide = EventInjection.interrupt(0x20)
    shown = view.describe()
    assert [(s.name, s.offset, s.size, int(s.value)) for s in shown] == [
        ("first", 0, 2, 0xAB),
        ("wide", 4, 8, 0x80000020),
        ("odd", 12, 3, 0),
    ]
    assert shown[0].register is None
    assert isinstance(shown[1].register, EventInjection)
    lines = view.dump().splitlines()
    assert lines[0] == "0x000  first                    0x00ab  first word"
    assert lines[1].endswith("0x0000000080000020  EventInjection(0x80000020: V VECTOR=0x20)")


def test_a_value_that_does_not_fit_is_refused() -> None:
    view = Sample(bytearray(16))
    for name, text in (("first", "2"), ("odd", "3")):
        with pytest.raises(
            ValueError, match=rf"^Sample\.{name}: 0x1000000 does not fit in {text} unsigned bytes$"
        ):
            setattr(view, name, 0x1000000)
    with pytest.raises(ValueError, match=r"^Sample\.first: -0x1 does not fit"):
        view.first = -1


def test_writing_through_a_read_only_buffer_says_what_to_give() -> None:
    view = Sample(bytes(16))
    with pytest.raises(
        TypeError,
        match=r"^Sample\.first: cannot write 1 into a bytes; give an int, and a block over writable memory$",
    ):
        view.first = 1


@pytest.mark.parametrize("offset", [1, -1])
def test_a_buffer_that_ends_too_early_is_refused(offset: int) -> None:
    with pytest.raises(
        ValueError, match=r"^Sample needs 0x10 bytes at offset -?0x1, but the buffer has 0x10 bytes$"
    ):
        Sample(bytearray(16), offset)


def test_overlapping_fields_stop_the_class() -> None:
    with pytest.raises(
        TypeError, match=r"^Bad: second \(at 0x3, 2 bytes\) overlaps first \(at 0x0, 4 bytes\)$"
    ):

        class Bad(Block):
            SIZE = 8
            first = at(0, 4, "a")
            second = at(3, 2, "b")


def test_a_field_past_the_end_stops_the_class() -> None:
    with pytest.raises(TypeError, match=r"^Bad\.last: bytes 0x6\.\.0x9 are past its SIZE of 0x8$"):

        class Bad(Block):
            SIZE = 8
            last = at(6, 4, "a")


def test_a_field_that_hides_a_method_stops_the_class() -> None:
    with pytest.raises(TypeError, match=r"^Bad\.dump: a field cannot hide a method of Block$"):

        class Bad(Block):
            SIZE = 8
            dump = at(0, 4, "a")  # type: ignore[assignment]


def test_a_register_wider_than_its_field_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^at\(0x0, 4\): IntCtl has 64 bits, more than 4 bytes$"):
        at(0, 4, "too narrow", IntCtl)


def test_an_impossible_place_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"^at\(-0x1, 4\): give an offset of 0 or more and at least one byte$"
    ):
        at(-1, 4, "before the start")
