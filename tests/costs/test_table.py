"""The cost table: what is in it, how a user's file changes it, and what is said of one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vlab.costs.operations import NAMES
from vlab.costs.table import BUILT_IN, OTHER, TRANSITION, Costs, Figure, Sure, load
from vlab.errors import UnusableInput
from vlab.vmm import monitors
from vlab.vmm.exits import REASONS

FIGURE = '{ cycles = 1, sure = "estimated", source = "a guess" }'


def figures(costs: Costs) -> list[tuple[str, Figure]]:
    return [
        (f"{generation.name}.{name}", figure)
        for generation in costs.generations.values()
        for part in (generation.guest, generation.hardware, generation.software, generation.translated)
        for name, figure in part.items()
    ]


def over(tmp_path: Path, text: str) -> Costs:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


# --- the table of the package -------------------------------------------------------------------------------


def test_the_generations_go_from_the_oldest_to_the_newest_and_the_default_has_nested_paging() -> None:
    costs = load()
    assert list(costs.generations) == ["prescott", "merom", "nehalem", "sandy-bridge", "skylake-sp"]
    assert [each.nested for each in costs.generations.values()] == [False, False, True, True, True]
    assert costs.generation().name == "nehalem"


def test_an_exit_became_cheaper_with_every_generation_whose_bare_exits_were_published() -> None:
    exits = [each.hardware[TRANSITION].cycles for each in load().generations.values()]
    assert exits == [3963, 1579, 1009, 784, 784]


def test_the_shortest_exit_of_the_newest_generation_is_what_was_measured_however_it_is_divided() -> None:
    hardware = load().generation("skylake-sp").hardware
    assert hardware[TRANSITION].cycles + hardware["VMMCALL"].cycles == 1559
    assert "1559 with the way, which is measured" in hardware["VMMCALL"].source
    assert min(figure.cycles for figure in hardware.values() if figure is not hardware[TRANSITION]) == 775


def test_the_newest_generation_differs_from_the_one_before_only_in_its_exits() -> None:
    older, newest = (load().generation(name) for name in ("sandy-bridge", "skylake-sp"))

    def cycles(figures: Mapping[str, Figure]) -> dict[str, float]:
        return {name: figure.cycles for name, figure in figures.items()}

    for part in ("guest", "software", "translated"):
        assert cycles(getattr(newest, part)) == cycles(getattr(older, part))
    assert all(each.sure is Sure.ESTIMATED for each in (*newest.guest.values(), *newest.software.values()))
    for reason in ("PF", "INVLPG", "CR", "other"):
        assert newest.hardware[reason].cycles == pytest.approx(older.hardware[reason].cycles + 775, abs=1)


def test_every_figure_says_where_it_is_from_and_what_is_not_estimated_names_a_paper() -> None:
    costs = load()
    for name, figure in figures(costs):
        assert figure.source, name
        if figure.sure > Sure.ESTIMATED:
            assert any(figure.source.startswith(key) for key in costs.sources), name


def test_what_is_scaled_by_an_estimate_is_an_estimate_and_shows_how_it_came_about() -> None:
    merom = load().generation("merom")
    assert merom.software["INT"] == Figure(
        0.5 * 961,
        Sure.ESTIMATED,
        "0.5 x 961 (AA06, syscall, software VMM: 2308 - 242 - transition, "
        "less a CALLOUT for the guest's IRET; "
        "half the cycles of NetBurst for the same code; AA06 has a VMCB read fall from 178 to 52)",
    )
    assert merom.hardware[TRANSITION].sure is Sure.RECALLED


def test_the_figures_of_the_oldest_generation_give_back_those_of_the_paper() -> None:
    oldest = load().generation("prescott")
    hardware, software, guest = oldest.hardware, oldest.software, oldest.guest

    def cycles(table: dict[str, Figure], *names: str) -> float:
        return sum(table[name].cycles for name in names)

    assert cycles(dict(hardware), TRANSITION, "IOIO") == 15_826
    assert guest["pgfault"].cycles + 2 * cycles(dict(hardware), TRANSITION, "PF") == pytest.approx(
        11_242, abs=2
    )
    assert guest["pgfault"].cycles + 2 * cycles(dict(software), TRANSITION, "PF") == 3_927
    assert guest["syscall"].cycles + cycles(dict(software), TRANSITION, "INT", "CALLOUT") == 2_308
    assert guest["divzero"].cycles + cycles(dict(software), TRANSITION, "EXCEPTION", "CALLOUT") == 3_223
    assert guest["callret"].cycles + oldest.translated["callret"].cycles == 40


def test_every_operation_but_forkwait_has_a_figure_of_its_own() -> None:
    assert set(load().generation("prescott").guest) == {"block", *NAMES} - {"forkwait"}


def test_every_monitor_but_the_bare_machine_has_its_costs() -> None:
    assert {name for name, _ in monitors.available()} - {"none"} <= set(load().techniques)


# --- a file of one's own ------------------------------------------------------------------------------------


def test_a_figure_in_a_file_replaces_that_of_the_package_and_what_is_like_it(tmp_path: Path) -> None:
    changed = over(
        tmp_path,
        "[generations.prescott.software]\n"
        'INT = { cycles = 100, sure = "measured", source = "my own machine" }\n',
    )
    assert changed.generation("prescott").software["INT"] == Figure(100, Sure.MEASURED, "my own machine")
    assert changed.generation("merom").software["INT"].cycles == 50
    assert changed.generation("prescott").software["PF"] == load().generation("prescott").software["PF"]


def test_a_file_can_add_a_generation_and_make_it_the_default(tmp_path: Path) -> None:
    changed = over(
        tmp_path,
        'default = "mine"\n[generations.mine]\ntitle = "Mine"\nnested = true\nlike = "nehalem"\n'
        'factor = { times = 0.5, sure = "estimated", source = "a guess" }\n',
    )
    assert changed.generation().title == "Mine"
    assert changed.generation().hardware[TRANSITION].cycles == 504.5


def test_a_copy_of_the_table_is_the_table(tmp_path: Path) -> None:
    assert over(tmp_path, BUILT_IN.read_text(encoding="utf-8")) == load()


def test_the_comment_on_the_format_names_every_degree_of_certainty() -> None:
    text = BUILT_IN.read_text(encoding="utf-8")
    assert all(f"#   {each.name.lower()} " in text for each in Sure)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default = ", "is no TOML"),
        ('default = "486"', "default: there is no '486'; choose one of prescott, merom"),
        ("defaults = 1", "the file: 'defaults' is not known; write one of default, sources"),
        ("generations = 3", "generations: 3 is no table"),
        ("[generations.prescott]\nnested = 1", "generations.prescott.nested: 1 is neither true nor false"),
        ("[generations.prescott]\ntitle = ''", "generations.prescott.title: '' is no text"),
        ("[generations.prescott]\nintel = 1", "generations.prescott: 'intel' is not known"),
        ("[generations.merom]\nlike = 'nehalem'", "generations.merom.like: 'nehalem' is not listed above it"),
        ("[generations.new]\ntitle = 'N'\nnested = false", "generations.new.guest: block is missing"),
        ("[generations.prescott.hardware]\nPF = 3", "generations.prescott.hardware.PF: 3 is no table"),
        (f"[generations.prescott.hardware]\nPG = {FIGURE}", "'PG' is not known; write one of transition"),
        (f"[generations.prescott.guest]\nsysall = {FIGURE}", "'sysall' is not known; write one of block"),
        (
            f"[generations.prescott.guest]\nin = {FIGURE.replace('1', '-1')}",
            "generations.prescott.guest.in: cycles = -1 is no number from 0 to",
        ),
        (
            f"[generations.prescott.guest]\nin = {FIGURE.replace('estimated', 'certain')}",
            "sure = 'certain' is not one of estimated, recalled, measured",
        ),
        (
            f"[generations.prescott.guest]\nin = {FIGURE.replace('a guess', '')}",
            "generations.prescott.guest.in.source: '' is no text; every figure says where it is from",
        ),
        ("[monitors.mine]\nexits = 'soft'", "monitors.mine.exits: 'soft' is neither hardware nor software"),
        ("[monitors.hardware]\ninside = ['OUT']", "hardware.inside: ['OUT'] is no list of exit reasons"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_its_name_and_the_key(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UnusableInput) as refused:
        over(tmp_path, text)
    assert str(refused.value).startswith(f"costs: '{tmp_path / 'mine.toml'}'")
    assert said in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="cannot be read"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UnusableInput, match="is no TOML"):
        load(tmp_path / "binary.toml")


def test_a_generation_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(UnusableInput, match="there is no 'i386'; choose one of prescott, merom, nehalem"):
        load().generation("i386")


def test_every_reason_has_a_cost_if_only_that_of_the_others() -> None:
    for generation in load().generations.values():
        assert {OTHER, TRANSITION} <= set(generation.hardware)
        assert set(generation.hardware) | set(generation.software) <= {OTHER, TRANSITION, *REASONS}
