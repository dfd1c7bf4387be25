"""Rebuild the bundled guests and the firmware: `python -m vlab.guests.rebuild [--check] [NAME...]`.

The images are part of vlab, so nobody needs a compiler to use them. Whoever changes a source runs this and
commits both. `--check` rebuilds into a temporary directory and compares: the same compiler and binutils give
the same bytes. `images/MANIFEST.json` records which tools made the images, from which sources, and what came
out; with other tools, or none, `--check` still proves that no source has changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import UnusableInput, VlabError
from vlab.guests.recipes import (
    COMMON_FLAGS,
    IMAGES,
    LIBRARY,
    LINK_EMULATION,
    LINK_FLAGS,
    MODE_FLAGS,
    RECIPES,
    Recipe,
)

MANIFEST = IMAGES / "MANIFEST.json"
_PREFIXES = ("", "x86_64-linux-gnu-", "x86_64-elf-", "i686-linux-gnu-")


class BuildFailed(VlabError):
    """A compiler, assembler or linker refused; its own words follow."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """An x86 gcc with its binutils: the commands, and the versions that decide about the bytes."""

    gcc: str
    ld: str
    objcopy: str
    versions: dict[str, str]


def find_toolchain() -> Toolchain:
    """Return the first gcc that makes x86 code. Raises UnusableInput when this computer has none."""
    for prefix in _PREFIXES:
        gcc, ld, objcopy = (shutil.which(f"{prefix}{tool}") for tool in ("gcc", "ld", "objcopy"))
        if gcc and ld and objcopy and _run([gcc, "-dumpmachine"]).startswith(("x86_64", "i386", "i686")):
            versions = {"gcc": _first_line(gcc), "ld": _first_line(ld)}
            return Toolchain(gcc, ld, objcopy, versions)
    raise UnusableInput(
        "rebuild: no gcc for x86 with binutils in PATH; install gcc and binutils (on another processor "
        "gcc-x86-64-linux-gnu), or use the images as they are: nothing else needs a compiler"
    )


def build(recipe: Recipe, tools: Toolchain, scratch: Path) -> bytes:
    """Return the image of `recipe`, made in the empty directory `scratch`. Raises BuildFailed."""
    for part in recipe.parts:
        (scratch / f"{part.name}.parts").mkdir()
        (scratch / part.output.name).write_bytes(build(part, tools, scratch / f"{part.name}.parts"))
    objects = [_compile(recipe, source, tools, scratch) for source in recipe.sources]
    linked, image = scratch / f"{recipe.name}.linked", scratch / f"{recipe.name}.image"
    script = recipe.directory / recipe.script
    link = [tools.ld, "-m", LINK_EMULATION[recipe.bits], "-T", str(script), *LINK_FLAGS.split()]
    _run([*link, "-o", str(linked), *map(str, objects)])
    _run([tools.objcopy, "-O", recipe.format, str(linked), str(image)])
    return image.read_bytes()


def _compile(recipe: Recipe, source: str, tools: Toolchain, scratch: Path) -> Path:
    """Return the object file of one source; compiled beside the source, so that no path is in the bytes."""
    target = scratch / (source.replace("/", "_").replace("..", "") + ".o")
    includes = ["-I.", f"-I{LIBRARY}", f"-Wa,-I,{LIBRARY}", f"-Wa,-I,{scratch}"]
    flags = [
        *COMMON_FLAGS.split(),
        *MODE_FLAGS[recipe.bits].split(),
        *(f"-D{name}" for name in recipe.defines),
        *includes,
        "-isystem",
        _compiler_headers(tools),
    ]
    _run([tools.gcc, *flags, "-c", source, "-o", str(target)], recipe.directory)
    return target


def _compiler_headers(tools: Toolchain) -> str:
    """The directory of stdint.h and stdarg.h that belong to the compiler, not to the system."""
    return _run([tools.gcc, "-print-file-name=include"]).strip()


def _first_line(tool: str) -> str:
    return _run([tool, "--version"]).splitlines()[0].split(maxsplit=1)[1]


def _run(command: Sequence[str], directory: Path | None = None) -> str:
    words = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=directory, env=words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"rebuild: {Path(command[0]).name} failed on {command[-1]}:\n{done.stderr.strip()}")
    return done.stdout


def source_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of all that the image is made from: the files and the recipe's own words."""
    digest = hashlib.sha256()
    words = (recipe.sources, recipe.bits, recipe.format, COMMON_FLAGS, MODE_FLAGS[recipe.bits], LINK_FLAGS)
    digest.update(repr(words).encode())
    for name in recipe.defines:
        digest.update(f"-D{name}".encode())
    for path in recipe.inputs():
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def read_manifest() -> dict[str, dict[str, str]]:
    """Return the manifest: `tools` with versions, and for each image its `sha256` and `sources` digests."""
    if not MANIFEST.exists():
        return {"tools": {}}
    loaded: dict[str, dict[str, str]] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return loaded


def check_recorded(recipe: Recipe) -> str | None:
    """Return what is wrong between source, image and manifest, without building; None when all agree."""
    recorded = read_manifest().get(recipe.output.name)
    if recorded is None or not recipe.output.exists():
        wrong = "it was never built"
    elif recorded["sources"] != source_digest(recipe):
        wrong = "its sources have changed since it was built"
    elif recorded["sha256"] != hashlib.sha256(recipe.output.read_bytes()).hexdigest():
        wrong = "the image is not the one that the manifest records"
    else:
        return None
    return f"{recipe.output.name}: {wrong}; run `python -m vlab.guests.rebuild {recipe.name}`"


def check(recipes: Sequence[Recipe]) -> list[str]:
    """Return the complaints about `recipes`, built again where the tools are those of the manifest."""
    complaints = [wrong for recipe in recipes if (wrong := check_recorded(recipe))]
    try:
        tools = find_toolchain()
    except UnusableInput as absent:
        print(f"{absent}; only digests were compared", file=sys.stderr)
        return complaints
    recorded = read_manifest()["tools"]
    if tools.versions != recorded:
        print(f"the images were made with {recorded}, here is {tools.versions}; only digests were compared")
        return complaints
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as scratch:
            if build(recipe, tools, Path(scratch)) != recipe.output.read_bytes():
                complaints.append(f"{recipe.output.name}: a rebuild gives other bytes")
    return complaints


def rebuild(recipes: Sequence[Recipe]) -> None:
    """Build `recipes` in place and record them in the manifest. Raises BuildFailed and UnusableInput."""
    tools, manifest = find_toolchain(), read_manifest()
    manifest["tools"] = tools.versions
    for recipe in recipes:
        with tempfile.TemporaryDirectory() as scratch:
            image = build(recipe, tools, Path(scratch))
        recipe.output.write_bytes(image)
        digest = hashlib.sha256(image).hexdigest()
        manifest[recipe.output.name] = {"sha256": digest, "sources": source_digest(recipe)}
        print(f"{recipe.output.name}: {len(image)} bytes")
    MANIFEST.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def choose(names: Sequence[str]) -> list[Recipe]:
    """Return the recipes of `names`, all of them for none. Raises UnusableInput for an unknown name."""
    known = {recipe.name: recipe for recipe in RECIPES}
    for name in names:
        if name not in known:
            raise UnusableInput(f"name: {name!r} is no bundled image; choose from {', '.join(sorted(known))}")
    return [known[name] for name in names] or list(RECIPES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    program = "python -m vlab.guests.rebuild"
    parser = argparse.ArgumentParser(prog=program, description="Rebuild the bundled guests and the firmware.")
    parser.add_argument("--check", action="store_true", help="compare with the images here, write nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which images (all without a name)")
    options = parser.parse_args(arguments)
    try:
        recipes = choose(options.names)
        if not options.check:
            rebuild(recipes)
            return 0
        complaints = check(recipes)
    except VlabError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f"{len(recipes)} images checked, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
