# tripfault: a guest that ends in a triple fault, on purpose and in a known place.
#
# It loads an IDT of limit 0, so that no vector can be delivered, and executes UD2. The chain is
# (AMD APM vol. 2, rev. 3.42, section 8.2.9):
#
#   #UD at `last_instruction`
#   -> its gate lies beyond the IDT limit: #GP, error code 0x32 (vector 6, IDT)
#   -> the gate of #GP lies beyond it too: a contributory fault within a contributory fault is #DF
#   -> the gate of #DF lies beyond it too: shutdown
#
# EAX..EBP hold recognisable values at that moment.

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, last_instruction

        .set    COM1, 0x3F8
        .set    LINE_STATUS, COM1 + 5
        .set    THR_EMPTY, 0x20

        .text
start:
        mov     esp, offset stack_top
        cld
        mov     esi, offset message
next_character:
        mov     dx, LINE_STATUS
wait_for_room:
        in      al, dx
        test    al, THR_EMPTY
        jz      wait_for_room
        lodsb
        test    al, al
        jz      fall
        mov     dx, COM1
        out     dx, al
        jmp     next_character

fall:
        mov     eax, 0xAAAA0001
        mov     ebx, 0xBBBB0002
        mov     ecx, 0xCCCC0003
        mov     edx, 0xDDDD0004
        mov     esi, 0x51515151
        mov     edi, 0xD1D1D1D1
        mov     ebp, 0xBEBEBEBE
        lidt    [empty_idt]
last_instruction:
        ud2

        .balign 4
empty_idt:
        .word   0                       # limit: not even one gate
        .long   0                       # base
message:
        .asciz  "tripfault: the IDT is empty now; this UD2 is my last instruction\r\n"

        .bss
        .balign 16
        .skip   256
stack_top:
