# What runs in virtual-8086 mode. Every piece ends in INT VECTOR_DONE.

#include "segments.h"
#include "v86.h"

        .intel_syntax noprefix
        .globl  v86_code, v86_code_end

        .macro  PIECE name, instruction:vararg
        .globl  v86_\name, v86_at_\name, v86_after_\name
v86_\name:
v86_at_\name:
        \instruction
v86_after_\name:
        int     VECTOR_DONE
        .endm

        .text
        .balign 16
        .code16
v86_code:
        PIECE   int_done, int VECTOR_DONE
        PIECE   int_kernel, int VECTOR_KERNEL
        PIECE   int3, int3
        PIECE   cli, cli
        PIECE   sti, sti
        PIECE   pushf, pushf
        PIECE   popf, popf
        PIECE   iret, iret
        PIECE   hlt, hlt
        PIECE   in, in al, dx
        PIECE   ud2, ud2
        PIECE   mov_cr0, mov eax, cr0
        PIECE   lgdt, lgdt [bp]
        PIECE   lldt, lldt ax
        PIECE   divide, div cl
        PIECE   store, mov word ptr es:[0x10], 0x8086
        PIECE   spin, jmp v86_at_spin
v86_code_end:
