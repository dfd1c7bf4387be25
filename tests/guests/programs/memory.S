# The memory services that QEMU's CMOS and processor can tell the truth of, and the block move.
        .include "option_rom.inc"
main:
        int     0x12
        SAY     "int12 "
        call    hex16
        mov     ah, 0x88
        int     0x15
        SAY     "\r\nint15-88 "
        call    hex16
        mov     ax, 0xE801
        int     0x15
        SAY     "\r\nint15-e801 "
        call    hex16
        SAY     " "
        mov     ax, bx
        call    hex16

        xor     ebx, ebx                # the map, entry by entry, to 0000:0500
next_entry:
        mov     eax, 0xE820
        mov     edx, 0x534D4150
        mov     ecx, 20
        xor     di, di
        mov     es, di
        mov     di, 0x500
        int     0x15
        jc      map_done
        SAY     "\r\ne820"
        mov     cx, 9                   # words, the highest first: type, length, base
        add     di, 16
1:      SAY     " "
        mov     ax, es:[di]
        call    hex16
        sub     di, 2
        loop    1b
        test    ebx, ebx
        jnz     next_entry
map_done:

        # Block move: 0000:0600 -> 2 MiB -> 0000:0800.
        xor     ax, ax
        mov     es, ax
        mov     dword ptr es:[0x600], 0x12345678
        mov     dword ptr es:[0x604], 0x9ABCDEF0
        mov     eax, 0x000600
        mov     edx, 0x200000
        call    move
        mov     eax, 0x200000
        mov     edx, 0x000800
        call    move
        SAY     "\r\nmoved "
        mov     ax, es:[0x806]
        call    hex16
        mov     ax, es:[0x800]
        call    hex16
        SAY     "\r\n"
        jmp     finish

move:                                   # 4 words from EAX to EDX, with the table at 0000:0700
        mov     di, 0x700
        mov     cx, 24
        push    ax
        xor     ax, ax
        cld
        rep stosw
        pop     ax
        mov     word ptr es:[0x710], 0xFFFF
        mov     es:[0x712], eax
        mov     byte ptr es:[0x715], 0x93
        mov     word ptr es:[0x718], 0xFFFF
        mov     es:[0x71A], edx
        mov     byte ptr es:[0x71D], 0x93
        mov     si, 0x700
        mov     cx, 4
        mov     ah, 0x87
        int     0x15
        jnc     1f
        SAY     " move failed"
1:      ret
