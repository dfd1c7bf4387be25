"""ELF images for x86: loaded at the physical addresses of their program headers.

Format: System V ABI, edition 4.1, chapter 5, and its AMD64 supplement. An image starts as follows.

- 32-bit: protected mode without paging, flat segments (`starts.flat32`).
- 64-bit: long mode over tables that map the low 4 GiB to themselves (`starts.long64`).

RDI (EDI) holds the guest-physical address of the command line, NUL at its end, or 0 when there is none.
Interrupts are off, the stack is 4 KiB, and no firmware has run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from vlab.errors import UnusableImage, UnusableInput
from vlab.guests.loaders import command_line, starts
from vlab.guests.loaders.loaded import Kind, Loaded
from vlab.guests.loaders.ram import GuestRam

MAGIC = b"\x7fELF"
CLASS_OFFSET = 4
CLASS_32, CLASS_64 = 1, 2

_HEADER_32 = struct.Struct("<16sHHIIIIIHHHHHH")
_HEADER_64 = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_32 = struct.Struct("<8I")
_PROGRAM_64 = struct.Struct("<IIQQQQQQ")
_TYPES = {0: "no type", 1: "relocatable (an object file)", 2: "executable", 3: "shared", 4: "a core dump"}
_EXECUTABLE, _SHARED = 2, 3
_I386, _X86_64 = 3, 62
_MACHINES = {2: "SPARC", 8: "MIPS", 20: "PowerPC", 21: "PowerPC 64", 22: "S/390", 40: "Arm", 50: "IA-64"} | {
    _I386: "x86",
    _X86_64: "x86-64",
    183: "Arm 64",
    243: "RISC-V",
    258: "LoongArch",
}
_LOAD, _INTERPRETER = 1, 3
_SEGMENTS_MAXIMUM = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header: `file_size` bytes at `offset` go to `physical`, zeros up to `memory_size`."""

    offset: int
    physical: int
    virtual: int
    file_size: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class Elf:
    """What a loader needs of an ELF header: class (32 or 64), entry point as linked, segments.

    `interpreter` tells whether the file names a dynamic linker, as programs for an operating system do.
    """

    bits: int
    entry: int
    segments: tuple[Segment, ...]
    interpreter: bool = False

    @property
    def end(self) -> int:
        """The first guest-physical address after all segments."""
        return max(segment.physical + segment.memory_size for segment in self.segments)

    @property
    def file_end(self) -> int:
        """How many bytes of the file the segments need."""
        return max(segment.offset + segment.file_size for segment in self.segments)


def is_loadable(image: bytes | memoryview) -> bool:
    """Tell whether `image` starts with the header of a little-endian x86 executable."""
    if bytes(image[:4]) != MAGIC or len(image) < 20 or image[CLASS_OFFSET] not in (CLASS_32, CLASS_64):
        return False
    kind, machine = struct.unpack_from("<HH", image, 16)
    return image[5] == 1 and kind in (_EXECUTABLE, _SHARED) and machine in (_I386, _X86_64)


def describe(image: bytes) -> str:
    """Say which ELF file `image` is, for one that is not loadable."""
    if len(image) < 20:
        return "an ELF header that is cut off"
    order = "<" if image[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", image, 16)
    form = _TYPES.get(kind, f"type {kind}")
    return f"an ELF file for {_MACHINES.get(machine, f'machine {machine}')}, {form}"


def parse(image: bytes | memoryview, name: str) -> Elf:
    """Read the ELF and program headers of `image` (its first bytes are enough) and check them.

    Raises UnusableImage when headers are missing or contradict themselves; `name` is the image in messages.
    """
    wide = image[CLASS_OFFSET] == CLASS_64
    header, program = (_HEADER_64, _PROGRAM_64) if wide else (_HEADER_32, _PROGRAM_32)
    _need(image, header.size, name)
    fields = header.unpack_from(image)
    entry, table, entry_size, count = fields[4], fields[5], fields[9], fields[10]
    if entry_size != program.size or count > _SEGMENTS_MAXIMUM:
        raise UnusableImage(
            f"{name}: its ELF header has {count} program headers of {entry_size} bytes;"
            f" expected at most {_SEGMENTS_MAXIMUM} of {program.size}"
        )
    _need(image, table + count * entry_size, name)
    headers = list(program.iter_unpack(image[table : table + count * entry_size]))
    segments = [_segment(fields, wide, name) for fields in headers if fields[0] == _LOAD]
    filled = tuple(segment for segment in segments if segment.memory_size)
    if not filled:
        raise UnusableImage(f"{name}: its ELF header has nothing to load (no PT_LOAD program header)")
    return Elf(64 if wide else 32, entry, filled, any(fields[0] == _INTERPRETER for fields in headers))


def _need(image: bytes | memoryview, size: int, name: str) -> None:
    if size > len(image):
        raise UnusableImage(
            f"{name}: is truncated: its ELF headers take {size} bytes, and {len(image)} are there"
        )


def _segment(fields: tuple[int, ...], wide: bool, name: str) -> Segment:
    """Make a Segment of a program header, whose fields stand in another order in each class."""
    if wide:
        _, _, offset, virtual, physical, file_size, memory_size, _ = fields
    else:
        _, offset, virtual, physical, file_size, memory_size, _, _ = fields
    if file_size > memory_size:
        raise UnusableImage(
            f"{name}: an ELF segment at {physical:#x} has {file_size} bytes in the file"
            f" for {memory_size} in memory"
        )
    return Segment(offset, physical, virtual, file_size, memory_size)


def entry_address(elf: Elf, name: str) -> int:
    """Return the guest-physical address of the entry point, which may be linked as a virtual one.

    Raises UnusableImage when it lies in no segment.
    """
    for segment in elf.segments:
        if segment.physical <= elf.entry < segment.physical + segment.memory_size:
            return elf.entry
    for segment in elf.segments:
        if segment.virtual <= elf.entry < segment.virtual + segment.memory_size:
            return elf.entry - segment.virtual + segment.physical
    raise UnusableImage(f"{name}: its ELF entry point {elf.entry:#x} lies in none of its segments")


def claim_segments(ram: GuestRam, elf: Elf, what: str) -> None:
    """Take the memory of all segments, after checking that the guest has that much."""
    for segment in elf.segments:
        ram.claim(segment.physical, segment.memory_size, what)


def scatter(chunks: Iterable[bytes | memoryview], elf: Elf, ram: GuestRam) -> int:
    """Clear what the claimed segments have beyond the file, and copy a file that arrives in `chunks` to them.

    Returns how many bytes have arrived. Nothing is kept, so an image of any size costs one chunk of memory.
    """
    for segment in elf.segments:
        ram.zero(segment.physical + segment.file_size, segment.memory_size - segment.file_size)
    position = 0
    for chunk in chunks:
        end = position + len(chunk)
        for segment in elf.segments:
            first = max(position, segment.offset)
            last = min(end, segment.offset + segment.file_size)
            if first < last:
                part = memoryview(chunk)[first - position : last - position]
                ram.fill(segment.physical + first - segment.offset, part)
        position = end
    return position


def load_segments(ram: GuestRam, image: bytes, what: str) -> Elf:
    """Load a whole ELF file into guest memory and return its headers.

    Raises UnusableImage when the file is shorter than its headers say or does not fit into memory.
    """
    elf = parse(image, ram.name)
    if elf.interpreter:
        raise UnusableImage(
            f"{ram.name}: is a program for an operating system (it names a dynamic linker), not a kernel;"
            " link it with -static -nostdlib"
        )
    if elf.file_end > len(image):
        raise UnusableImage(
            f"{ram.name}: is truncated: its ELF headers promise {elf.file_end} bytes,"
            f" the file has {len(image)}"
        )
    claim_segments(ram, elf, what)
    scatter([image], elf, ram)
    return elf


def load(ram: GuestRam, image: bytes, *, cmdline: str, initrd: bytes | None, disk: bytes | None) -> Loaded:
    """Load an ELF guest that needs no protocol of its own; see the module's text for how it starts."""
    if initrd is not None:
        raise UnusableInput(
            f"initrd: {ram.name} is a plain ELF image, which takes none;"
            " leave it out, or give the image a Multiboot header"
        )
    elf = load_segments(ram, image, "the ELF image")
    entry = entry_address(elf, ram.name)
    state = starts.long64(ram, entry) if elf.bits == 64 else starts.flat32(ram, entry)
    if cmdline:
        state.rdi = command_line.write(ram, cmdline)
    kind = Kind.ELF64 if elf.bits == 64 else Kind.ELF32
    return Loaded(kind, state, f"ELF, {elf.bits}-bit, entry {entry:#x}", disk=disk)
