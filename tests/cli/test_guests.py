"""`vlab guests`: the list, adding and removing, and fetching with its progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.guests import catalogue, fetch


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither read nor change what the user of this computer has."""
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A boot sector: 512 bytes that end in the signature."""
    path = tmp_path / "tiny.img"
    path.write_bytes(bytes.fromhex("ebfe").ljust(510, b"\0") + b"\x55\xaa")
    return path


def test_the_list_names_each_guest_and_how_to_get_what_is_not_here(
    vlab_command: Callable[..., Result],
) -> None:
    listed = vlab_command("guests")
    assert listed.status == 0
    lines = {line.split()[0]: line for line in listed.out.splitlines()}
    for name in ("hello", "rings", "longmode", "selftest"):
        assert lines[name].split()[2] == "yes", lines[name]
    assert "(fetch it with `vlab guests fetch linux`)" in lines["linux"]
    assert vlab_command("guests", "list").out == listed.out


def test_the_list_as_json_has_the_fields_of_the_contract(
    vlab_command: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "guests.json"
    assert vlab_command("guests", "list", "--json", file).status == 0
    written = {each["name"]: each for each in json.loads(file.read_text())}
    assert written["linux"] == {
        "name": "linux",
        "kind": str(catalogue.find("linux").kind),
        "available": False,
        "kernel": None,
        "initrd": None,
        "command_line": catalogue.LINUX_COMMAND_LINE,
    }
    assert Path(written["hello"]["kernel"]).is_file()


def test_an_added_image_is_in_the_list_until_it_is_removed(
    vlab_command: Callable[..., Result], image: Path
) -> None:
    added = vlab_command("guests", "add", image, "--name", "mine", "--append", "quiet")
    assert (added.status, added.err) == (0, "")
    assert added.out.endswith("is in the list: vlab run mine\n")
    assert catalogue.find("mine").cmdline == "quiet"
    assert "mine" in vlab_command("guests").out
    assert vlab_command("guests", "remove", "mine").status == 0
    assert "mine" not in vlab_command("guests").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "no/such/file"], "there is no file 'no/such/file'; check the path"),
        (["add", "{image}", "--name", "hello"], "'hello' is a bundled guest"),
        (["add", "{junk}"], "junk"),
        (["remove", "hello"], "'hello' is not a guest that you added"),
        (["fetch", "windows"], "'windows' is not a guest that is fetched; there is linux"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    vlab_command: Callable[..., Result], image: Path, arguments: list[str], words: str
) -> None:
    junk = image.with_name("junk")
    junk.write_bytes(b"neither kernel nor boot sector")
    result = vlab_command("guests", *(argument.format(image=image, junk=junk) for argument in arguments))
    assert result.status == 2
    assert words in result.err
    assert result.err.count("\n") == 1


def test_without_a_terminal_fetching_says_each_step_once(
    vlab_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(name: str, progress: fetch.Progress, *, again: bool) -> catalogue.Guest:
        assert again
        for done in range(3):
            progress(done, 3, "downloading the kernel")
        progress(0, 0, "unpacking")
        return catalogue.find("hello")

    monkeypatch.setattr(fetch, "fetch", fake)
    result = vlab_command("guests", "fetch", "linux", "--again")
    assert result.status == 0
    assert result.err == "downloading the kernel\nunpacking\n"
    assert result.out == "hello is here: vlab run hello\n"


def test_in_a_terminal_fetching_draws_a_bar(
    vlab_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(name: str, progress: fetch.Progress, *, again: bool) -> catalogue.Guest:
        progress(1 << 20, 2 << 20, "downloading the kernel")
        return catalogue.find("hello")

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(fetch, "fetch", fake)
    result = vlab_command("guests", "fetch", "linux")
    assert result.status == 0
    assert "downloading the kernel" in result.err
    assert "1.0/2.1 MB" in result.err
