# Where a program begins, and how it calls the kernel.

        .intel_syntax noprefix
        .globl  start, syscall

        .text
start:                                  # on the stack: argument count, argument array (exec.c)
        call    main
        mov     ebx, eax
        mov     eax, 1                  # SYS_EXIT
        int     0x80

# int syscall(number, first, second, third)
syscall:
        push    ebx
        mov     eax, [esp + 8]
        mov     ebx, [esp + 12]
        mov     ecx, [esp + 16]
        mov     edx, [esp + 20]
        int     0x80
        pop     ebx
        ret
