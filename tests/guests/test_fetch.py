"""Fetching Linux: against an apt of the test's own, and once against the distribution's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guests import synthetic
from tests.guests.synthetic import Part
from vlab.errors import UnusableInput
from vlab.guests import catalogue, index, loaders, zstd
from vlab.guests.fetch import FetchFailed, apt, deb, fetch, linux
from vlab.guests.loaders import Kind
from vlab.paths import cache_directory

RELEASE = "6.1.0-9-amd64"
KERNEL = synthetic.bzimage(
    synthetic.pack("gzip", synthetic.kernel_elf()), name=f"{RELEASE} (builder) #1".encode()
)
BUSYBOX = synthetic.elf(64, [Part(0x400000, b"busybox")])

posix = pytest.mark.skipif(os.name != "posix", reason="apt is for Linux")

FAKE_APT = """
    import json, os, pathlib, shutil, sys
    here = pathlib.Path(__file__).parent
    repository = json.loads((here / "repository.json").read_text())
    tool = pathlib.Path(__file__).name
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    with (here / "calls").open("a") as calls:
        print(tool, *words[:2], file=calls)
    if tool == "apt-config":
        print('Acquire::http::Proxy "http://proxy:3128";')
    elif tool == "apt-cache":
        package = repository["packages"].get(words[-1])
        if package is None:
            sys.exit(100)
        for key, value in package["fields"].items():
            print(f"{key}: {value}")
    elif words[0] == "update":
        settings = pathlib.Path(os.environ["APT_CONFIG"]).read_text()
        assert 'Proxy "http://proxy:3128"' in settings and 'Debug::NoLocking "true"' in settings
        if repository.get("offline"):
            print("W: Failed to fetch http://deb.test/InRelease  Temporary failure resolving 'deb.test'")
    elif words[0] == "download":
        if repository.get("offline"):
            print("E: Failed to fetch http://deb.test/x.deb  Connection timed out")
            sys.exit(100)
        package = repository["packages"][words[1]]
        status = int(sys.argv[-1].rsplit("=", 1)[1])
        os.write(status, b"dlstatus:1:50.0000:Retrieving file 1 of 1\\n")
        shutil.copy(here / package["file"], ".")
"""


def package(files: dict[str, bytes], compression: str = "xz") -> bytes:
    """Build a Debian package around files."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "xz": lzma.compress,
        "gz": gzip.compress,
        "zst": _zstd,
        "lzo": bytes,
    }
    data = packers[compression](tar.getvalue())
    suffix = f".{compression}" if compression else ""
    members = [("debian-binary", b"2.0\n"), ("control.tar", b"odd"), (f"data.tar{suffix}", data)]
    return b"!<arch>\n" + b"".join(_member(name, contents) for name, contents in members)


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def _zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


class Repository:
    """A directory with fake apt tools on PATH and packages to serve."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contents: dict[str, object] = {}
        self.packages: dict[str, dict[str, object]] = {}
        script = f"#!{sys.executable}\n" + textwrap.dedent(FAKE_APT)
        for tool in ("apt-get", "apt-cache", "apt-config"):
            (directory / tool).write_text(script)
            (directory / tool).chmod(0o755)

    def add(self, name: str, version: str, data: bytes, depends: str = "") -> None:
        file = f"{name}_{version}_amd64.deb"
        (self.directory / file).write_bytes(data)
        fields = {
            "Package": name,
            "Version": version,
            "Depends": depends,
            "Size": len(data),
            "SHA256": hashlib.sha256(data).hexdigest(),
        }
        self.packages[name] = {"fields": fields, "file": file}
        self.write()

    def write(self, **settings: object) -> None:
        self.contents |= settings
        text = json.dumps(self.contents | {"packages": self.packages})
        (self.directory / "repository.json").write_text(text)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "the cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))
    made = Repository(directory)
    made.add("linux-image-amd64", "6.1.9", b"", f"linux-image-{RELEASE} (= 6.1.9-1), other")
    made.add(f"linux-image-{RELEASE}", "6.1.9-1", package({f"boot/vmlinuz-{RELEASE}": KERNEL}))
    made.add("busybox-static", "1.35", package({"bin/busybox": BUSYBOX}))
    return made


@posix
def test_a_fetched_linux_boots_from_the_cache(repository: Repository) -> None:
    guest = fetch("linux")
    assert guest == catalogue.find("linux")
    assert guest.available
    assert guest.kernel is not None
    assert guest.kernel.name == f"vmlinuz-{RELEASE}"
    assert guest.read_kernel() == KERNEL
    initrd = guest.read_initrd()
    assert initrd is not None
    assert BUSYBOX in gzip.decompress(initrd)
    memory = memoryview(bytearray(16 << 20))
    loaded = loaders.load(guest.read_kernel(), memory, cmdline=guest.cmdline, initrd=initrd)
    assert loaded.kind is Kind.LINUX


@posix
def test_ubuntus_packages_are_found_by_their_names(repository: Repository) -> None:
    release = "6.8.0-7-generic"
    kernel = synthetic.bzimage(b"", name=release.encode() + b" (x)")
    repository.packages.clear()
    repository.add("linux-image-virtual", "6.8", b"", f"linux-image-{release}, linux-firmware")
    repository.add(f"linux-image-{release}", "6.8", package({f"boot/vmlinuz-{release}": kernel}))
    repository.add("busybox-static", "1.36", package({"usr/bin/busybox": BUSYBOX}))
    guest = fetch("linux")
    assert guest.kernel is not None
    assert guest.kernel.name == f"vmlinuz-{release}"


@posix
def test_progress_tells_bytes_and_what_is_done(repository: Repository) -> None:
    seen: list[tuple[int, int, str]] = []
    fetch("linux", lambda done, total, label: seen.append((done, total, label)))
    size = repository.packages[f"linux-image-{RELEASE}"]["fields"]["Size"]  # type: ignore[index]
    label = f"downloading linux-image-{RELEASE}"
    assert [(done, total) for done, total, text in seen if text == label] == [
        (0, size),
        (size // 2, size),
        (size, size),
    ]
    assert seen[0][2] == "reading the package index"
    assert seen[-1][2] == "building the initramfs"


@posix
def test_what_is_there_and_whole_is_not_fetched_again(repository: Repository) -> None:
    fetch("linux")
    before = repository.calls()
    fetch("linux")
    assert repository.calls() == before
    fetch("linux", again=True)
    assert repository.calls() == before * 2


@posix
def test_a_damaged_cache_is_fetched_again(repository: Repository) -> None:
    guest = fetch("linux")
    assert guest.kernel is not None
    guest.kernel.write_bytes(b"rotten")
    assert fetch("linux").read_kernel() == KERNEL


@posix
def test_an_interrupted_fetch_goes_on_with_what_it_has(repository: Repository) -> None:
    def interrupted(done: int, total: int, label: str) -> None:
        if label == "downloading busybox-static":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("linux", interrupted)
    assert not catalogue.find("linux").available
    fetch("linux")
    downloads = [call for call in repository.calls() if call.startswith("apt-get download")]
    assert downloads == [f"apt-get download linux-image-{RELEASE}", "apt-get download busybox-static"]


@posix
def test_a_half_download_is_thrown_away(repository: Repository) -> None:
    place = cache_directory() / "apt" / "downloads"
    place.mkdir(parents=True)
    (place / f"linux-image-{RELEASE}_6.1.9-1_amd64.deb").write_bytes(b"!<arch>\nhalf")
    assert fetch("linux").available


@posix
def test_nothing_but_the_guest_stays_in_the_cache(repository: Repository) -> None:
    fetch("linux")
    files = sorted(path.name for path in cache_directory().rglob("*") if path.is_file())
    assert files == ["apt.lock", "initrd.gz", "linux.json", f"vmlinuz-{RELEASE}"]


@posix
def test_without_a_network_one_sentence_says_so(repository: Repository) -> None:
    repository.packages.clear()
    repository.write(offline=True)
    with pytest.raises(FetchFailed) as caught:
        fetch("linux")
    assert str(caught.value) == (
        "fetch: the package index could not be read (Temporary failure resolving 'deb.test');"
        " check the network connection and try again"
    )
    assert caught.value.exit_status == 1


@posix
def test_a_download_that_fails_says_why(repository: Repository) -> None:
    repository.write(offline=True)
    with pytest.raises(FetchFailed) as caught:
        fetch("linux")
    assert str(caught.value) == (
        f"fetch: linux-image-{RELEASE} could not be downloaded (Connection timed out);"
        " check the network connection and try again"
    )


@posix
def test_sources_without_a_kernel_are_the_systems_fault(repository: Repository) -> None:
    del repository.packages["linux-image-amd64"]
    repository.write()
    with pytest.raises(UnusableInput) as caught:
        fetch("linux")
    assert str(caught.value) == (
        "fetch: this system's package sources have no linux-image-amd64 or linux-image-virtual or"
        " linux-image-generic for amd64; add a kernel of yours with"
        " `vlab guests add vmlinuz --name linux --initrd initrd.gz`"
    )


def test_without_apt_the_way_to_add_a_kernel_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UnusableInput) as caught:
        fetch("linux")
    assert str(caught.value) == (
        "fetch: linux is made of Debian's or Ubuntu's packages and this computer has no apt-get; copy a"
        " kernel (/boot/vmlinuz-...) and an initrd from an x86-64 Linux and run"
        " `vlab guests add vmlinuz --name linux --initrd initrd.gz`"
    )
    assert caught.value.exit_status == 2


@posix
def test_an_unwritable_cache_is_told_before_anything_is_fetched(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UnusableInput, match=r"^cache: cannot write to .*; set VLAB_CACHE to a directory"):
        fetch("linux")
    assert not (repository.directory / "calls").exists()


def test_only_known_guests_are_fetched() -> None:
    with pytest.raises(UnusableInput) as caught:
        fetch("windows")
    assert str(caught.value) == "fetch: 'windows' is not a guest that is fetched; there is linux"


@posix
@pytest.mark.parametrize(
    ("name", "files", "text"),
    [
        (f"linux-image-{RELEASE}", {"boot/config": b""}, "does not hold the file that was expected in it"),
        (
            f"linux-image-{RELEASE}",
            {f"boot/vmlinuz-{RELEASE}": synthetic.bzimage(b"", name=b"5.0 (x)")},
            f"the kernel says it is 5.0, its package that it is {RELEASE}",
        ),
        (
            f"linux-image-{RELEASE}",
            {f"boot/vmlinuz-{RELEASE}": synthetic.boot_sector()},
            "the kernel package holds no bzImage",
        ),
        (f"linux-image-{RELEASE}", {f"boot/vmlinuz-{RELEASE}": KERNEL[:-100]}, "vmlinuz: is truncated"),
        ("busybox-static", {"bin/busybox": b"#!/bin/sh"}, "holds no program for x86-64"),
        (
            "busybox-static",
            {"bin/busybox": synthetic.elf(32, [Part(0x400000, b"x")])},
            "holds no program for x86-64",
        ),
    ],
)
def test_a_package_with_the_wrong_contents_is_refused(
    repository: Repository, name: str, files: dict[str, bytes], text: str
) -> None:
    repository.add(name, "9", package(files))
    with pytest.raises(FetchFailed, match=text):
        fetch("linux")
    assert not catalogue.find("linux").available


def test_a_dynamically_linked_busybox_is_refused() -> None:
    dynamic = bytearray(synthetic.elf(64, [Part(0x400000, b"code"), Part(0, b"/lib64/ld")]))
    dynamic[64 + 56] = 3  # PT_INTERP
    with pytest.raises(deb.BadPackage, match="the busybox package holds a dynamically linked program"):
        linux.check_busybox(bytes(dynamic))


@pytest.mark.parametrize("compression", ["", "gz", "xz", "zst"])
def test_packages_of_every_compression_are_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(package({"etc/motd": b"hi", "boot/vmlinuz-1": b"k" * 3_000_000}, compression))
    assert deb.extract(path, lambda name: name.startswith("boot/")) == ("boot/vmlinuz-1", b"k" * 3_000_000)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_without_a_zstd_library_dpkg_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(
        package({"boot/vmlinuz-1": b"kernel"}, "zst").replace(b"control.tar     ", b"control.tar.gz  ")
    )
    monkeypatch.setattr(zstd, "library", lambda: None)
    assert deb.extract(path, lambda name: name.startswith("boot/")) == ("boot/vmlinuz-1", b"kernel")


def test_without_any_way_to_read_zstd_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(package({}, "zst"))
    monkeypatch.setattr(zstd, "library", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(deb.BadPackage) as caught:
        deb.extract(path, lambda name: True)
    assert str(caught.value) == "x.deb is compressed with zstd; `pip install zstandard` lets vlab read it"


WHOLE = package({"a": b"a" * 5000})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "x.deb is damaged (it is not an ar archive)"),
        (b"!<arch>\n" + b"?" * 60, "x.deb is damaged (its ar header at byte 8 is not one)"),
        (b"!<arch>\n", "x.deb has no data archive"),
        (package({}, "lzo"), "x.deb is compressed as .lzo, which vlab does not read"),
        (WHOLE, "x.deb does not hold the file that was expected in it"),
    ],
)
def test_a_damaged_package_is_refused(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(data)
    with pytest.raises(deb.BadPackage) as caught:
        deb.extract(path, lambda name: False)
    assert str(caught.value) == text


@pytest.mark.parametrize("compression", ["", "gz", "xz", "zst"])
def test_a_package_cut_off_anywhere_is_refused(tmp_path: Path, compression: str) -> None:
    whole = package({"a": os.urandom(3000)}, compression)
    path = tmp_path / "x.deb"
    for size in range(0, len(whole) - 12, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(deb.BadPackage):
            deb.extract(path, lambda name: False)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", ""),
        ("Get:1 http://x\nE: Unable to locate package y\n", "Unable to locate package y"),
        ("W: Failed to fetch http://x/y  404  Not Found [IP: 1.2.3.4]\n", "404  Not Found [IP: 1.2.3.4]"),
    ],
)
def test_apts_own_reason_is_passed_on(output: str, reason: str) -> None:
    assert apt._first_error(output) == reason


@pytest.mark.network
@pytest.mark.skipif(not apt.is_here(), reason="needs apt")
def test_the_distributions_kernel_is_fetched_as_an_ordinary_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLAB_CACHE", str(tmp_path / "a cache"))
    monkeypatch.setenv("VLAB_DATA", str(tmp_path / "data"))
    guest = fetch("linux")
    initrd = guest.read_initrd()
    memory = memoryview(bytearray(guest.memory_default))
    loaded = loaders.load(guest.read_kernel(), memory, cmdline=guest.cmdline, initrd=initrd)
    assert loaded.notes == ()
    assert "64-bit entry)" in loaded.description
    assert index.fetched("linux") is not None
