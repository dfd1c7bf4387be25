"""Loaders: from the bytes of an image to a guest in memory and the processor's state to start it with.

`load` finds out what an image is (`detect`) and calls the loader for it. `layout` lists what a loader adds to
the guest's memory.
"""

from __future__ import annotations

from vlab.errors import UnusableImage
from vlab.guests.loaders import bootsector, detect, elf, linux, multiboot
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam

__all__ = ["Kind", "Loaded", "identify", "load"]

_LOADERS = {
    Kind.BOOT_SECTOR: bootsector.load,
    Kind.MULTIBOOT: multiboot.load,
    Kind.ELF32: elf.load,
    Kind.ELF64: elf.load,
    Kind.LINUX: linux.load,
}


def identify(image: bytes, name: str = "the image") -> Kind:
    """Return what kind of guest `image` is, from its headers alone.

    Raises UnusableImage, saying what the file starts with and what is accepted, when no loader takes it.
    """
    kind = detect.kind_of(image)
    if kind is None:
        raise UnusableImage(f"{name} starts with {detect.describe_start(image)}; {detect.ACCEPTED}")
    return kind


def load(
    image: bytes,
    memory: memoryview,
    *,
    cmdline: str = "",
    initrd: bytes | None = None,
    disk: bytes | None = None,
    name: str = "the image",
) -> Loaded:
    """Load a guest into `memory` and return how to start it.

    `memory` is the guest's RAM from guest-physical address 0, writable, in bytes, 2 MiB to 3 GiB long; only
    RAM below 0x9F000 and from 1 MiB is written to. `cmdline`, `initrd` and `disk` (the contents of a raw
    disk) go to guests that take them. `name` is what messages call the image.

    Raises UnusableImage when the image is of no known kind, damaged, or too large for the memory, and
    UnusableInput when another argument does not suit this image. Memory may then be partly written.
    """
    loader = _LOADERS[identify(image, name)]
    return loader(GuestRam(memory.cast("B"), name), image, cmdline=cmdline, initrd=initrd, disk=disk)
