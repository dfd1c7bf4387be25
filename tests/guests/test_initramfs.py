"""The initramfs: a newc archive as Linux reads it, the same bytes everywhere."""

from __future__ import annotations

import gzip
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.guests import initramfs

BUSYBOX = b"\x7fELF not really a program"


def _read(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Read a newc archive: path to mode, data and device."""
    found = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, check = fields
        assert (uid, gid, mtime, check) == (0, 0, 0, 0)
        name_end = position + 110 + name_size
        name = archive[position + 110 : name_end]
        assert name.endswith(b"\0")
        start = (name_end + 3) & ~3
        path = name[:-1].decode()
        if path == "TRAILER!!!":
            assert (start + 3) & ~3 == len(archive)
            return found
        found[path] = (mode, archive[start : start + size], (major, minor))
        position = (start + size + 3) & ~3


def _busybox_files() -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    return _read(gzip.decompress(initramfs.busybox_initramfs(BUSYBOX)))


def test_the_archive_holds_init_busybox_and_its_names() -> None:
    files = _busybox_files()
    assert files["init"][0] == stat.S_IFREG | 0o755
    assert files["bin/busybox"] == (stat.S_IFREG | 0o755, BUSYBOX, (0, 0))
    for applet in ("sh", "ls", "cat", "uname", "poweroff", "reboot"):
        assert files[f"bin/{applet}"] == (stat.S_IFLNK | 0o777, b"busybox", (0, 0))


def test_device_nodes_need_no_root() -> None:
    files = _busybox_files()
    assert files["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert files["dev/null"] == (stat.S_IFCHR | 0o666, b"", (1, 3))
    assert files["dev/ttyS0"] == (stat.S_IFCHR | 0o600, b"", (4, 64))


def test_directories_come_before_what_is_in_them() -> None:
    paths = list(_busybox_files())
    for path in paths:
        if "/" in path:
            assert paths.index(path.rsplit("/", 1)[0]) < paths.index(path)


def test_init_says_that_user_space_is_reached_and_sets_the_prompt() -> None:
    script = _busybox_files()["init"][1].decode()
    assert script.startswith("#!/bin/sh\n")
    assert f"echo '{initramfs.MARKER}'" in script
    assert "PS1='# '" in script
    assert "setsid cttyhack sh" in script


def test_the_same_busybox_gives_the_same_bytes() -> None:
    first = initramfs.busybox_initramfs(BUSYBOX)
    assert first == initramfs.busybox_initramfs(BUSYBOX)
    assert struct.unpack_from("<I", first, 4)[0] == 0  # gzip's time stamp


@pytest.mark.parametrize("path", ["", "/init"])
def test_a_path_that_is_not_relative_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="give a path relative to the root"):
        initramfs.cpio([initramfs.file(path, b"")])


def test_a_path_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="entry path 'a' is given twice"):
        initramfs.cpio([initramfs.file("a", b""), initramfs.directory("a")])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=9), st.binary(max_size=9), max_size=6))
def test_any_files_come_back_from_the_archive(files: dict[str, bytes]) -> None:
    entries = [initramfs.file(path, data) for path, data in files.items()]
    assert {path: data for path, (_, data, _) in _read(initramfs.cpio(entries)).items()} == files
