# The RAM disk: the files that are there from the start. They are part of the kernel's image, so that reading them needs
# no driver; the table of their names, places and sizes is what a directory on a disk would be (files.c).

        .intel_syntax noprefix
        .globl  ramdisk

        .macro  FILE name, source
        .section .rodata.content, "a"
        .balign 4
8:      .incbin "\source"
9:
        .section .rodata.directory, "a"
7:      .ascii  "\name"
        .skip   16 - (. - 7b)           # NAME_SIZE
        .long   8b, 9b - 8b
        .endm

        .macro  TEXT name, text
        .section .rodata.content, "a"
        .balign 4
8:      .ascii  "\text"
9:
        .section .rodata.directory, "a"
7:      .ascii  "\name"
        .skip   16 - (. - 7b)
        .long   8b, 9b - 8b
        .endm

        .section .rodata.directory, "a"
        .balign 4
ramdisk:
        FILE    "sh", "sh.elf"
        FILE    "ls", "ls.elf"
        FILE    "cat", "cat.elf"
        FILE    "echo", "echo.elf"
        FILE    "ps", "ps.elf"
        FILE    "rm", "rm.elf"
        FILE    "wc", "wc.elf"
        FILE    "sum", "sum.elf"
        FILE    "kill", "kill.elf"
        FILE    "sleep", "sleep.elf"
        FILE    "forkwait", "forkwait.elf"
        FILE    "bench", "bench.elf"
        FILE    "selftest", "selftest.elf"
        TEXT    "welcome", "wren: a small kernel, written to be read.\nType ls to see its programs.\n"
        .section .rodata.directory, "a"
        .skip   24                      # an empty name ends the table
