"""`vlab matrix`: the table, what follows from it, its JSON, and its status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.isa.sensitive_forms import FORMS, ROBIN_IRVINE
from vlab.vmm import matrix as measured
from vlab.vmm.matrix import Matrix, findings

Command = Callable[..., Result]

DOCUMENT = Path(__file__).parents[2] / "docs" / "MATRIX.md"


def columns_of(result: Result) -> dict[str, list[str]]:
    """Give the columns of the rows behind an instruction's name that has no blank in it."""
    return {words[0]: words[1:] for line in result.out.splitlines() if (words := line.split())}


def test_the_table_fits_80_columns_and_the_status_is_0(
    vlab_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = vlab_command("matrix")
    assert result.status == 0, result.err
    assert result.err == ""
    assert max(map(len, result.out.splitlines())) <= 80
    rows = columns_of(result)
    assert rows["CLI"] == ["ok", "#GP", "#GP", "same"]
    assert rows["PUSHF"] == ["ok", "differs", "differs", "PUSHF", "[sp]", "0x202,", "not", "0x2"]
    assert rows["CPUID"] == ["ok", "harmless", "harmless", "CPUID"]
    assert rows["VMRUN"] == ["#UD", "#UD", "#UD", "VMRUN"]
    assert "MOV DS, AX, RPL 1 #GP   differs  differs  same       no #GP(0x10)" in result.out
    said = " ".join(result.out.split())
    assert "Sensitive, and not trapping: 24." in said
    assert f"On the list of Robin and Irvine, 18 of 18: {', '.join(ROBIN_IRVINE)}." in said
    assert "Not on it: LDS, LES, LFS, LGS, LSS (it loads a segment register" in said


def test_the_document_shows_the_table_as_it_is_printed(
    vlab_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = [line.rstrip() for line in vlab_command("matrix").out.splitlines()]
    assert "\n".join(printed).strip() in DOCUMENT.read_text(encoding="utf-8")


def test_json_has_every_run_and_every_set(vlab_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    assert vlab_command("matrix", "--json", file).status == 0
    written = json.loads(file.read_text())
    assert [each["name"] for each in written] == [form.name for form in FORMS]
    by_name = {each["name"]: each for each in written}
    popf = by_name["POPF"]
    assert (popf["encoding"], popf["reference"], popf["class"]) == ("9d", "APM3 POPF", "differs")
    assert (popf["privileged"], popf["sensitive"], popf["sensitive_unprivileged"]) == (False, True, True)
    assert popf["cpl0"] == {"outcome": "executes", "text": "esp=0x3f000, IF=1"}
    assert popf["cpl1"]["outcome"] == popf["cpl3"]["outcome"] == "differs"
    assert popf["cpl1"]["differences"] == [{"what": "IF", "got": "unchanged", "right": "1"}]
    assert popf["svm"] == {"intercept": "POPF", "outcome": "exits", "text": "POPF"}
    assert popf["sets"] == {
        "privileged": False,
        "sensitive": True,
        "sensitive_unprivileged": True,
        "expected": True,
        "robin_irvine": True,
        "robin_irvine_requirement": "3B",
    }
    assert by_name["CLI"]["class"] == "traps"
    assert by_name["LAR of CS"]["svm"]["outcome"] == "same"
    derived = {each["instruction"] for each in written if each["sets"]["sensitive_unprivileged"]}
    assert derived == findings.EXPECTED


def test_a_set_that_is_not_the_documented_one_is_status_1(
    vlab_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = measured.measure([form for form in FORMS if form.instruction != "SGDT"])

    def measure() -> Matrix:
        return few

    monkeypatch.setattr(measured, "measure", measure)
    result = vlab_command("matrix")
    assert result.status == 1
    assert result.err == "SGDT should have got through: this machine is not the documented one\n"
    assert "17 of 18" in " ".join(result.out.split())


def test_the_help_explains_the_words_of_the_table(vlab_command: Command) -> None:
    text = vlab_command("matrix", "--help").out
    for word in ("Popek and Goldberg", "traps", "harmless", "differs", "same", "Robin and Irvine", "--json"):
        assert word in text
