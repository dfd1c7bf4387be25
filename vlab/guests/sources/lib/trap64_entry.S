# 256 entry points, one common path into C and back, and the two ways to run code that is meant to fault.

        .intel_syntax noprefix
        .globl  trap_entries, trapped, run_in_ring3

        .set    ERROR_CODES, 0x60227D00 # the vectors that push an error code: 8, 10-14, 17, 21, 29, 30

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
        push    rax
        push    rbx
        push    rcx
        push    rdx
        push    rsi
        push    rdi
        push    rbp
        push    r8
        push    r9
        push    r10
        push    r11
        push    r12
        push    r13
        push    r14
        push    r15
        cld
        mov     rdi, rsp
        pushfq
        pop     rsi                     # (CLD has changed DF alone)
        mov     edx, cs
        mov     ecx, ss
        mov     rbx, rsp
        and     rsp, -16
        call    trap_dispatch           # RAX: 0 to go on where the frame says, or the stack to go back to
        test    rax, rax
        jnz     unwind
        mov     rsp, rbx
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     r11
        pop     r10
        pop     r9
        pop     r8
        pop     rbp
        pop     rdi
        pop     rsi
        pop     rdx
        pop     rcx
        pop     rbx
        pop     rax
        add     rsp, 16
        iretq

# bool trapped(action, argument): remember the stack and what C expects to find again, then call.
trapped:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        mov     eax, ss                 # coming back from an outer ring leaves a null selector there
        push    rax
        pushfq
        push    [trap_return_stack]
        mov     [trap_return_stack], rsp
        mov     rax, rdi
        mov     rdi, rsi
        call    rax
        xor     eax, eax
        jmp     leave
unwind:
        mov     rsp, rax
        mov     eax, 1
leave:
        pop     [trap_return_stack]
        popfq
        pop     rcx
        mov     ss, ecx
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# void run_in_ring3(rip, rsp, argument, rflags)
run_in_ring3:
        push    0x23                    # SS: every guest that uses this has user data at index 4 ...
        push    rsi
        push    rcx
        push    0x2B                    # ... and 64-bit user code at index 5, the order of SYSRET
        push    rdi
        mov     rdi, rdx
        iretq
