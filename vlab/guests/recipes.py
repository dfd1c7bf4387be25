"""How each bundled image is made: the table that `vlab.guests.rebuild` works through.

A recipe is data. The compiler's flags, the linker's scripts and the order of the files are all here, since
the bytes of an image depend on nothing else: no time stamps, no paths, no build identifiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GUESTS = Path(__file__).parent
SOURCES = GUESTS / "sources"
LIBRARY = SOURCES / "lib"
IMAGES = GUESTS / "images"
FIRMWARE = GUESTS / "firmware"

COMMON_FLAGS = (
    "-std=gnu11 -ffreestanding -nostdinc -fno-pic -fno-pie -masm=intel -fno-ident -g0 "
    "-fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables -fcf-protection=none "
    "-mgeneral-regs-only -fno-jump-tables -fno-strict-aliasing -fno-tree-loop-distribute-patterns "
    "-Wall -Wextra -Werror -Wno-array-bounds"
)
"""Freestanding code in registers of the integer unit alone. Address 0 is a place like any other here, hence
-Wno-array-bounds."""

LINK_FLAGS = "-z noexecstack -z max-page-size=4096 --build-id=none --discard-all --no-warn-rwx-segments"

MODE_FLAGS = {
    16: "-m16 -march=i386 -Os -mno-push-args -maccumulate-outgoing-args",
    32: "-m32 -march=i586 -O1",
    64: "-m64 -march=x86-64 -mno-red-zone -mcmodel=small -O1",
}
"""Flags by the width of the code, bits. 16-bit code pushes no arguments: GNU as 2.40 makes wrong code of
gcc's `push OFFSET FLAT:symbol` in Intel syntax there."""

LINK_EMULATION = {16: "elf_i386", 32: "elf_i386", 64: "elf_x86_64"}
"""What `ld -m` is told, by the width of the code, bits."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: sources in link order, relative to `directory`; `bits` is the width of the compiled C code.

    `script` is the linker script, relative to `directory`. `format` is what objcopy makes of the linked file:
    `binary`, or an ELF name. `parts` are images made first, for the sources to take in with `.incbin`.
    `defines` are names that the preprocessor knows.
    """

    name: str
    directory: Path
    sources: tuple[str, ...]
    bits: int
    script: str
    format: str
    output: Path
    parts: tuple[Recipe, ...] = ()
    defines: tuple[str, ...] = ()

    def inputs(self) -> list[Path]:
        """Every file that the image's bytes depend on, in an order that no place of the checkout changes."""
        found = {path for path in self.directory.iterdir() if path.suffix in SOURCE_SUFFIXES}
        if self.directory != FIRMWARE:
            found |= {path for path in LIBRARY.iterdir() if path.suffix in SOURCE_SUFFIXES}
        for part in self.parts:
            found |= set(part.inputs())
        return sorted(found, key=lambda path: (path.parent.name, path.name))


SOURCE_SUFFIXES = frozenset({".c", ".h", ".S", ".inc", ".ld"})
"""What counts as source, in an image's directory and in the library."""

_TRAPS = ("../lib/trap64.c", "../lib/trap64_entry.S")
_CONSOLE = ("../lib/console.c", "../lib/memory.c")


def _boot_sector(name: str) -> Recipe:
    script = "../lib/bootsector.ld"
    return Recipe(name, SOURCES / name, (f"{name}.S",), 16, script, "binary", IMAGES / f"{name}.img")


def _multiboot(name: str, *sources: str, bits: int = 32, parts: tuple[Recipe, ...] = ()) -> Recipe:
    script = "../lib/multiboot.ld"
    return Recipe(name, SOURCES / name, sources, bits, script, "elf32-i386", IMAGES / f"{name}.elf", parts)


_SELFTEST_64 = Recipe(
    "selftest64",
    SOURCES / "selftest" / "long",
    (
        *("entry.S", "main64.c", "tables64.c", "actions64.S", "test_exceptions64.c", "test_rings64.c"),
        *("test_paging64.c", "test_syscall64.c", "syscall64.S", "test_modes64.c", "../check.c"),
        *("../../lib/trap64.c", "../../lib/trap64_entry.S", "../../lib/console.c", "../../lib/memory.c"),
    ),
    64,
    "long.ld",
    "binary",
    IMAGES / "selftest64.bin",
)
"""Not an image of its own: the selftest takes it in."""

_SELFTEST = (
    *("entry.S", "main.c", "check.c", "tables.c", "trap32.c", "trap32_entry.S", "actions.S", "timer.c"),
    *("test_processor.c", "test_exceptions.c", "test_rings.c", "rings.S", "test_gates16.c", "gates16.S"),
    *("test_tasks.c", "tasks.S", "test_ports.c", "test_sysenter.c", "sysenter.S", "test_v86.c", "v86.S"),
    *("test_real.c", "real.S", "test_paging.c", "test_interrupts.c", "irq.S", "test_apic.c"),
    *("test_long.c", "long_image.S"),
)

_WREN = SOURCES / "wren"
_WREN_PROGRAMS = "sh ls cat echo ps rm wc sum kill sleep forkwait bench selftest"
_WREN_KERNEL = (
    *("boot.S", "main.c", "entry.S", "traps.c", "memory.c", "paging.c", "process.c", "exec.c", "timer.c"),
    *("syscalls.c", "files.c", "disk.c", "ramdisk.S", "pipe.c", "console.c", "format.c", "check.c"),
    "bench.c",
    "../lib/memory.c",
)
"""The kernel's files that speak to the processor through cpu.h alone."""


_WREN_TESTS = ("test_process.c", "test_memory.c", "test_files.c", "test_protection.c")


def _wren_program(name: str) -> Recipe:
    own = (f"{name}.c", *(_WREN_TESTS if name == "selftest" else ()))
    sources = ("start.S", *own, "library.c", "../format.c", "../../lib/memory.c")
    output = IMAGES / f"{name}.elf"
    return Recipe(f"wren-{name}", _WREN / "user", sources, 32, "user.ld", "elf32-i386", output)


def _wren_kernel(name: str, form: str, output: str, *sources: str, defines: tuple[str, ...] = ()) -> Recipe:
    programs = tuple(_wren_program(program) for program in _WREN_PROGRAMS.split())
    files = (*_WREN_KERNEL, *sources)
    return Recipe(name, _WREN, files, 32, "kernel.ld", form, IMAGES / output, programs, defines)


_WREN_NATIVE = ("tables.c", "devices.c", "ata.c")
_WREN_BINARY = _wren_kernel("wren-kernel", "binary", "wren-kernel.bin", *_WREN_NATIVE)
"""The same bytes as in memory, for the disk to take in."""

_ROM_PARTS = "post fault serial vga video keyboard keymap disk clock system boot"
_ROM_SOURCES = ("entry.S", *(f"{part}.c" for part in _ROM_PARTS.split()))

RECIPES: tuple[Recipe, ...] = (
    Recipe("firmware", FIRMWARE, _ROM_SOURCES, 16, "rom.ld", "binary", FIRMWARE / "firmware.rom"),
    _boot_sector("hello"),
    _multiboot("tripfault", "tripfault.S"),
    _multiboot("spin", "spin.S"),
    _multiboot("rings", "entry.S", "kernel.c", "tables.c", "user.S", *_CONSOLE),
    _multiboot(
        "longmode",
        *("entry.S", "main.c", "tables.c", "walk.c", "faults.c", "user.S"),
        *_TRAPS,
        *_CONSOLE,
        bits=64,
    ),
    _multiboot("sweep", "entry.S", "main.c", "options.c", "window.c", *_CONSOLE, bits=64),
    _multiboot("selftest", *_SELFTEST, *_CONSOLE, parts=(_SELFTEST_64,)),
    _wren_kernel("wren", "elf32-i386", "wren.elf", *_WREN_NATIVE),
    _wren_kernel("wren-paravirt", "elf32-i386", "wren-paravirt.elf", "paravirt.c", defines=("PARAVIRT",)),
    Recipe("wren-disk", _WREN, ("sector.S",), 16, "disk.ld", "binary", IMAGES / "wren.img", (_WREN_BINARY,)),
)
"""Every bundled image, the firmware included."""
