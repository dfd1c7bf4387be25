# Prints what INT 16h returns for each key, until q.
        .include "option_rom.inc"
main:
        SAY     "keys:"
1:      mov     ah, 0
        int     0x16
        push    ax
        SAY     " "
        pop     ax
        call    hex16
        cmp     al, 'q'
        jne     1b
        SAY     "\r\n"
        jmp     finish
