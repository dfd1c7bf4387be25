# The part of the rings guest that runs in ring 3. It has no port, no privilege and no way out but the gates.

        .intel_syntax noprefix
        .globl  ring3_main, user_attempt, user_has_sysenter, user_stack_top

        .set    SAY_HELLO, 1            # enum system_call in kernel.h
        .set    FINISH, 2
        .set    EFLAGS_IF, 1 << 9

# Try one instruction that should fault. Ring 0 finds the words in `user_attempt`, and continues at the
# address in EDI.
        .macro  ATTEMPT words, instruction:vararg
        .pushsection .rodata
8:      .asciz  "\words"
        .popsection
        mov     dword ptr [user_attempt], offset 8b
        mov     edi, offset 9f
        \instruction
        jmp     not_refused
9:
        .endm

        .text
ring3_main:
        ATTEMPT "HLT", hlt
        ATTEMPT "CLI", cli
        ATTEMPT "MOV EAX, CR0", mov eax, cr0
        ATTEMPT "MOV CR3, EAX", mov cr3, eax
        ATTEMPT "LIDT", lidt [esp]
        ATTEMPT "OUT 80h, AL", out 0x80, al
        ATTEMPT "INT 0Dh (its gate has DPL 0)", int 0x0D

        # POPF is the odd one: it may not change IF here, but it does not fault either.
        pushfd
        and     dword ptr [esp], ~EFLAGS_IF
        popfd
        pushfd
        pop     eax
        test    eax, EFLAGS_IF
        jz      not_refused

        mov     eax, SAY_HELLO
        int     0x80

        cmp     dword ptr [user_has_sysenter], 0
        je      finish
        mov     eax, SAY_HELLO
        call    user_sysenter
finish:
        mov     eax, FINISH
        int     0x80

# SYSENTER remembers neither where it came from nor the stack: tell ring 0 both.
user_sysenter:
        mov     edx, offset 1f
        mov     ecx, esp
        sysenter
1:      ret

not_refused:                            # a system call that ring 0 does not know, which it reports
        mov     eax, 0xBAD
        int     0x80

        .bss
        .balign 16
user_attempt:
        .long   0
user_has_sysenter:
        .long   0
        .skip   1024
user_stack_top:
