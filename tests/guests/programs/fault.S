# Divides by zero.
        .include "option_rom.inc"
main:
        xor     cx, cx
        div     cx
