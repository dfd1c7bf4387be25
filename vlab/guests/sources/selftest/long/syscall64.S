# Where SYSCALL arrives. It changes no stack: note everything in registers and fixed places, then go back.

        .intel_syntax noprefix
        .globl  syscall_entry, syscall_entry_32, syscall_seen

        .text
        .macro  NOTE
        mov     [syscall_seen + 16], rsp
        mov     [syscall_seen + 24], rcx
        mov     [syscall_seen + 32], r11
        lea     rsp, [note_stack_top]
        pushfq
        pop     [syscall_seen + 40]
        mov     rsp, [syscall_seen + 16]
        mov     eax, cs
        mov     [syscall_seen + 0], rax
        mov     eax, ss
        mov     [syscall_seen + 8], rax
        .endm

syscall_entry:
        NOTE
        sysretq

syscall_entry_32:                       # to 32-bit code, at an address that it can have
        NOTE
        lea     rcx, [back_in_32]
        .byte   0x0F, 0x07              # SYSRET with 32-bit operands: to the first of the two code segments

        .code32
back_in_32:
        int     0x80                    # VECTOR_DONE
        .code64

        .bss
        .balign 8
syscall_seen:
        .skip   48
        .skip   64
note_stack_top:
        .skip   8
