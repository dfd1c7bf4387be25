"""What vlab remembers about guests between runs: the user's own, and which cached objects make a fetched one.

Both are small JSON files; the first cannot be made again and lies with the user's data, the second in the
cache.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vlab.errors import UnusableInput
from vlab.guests import store
from vlab.guests.loaders import Kind
from vlab.paths import cache_directory, data_directory


@dataclass(frozen=True, slots=True)
class Own:
    """A guest that the user added: absolute paths, and the command line that it starts with."""

    kind: Kind
    kernel: Path
    initrd: Path | None
    cmdline: str

    def missing(self) -> Path | None:
        """Return a file of the guest's that is not there any more."""
        return next((file for file in (self.kernel, self.initrd) if file and not store.is_file(file)), None)


def _own_path() -> Path:
    return data_directory() / "guests.json"


def read_own() -> dict[str, Own]:
    """Return the user's guests by name. Raises UnusableInput when the file is not what was written."""
    path = _own_path()
    if not store.is_file(path):
        return {}
    try:
        entries = json.loads(store.read_input("data", path))["guests"]
        return {str(name): _own(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnusableInput(
            f"data: {path} is not a list of guests any more;"
            " repair it, or delete it and add your guests again"
        ) from None


def _own(entry: dict[str, str | None]) -> Own:
    initrd = entry["initrd"]
    return Own(
        Kind(str(entry["kind"])),
        Path(str(entry["kernel"])),
        None if initrd is None else Path(initrd),
        str(entry["cmdline"]),
    )


def write_own(guests: dict[str, Own]) -> None:
    """Write the user's guests. Raises UnusableInput when the data directory is not writable."""
    entries = {
        name: {
            "kind": str(own.kind),
            "kernel": str(own.kernel),
            "initrd": None if own.initrd is None else str(own.initrd),
            "cmdline": own.cmdline,
        }
        for name, own in guests.items()
    }
    store.write_atomically(_own_path(), json.dumps({"guests": entries}, indent=1, sort_keys=True).encode())


def _fetched_path(name: str) -> Path:
    return cache_directory() / "fetched" / f"{name}.json"


def record_fetched(name: str, kernel: store.Entry, initrd: store.Entry) -> None:
    """Note which objects of the cache make a fetched guest."""
    manifest = {"kernel": asdict(kernel), "initrd": asdict(initrd)}
    store.write_atomically(_fetched_path(name), json.dumps(manifest, indent=1).encode())


def fetched(name: str) -> tuple[store.Entry, store.Entry] | None:
    """Return kernel and initrd of a fetched guest, None when either is missing or damaged."""
    try:
        manifest = json.loads(_fetched_path(name).read_bytes())
        kernel, initrd = (_entry(manifest[role]) for role in ("kernel", "initrd"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (kernel, initrd) if store.intact(kernel) and store.intact(initrd) else None


def _entry(fields: dict[str, str | int]) -> store.Entry:
    return store.Entry(str(fields["name"]), str(fields["sha256"]), int(fields["size"]))
