"""The table of TLBs and walk costs: complete, sourced, and clear about what is wrong with an edited one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlab.compare.walk_costs import BUILT_IN, FIGURES, read_processors
from vlab.costs import table as costs
from vlab.costs.table import Sure
from vlab.errors import UnusableInput
from vlab.machine.memory import LARGE_PAGE, PAGE


def test_every_figure_of_the_bundled_table_says_where_it_is_from() -> None:
    processors = read_processors()
    assert [each.name for each in processors] == ["nehalem", "sandy-bridge", "skylake", "skylake-sp"]
    for processor in processors:
        assert tuple(processor.cycles) == FIGURES
        assert all(figure.source for figure in (*processor.cycles.values(), processor.tlb_source))
        assert processor.sure is Sure.ESTIMATED


def test_tlbs_by_page_size_and_the_reach() -> None:
    nehalem, _, skylake, skylake_sp = read_processors()
    assert [level.entries for level in nehalem.tlb(PAGE)] == [64, 512]
    assert [level.sets for level in nehalem.tlb(PAGE)] == [16, 128]
    assert [level.entries for level in nehalem.tlb(LARGE_PAGE)] == [32]
    assert [level.entries for level in skylake.tlb(LARGE_PAGE)] == [32, 1536]
    assert (nehalem.reach, skylake.reach) == (512, 1536)
    assert (skylake_sp.small, skylake_sp.large) == (skylake.small, skylake.large)


def test_exits_cost_what_the_table_of_exits_says() -> None:
    generation = costs.load().generation("nehalem")
    nehalem = read_processors()[0]
    there = generation.hardware["transition"].cycles
    assert nehalem.exit_cycles("PF") == there + generation.hardware["PF"].cycles
    assert nehalem.exit_cycles("HLT") == there + generation.hardware["other"].cycles


def test_a_table_of_exits_can_be_laid_over(tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(
        '[generations.nehalem.hardware]\ntransition = { cycles = 5, sure = "estimated", source = "a test" }\n'
    )
    nehalem = read_processors(exits=costs.load(file))[0]
    assert nehalem.exit_cycles("PF") == pytest.approx(read_processors()[0].exit_cycles("PF") - 1009 + 5)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("ways = 4, hit = 0 }, {", "ways = 5, hit = 0 }, {", "small[0]: 64 entries do not make sets of 5"),
        ("touch = {", "tuch = {", "cycles: 'tuch' is not known; write one of touch, update"),
        ("cycles = 20", "cycles = -1", "cycles.touch.cycles: -1 is no number of cycles"),
        (
            'sure = "estimated"',
            'sure = "quite"',
            "sure = 'quite' is not one of estimated, recalled, measured",
        ),
        ('exits = "nehalem"', 'exits = "i486"', "'i486' is no generation of the costs; choose one of"),
        ('source = "ten', 'sauce = "ten', "cycles.touch: 'sauce' is not known"),
        ("large = [{", "larch = [{", "'larch' is not known; write one of title, exits"),
        ("[nehalem.cycles]", "[nehalem.other]", "'other' is not known"),
    ],
)
def test_a_table_that_cannot_be_used_says_where_and_why(tmp_path: Path, old: str, new: str, why: str) -> None:
    file = tmp_path / "walks.toml"
    text = BUILT_IN.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UnusableInput) as caught:
        read_processors(file)
    assert str(caught.value).startswith(f"walk costs: '{file}': nehalem")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "has no processor; vlab/compare/walk_costs.toml has some"),
        ("nehalem = 3", "nehalem: 3 is no table; vlab/compare/walk_costs.toml shows the format"),
        ("[nehalem", "is no TOML"),
    ],
)
def test_what_is_no_table_of_processors_is_refused(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "walks.toml"
    file.write_text(content)
    with pytest.raises(UnusableInput) as caught:
        read_processors(file)
    assert why in str(caught.value)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="cannot be read: No such file or directory; check the path"):
        read_processors(tmp_path / "walks.toml")
