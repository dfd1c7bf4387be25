"""A Linux guest from the distribution's packages: its newest kernel and its static busybox."""

from __future__ import annotations

import re
import shutil

from vlab.errors import UnusableImage, UnusableInput
from vlab.guests import index, initramfs, store
from vlab.guests.fetch import deb
from vlab.guests.fetch.apt import Apt, FetchFailed, Package, Progress, is_here
from vlab.guests.fetch.lock import locked
from vlab.guests.loaders import Kind, boot_params, elf, identify
from vlab.paths import cache_directory

KERNELS = ("linux-image-amd64", "linux-image-virtual", "linux-image-generic")
"""Packages that depend on the newest kernel: Debian's, then Ubuntu's."""
BUSYBOX = "busybox-static"

_NO_APT = (
    "fetch: linux is made of Debian's or Ubuntu's packages and this computer has no apt-get; copy a kernel"
    " (/boot/vmlinuz-...) and an initrd from an x86-64 Linux and run"
    " `vlab guests add vmlinuz --name linux --initrd initrd.gz`"
)


def fetch_linux(progress: Progress) -> None:
    """Put kernel and initramfs into the cache and enter them in the catalogue.

    Raises UnusableInput where there is no apt, no such package or no writable cache, and FetchFailed when the
    network does not do its part or a package does not hold what it should. What was downloaded before an
    interruption is used by the next call.
    """
    if not is_here():
        raise UnusableInput(_NO_APT)
    directory = cache_directory() / "apt"
    waiting = "waiting for another fetch"
    with locked(store.make_directory(directory), lambda: progress(0, 0, waiting)) as waited:
        if waited and index.fetched("linux") is not None:
            return
        apt = Apt(directory)
        apt.update(progress)
        image = _kernel_package(apt)
        busybox = apt.require((BUSYBOX,))
        kernel = _kernel(apt, image, progress)
        shell = _busybox(apt, busybox, progress)
        index.record_fetched("linux", kernel, store.put("initrd.gz", initramfs.busybox_initramfs(shell)))
        shutil.rmtree(directory, ignore_errors=True)


def _kernel_package(apt: Apt) -> Package:
    newest = apt.require(KERNELS)
    found = re.search(r"\blinux-image-[0-9][^\s,(|]*", newest.depends)
    if found is None:
        raise UnusableInput(f"fetch: {newest.name} {newest.version} does not say which kernel it is for")
    return apt.require((found[0],))


def _kernel(apt: Apt, package: Package, progress: Progress) -> store.Entry:
    release = package.name.removeprefix("linux-image-")
    file = apt.download(package, progress)
    progress(0, 0, f"unpacking {package.name}")
    try:
        path, image = deb.extract(file, lambda name: name.startswith("boot/vmlinuz-"))
        check_kernel(image, release)
    except (deb.BadPackage, UnusableImage) as error:
        file.unlink(missing_ok=True)
        raise FetchFailed(f"fetch: {error}; try again") from None
    return store.put(path.rsplit("/", 1)[-1], image)


def _busybox(apt: Apt, package: Package, progress: Progress) -> bytes:
    file = apt.download(package, progress)
    progress(0, 0, "building the initramfs")
    try:
        _, program = deb.extract(file, lambda name: name in ("bin/busybox", "usr/bin/busybox"))
        check_busybox(program)
    except (deb.BadPackage, UnusableImage) as error:
        file.unlink(missing_ok=True)
        raise FetchFailed(f"fetch: {error}; try again") from None
    return program


def check_kernel(image: bytes, release: str) -> None:
    """Raise BadPackage or UnusableImage unless `image` is a whole bzImage of that release."""
    if identify(image, "vmlinuz") is not Kind.LINUX or image.startswith(elf.MAGIC):
        raise deb.BadPackage("the kernel package holds no bzImage")
    header = boot_params.parse(image, "vmlinuz")
    if header.kernel_version != release:
        raise deb.BadPackage(
            f"the kernel says it is {header.kernel_version}, its package that it is {release}"
        )


def check_busybox(program: bytes) -> None:
    """Raise BadPackage or UnusableImage unless `program` is a static x86-64 ELF executable."""
    if not elf.is_loadable(program) or elf.parse(program, "busybox").bits != 64:
        raise deb.BadPackage("the busybox package holds no program for x86-64")
    if elf.parse(program, "busybox").interpreter:
        raise deb.BadPackage("the busybox package holds a dynamically linked program")
