"""The documentation tables that the declarations give."""

from __future__ import annotations

import pytest

from vlab.isa.blocks import Block, at
from vlab.isa.fields import Register, bit, bits
from vlab.isa.reference import markdown


class Lamp(Register, width=8, reference="DS 4.2"):
    """A lamp.

    More about it that a table does not need.
    """

    ON = bit(0, "switched on")
    COLOUR = bits(1, 2, "colour", {0: "red", 1: "green|blue"})


class Panel(Block):
    """A panel of lamps."""

    SIZE = 4
    left = at(0, 1, "left lamp", Lamp)
    count = at(2, 2, "number of lamps")


def test_a_register_becomes_a_table_from_the_highest_bit() -> None:
    assert markdown(Lamp) == (
        "### Lamp\n"
        "\n"
        "A lamp. (8 bits, DS 4.2)\n"
        "\n"
        "| Bits | Name | Meaning |\n"
        "| --- | --- | --- |\n"
        "| 2:1 | `COLOUR` | colour: 0 = red, 1 = green\\|blue |\n"
        "| 0 | `ON` | switched on |\n"
    )


def test_a_block_becomes_a_table_by_offset() -> None:
    assert markdown(Panel) == (
        "### Panel\n"
        "\n"
        "A panel of lamps. (4 bytes)\n"
        "\n"
        "| Offset | Bytes | Name | Meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| 0x000 | 1 | `left` | left lamp (`Lamp`) |\n"
        "| 0x002 | 2 | `count` | number of lamps |\n"
    )


def test_several_classes_become_several_sections() -> None:
    assert markdown(Lamp, Panel).count("### ") == 2


def test_a_class_without_fields_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"^classes: <class 'int'> declares no fields; give subclasses of Register"
    ):
        markdown(int)  # type: ignore[arg-type]
