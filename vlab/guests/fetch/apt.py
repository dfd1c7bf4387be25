"""apt as an ordinary user: the system's package sources and keys, state and downloads in a directory of ours.

Nothing of the system's own apt state is read or written, so no root is needed and a broken or empty list of
packages there does not matter. Packages are those for amd64, whatever this computer is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import UnusableInput, VlabError
from vlab.guests import store

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in total (0 when not known) and what is being done."""

_STATUS = re.compile(r"dlstatus:[^:]*:([0-9.]+):")


class FetchFailed(VlabError):
    """The network or a server did not do its part: nothing is wrong with what the user gave."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package as the signed index describes it: size in bytes, SHA-256 in hexadecimal."""

    name: str
    version: str
    depends: str
    size: int
    sha256: str


def is_here() -> bool:
    """Tell whether this computer has apt."""
    return all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "apt-config"))


class Apt:
    """apt with its state below `directory`; what an interrupted run left there is used."""

    def __init__(self, directory: Path) -> None:
        """Prepare the directory. Raises UnusableInput when it cannot be written to."""
        self._downloads = store.make_directory(directory / "downloads")
        for name in ("lists/partial", "cache/archives/partial", "none"):
            store.make_directory(directory / name)
        configuration = directory / "apt.conf"
        self._environment = os.environ | {"LC_ALL": "C", "LANGUAGE": "C", "DEBIAN_FRONTEND": "noninteractive"}
        self._environment.pop("APT_CONFIG", None)
        acquire = self._run(["apt-config", "dump", "Acquire"]).stdout
        store.write_atomically(directory / "status", b"")
        store.write_atomically(directory / "empty.conf", b"")
        store.write_atomically(configuration, (acquire + _configuration(directory)).encode())
        self._environment["APT_CONFIG"] = str(configuration)
        self._unreachable = ""

    def update(self, progress: Progress) -> None:
        """Read the package index. A source that cannot be reached is remembered, not raised."""
        _, errors = self._watched(["apt-get", "-q", "update"], 0, "reading the package index", progress)
        self._unreachable = _first_error(errors)

    def package(self, name: str) -> Package | None:
        """Return what the index says about a package, None when it does not have it."""
        result = self._run(["apt-cache", "show", "--no-all-versions", name])
        fields = dict(
            line.split(": ", 1) for line in result.stdout.splitlines() if re.match(r"[\w-]+: ", line)
        )
        if result.returncode != 0 or not {"Version", "Size", "SHA256"} <= fields.keys():
            return None
        return Package(
            name, fields["Version"], fields.get("Depends", ""), int(fields["Size"]), fields["SHA256"]
        )

    def require(self, names: tuple[str, ...]) -> Package:
        """Return the first of several packages that the index has.

        Raises FetchFailed when the index could not be read, UnusableInput when it has none of them.
        """
        for name in names:
            package = self.package(name)
            if package is not None:
                return package
        if self._unreachable:
            raise FetchFailed(
                f"fetch: the package index could not be read ({self._unreachable});"
                " check the network connection and try again"
            )
        raise UnusableInput(
            f"fetch: this system's package sources have no {' or '.join(names)} for amd64; add a kernel of"
            " yours with `vlab guests add vmlinuz --name linux --initrd initrd.gz`"
        )

    def download(self, package: Package, progress: Progress) -> Path:
        """Download a package, check it against the index and return its file; a file already here is used.

        Raises FetchFailed when that does not succeed.
        """
        label = f"downloading {package.name}"
        present = self._downloaded(package)
        if present is None:
            code, errors = self._watched(
                ["apt-get", "-q", "download", package.name], package.size, label, progress
            )
            present = self._downloaded(package)
            if present is None:
                reason = _first_error(errors) or f"apt-get ended with status {code}"
                raise FetchFailed(
                    f"fetch: {package.name} could not be downloaded ({reason});"
                    " check the network connection and try again"
                )
        progress(package.size, package.size, label)
        return present

    def _downloaded(self, package: Package) -> Path | None:
        """Return the package's file when it is whole; throw files away that are not."""
        for file in self._downloads.glob(f"{package.name}_*.deb"):
            if file.stat().st_size == package.size and store.digest(file) == package.sha256:
                return file
            file.unlink()
        return None

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, errors="replace", check=False
        )

    def _watched(self, command: list[str], size: int, label: str, progress: Progress) -> tuple[int, str]:
        """Run apt-get and report its own figures; return its status and what it said."""
        progress(0, size, label)
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, errors="replace") as status, tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [*command, "-o", f"APT::Status-Fd={write_end}"],
                env=self._environment, cwd=self._downloads, pass_fds=[write_end],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            os.close(write_end)
            try:
                for line in status:
                    found = _STATUS.match(line)
                    if found:
                        progress(int(size * float(found[1]) / 100), size, label)
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            output.seek(0)
            return code, output.read().decode("utf-8", "replace")


def _first_error(output: str) -> str:
    """Return apt's first complaint about a download, without its address, or an empty text."""
    for line in output.splitlines():
        if re.match(r"[EW]: Failed to fetch ", line):
            return re.sub(r"^[EW]: Failed to fetch \S+\s*", "", line).strip().rstrip(".")
    for line in output.splitlines():
        if line.startswith("E: "):
            return line.removeprefix("E: ").strip().rstrip(".")
    return ""


def _configuration(directory: Path) -> str:
    """Return the settings that keep apt inside `directory`; the system's own settings files are not read."""
    place = str(directory)
    if '"' in place:
        raise UnusableInput(
            f"cache: {place} has a quotation mark in its name, which apt cannot use;"
            " set VLAB_CACHE to another directory"
        )
    return f"""
Dir::Etc::parts "{place}/none";
Dir::Etc::main "{place}/empty.conf";
Dir::State::lists "{place}/lists";
Dir::State::status "{place}/status";
Dir::State::extended_states "{place}/extended_states";
Dir::Cache "{place}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""
