# Waits 0.5 s with INT 15h AH=86h and prints the ticks that passed, then the date.
        .include "option_rom.inc"
main:
        mov     ah, 0
        int     0x1A
        push    dx
        mov     cx, 7                   # 500,000 us
        mov     dx, 0xA120
        mov     ah, 0x86
        int     0x15
        mov     ah, 0
        int     0x1A
        pop     ax
        sub     dx, ax
        SAY     "ticks "
        mov     ax, dx
        call    hex16
        mov     ah, 4
        int     0x1A
        SAY     "\r\ndate "
        mov     ax, cx
        call    hex16
        mov     ax, dx
        call    hex16
        mov     ah, 2
        int     0x1A
        SAY     "\r\ntime "
        mov     ax, cx
        call    hex16
        SAY     "\r\n"
        jmp     finish
