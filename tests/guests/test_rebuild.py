"""The bundled images are what their sources make, byte for byte, and tell nothing of where they were made."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from vlab.errors import UnusableInput
from vlab.guests import rebuild
from vlab.guests.rebuild import (
    BuildFailed,
    Toolchain,
    build,
    check_recorded,
    choose,
    find_toolchain,
    main,
    read_manifest,
    source_digest,
)
from vlab.guests.recipes import IMAGES, RECIPES, SOURCES, Recipe

MULTIBOOT = [recipe for recipe in RECIPES if recipe.output.suffix == ".elf"]


@pytest.fixture(scope="module")
def tools() -> Toolchain:
    try:
        return find_toolchain()
    except UnusableInput as absent:
        pytest.skip(str(absent))


def name_of(recipe: Recipe) -> str:
    return recipe.name


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_no_source_has_changed_since_its_image_was_built(recipe: Recipe) -> None:
    assert check_recorded(recipe) is None


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_rebuild_in_another_place_gives_the_same_bytes(
    recipe: Recipe, tools: Toolchain, tmp_path: Path
) -> None:
    place = tmp_path / "another" / "and" / "deeper"
    place.mkdir(parents=True)
    recorded = read_manifest()["tools"]
    comparable = tools.versions == recorded
    image = build(recipe, tools, place)
    assert image == (recipe.output.read_bytes() if comparable else build(recipe, tools, tmp_path))
    for trace in (str(tmp_path), str(Path(rebuild.__file__).parents[2]), "GCC:", ".build-id"):
        assert trace.encode() not in image
    if not comparable:
        pytest.skip(
            f"the images were made with {recorded}, here is {tools.versions}: other bytes are no fault"
        )


def test_every_image_has_a_recipe() -> None:
    made = {recipe.output.name for recipe in RECIPES if recipe.output.parent == IMAGES}
    assert {path.name for path in IMAGES.iterdir()} == made | {"MANIFEST.json"}
    assert set(read_manifest()) == {recipe.output.name for recipe in RECIPES} | {"tools"}


def test_a_boot_sector_ends_in_its_signature() -> None:
    image = (IMAGES / "hello.img").read_bytes()
    assert len(image) == 512
    assert image[510:] == b"\x55\xaa"


@pytest.mark.parametrize("recipe", MULTIBOOT, ids=name_of)
def test_a_multiboot_image_is_a_32_bit_elf_with_its_header_in_front(recipe: Recipe) -> None:
    image = recipe.output.read_bytes()
    assert image[:6] == b"\x7fELF\x01\x01"
    header = next(at for at in range(0, 8192, 4) if image.startswith(struct.pack("<I", 0x1BADB002), at))
    assert sum(struct.unpack_from("<III", image, header)) & 0xFFFFFFFF == 0


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    hello = choose(["hello"])[0]
    copy = replace(hello, directory=Path(shutil.copytree(SOURCES / "hello", tmp_path / "hello")))
    assert source_digest(copy) == source_digest(hello)
    with (copy.directory / "hello.S").open("a") as source:
        source.write("# a word more\n")
    assert check_recorded(copy) == (
        "hello.img: its sources have changed since it was built; run `python -m vlab.guests.rebuild hello`"
    )


def test_a_changed_image_is_noticed(tmp_path: Path) -> None:
    hello = choose(["hello"])[0]
    other = replace(hello, output=tmp_path / "hello.img")
    assert "it was never built" in (check_recorded(other) or "")
    other.output.write_bytes(bytes(512))
    assert "the image is not the one that the manifest records" in (check_recorded(other) or "")


def test_line_ends_of_the_checkout_do_not_matter(tmp_path: Path) -> None:
    hello = choose(["hello"])[0]
    copy = replace(hello, directory=Path(shutil.copytree(SOURCES / "hello", tmp_path / "hello")))
    source = copy.directory / "hello.S"
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    assert source_digest(copy) == source_digest(hello)


def test_what_the_compiler_refuses_is_shown(tools: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "wrong.S").write_text("        no_such_instruction\n")
    wrong = replace(choose(["hello"])[0], directory=tmp_path / "source", sources=("wrong.S",))
    with pytest.raises(BuildFailed, match="no_such_instruction"):
        build(wrong, tools, tmp_path)


def test_without_a_compiler_the_digests_still_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["--check", "hello"]) == 0
    output = capsys.readouterr()
    assert "no gcc for x86 with binutils in PATH; install gcc and binutils" in output.err
    assert output.out == "1 images checked, 0 complaints\n"
    assert main(["hello"]) == 2


def test_an_unknown_name_lists_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "helo"]) == 2
    assert (
        "name: 'helo' is no bundled image; choose from firmware, hello, longmode" in capsys.readouterr().err
    )
