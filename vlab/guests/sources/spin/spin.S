# spin: prints one line and then jumps to itself for ever, with interrupts off.
#
# Nothing inside the guest ends this: it is what a monitor's stop button, time limit and Ctrl-C are tested on.

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, forever

        .set    COM1, 0x3F8
        .set    LINE_STATUS, COM1 + 5
        .set    THR_EMPTY, 0x20

        .text
start:
        cli
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
        jz      forever
        mov     dx, COM1
        out     dx, al
        jmp     next_character

forever:
        jmp     forever

message:
        .asciz  "spin: jumping to myself, for ever\r\n"
