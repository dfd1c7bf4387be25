# The tasks that task gates switch to.

#include "segments.h"

        .intel_syntax noprefix
        .globl  other_task_main, other_task_stack_top, fault_task_main, fault_task_stack_top
        .globl  task_seen

        .set    SEEN_EFLAGS, 0
        .set    SEEN_CR0, 4
        .set    SEEN_TR, 8
        .set    SEEN_STACK, 12          # the word on top of the stack, and how much there is
        .set    SEEN_DEPTH, 16
        .set    SEEN_COUNT, 20

        .text
# Note what there is to see, go back, and when called again continue behind the IRET: that is what a task is.
other_task_main:
        inc     dword ptr [task_seen + SEEN_COUNT]
        pushfd
        pop     dword ptr [task_seen + SEEN_EFLAGS]
        mov     eax, cr0
        mov     [task_seen + SEEN_CR0], eax
        str     eax
        mov     [task_seen + SEEN_TR], eax
        clts
        mov     eax, 0xA5A5A5A5
        iretd
        jmp     other_task_main

# A fault: the error code is on the new stack. The old task would fault again, so send it elsewhere.
fault_task_main:
        inc     dword ptr [task_seen + SEEN_COUNT]
        mov     eax, [esp]
        mov     [task_seen + SEEN_STACK], eax
        mov     eax, offset fault_task_stack_top
        sub     eax, esp
        mov     [task_seen + SEEN_DEPTH], eax
        add     esp, 4
        clts
        call    fault_task_repair
        iretd
        jmp     fault_task_main

        .bss
        .balign 16
task_seen:
        .skip   24
        .balign 16
        .skip   1024
other_task_stack_top:
        .skip   1024
fault_task_stack_top:
        .skip   16
