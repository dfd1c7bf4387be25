"""Where the loaders put what they add to a guest: everything sits in the last 60 KiB below the EBDA.

=================  ======================================================================================
guest-physical     contents
=================  ======================================================================================
0x00000-0x00FFF    left alone: interrupt vectors and BIOS data area (the firmware's)
0x90000-0x90FFF    Linux's zero page (struct boot_params)
0x91000-0x91FFF    the command line, NUL at its end
0x92000-0x92FFF    GDT with BOOT_CS and BOOT_DS
0x93000-0x93FFF    a first stack; it grows down from 0x94000
0x94000-0x99FFF    page tables for 64-bit starts: PML4, PDPT, four page directories (low 4 GiB, 2 MiB pages)
0x9A000-0x9BFFF    Multiboot information with its memory map and module list
0x9F000-0x9FFFF    left alone: EBDA (the firmware's)
0xA0000-0xFFFFF    left alone: video memory, ROMs, MP and ACPI tables
=================  ======================================================================================

A Linux kernel entered in real mode (boot protocol before 2.08) has its real-mode part at 0x90000 instead,
with its heap and stack above and its command line at 0x9E000, as its own boot loaders had it.
"""

from __future__ import annotations

PAGE = 0x1000

ZERO_PAGE = 0x90000
COMMAND_LINE = 0x91000
GDT = 0x92000
STACK_TOP = 0x94000
PML4 = 0x94000
PDPT = 0x95000
PAGE_DIRECTORIES = 0x96000
MULTIBOOT_INFO = 0x9A000
MULTIBOOT_INFO_SIZE = 0x2000

REAL_MODE_CODE = 0x90000
REAL_MODE_COMMAND_LINE = 0x9E000
LOW_KERNEL = 0x10000
"""Where a zImage's protected-mode part goes; its setup code moves it on."""

LOW_START = 0x1000
"""First byte below 1 MiB that may be loaded to."""
EBDA = 0x9F000
"""End of the memory below 1 MiB that may be loaded to."""
ROM_AREA = 0xE0000
HIGH_MEMORY = 0x100000
IO_APIC = 0xFEC00000
LOCAL_APIC = 0xFEE00000
ROM = 0xFFFF0000
"""Where the processor finds the firmware after a reset."""
ROM_SIZE = 0x10000

MEMORY_MINIMUM = 2 << 20
MEMORY_MAXIMUM = 3 << 30

BOOT_CS = 0x10
"""Selector of the flat code segment in the GDT above (boot protocol: __BOOT_CS)."""
BOOT_DS = 0x18
"""Selector of the flat data segment in the GDT above (boot protocol: __BOOT_DS)."""
