# From 32-bit protected mode to real mode and back (APM2 14.8, and SDM3 9.9.2), and what is done there:
# interrupts through the vector table at 0, through one elsewhere, exceptions, single step, a device
# interrupt.

#include "real.h"
#include "segments.h"

        .intel_syntax noprefix
        .globl  visit_real_mode, real_code, real_code_end
        .globl  real_at_divide, real_at_undefined, real_after_int, real_after_moved, real_after_step
        .globl  real_after_int3, real_after_into, real_at_beyond, real_after_hlt

        .set    REAL_SEGMENT, REAL_BASE >> 4
        .set    NOTE_BYTES, 12
        .set    FLAGS_TF, 1 << 8
        .set    FLAGS_IF_TF_DF, 7 << 8

# ---- There ------------------------------------------------------------------------------------------------

        .text
visit_real_mode:
        pushad
        pushfd
        cli
        mov     [saved_esp], esp
        sidt    [saved_idt]
        jmp     REAL_CODE_16:real_enter - real_code     # 16-bit protected mode, base REAL_BASE

real_back:                              # protected mode again, with the old segments
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, [saved_esp]
        lidt    [saved_idt]
        popfd
        popad
        ret

        .balign 16
        .code16
real_code:
real_enter:
        mov     ax, REAL_DATA_16        # limits of 64 KiB stay in the hidden parts
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     eax, cr0
        and     al, 0xFE
        mov     cr0, eax
        jmp     REAL_SEGMENT:real_mode - real_code
real_mode:
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, REAL_STACK
        mov     word ptr [0x5F0], 0x3FF # IDTR: the vectors at 0
        mov     dword ptr [0x5F2], 0
        lidt    fword ptr [0x5F0]

# ---- What is done there -----------------------------------------------------------------------------------

        pushf                           # INT n with flags set that the handler must not see
        or      word ptr [REAL_STACK - 2], FLAGS_IF_TF_DF & ~FLAGS_TF
        popf
        int     0x60
real_after_int:
        pushf
        pop     word ptr [REAL_SEEN + 9 * NOTE_BYTES]
        cli
        cld

        mov     word ptr [0x5F2], REAL_VECTORS
        lidt    fword ptr [0x5F0]
        int     0x60
real_after_moved:
        mov     word ptr [0x5F2], 0
        lidt    fword ptr [0x5F0]

        xor     cx, cx
real_at_divide:
        div     cx                      # the handlers of faults skip two bytes
real_at_undefined:
        ud2
        int3
real_after_int3:
        mov     al, 0x7F
        add     al, 1
        into
real_after_into:
        pushf
        or      word ptr [REAL_STACK - 2], FLAGS_TF
        popf
        nop
real_after_step:

        mov     word ptr [0x5F0], 4 * 0x40 - 1          # vectors 00-3F alone
        lidt    fword ptr [0x5F0]
real_at_beyond:
        int     0x60
        mov     word ptr [0x5F0], 0x3FF
        lidt    fword ptr [0x5F0]

        mov     al, 0xFE                # IRQ 0; the timer is running
        out     0x21, al
        sti
        hlt
real_after_hlt:
        cli
        mov     al, 0xFF
        out     0x21, al
        mov     word ptr [REAL_SEEN + 9 * NOTE_BYTES + 2], 1

# ---- And back ---------------------------------------------------------------------------------------------

        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        data32 jmp KERNEL_CODE:real_back

# A handler notes the frame and its own flags in the note \index, then \finally.
        .macro  HANDLER name, index, finally:vararg
\name:
        pushf
        pusha
        mov     bp, sp
        mov     bx, REAL_SEEN + \index * NOTE_BYTES
        inc     word ptr [bx]
        mov     ax, [bp + 18]
        mov     [bx + 2], ax
        mov     ax, [bp + 20]
        mov     [bx + 4], ax
        mov     ax, [bp + 22]
        mov     [bx + 6], ax
        mov     ax, [bp + 16]
        mov     [bx + 8], ax
        lea     ax, [bp + 18]
        mov     [bx + 10], ax
        \finally
        popa
        popf
        iret
        .endm

        HANDLER on_int, 0
        HANDLER on_moved, 1
        HANDLER on_divide, 2, add word ptr [bp + 18], 2
        HANDLER on_undefined, 3, add word ptr [bp + 18], 2
        HANDLER on_step, 4, and word ptr [bp + 22], ~FLAGS_TF
        HANDLER on_int3, 5
        HANDLER on_into, 6
        HANDLER on_beyond, 7, add word ptr [bp + 18], 2
on_irq:
        push    ax
        mov     al, 0x20
        out     0x20, al
        pop     ax
        HANDLER on_irq_note, 8
real_code_end:

        .data
        .balign 4
        .globl  real_handlers
real_handlers:                          # offsets, in the order of the vectors in test_real.c
        .word   on_divide - real_code, on_step - real_code, on_int3 - real_code, on_into - real_code
        .word   on_undefined - real_code, on_beyond - real_code, on_irq - real_code, on_int - real_code
        .word   on_moved - real_code

        .bss
        .balign 4
saved_esp:
        .skip   4
saved_idt:
        .skip   8
