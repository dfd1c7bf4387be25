# hello: a boot sector that prints one line through the BIOS and ends the machine.
#
# The BIOS loads the first sector of the disk to 0000:7C00 and jumps there in 16-bit real mode. What a boot
# sector may assume is little: DL names the disk, and the BIOS answers its software interrupts. So the
# segment registers and the stack are set first, since nobody promises them.

        .intel_syntax noprefix
        .code16
        .globl  start

        .set    STACK_TOP, 0x7C00       # the stack grows down from below the code
        .set    DEBUG_EXIT, 0xF4        # a byte written to this port ends the machine with that status

        .text
start:
        jmp     0:start_at_zero         # some BIOSes enter at 07C0:0000: make CS zero
start_at_zero:
        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, STACK_TOP
        cld

        mov     si, offset message
next_character:
        lodsb
        test    al, al
        jz      done
        mov     ah, 0x0E                # INT 10h, AH = 0E: teletype output of AL
        mov     bx, 0x0007              # page 0, light grey
        int     0x10
        jmp     next_character

done:
        xor     al, al
        out     DEBUG_EXIT, al          # status 0: success
sleep:                                  # only reached where nothing listens at the port
        cli
        hlt
        jmp     sleep

message:
        .asciz  "hello from a boot sector in real mode\r\n"
