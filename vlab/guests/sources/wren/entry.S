# Every way into the kernel and the one way out of it.
#
# A trap gate or interrupt gate has switched to the stack that the TSS names, if it came from ring 3, and has pushed SS
# and ESP (then only), EFLAGS, CS and EIP; some exceptions push an error code (SDM3 6.12.1, 6.13). The entries
# below push a zero where there is none, and the vector; `common` saves the rest, which makes one `struct frame`
# (kernel.h) of all cases, and calls C.

#include "layout.h"
#include "segments.h"

        .intel_syntax noprefix
        .globl  trap_entries, trap_return, switch_stacks, copy_bytes, divide_by_zero, fixups

        .set    ERROR_CODES, 0x27D00    # the vectors with an error code: 8, 10-14, 17
        .set    VECTOR_SYSCALL, 0x80

        .macro  ENTRY vector
        .balign 16
        .if     (\vector < 32) && ((ERROR_CODES >> (\vector & 31)) & 1)
        .else
        push    0
        .endif
        push    \vector
        jmp     common
        .endm

        .text
        .balign 16
trap_entries:                           # 48 for exceptions and interrupts, and one more for system calls
        .set    n, 0
        .rept   48
        ENTRY   n
        .set    n, n + 1
        .endr
        ENTRY   VECTOR_SYSCALL

common:
        push    ds
        push    es
        pushad
        mov     eax, KERNEL_DATA        # DS and ES still hold what the program had there
        mov     ds, eax
        mov     es, eax
        cld                             # C relies on DF = 0, and a program may have set it
        push    esp                     # struct frame *
        call    trap
        add     esp, 4
trap_return:                            # a new process comes here by switch_stacks
        popad
        pop     es
        pop     ds
        add     esp, 8                  # the vector and the error code
#ifdef PARAVIRT
        push    eax
        mov     eax, HV_IRET
        int     HV_VECTOR
#else
        iretd
#endif

# void switch_stacks(uint32_t *save_esp, uint32_t load_esp): the heart of a context switch. All that C expects
# to find again is on the stack; so it is saved by changing stacks, and the RET belongs to the other process.
switch_stacks:
        mov     eax, [esp + 4]
        mov     edx, [esp + 8]
        push    ebx
        push    esi
        push    edi
        push    ebp
        mov     [eax], esp
        mov     esp, edx
        pop     ebp
        pop     edi
        pop     esi
        pop     ebx
        ret

# int copy_bytes(to, from, size): between the kernel and a program, whose addresses may be bad. A page fault at
# copy_instruction that cannot be resolved continues at copy_failed (`fixups`, and traps.c).
copy_bytes:
        push    esi
        push    edi
        mov     edi, [esp + 12]
        mov     esi, [esp + 16]
        mov     ecx, [esp + 20]
copy_instruction:
        rep movsb
        xor     eax, eax
        pop     edi
        pop     esi
        ret
copy_failed:
        mov     eax, -2                 # E_FAULT
        pop     edi
        pop     esi
        ret

# int divide_by_zero(void): for bench.c. #DE is a fault: EIP is that of DIV, which would be tried again.
divide_by_zero:
        xor     eax, eax
        xor     edx, edx
divide_instruction:
        div     eax
divide_done:
        ret

        .section .rodata
        .balign 4
fixups: .long   copy_instruction, copy_failed
        .long   divide_instruction, divide_done
