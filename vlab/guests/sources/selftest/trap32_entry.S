# 256 entry points, one common path into C and back, and the ways to run code that is meant to fault.

#include "segments.h"

        .intel_syntax noprefix
        .globl  trap_entries, call_trapped, enter_outer, at_outer_return, user_done

        .set    ERROR_CODES, 0x00227D00 # the vectors that push an error code: 8, 10-14, 17, 21

        .text
        .balign 16
trap_entries:                           # 16 bytes each
        .set    n, 0
        .rept   256
        .balign 16
        .if     (n < 32) && ((ERROR_CODES >> n) & 1)
        .else
        push    0
        .endif
        push    n
        jmp     trap_common
        .set    n, n + 1
        .endr

trap_common:
        pushad
        push    ds
        push    es
        push    fs
        push    gs
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        cld
        mov     ebx, esp
        push    ss
        push    cs
        pushfd
        push    ebx
        call    trap_dispatch           # EAX: 0 to go on where the frame says, or the stack to go back to
        mov     esp, ebx
        test    eax, eax
        jnz     unwind
        pop     gs
        pop     fs
        pop     es
        pop     ds
        popad
        add     esp, 8
        iretd

# bool call_trapped(action, argument): remember the stack and what C expects to find again, then call.
# False: the action returned. True: a trap ended it.
call_trapped:
        push    ebx
        push    ebp
        push    esi
        push    edi
        pushfd
        push    dword ptr [trap_return_stack]
        mov     eax, [esp + 28]
        mov     ecx, [esp + 32]
        mov     [trap_return_stack], esp
        push    ecx
        call    eax
        add     esp, 4
        xor     eax, eax
        jmp     leave
unwind:
        mov     esp, eax
        mov     eax, 1
leave:
        pop     dword ptr [trap_return_stack]
        popfd
        pop     edi
        pop     esi
        pop     ebp
        pop     ebx
        ret

# void enter_outer(const struct outer *): an IRET to an outer ring or to virtual-8086 mode.
enter_outer:
        mov     esi, [esp + 4]
        push    [esi + 32]              # GS, FS, DS, ES: taken for virtual-8086 mode alone
        push    [esi + 28]
        push    [esi + 24]
        push    [esi + 20]
        push    [esi + 16]              # SS, ESP, EFLAGS, CS, EIP
        push    [esi + 12]
        push    [esi + 8]
        push    [esi + 4]
        push    [esi + 0]
        mov     eax, USER_DATA
        mov     ds, eax
        mov     es, eax
        xor     ecx, ecx                # known values: ECX = 0, EDX = a harmless port
        mov     edx, POST_PORT
at_outer_return:
        iretd

user_done:                              # where a ring 3 action returns to
        int     VECTOR_DONE

        .bss
        .balign 16
        .globl  ring0_stack_top, user_stack_top
        .skip   4096
ring0_stack_top:
        .skip   4096
user_stack_top:
        .skip   16
