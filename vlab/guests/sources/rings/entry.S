# Every way into ring 0 and every way out of it, in one place.

#include "segments.h"

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, gate_gp, gate_syscall, gate_unexpected, sysenter_entry, enter_ring3

        .text
start:
        cli
        cld
        mov     esp, offset kernel_stack_top
        call    kernel_main

# ---- Into ring 0 -----------------------------------------------------------------------------------
#
# The processor has switched to the stack that the TSS names for ring 0 and pushed SS, ESP, EFLAGS, CS and
# EIP of the interrupted code (APM2 8.7.3); for some exceptions an error code too. The gates below make one
# `struct frame` of all cases (kernel.h), and one way back.

gate_gp:                                # #GP pushes an error code
        push    VECTOR_GP
        jmp     common
gate_syscall:                           # INT 80h does not: push a zero in its place
        push    0
        push    VECTOR_SYSCALL
        jmp     common
gate_unexpected:                        # some vector that this guest has no use for
        push    0
        push    -1

common:
        pushad
        mov     ecx, KERNEL_DATA        # DS and ES still hold the user's selectors
        mov     ds, ecx
        mov     es, ecx
        cld
        push    esp                     # the argument: struct frame *
        call    ring0_entered
        add     esp, 4
        mov     ecx, USER_DATA
        mov     ds, ecx
        mov     es, ecx
        popad
        add     esp, 8                  # the vector and the error code
        iretd

# ---- Out to ring 3 ---------------------------------------------------------------------------------
#
# void enter_ring3(void (*entry)(void), void *stack, uint32_t eflags): an IRET "returns" to a caller that
# never was. An outer ring is always entered by a return.

enter_ring3:
        mov     eax, [esp + 4]
        mov     ecx, [esp + 8]
        mov     edx, [esp + 12]
        mov     ebx, USER_DATA
        mov     ds, ebx
        mov     es, ebx
        push    USER_DATA               # SS
        push    ecx                     # ESP
        push    edx                     # EFLAGS
        push    USER_CODE               # CS
        push    eax                     # EIP
        iretd

# ---- The fast way ----------------------------------------------------------------------------------
#
# SYSENTER saves nothing at all: CS, EIP, SS and ESP come from MSRs, interrupts go off, and that is it. By
# agreement with `user_sysenter` (user.S) EDX holds the address to return to and ECX the user's stack, just
# what SYSEXIT wants.

sysenter_entry:
        push    ecx
        push    edx
        mov     ecx, KERNEL_DATA
        mov     ds, ecx
        mov     es, ecx
        cld
        push    edx                     # arguments: where it will return to, the system call's number
        push    eax
        call    ring0_entered_by_sysenter
        add     esp, 8
        mov     ecx, USER_DATA
        mov     ds, ecx
        mov     es, ecx
        pop     edx
        pop     ecx
        sti                             # takes effect after the next instruction, so in ring 3
        sysexit

        .bss
        .balign 16
        .globl  kernel_stack_top
        .skip   4096
kernel_stack_top:
