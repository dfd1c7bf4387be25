# The boot sector: loads the kernel from the sectors behind it (from FIRST_SECTOR on), and then does what a Multiboot
# loader does.
#
# The BIOS loads the disk's first sector to 0000:7C00 and enters it in real mode, DL naming the drive. Real mode
# reaches 1 MiB, and the kernel belongs above it: so the sectors are read to 10000h with INT 13h, AH = 42h (extended
# read: linear sector numbers, no cylinders and heads), and copied up once protected mode is on (SDM3 9.9.1).
# The kernel is entered with EAX and EBX as by Multiboot; it does not know the difference.

        .intel_syntax noprefix
        .code16
        .globl  start

        .set    STACK_TOP, 0x7C00
        .set    BUFFER, 0x10000         # where the kernel is read to; up to 512 KiB fit
        .set    FIRST_SECTOR, 16        # not before: a Multiboot header in a file's first 8 KiB would mislead
        .set    CHUNK, 32               # sectors a read
        .set    KERNEL, 0x100000
        .set    KERNEL_ENTRY, KERNEL + 12       # behind the Multiboot header (boot.S)
        .set    MULTIBOOT_LOADED, 0x2BADB002
        .set    INFO, 0x500             # the Multiboot information: flags, mem_lower, mem_upper

        .text
start:
        jmp     0:start_at_zero
start_at_zero:
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, STACK_TOP
        cld

        mov     cx, offset kernel_chunks
next_chunk:
        push    cx
        mov     ah, 0x42
        mov     si, offset packet
        int     0x13                    # (it leaves DL alone)
        jc      failed
        add     word ptr [packet_segment], CHUNK * 512 / 16
        add     dword ptr [packet_sector], CHUNK
        pop     cx
        loop    next_chunk

        mov     ax, 0xE801              # INT 15h: AX = KiB from 1 to 16 MiB, BX = 64 KiB units above
        int     0x15
        jc      failed
        movzx   eax, ax
        movzx   ebx, bx
        shl     ebx, 6
        add     eax, ebx
        mov     dword ptr [INFO], 1     # only the memory sizes are valid
        mov     dword ptr [INFO + 4], 640
        mov     [INFO + 8], eax

        in      al, 0x92                # address line 20 (PS/2, System Control Port A)
        or      al, 2
        and     al, 0xFE                # (bit 0 would reset the machine)
        out     0x92, al

        cli
        lgdt    [gdt_register]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     0x08:protected

failed:
        mov     si, offset message
next_character:
        lodsb
        test    al, al
        jz      give_up
        mov     ah, 0x0E
        mov     bx, 7
        int     0x10
        jmp     next_character
give_up:
        mov     al, 2
        out     0xF4, al
        cli
        hlt

        .code32
protected:
        mov     eax, 0x10
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, STACK_TOP
        mov     esi, BUFFER
        mov     edi, KERNEL
        mov     ecx, offset kernel_words
        rep movsd
        mov     eax, MULTIBOOT_LOADED
        mov     ebx, INFO
        mov     ecx, KERNEL_ENTRY
        jmp     ecx

        .balign 4
packet:                                 # the disk address packet of AH = 42h
        .byte   16, 0
        .word   CHUNK
        .word   0                       # buffer: offset, segment
packet_segment:
        .word   BUFFER / 16
packet_sector:
        .quad   FIRST_SECTOR

        .balign 4
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF
        .quad   0x00CF93000000FFFF
gdt_register:
        .word   3 * 8 - 1
        .long   gdt

message:
        .asciz  "wren: the disk cannot be read\r\n"

        .section .kernel, "a"
kernel:
        .incbin "wren-kernel.bin"
        .skip   -(. - kernel) & (CHUNK * 512 - 1)       # the last read ends where the disk ends
        .set    kernel_chunks, (. - kernel) / (CHUNK * 512)
        .set    kernel_words, (. - kernel) / 4
