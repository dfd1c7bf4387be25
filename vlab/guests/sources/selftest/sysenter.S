# Both ends of SYSENTER and SYSEXIT.

#include "segments.h"

        .intel_syntax noprefix
        .globl  sysenter_entry, sysenter_seen
        .globl  action_sysenter, at_sysenter, after_sysenter, action_sysexit, at_sysexit, after_sysexit

        .text
        .balign 4
action_sysenter:                        # EDX and ECX: where to come back, and the stack to come back with
        mov     edx, offset after_sysenter
        mov     ecx, esp
at_sysenter:
        sysenter
after_sysenter:
        ret

sysenter_entry:
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     [sysenter_seen + 0], cs
        mov     [sysenter_seen + 4], ss
        mov     [sysenter_seen + 8], esp
        pushfd
        pop     dword ptr [sysenter_seen + 12]
        mov     eax, USER_DATA
        mov     ds, eax
        sysexit

action_sysexit:
at_sysexit:
        sysexit
after_sysexit:
        ret

        .bss
        .balign 4
sysenter_seen:
        .skip   16
