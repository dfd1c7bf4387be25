# Runs the boot sector that the test has put at 0000:7C00.
        .include "option_rom.inc"
main:
        mov     dl, 0x80
        jmp     0:0x7C00
