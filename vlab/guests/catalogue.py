"""The guests that vlab knows by name: bundled ones, the fetched Linux, and the user's own.

>>> from vlab.guests import catalogue
>>> catalogue.find("rings").kind
<Kind.MULTIBOOT: 'multiboot'>
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import UnusableInput
from vlab.guests import index, store
from vlab.guests.loaders import Kind, identify
from vlab.paths import expand

LINUX_COMMAND_LINE = "console=ttyS0 nokaslr"
"""What a Linux guest gets unless told otherwise: the serial console, and no randomised addresses, so that
they are the same in every run. The kernel finds its local APIC, its I/O APIC and ACPI by itself."""

IMAGES = Path(__file__).parent / "images"

_MIB = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Guest:
    """A bootable subject.

    `kernel` and `initrd` are files, None when there is none; `available` says whether they are there, and
    `how_to_get` what to do when they are not.
    """

    name: str
    kind: Kind
    summary: str
    kernel: Path | None
    initrd: Path | None = None
    cmdline: str = ""
    available: bool = True
    how_to_get: str = ""

    @property
    def memory_default(self) -> int:
        """Bytes of memory that suit this guest unless the user says otherwise."""
        return (128 if self.kind is Kind.LINUX else 16) * _MIB

    def read_kernel(self) -> bytes:
        """Return the image's bytes. Raises UnusableInput, saying how to get it, when it is not there."""
        if self.kernel is None or not self.available:
            raise UnusableInput(f"guest: {self.name} is not on this computer; {self.how_to_get}")
        return store.read_input("guest", self.kernel)

    def read_initrd(self) -> bytes | None:
        """Return the initrd's bytes, None for a guest without one. Raises as `read_kernel` does."""
        return None if self.initrd is None else store.read_input("initrd", self.initrd)


SELFTEST_COMMAND_LINE = "skip=limit,port.ins_denied_memory"
"""What the engine is known to do otherwise than processors (docs/MACHINE.md) is left out by name."""

_BUNDLED = (
    ("hello", Kind.BOOT_SECTOR, "a boot sector that prints one line through the BIOS"),
    (
        "rings",
        Kind.MULTIBOOT,
        "protected mode: the ways between ring 0 and ring 3, and what ring 3 is refused",
    ),
    ("longmode", Kind.MULTIBOOT, "long mode: builds page tables, uses them and provokes page faults"),
    ("selftest", Kind.MULTIBOOT, "exceptions and interrupts through every kind of gate, checked one by one"),
    ("wren", Kind.MULTIBOOT, "a small Unix-like kernel, written to be read, with a shell and a self-test"),
    ("wren-paravirt", Kind.MULTIBOOT, "the same kernel in ring 1: it asks its monitor by hypercalls"),
    ("sweep", Kind.MULTIBOOT, "touches a working set and edits the page tables behind it, as often as told"),
    ("tripfault", Kind.MULTIBOOT, "ends in a triple fault, in a known place"),
    ("spin", Kind.MULTIBOOT, "jumps to itself for ever, with interrupts off"),
)
_ROWS = {row[0]: row for row in _BUNDLED}

_session: dict[str, Guest] = {}
"""Guests that only this process knows, made in a notebook."""


def guests() -> list[Guest]:
    """Return every guest, available or not: the bundled ones, Linux, then the user's by name."""
    own = {name: _own(name, entry) for name, entry in sorted(index.read_own().items())} | _session
    linux = own.pop("linux", None) or _linux()
    return [*(_bundled(*row) for row in _BUNDLED), linux, *own.values()]


def find(name_or_path: str | Path) -> Guest:
    """Return the guest of that name, or a guest made of the image at that path.

    Raises UnusableInput for an unknown name, with the nearest ones, and UnusableImage for a file that is no
    guest. A name goes before a file of the same name: write ``./linux`` for the file.
    """
    path = expand(name_or_path)
    if isinstance(name_or_path, str):
        known = _named(name_or_path)
        if known is not None:
            return known
        if path.name == name_or_path and not store.is_file(path):
            raise _unknown(name_or_path)
    return _from_file(path.name, path, None, None)


def _named(name: str) -> Guest | None:
    """Give the one guest of a name: to make sure of Linux takes longer than many a guest runs."""
    if name in _ROWS:
        return _bundled(*_ROWS[name])
    if name in _session:
        return _session[name]
    own = index.read_own()
    if name in own:
        return _own(name, own[name])
    return _linux() if name == "linux" else None


def _unknown(name: str) -> UnusableInput:
    near = difflib.get_close_matches(name.lower(), [guest.name for guest in guests()], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ", nor a file of that name;"
    return UnusableInput(f"guest: there is no guest named {name!r}{hint} `vlab guests list` shows them all")


def add(
    path: str | Path, name: str | None = None, initrd: str | Path | None = None, cmdline: str | None = None
) -> Guest:
    """Enter an image of the user's into the catalogue and return it as a guest.

    The files stay where they are. `name` is the file's name without its suffix unless given; `linux` may be
    given, the names of bundled guests may not. A name that was added before is replaced. Raises UnusableInput
    or UnusableImage for what does not fit.
    """
    kernel = expand(path).absolute()
    disk = None if initrd is None else expand(initrd).absolute()
    chosen = kernel.stem if name is None else name
    _check_name(chosen, "choose another one with --name")
    guest = _from_file(chosen, kernel, disk, cmdline)
    guest.read_initrd()
    index.write_own(index.read_own() | {chosen: index.Own(guest.kind, kernel, disk, guest.cmdline)})
    return find(chosen)


def remember(path: str | Path, name: str) -> Guest:
    """Know the image at ``path`` by ``name`` until this process ends, and return it as a guest.

    A guest that was remembered by this name, or added, is hidden. Raises UnusableInput or UnusableImage for
    what does not fit.
    """
    _check_name(name, "choose another name")
    guest = _session[name] = _from_file(name, expand(path).absolute(), None, None)
    return guest


def _check_name(name: str, instead: str) -> None:
    if not _NAME.fullmatch(name):
        raise UnusableInput(f"name: {name!r} is not possible; use letters, digits, '.', '_' and '-'")
    if name in _ROWS:
        raise UnusableInput(f"name: {name!r} is a bundled guest; {instead}")


def remove(name: str) -> None:
    """Take a guest of the user's out of the catalogue; its files stay.

    Raises UnusableInput for a name that the user did not add.
    """
    own = index.read_own()
    if name not in own:
        known = f"there are {', '.join(sorted(own))}" if own else "there are none"
        raise UnusableInput(f"name: {name!r} is not a guest that you added; {known}")
    del own[name]
    index.write_own(own)


def _bundled(name: str, kind: Kind, summary: str) -> Guest:
    image = next(iter(sorted(IMAGES.glob(f"{name}.*"))), None)
    cmdline = SELFTEST_COMMAND_LINE if name == "selftest" else ""
    return Guest(
        name,
        kind,
        summary,
        image,
        None,
        cmdline,
        available=image is not None,
        how_to_get="install vlab again",
    )


def _linux() -> Guest:
    files = index.fetched("linux")
    kernel, initrd = (None, None) if files is None else (files[0].path, files[1].path)
    return Guest(
        "linux",
        Kind.LINUX,
        "the distribution's own Linux kernel, unmodified, with a busybox shell on the serial console",
        kernel,
        initrd,
        LINUX_COMMAND_LINE,
        available=files is not None,
        how_to_get="" if files else "fetch it with `vlab guests fetch linux`",
    )


def _from_file(name: str, path: Path, initrd: Path | None, cmdline: str | None) -> Guest:
    kind = identify(store.read_input("guest", path), path.name)
    if cmdline is None:
        cmdline = LINUX_COMMAND_LINE if kind is Kind.LINUX else ""
    return Guest(name, kind, f"the file {path}", path, initrd, cmdline)


def _own(name: str, own: index.Own) -> Guest:
    missing = own.missing()
    advice = "" if missing is None else f"{missing} is gone: add it again with `vlab guests add`"
    return Guest(
        name,
        own.kind,
        f"the file {own.kernel}",
        own.kernel,
        own.initrd,
        own.cmdline,
        available=missing is None,
        how_to_get=advice,
    )
