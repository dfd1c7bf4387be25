"""Guests made of a piece of source."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlab
from vlab.errors import UnusableInput
from vlab.guests import catalogue
from vlab.guests.assembler import AssemblyError, assemblers
from vlab.guests.cell_image import BOOT_SECTOR, LOAD, CellImage, make
from vlab.guests.loaders import Kind, identify

pytestmark = pytest.mark.skipif(not assemblers(), reason="no assembler is here")


@pytest.fixture(autouse=True)
def own_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other test know the guests of one."""
    monkeypatch.setattr(catalogue, "_session", {})


def boot(made: CellImage, folder: Path, monitor: str = "hardware") -> vlab.VM:
    path = folder / f"cell{made.suffix}"
    path.write_bytes(made.image)
    vm = vlab.VM(path, monitor=monitor)
    vm.run(timeout=30)
    return vm


@pytest.mark.parametrize("monitor", ["none", "hardware", "trap-emulate", "binary-translation"])
@pytest.mark.parametrize(("bits", "kind"), [(16, Kind.BOOT_SECTOR), (32, Kind.ELF32), (64, Kind.ELF64)])
def test_code_of_each_width_runs_to_its_end_under_every_monitor(
    tmp_path: Path, monitor: str, bits: int, kind: Kind
) -> None:
    made = make("mov eax, 40\nadd eax, 2", bits)
    assert identify(made.image) is kind
    with boot(made, tmp_path, monitor) as vm:
        assert vm.registers().rax & 0xFFFFFFFF == 42
        assert vm.registers().rip == made.end + 2


def test_a_boot_sector_is_512_bytes_and_signed() -> None:
    made = make("nop")
    assert len(made.image) == 512
    assert made.image[510:] == b"\x55\xaa"
    assert (made.entry, made.end) == (BOOT_SECTOR, BOOT_SECTOR + 1)


def test_code_begins_at_start_if_there_is_such_a_label(tmp_path: Path) -> None:
    made = make("mov eax, 1\nhlt\n_start: mov eax, 2", 32)
    assert made.entry == LOAD + 6
    with boot(made, tmp_path) as vm:
        assert vm.registers().rax == 2


def test_code_that_ends_stops_before_its_data(tmp_path: Path) -> None:
    made = make(".data\nx: .long 7\n.text\nmov eax, [x]", 32)
    with boot(made, tmp_path) as vm:
        assert vm.registers().rax == 7
        assert vm.registers().rip == made.end + 2


def test_the_listing_and_the_symbols_are_those_of_the_source() -> None:
    made = make("a: nop\nb: hlt\n", 32)
    assert [line.number for line in made.assembled.listing] == [1, 2]
    assert made.assembled.symbols == {"a": LOAD, "b": LOAD + 1}


def test_more_than_a_boot_sector_holds_is_refused_where_it_is_too_much() -> None:
    with pytest.raises(AssemblyError) as caught:
        make("nop\n.skip 508\nmov ax, 5\nhlt")
    assert caught.value.line == 3
    assert "a boot sector has room for 510 bytes, and this code needs 517; use --bits 32" in str(caught.value)


def test_a_disk_of_several_sectors_can_be_written_out() -> None:
    made = make("nop\n.org 510\n.word 0xAA55\n.skip 100")
    assert len(made.image) == 1024
    assert identify(made.image) is Kind.BOOT_SECTOR


def test_a_mistake_that_shows_behind_the_source_is_said_of_its_last_line() -> None:
    with pytest.raises(AssemblyError) as caught:
        make("nop\n.rept 2\nnop")
    assert caught.value.line in (2, 3)
    assert "vlab" not in str(caught.value)


def test_a_remembered_guest_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.elf"
    path.write_bytes(make("mov eax, 9", 32).image)
    assert catalogue.remember(path, "mine-for-a-test").kernel == path
    assert "mine-for-a-test" in [guest.name for guest in catalogue.guests()]
    with vlab.VM("mine-for-a-test") as vm:
        vm.run(timeout=30)
        assert vm.registers().rax == 9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hello", "name: 'hello' is a bundled guest; choose another name"),
        ("a/b", "name: 'a/b' is not possible; use letters, digits, '.', '_' and '-'"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UnusableInput) as caught:
        catalogue.remember(tmp_path / "x", name)
    assert str(caught.value) == message
