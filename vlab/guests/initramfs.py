"""An initial RAM file system for Linux, written in pure Python.

Linux unpacks a *cpio* archive in the "newc" format into its root file system and runs ``/init`` from it
(Linux documentation, driver-api/early-userspace/buffer-format). Nothing here needs root: device nodes and
owners are only numbers in the archive. The bytes depend on the input alone (no clock, no inode numbers of
the host), so the same busybox gives the same archive everywhere.
"""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass

MARKER = "vlab: userspace reached"
"""The line that ``/init`` prints when the kernel has handed over to user space."""

PROMPT = "# "
"""The prompt of the shell on the console."""

_NAMES = """
[ arch ash awk base64 basename cat chmod chown chroot clear cmp cp cut date dc dd devmem df dirname
dmesg du echo egrep env expr false fdisk fgrep find free getopt grep gunzip gzip halt head hexdump
hostname id ifconfig insmod ip kill killall less ln logger ls lsmod md5sum mkdir mkfifo mknod mktemp
modprobe more mount mv nc netstat nproc od pidof ping poweroff printf ps pwd readlink realpath
reboot renice reset rm rmdir rmmod route sed seq setsid sh sha256sum sleep sort stat strings stty
switch_root sync sysctl tail tar taskset tee test time timeout top touch tr true tty umount uname
uniq uptime usleep vi watch wc which who xargs xxd yes zcat
"""

APPLETS = tuple(_NAMES.split())
"""The busybox commands that get a name in ``/bin``."""

_INIT = f"""#!/bin/sh
export PATH=/bin:/sbin HOME=/root TERM=vt100 PS1='{PROMPT}'
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
cd /root
echo '{MARKER}'
while :; do
    setsid cttyhack sh
done
"""

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive: its path without the leading slash, type and permissions, and contents."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, permissions: int = 0o755) -> Entry:
    """Return a directory; its parents need entries of their own, before it."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file that holds `data`."""
    return Entry(path, stat.S_IFREG | permissions, data)


def symlink(path: str, target: str) -> Entry:
    """Return a symbolic link to `target`."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """Return a character device node (Linux documentation, admin-guide/devices.txt, has the numbers)."""
    return Entry(path, stat.S_IFCHR | permissions, b"", (major, minor))


def cpio(entries: list[Entry]) -> bytes:
    """Write `entries` as a newc archive.

    Raises ValueError when a path is absolute, empty or given twice.
    """
    seen: set[str] = set()
    archive = bytearray()
    for inode, entry in enumerate(entries, start=1):
        if not entry.path or entry.path.startswith("/"):
            raise ValueError(
                f"entry path {entry.path!r}: give a path relative to the root, such as 'dev/null'"
            )
        if entry.path in seen:
            raise ValueError(f"entry path {entry.path!r} is given twice: an archive holds each path once")
        seen.add(entry.path)
        _append(archive, entry, inode)
    _append(archive, Entry(_TRAILER, 0), 0)
    return bytes(archive)


def _append(archive: bytearray, entry: Entry, inode: int) -> None:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    # inode mode uid gid links mtime size, device it is on, device it is, length of the name, checksum
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    archive += b"070701" + b"".join(b"%08X" % value for value in fields)
    archive += name
    _pad(archive)
    archive += entry.data
    _pad(archive)


def _pad(archive: bytearray) -> None:
    archive += bytes(-len(archive) % 4)


def busybox_initramfs(busybox: bytes) -> bytes:
    """Return a gzip-compressed initramfs around a statically linked `busybox`.

    ``/init`` mounts proc, sysfs, devtmpfs and a tmpfs on ``/tmp``, prints `MARKER` and keeps an interactive
    shell with the prompt `PROMPT` on the console (with job control: Ctrl-C reaches the running command).
    """
    entries = [directory(path) for path in ("bin", "dev", "etc", "proc", "root", "sys")]
    entries += [
        directory("tmp", 0o1777),
        symlink("sbin", "bin"),
        character_device("dev/console", 5, 1),
        character_device("dev/null", 1, 3, 0o666),
        character_device("dev/ttyS0", 4, 64),
        file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n"),
        file("etc/group", b"root:x:0:\n"),
        file("init", _INIT.encode(), 0o755),
        file("bin/busybox", busybox, 0o755),
    ]
    entries += [symlink(f"bin/{applet}", "busybox") for applet in APPLETS]
    return gzip.compress(cpio(entries), compresslevel=9, mtime=0)
