"""What was handed in: notebooks in directories and archives, found without trusting any of it.

Nothing is unpacked to disk, so no path in an archive can lead anywhere; symbolic links are not followed; what
is read is limited in size before it is read. A notebook's bytes are fetched when they are asked for, so that
a class of a thousand does not lie in memory at once.
"""

from __future__ import annotations

import io
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Final

from vlab.errors import UnusableInput
from vlab.grading.repair import MOST_BYTES

__all__ = ["Folder", "Notebook", "Unreadable", "look"]

MOST_MEMBERS: Final = 100_000
"""Files that an archive may name."""
EXPANSION: Final = 100
"""How many times its own size an archive's notebooks may take, beyond a first ``FREELY`` bytes."""
FREELY: Final = 64 << 20
NESTED: Final = 2
"""Archives in archives that are opened: a class's archive may hold each student's."""
DEEPEST: Final = 12
"""Directories below one another that are looked into."""
ENCRYPTED: Final = 1
"""The bit of a member's flags for encryption (PKWARE's APPNOTE 4.4.4)."""


class Unreadable(UnusableInput):
    """A file of a student's that cannot be read; the message is a sentence for the student's feedback."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook's file. name: the file's. place: where it is, for people. read: gives its bytes.

    ``read`` raises Unreadable.
    """

    name: str
    place: str
    read: Callable[[], bytes]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.name.rpartition(".")[0]


@dataclass(slots=True)
class Folder:
    """A directory or an archive with the notebooks in it. trouble: why it cannot be read, or empty."""

    name: str
    place: str
    notebooks: list[Notebook] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    trouble: str = ""

    def all_notebooks(self) -> Iterator[Notebook]:
        """Give the notebooks here and below."""
        yield from self.notebooks
        for folder in self.folders:
            yield from folder.all_notebooks()

    def first_trouble(self) -> str:
        """Give the trouble here or below, or nothing."""
        return self.trouble or next(filter(None, (folder.first_trouble() for folder in self.folders)), "")


def look(path: Path) -> Notebook | Folder:
    """Look at a file or directory that the person at the terminal named.

    Raises UnusableInput for what is neither a notebook, an archive nor a directory.
    """
    shown = visible(str(path))
    try:
        if path.is_dir():
            return _directory(path, DEEPEST)
        if path.is_file() and path.suffix.lower() == ".ipynb":
            return _notebook(path)
        if path.is_file() and path.suffix.lower() == ".zip":
            return _archive((str(path),), visible(path.stem), shown)
        exists = path.exists()
    except OSError as error:
        raise UnusableInput(
            f"submissions: '{shown}' cannot be read ({error.strerror}); check its permissions"
        ) from error
    if not exists:
        raise UnusableInput(f"submissions: there is no '{shown}'; check the path")
    raise UnusableInput(
        f"submissions: '{shown}' is no notebook; name .ipynb files, .zip files or directories"
    )


def visible(name: str) -> str:
    """Give a name of a student's making without what a terminal or a page would obey instead of showing.

    Control and formatting characters and halves of pairs become U+FFFD; the rest is in composed form (NFC),
    so that one name is the same from every file system.
    """
    clean = "".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in name)
    return unicodedata.normalize("NFC", clean)


# --- on disk -----------------------------------------------------------------------------------------------


def _notebook(path: Path) -> Notebook:
    return Notebook(visible(path.name), visible(str(path)), partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
            size = path.stat().st_size
    except OSError as error:
        raise Unreadable(f"the notebook cannot be read: {error.strerror}") from error
    return _within(content, size)


def _within(content: bytes, size: int) -> bytes:
    if len(content) > MOST_BYTES:
        raise Unreadable(
            f"the notebook has {size / 1e6:,.0f} MB, and no more than {MOST_BYTES / 1e6:,.0f} MB are read; "
            "clear its outputs (Edit, Clear Outputs of All Cells) and hand it in again"
        )
    return content


def _directory(path: Path, depth: int) -> Folder:
    folder = Folder(visible(path.absolute().name), visible(str(path)))
    try:
        entries = sorted(path.iterdir(), key=lambda each: each.name)
    except OSError as error:
        folder.trouble = f"the directory cannot be read: {error.strerror}"
        return folder
    for entry in entries:
        kind = entry.lstat().st_mode
        if _ignored(entry.name) or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            continue
        if stat.S_ISDIR(kind):
            if depth:
                folder.folders.append(_directory(entry, depth - 1))
        elif entry.suffix.lower() == ".ipynb":
            folder.notebooks.append(_notebook(entry))
        elif entry.suffix.lower() == ".zip":
            folder.folders.append(_archive((str(entry),), visible(entry.stem), visible(str(entry))))
    return folder


def _ignored(name: str) -> bool:
    """Whether a file or directory is a tool's own: checkpoints, what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


# --- in an archive -----------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _open(chain: tuple[str, ...]) -> zipfile.ZipFile:
    """Open an archive: the path of one, then the names of archives inside."""
    if len(chain) == 1:
        return zipfile.ZipFile(chain[0])
    return zipfile.ZipFile(io.BytesIO(_read_member(chain[:-1], chain[-1])))


def _read_member(chain: tuple[str, ...], name: str) -> bytes:
    try:
        archive = _open(chain)
        info = archive.getinfo(name)
        with archive.open(info) as file:
            return _within(file.read(MOST_BYTES + 1), info.file_size)
    except _UNREADABLE as error:
        raise Unreadable(f"the archive cannot be read: {_reason(error)}; make it again") from error


_UNREADABLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, OSError, RuntimeError,
    ValueError,
)  # fmt: skip
"""What the standard library raises for archives that are broken, encrypted or of another kind."""


def _reason(error: BaseException) -> str:
    return visible(" ".join(str(error).split()))[:200] or type(error).__name__


def _archive(chain: tuple[str, ...], name: str, place: str) -> Folder:
    folder = Folder(name, place)
    try:
        _fill(folder, chain)
    except Unreadable as error:
        folder.trouble = str(error)
    except _UNREADABLE as error:
        folder.trouble = f"the archive cannot be read: {_reason(error)}; make it again"
    return folder


def _fill(folder: Folder, chain: tuple[str, ...]) -> None:
    archive = _open(chain)
    members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) > MOST_MEMBERS:
        raise Unreadable(
            f"the archive names {len(members):,} files, and no more than {MOST_MEMBERS:,} are read"
        )
    wanted = [each for each in members if each.filename.lower().endswith((".ipynb", ".zip"))]
    _check_size(archive, wanted)
    found: dict[tuple[str, ...], Folder] = {(): folder}
    for info in sorted(wanted, key=lambda each: each.filename):
        parts = _parts(info.filename)
        if any(_ignored(part) for part in parts) or len(parts) > DEEPEST:
            continue
        if info.flag_bits & ENCRYPTED:
            raise Unreadable("the archive is encrypted; hand it in without a password")
        _place(found, folder, chain, info, parts)
    _unwrap(folder)


def _check_size(archive: zipfile.ZipFile, wanted: list[zipfile.ZipInfo]) -> None:
    total = sum(each.file_size for each in wanted)
    own = _size_of(archive.fp)
    if total > FREELY and total > EXPANSION * own:
        raise Unreadable(
            f"the archive's {own / 1e3:,.0f} kB would become {total / 1e6:,.0f} MB; "
            "hand in the notebook as it is"
        )


def _size_of(file: IO[bytes] | None) -> int:
    return 0 if file is None else file.seek(0, io.SEEK_END)


def _parts(name: str) -> tuple[str, ...]:
    """Split a member's name. Raises Unreadable when it leads out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise Unreadable(f"the archive holds a path that leads out of it, {visible(name)!r}; make it again")
    return path.parts


def _place(
    found: dict[tuple[str, ...], Folder],
    top: Folder,
    chain: tuple[str, ...],
    info: zipfile.ZipInfo,
    parts: tuple[str, ...],
) -> None:
    for length in range(1, len(parts)):
        if parts[:length] not in found:
            inner = Folder(visible(parts[length - 1]), visible(f"{top.place}: {'/'.join(parts[:length])}"))
            found[parts[: length - 1]].folders.append(inner)
            found[parts[:length]] = inner
    parent, name = found[parts[:-1]], visible(parts[-1])
    place = visible(f"{top.place}: {'/'.join(parts)}")
    if name.lower().endswith(".ipynb"):
        parent.notebooks.append(Notebook(name, place, partial(_read_member, chain, info.filename)))
    elif len(chain) < NESTED:
        stem = name.rpartition(".")[0]
        parent.folders.append(_archive((*chain, info.filename), stem, place))


def _unwrap(folder: Folder) -> None:
    """Do without the one directory that archivers like to put everything in."""
    while not folder.notebooks and len(folder.folders) == 1 and not folder.folders[0].trouble:
        inner = folder.folders[0]
        folder.notebooks, folder.folders = inner.notebooks, inner.folders
