# 16-bit code in a 32-bit world: it runs in a segment of its own, small enough for 16-bit instruction
# pointers, so that gates of 16-bit type can push its whole address.

#include "segments.h"

        .intel_syntax noprefix
        .globl  seen16, code16, stack16, user_stack16_top, kernel_stack16_top, call_16
        .globl  run_int16, after_int16, run_trap16, after_trap16, run_load16, at_load16
        .globl  user_int16, after_user_int16
        .globl  handler16, handler16_error, handler16_small_stack

        .text
call_16:                                # void call_16(uint32_t offset)
        mov     eax, [esp + 4]
        mov     [far_pointer], eax
        call    fword ptr [far_pointer]
        ret

        .balign 16
        .code16
code16:
run_int16:                              # through a 16-bit interrupt gate, and back by a 16-bit IRET
        sti
        int     VECTOR_INT16
after_int16:
        cli
        data32 retf

run_trap16:
        sti
        int     VECTOR_TRAP16
after_trap16:
        cli
        data32 retf

run_load16:                             # a fault with an error code; the handler skips the instruction
        mov     ax, BEYOND_GDT
at_load16:
        mov     ds, ax
        data32 retf

user_int16:                             # ring 3
        int     VECTOR_INT16
after_user_int16:
        int     VECTOR_DONE

# The handlers. DS is flat, so `seen16` is reached by its linear address. \first is the distance of the
# frame from the stack pointer, \load makes EBP of ESP: on a 16-bit stack only SP counts.
        .macro  NOTE first, load:vararg
        pushf
        push    eax
        push    ebx
        push    ebp
        \load
        mov     ebx, offset seen16
        .irp    n, 0, 2, 4, 6, 8        # the frame
        mov     ax, ss:[ebp + 14 + \first + \n]
        mov     [ebx + \n], ax
        .endr
        mov     ax, ss:[ebp + 14]
        mov     [ebx + 10], ax          # the error code, if there is one
        mov     ax, ss:[ebp + 12]
        mov     [ebx + 12], ax          # our own FLAGS
        mov     [ebx + 14], cs
        mov     [ebx + 16], ss
        lea     ax, [ebp + 14]
        mov     [ebx + 18], ax
        pop     ebp
        pop     ebx
        pop     eax
        popf
        .endm

handler16:
        NOTE    0, mov ebp, esp
        iret

handler16_error:
        NOTE    2, mov ebp, esp
        add     esp, 2                  # the error code
        add     word ptr ss:[esp], 2    # skip MOV DS, AX
        iret

handler16_small_stack:                  # C cannot run on this stack: change to the usual one and leave
        NOTE    0, movzx ebp, sp
        mov     ax, KERNEL_DATA
        mov     ss, ax
        mov     esp, offset ring0_stack_top
        int     VECTOR_DONE

        .data
        .balign 4
far_pointer:
        .long   0
        .word   CODE_16

        .bss
        .balign 16
seen16: .skip   20
        .balign 16
stack16:
        .skip   2048
kernel_stack16_top:
        .skip   2048
user_stack16_top:
        .skip   16
