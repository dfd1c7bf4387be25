# Where the Multiboot loader enters.

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start

        .text
start:
        cli
        cld
        mov     esp, offset stack_top
        push    ebx                     # the Multiboot information
        call    kernel_main

        .bss
        .balign 16
        .skip   16384
stack_top:
