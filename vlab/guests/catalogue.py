"""The guests that vlab knows by name: bundled ones, the fetched Linux, and the user's own.

>>> from vlab.guests import catalogue
>>> catalogue.find("rings").kind
<Kind.MULTIBOOT: 'multiboot'>
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from vlab.errors import UnusableInput
from vlab.guests import store
from vlab.guests.loaders import Kind, identify

LINUX_COMMAND_LINE = "console=ttyS0 nokaslr nolapic noapic acpi=off pci=off"
"""What a Linux guest gets unless told otherwise: the serial console, no randomised addresses (so that they are
the same in every run), and the devices of a PC of 1990, which every monitor has."""

IMAGES = Path(__file__).parent / "images"
_MIB = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_INDEX = "guests.json"
_FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Guest:
    """A bootable subject.

    `kernel` and `initrd` are files, None when there is none; `available` says whether they are there, and
    `how_to_get` what to do when they are not. `memory` is the size in bytes that suits it.
    """

    name: str
    kind: Kind
    summary: str
    kernel: Path | None
    initrd: Path | None = None
    cmdline: str = ""
    available: bool = True
    how_to_get: str = ""
    memory: int = 16 * _MIB

    def read_kernel(self) -> bytes:
        """Return the image's bytes. Raises UnusableInput, saying how to get it, when it is not there."""
        if self.kernel is None or not self.available:
            raise UnusableInput(f"guest: {self.name} is not on this computer; {self.how_to_get}")
        return store.read_input("guest", self.kernel)

    def read_initrd(self) -> bytes | None:
        """Return the initrd's bytes, None when the guest has none. Raises UnusableInput as `read_kernel` does."""
        return None if self.initrd is None else store.read_input("initrd", self.initrd)


_BUNDLED = (
    ("hello", Kind.BOOT_SECTOR, "a boot sector that prints one line through the BIOS"),
    ("rings", Kind.MULTIBOOT, "protected mode: every way between ring 0 and ring 3, and what ring 3 is refused"),
    ("longmode", Kind.MULTIBOOT, "long mode: builds page tables, walks them and provokes page faults"),
    ("selftest", Kind.MULTIBOOT, "exceptions and interrupts through every kind of gate, checked one by one"),
    ("tripfault", Kind.MULTIBOOT, "ends in a triple fault, in a known place"),
    ("spin", Kind.MULTIBOOT, "jumps to itself for ever, with interrupts off"),
)
_LINUX_SUMMARY = "the distribution's own Linux kernel, unmodified, with a busybox shell on the serial console"
_FETCH_LINUX = "fetch it with `vlab guests fetch linux`"


def guests() -> list[Guest]:
    """Return every guest, available or not: bundled, Linux, then the user's by name."""
    own = {name: _from_index(name, entry) for name, entry in sorted(_read_index().items())}
    linux = own.pop("linux", None) or _linux()
    return [*(_bundled(*row) for row in _BUNDLED), linux, *own.values()]


def find(name_or_path: str | Path) -> Guest:
    """Return the guest of that name, or a guest made of the image at that path.

    Raises UnusableInput for an unknown name, with the nearest ones, and UnusableImage for a file that is no
    guest. A name goes before a file of the same name: write ``./linux`` for the file.
    """
    text = str(name_or_path)
    known = {guest.name: guest for guest in guests()}
    if text in known and not isinstance(name_or_path, Path):
        return known[text]
    path = Path(text).expanduser()
    if path.exists() or isinstance(name_or_path, Path) or len(Path(text).parts) > 1:
        return _from_file(path.name, path, None, None)
    near = difflib.get_close_matches(text.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "it is not a file either;"
    raise UnusableInput(f"guest: there is no guest named {text!r}; {hint} `vlab guests list` shows them all")


def add(
    path: str | Path, name: str | None = None, initrd: str | Path | None = None, cmdline: str | None = None
) -> Guest:
    """Enter an image of the user's into the catalogue and return it as a guest.

    The files stay where they are. `name` is the file's name without its suffix unless given; `linux` may be
    given, the names of bundled guests may not. Raises UnusableInput or UnusableImage for what does not fit.
    """
    kernel = Path(path).expanduser()
    chosen = kernel.stem if name is None else name
    if not _NAME.fullmatch(chosen):
        raise UnusableInput(f"name: {chosen!r} is not possible; use letters, digits, '.', '_' and '-'")
    if any(chosen == row[0] for row in _BUNDLED):
        raise UnusableInput(f"name: {chosen!r} is a bundled guest; choose another one with --name")
    disk = None if initrd is None else Path(initrd).expanduser()
    guest = _from_file(chosen, kernel, disk, cmdline)
    if disk is not None:
        store.read_input("initrd", disk)
    entry = {
        "kind": str(guest.kind),
        "kernel": str(kernel.absolute()),
        "initrd": None if disk is None else str(disk.absolute()),
        "cmdline": guest.cmdline,
    }
    _write_index(_read_index() | {chosen: entry})
    return find(chosen)


def remove(name: str) -> None:
    """Take a guest of the user's out of the catalogue; its files stay. Raises UnusableInput for other names."""
    index = _read_index()
    if name not in index:
        known = f"there are {', '.join(sorted(index))}" if index else "there are none"
        raise UnusableInput(f"name: {name!r} is not a guest that you added; {known}")
    del index[name]
    _write_index(index)


def record_fetched(name: str, kernel: store.Entry, initrd: store.Entry) -> None:
    """Note which objects of the cache make up a fetched guest."""
    files = {"kernel": kernel, "initrd": initrd}
    manifest = {role: {"name": it.name, "sha256": it.sha256, "size": it.size} for role, it in files.items()}
    store.write_atomically(_manifest(name), json.dumps(manifest, indent=1).encode())


def fetched(name: str) -> tuple[store.Entry, store.Entry] | None:
    """Return kernel and initrd of a fetched guest, None when either is missing or damaged."""
    try:
        manifest = json.loads(_manifest(name).read_bytes())
        kernel, initrd = (
            store.Entry(str(file["name"]), str(file["sha256"]), int(file["size"]))
            for file in (manifest["kernel"], manifest["initrd"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (kernel, initrd) if store.intact(kernel) and store.intact(initrd) else None


def _manifest(name: str) -> Path:
    return store.cache_directory() / _FETCHED / f"{name}.json"


def _bundled(name: str, kind: Kind, summary: str) -> Guest:
    image = next(iter(sorted(IMAGES.glob(f"{name}.*"))), None)
    return Guest(name, kind, summary, image, available=image is not None, how_to_get="install vlab again")


def _linux() -> Guest:
    guest = Guest(
        "linux",
        Kind.LINUX,
        _LINUX_SUMMARY,
        None,
        None,
        LINUX_COMMAND_LINE,
        available=False,
        how_to_get=_FETCH_LINUX,
        memory=128 * _MIB,
    )
    files = fetched("linux")
    if files is None:
        return guest
    return replace(guest, kernel=files[0].path, initrd=files[1].path, available=True)


def _from_file(name: str, path: Path, initrd: Path | None, cmdline: str | None) -> Guest:
    kind = identify(store.read_input("guest", path), path.name)
    linux = kind is Kind.LINUX
    chosen = (LINUX_COMMAND_LINE if linux else "") if cmdline is None else cmdline
    memory = 128 * _MIB if linux else 16 * _MIB
    return Guest(name, kind, f"the image {path}", path, initrd, chosen, memory=memory)


def _from_index(name: str, entry: dict[str, str | None]) -> Guest:
    kind = Kind(entry["kind"] or "")
    kernel = Path(entry["kernel"] or "")
    initrd = None if entry["initrd"] is None else Path(entry["initrd"])
    missing = next((file for file in (kernel, initrd) if file is not None and not file.is_file()), None)
    return Guest(
        name,
        kind,
        f"added: {kernel}",
        kernel,
        initrd,
        entry["cmdline"] or "",
        available=missing is None,
        how_to_get="" if missing is None else f"{missing} is gone: add it again with `vlab guests add`",
        memory=128 * _MIB if kind is Kind.LINUX else 16 * _MIB,
    )


def _read_index() -> dict[str, dict[str, str | None]]:
    path = store.data_directory() / _INDEX
    if not path.exists():
        return {}
    try:
        index = json.loads(store.read_input("data", path))
        return {str(name): _checked(entry) for name, entry in index["guests"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnusableInput(
            f"data: {path} is not an index of guests any more; repair it, or delete it and add your guests again"
        ) from None


def _checked(entry: dict[str, str | None]) -> dict[str, str | None]:
    """Return the known fields of an entry of the index; raises ValueError, KeyError or TypeError."""
    fields = {key: entry[key] for key in ("kind", "kernel", "initrd", "cmdline")}
    if not all(isinstance(value, str | None) for value in fields.values()):
        raise TypeError(fields)
    Kind(fields["kind"] or "")
    return fields


def _write_index(index: dict[str, dict[str, str | None]]) -> None:
    path = store.data_directory() / _INDEX
    store.write_atomically(path, json.dumps({"guests": index}, indent=1, sort_keys=True).encode())
