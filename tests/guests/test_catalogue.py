"""The catalogue: names, paths, and guests of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.guests import synthetic
from vlab.errors import UnusableImage, UnusableInput
from vlab.guests import catalogue, index, loaders, store
from vlab.guests.loaders import Kind
from vlab.paths import cache_directory, data_directory

BUNDLED = ["hello", "rings", "longmode", "selftest", "wren", "wren-paravirt", "sweep", "tripfault", "spin"]


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(synthetic.bzimage(synthetic.pack("gzip", synthetic.kernel_elf())))
    return path


def test_the_catalogue_lists_bundled_guests_then_linux() -> None:
    assert [guest.name for guest in catalogue.guests()] == [*BUNDLED, "linux"]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_guest_is_there_and_is_what_the_catalogue_says(name: str) -> None:
    guest = catalogue.find(name)
    assert guest.available
    image = guest.read_kernel()
    assert loaders.identify(image) is guest.kind
    loaders.load(image, memoryview(bytearray(guest.memory_default)), cmdline=guest.cmdline)


def test_linux_says_how_to_get_it() -> None:
    guest = catalogue.find("linux")
    assert not guest.available
    with pytest.raises(UnusableInput) as caught:
        guest.read_kernel()
    assert str(caught.value) == (
        "guest: linux is not on this computer; fetch it with `vlab guests fetch linux`"
    )


def test_a_fetched_linux_is_available_until_it_is_damaged() -> None:
    entry, initrd = store.put("vmlinuz-6.1", b"kernel"), store.put("initrd.gz", b"initrd")
    index.record_fetched("linux", entry, initrd)
    guest = catalogue.find("linux")
    assert guest.available
    assert guest.read_kernel() == b"kernel"
    assert guest.read_initrd() == b"initrd"
    assert guest.cmdline == catalogue.LINUX_COMMAND_LINE
    entry.path.write_bytes(b"kernal")
    assert not catalogue.find("linux").available


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kernel": {}, "initrd": {}}', "\xff"])
def test_a_damaged_record_of_a_fetch_counts_as_none(text: str) -> None:
    path = cache_directory() / "fetched" / "linux.json"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    assert not catalogue.find("linux").available


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "linx",
            "guest: there is no guest named 'linx'; did you mean linux? `vlab guests list` shows them all",
        ),
        (
            "Ring",
            "guest: there is no guest named 'Ring'; did you mean rings? `vlab guests list` shows them all",
        ),
        (
            "zebra",
            (
                "guest: there is no guest named 'zebra', nor a file of that name;"
                " `vlab guests list` shows them all"
            ),
        ),
    ],
)
def test_an_unknown_name_brings_the_nearest_ones(name: str, text: str) -> None:
    with pytest.raises(UnusableInput) as caught:
        catalogue.find(name)
    assert str(caught.value) == text


def test_a_path_is_a_guest_of_the_kind_that_its_file_is(kernel: Path, tmp_path: Path) -> None:
    guest = catalogue.find(str(kernel))
    assert (guest.name, guest.kind, guest.kernel) == ("vmlinuz", Kind.LINUX, kernel)
    assert guest.cmdline == catalogue.LINUX_COMMAND_LINE
    assert guest.memory_default == 128 << 20
    sector = tmp_path / "boot.img"
    sector.write_bytes(synthetic.boot_sector())
    assert catalogue.find(sector).kind is Kind.BOOT_SECTOR
    assert catalogue.find(sector).cmdline == ""


def test_a_path_that_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput) as caught:
        catalogue.find(str(tmp_path / "none"))
    assert str(caught.value) == f"guest: there is no file {tmp_path / 'none'}; check the path"
    with pytest.raises(UnusableInput) as caught:
        catalogue.find(str(tmp_path))
    assert str(caught.value) == f"guest: {tmp_path} is a directory; give the path of a file"


def test_a_file_that_is_no_guest_is_named_for_what_it_is(tmp_path: Path) -> None:
    picture = tmp_path / "boot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(
        UnusableImage, match=r"^boot\.png starts with a PNG picture; vlab boots a boot sector"
    ):
        catalogue.find(picture)


def test_an_added_guest_is_found_by_its_name(kernel: Path, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"cpio")
    added = catalogue.add(kernel, name="mine", initrd=initrd, cmdline="quiet")
    assert catalogue.find("mine") == added
    assert (added.kernel, added.initrd, added.cmdline) == (kernel, initrd, "quiet")
    assert [guest.name for guest in catalogue.guests()][-1] == "mine"


def test_an_added_guest_gets_the_files_name_and_the_usual_command_line(kernel: Path) -> None:
    added = catalogue.add(kernel)
    assert (added.name, added.cmdline) == ("vmlinuz", catalogue.LINUX_COMMAND_LINE)


def test_a_kernel_of_the_users_may_be_linux(kernel: Path) -> None:
    catalogue.add(kernel, name="linux")
    assert catalogue.find("linux").kernel == kernel
    assert [guest.name for guest in catalogue.guests()].count("linux") == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rings", "name: 'rings' is a bundled guest; choose another one with --name"),
        ("a/b", "name: 'a/b' is not possible; use letters, digits, '.', '_' and '-'"),
        ("", "name: '' is not possible; use letters, digits, '.', '_' and '-'"),
    ],
)
def test_a_name_that_cannot_be_given_is_refused(kernel: Path, name: str, text: str) -> None:
    with pytest.raises(UnusableInput) as caught:
        catalogue.add(kernel, name=name)
    assert str(caught.value) == text


def test_adding_checks_the_files(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"^initrd: there is no file"):
        catalogue.add(kernel, initrd=tmp_path / "none")
    assert "vmlinuz" not in [guest.name for guest in catalogue.guests()]


def test_an_added_guest_whose_file_is_gone_says_so(kernel: Path) -> None:
    catalogue.add(kernel, name="mine")
    kernel.unlink()
    guest = catalogue.find("mine")
    assert not guest.available
    with pytest.raises(UnusableInput) as caught:
        guest.read_kernel()
    assert str(caught.value) == (
        f"guest: mine is not on this computer; {kernel} is gone: add it again with `vlab guests add`"
    )


def test_a_removed_guest_is_forgotten_and_its_file_stays(kernel: Path) -> None:
    catalogue.add(kernel, name="mine")
    catalogue.remove("mine")
    assert "mine" not in [guest.name for guest in catalogue.guests()]
    assert kernel.exists()
    with pytest.raises(UnusableInput) as caught:
        catalogue.remove("mine")
    assert str(caught.value) == "name: 'mine' is not a guest that you added; there are none"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"guests": 3}', '{"guests": {"a": {}}}', json.dumps({"guests": {"a": {"kind": "x"}}})]
)
def test_a_damaged_list_of_guests_is_reported_and_not_overwritten(kernel: Path, text: str) -> None:
    path = data_directory() / "guests.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UnusableInput) as caught:
        catalogue.add(kernel)
    assert str(caught.value) == (
        f"data: {path} is not a list of guests any more; repair it, or delete it and add your guests again"
    )
    assert path.read_text() == text
