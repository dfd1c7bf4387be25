# The 64-bit half, built before this one.

        .section .rodata
        .balign 16
        .globl  long_image, long_image_end
long_image:
        .incbin "selftest64.bin"
long_image_end:
