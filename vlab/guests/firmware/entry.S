# The firmware's edges: the reset vector, the way into every service and out again, and the jump to the guest.

#include "layout.h"

        .intel_syntax noprefix
        .code16

# ---- Reset --------------------------------------------------------------------------------------------
#
# The processor fetches its first instruction at FFFFFFF0 (APM2 14.1.4), where the ROM appears a second time.
# The far jump makes CS an ordinary real-mode segment, and from then on we run below 1 MiB.

        .section .reset, "ax"
        .globl  reset
reset:
        jmp     ROM_SEGMENT:post
        .ascii  "01/01/25"              # FFFF5: the date of the BIOS, eight characters
        .byte   0
        .byte   0xFC                    # FFFFE: model - an AT
        .byte   0

        .text
post:
        cli
        cld
        in      al, 0x92                # A20 on: all of memory, please
        or      al, 2
        and     al, 0xFE                # (bit 0 would reset us)
        out     0x92, al

        mov     ax, ROM_SEGMENT         # copy the initialised data, clear the rest of the data segment
        mov     ds, ax
        mov     ax, DATA_SEGMENT
        mov     es, ax
        mov     si, offset data_image
        xor     di, di
        mov     cx, offset data_size
        rep movsb
        mov     cx, offset stack_top
        sub     cx, di
        xor     ax, ax
        rep stosb

        mov     ss, ax                  # a stack of the kind that a guest has
        mov     sp, BOOT_ADDRESS
        mov     ds, ax
        mov     es, ax

# Run one C function as if it were an interrupt service: it sees the registers in `caller`, and may change
# them.
        .macro  CALL_C function
        pushf
        push    cs
        push    offset 1f
        push    offset \function
        jmp     service
1:
        .endm

        CALL_C  post_early
        call    virtual_wire
        sti
        mov     ax, 0xC000              # option ROMs: ask for the next one until there is none
scan:
        CALL_C  find_option_rom         # AX: where to look; afterwards where it is, or 0
        test    ax, ax
        jz      scanned
        push    ax
        push    cs                      # a far call to its entry point, at offset 3
        push    offset option_rom_done
        push    ax
        push    3
        retf
option_rom_done:
        pop     ax
        add     ax, 0x80                # continue 2 KiB further on
        jmp     scan
scanned:
        int     0x19                    # and does not return

# ---- The local APIC ---------------------------------------------------------------------------------------
#
# Where there is one, the 8259's output goes through its pin LINT0, and after reset that is masked. "Virtual
# wire mode" (MultiProcessor Specification 1.4, 3.6.2.2) lets it through as ExtINT, as if the APIC were not
# there. Its registers are far above what real mode reaches, so this is a short visit to protected mode.

virtual_wire:
        mov     eax, 1
        cpuid
        test    edx, 1 << 9             # APIC
        jz      no_apic
        mov     ecx, 0x1B               # APIC_BASE: is it enabled?
        rdmsr
        test    eax, 1 << 11
        jz      no_apic
        lgdt    fword ptr cs:[flat_gdt]
        mov     ebx, cr0
        mov     eax, ebx
        or      al, 1
        mov     cr0, eax
        mov     ax, 0x08                # data, 4 GiB
        mov     es, ax
        mov     edi, 0xFEE00000
        mov     dword ptr es:[edi + 0x0F0], 0x1FF       # spurious vector FF, APIC enabled
        mov     dword ptr es:[edi + 0x350], 0x700       # LINT0: ExtINT
        mov     dword ptr es:[edi + 0x360], 0x400       # LINT1: NMI
        mov     ax, 0x10                # data, 64 KiB: what real mode wants to find
        mov     es, ax
        mov     cr0, ebx
        xor     ax, ax
        mov     es, ax
no_apic:
        ret

        .balign 8
flat_gdt:
        .word   0x17                    # the null descriptor's room holds the table's limit and address
        .long   ROM_SEGMENT * 16 + flat_gdt
        .word   0
        .quad   0x00CF93000000FFFF
        .quad   0x000093000000FFFF

# ---- Every service, and every interrupt -----------------------------------------------------------------
#
# `service` is reached with the address of a C function on the stack, above a frame that IRET understands.
# It moves the registers to `caller`, changes to the firmware's stack, calls the function, and comes back.
# What the function left in `caller` becomes the registers and the flags of whoever called.

        .macro  SERVICE name, function
        .globl  \name
\name:
        push    offset \function
        jmp     service
        .endm

        SERVICE int_10, video_service
        SERVICE int_11, equipment_service
        SERVICE int_12, memory_size_service
        SERVICE int_13, disk_service
        SERVICE int_14, serial_service
        SERVICE int_15_rest, system_service
        SERVICE int_16, keyboard_service
        SERVICE int_1a, clock_service
        SERVICE irq_1, keyboard_interrupt
        SERVICE irq_8, rtc_interrupt

service:
        push    ds
        push    eax
        mov     ax, DATA_SEGMENT
        mov     ds, ax
        pop     dword ptr [caller + R_EAX]
        pop     word ptr [caller + R_DS]
        pop     word ptr [function]
        mov     [caller + R_EBX], ebx
        mov     [caller + R_ECX], ecx
        mov     [caller + R_EDX], edx
        mov     [caller + R_ESI], esi
        mov     [caller + R_EDI], edi
        mov     [caller + R_EBP], ebp
        mov     [caller + R_ESP], esp
        mov     word ptr [caller + R_ES], es
        mov     word ptr [caller + R_FS], fs
        mov     word ptr [caller + R_GS], gs
        mov     word ptr [caller + R_SS], ss
        mov     bp, sp                  # SS:BP is the frame that IRET will take: IP, CS, FLAGS
        mov     ax, [bp]
        mov     [caller + R_IP], ax
        mov     ax, [bp + 2]
        mov     [caller + R_CS], ax
        mov     ax, [bp + 4]
        mov     [caller + R_FLAGS], ax

        mov     ax, ds                  # the world that the C code expects (bios.h)
        mov     es, ax
        mov     ss, ax
        mov     esp, offset stack_top
        xor     ax, ax
        mov     fs, ax
        mov     gs, ax
        cld
        movzx   eax, word ptr [function]
        call    eax                     # 32-bit call: gcc's 16-bit code returns with a 32-bit address

        mov     ss, word ptr [caller + R_SS]
        mov     esp, [caller + R_ESP]
        cmp     al, V_DONE
        jne     not_done
        mov     ax, [caller + R_FLAGS]
        mov     bp, sp
        mov     [bp + 4], ax
        call    take_registers
        iret

not_done:                               # once more, with the registers as they came
        push    word ptr [function]
        cmp     al, V_SPIN_AND_RETRY
        call    take_registers
        je      spin                    # (loading registers leaves the flags alone)
        sti
        hlt
        cli
        jmp     service
spin:
        sti
        nop                             # STI takes effect behind the next instruction: here
        cli
        jmp     service

take_registers:
        mov     ebx, [caller + R_EBX]
        mov     ecx, [caller + R_ECX]
        mov     edx, [caller + R_EDX]
        mov     esi, [caller + R_ESI]
        mov     edi, [caller + R_EDI]
        mov     ebp, [caller + R_EBP]
        mov     es, word ptr [caller + R_ES]
        mov     fs, word ptr [caller + R_FS]
        mov     gs, word ptr [caller + R_GS]
        mov     eax, [caller + R_EAX]
        mov     ds, word ptr [caller + R_DS]
        ret

# ---- Interrupts that are more than a call -----------------------------------------------------------------

# The timer: count, then let the guest's own handler run (INT 1Ch) on the guest's stack.
        .globl  irq_0
irq_0:
        CALL_C  timer_tick
        int     0x1C
        push    ax
        mov     al, 0x20                # end of interrupt
        out     0x20, al
        pop     ax
        iret

# Vectors 00-0F that nobody has claimed: exceptions, or IRQ 0-7, or both. In real mode 08-0E are the numbers
# of exceptions as well, and C tells them apart by the interrupt controller's in-service register. The table
# `unclaimed_vectors` has the sixteen entry points.
        .globl  unclaimed_vectors
        .section .rodata
unclaimed_vectors:
        .text
        .set    n, 0
        .rept   16
        .pushsection .rodata
        .word   9f
        .popsection
9:      push    ax
        mov     al, n
        jmp     unclaimed
        .set    n, n + 1
        .endr
unclaimed:
        push    ds                      # the vector's number goes to C in a variable, all registers stay
        push    bx
        mov     bx, DATA_SEGMENT
        mov     ds, bx
        mov     [vector_number], al
        pop     bx
        pop     ds
        pop     ax
        push    offset unclaimed_vector
        jmp     service

        .globl  unclaimed_slave_irq, ignore
unclaimed_slave_irq:
        push    ax
        mov     al, 0x20
        out     0xA0, al
        out     0x20, al
        pop     ax
ignore:
        iret

# ---- Bootstrap --------------------------------------------------------------------------------------------

        .globl  int_18, int_19
int_19:
        xor     ax, ax
        mov     ss, ax
        mov     sp, BOOT_ADDRESS
        CALL_C  load_boot_sector        # AX: 0 when it is there
        test    ax, ax
        jz      jump_to_it
        int     0x18
jump_to_it:
        xor     ebx, ebx
        xor     ecx, ecx
        xor     esi, esi
        xor     edi, edi
        xor     ebp, ebp
        mov     ds, bx
        mov     es, bx
        mov     edx, BOOT_DRIVE
        mov     eax, 0xAA55             # as many BIOSes leave it
        sti
        jmp     0:BOOT_ADDRESS

int_18:
        CALL_C  nothing_to_boot
        .globl  halt
halt:
        cli
        hlt
        jmp     halt

# ---- INT 15h, AH = 87h: move memory above 1 MiB ------------------------------------------------------------
#
# The caller's table at ES:SI has six descriptors: null, itself, source, destination, and two that we fill in,
# for our code and a data segment with real mode's limit. CX counts words.

        .globl  int_15
int_15:
        cmp     ah, 0x87
        jne     int_15_rest
        pushad
        push    ds
        push    es
        push    es
        pop     ds                      # DS:SI = the table
        mov     word ptr [si + 0x20], 0xFFFF    # selector 20h: code, base F0000, limit FFFF
        mov     word ptr [si + 0x22], 0x0000
        mov     word ptr [si + 0x24], 0x9B0F
        mov     word ptr [si + 0x26], 0x0000
        mov     word ptr [si + 0x28], 0xFFFF    # selector 28h: data, base 0, limit FFFF
        mov     word ptr [si + 0x2A], 0x0000
        mov     word ptr [si + 0x2C], 0x9300
        mov     word ptr [si + 0x2E], 0x0000
        xor     eax, eax                # the table's linear address
        mov     ax, ds
        shl     eax, 4
        movzx   ebx, si
        add     eax, ebx
        push    eax                     # and the operand of LGDT, on the stack
        push    word ptr 0x2F
        mov     bp, sp
        lgdt    fword ptr [bp]
        add     sp, 6
        mov     ebx, cr0
        mov     eax, ebx
        or      al, 1
        mov     cr0, eax
        jmp     0x20:protected
protected:
        mov     ax, 0x10
        mov     ds, ax
        mov     ax, 0x18
        mov     es, ax
        xor     si, si
        xor     di, di
        cld
        rep movsw
        mov     ax, 0x28
        mov     ds, ax
        mov     es, ax
        mov     cr0, ebx
        jmp     ROM_SEGMENT:real
real:
        pop     es
        pop     ds
        popad
        mov     ah, 0
        push    bp
        mov     bp, sp
        and     byte ptr [bp + 6], 0xFE # no carry: it worked
        pop     bp
        iret

# ---- Tables that callers get pointers to ------------------------------------------------------------------

        .globl  configuration_table, diskette_table
configuration_table:                    # INT 15h, AH = C0h
        .word   8                       # bytes that follow
        .byte   0xFC, 0, 1              # model, submodel, revision
        .byte   0b01110100              # two 8259s, a real-time clock, keyboard intercept no, wait yes, EBDA
        .byte   0, 0, 0, 0

diskette_table:                         # vector 1Eh: a 1.44 MB drive
        .byte   0xAF, 0x02, 0x25, 0x02, 18, 0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08

        .data
        .section .data.first, "aw"
        .byte   4                       # the data area's first byte: its size in KiB

        .bss
        .balign 4
        .globl  caller, vector_number
caller: .skip   48
function:
        .skip   2
vector_number:
        .skip   1
