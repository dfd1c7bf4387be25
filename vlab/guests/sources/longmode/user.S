# The code that runs in ring 3, in a page of its own: touch the address in RDI, then leave through INT 80h.

        .intel_syntax noprefix
        .globl  user_page, user_read, user_write

        .section .text.user, "ax"
        .balign 4096
user_page:
user_read:
        mov     al, [rdi]
        int     0x80
user_write:
        mov     [rdi], al
        int     0x80
        .balign 4096
