# The code of the tests in 64-bit mode; the argument is in RDI. All registers but RBX, RBP and R12-R15 are
# free.

#include "segments64.h"

        .intel_syntax noprefix
        .globl  user_done, seen_rflags, seen_rsp

        .macro  ACTION name
        .globl  action_\name
        .balign 4
action_\name:
        .endm

        .macro  AT name, instruction:vararg
        .globl  at_\name, after_\name
at_\name:
        \instruction
after_\name:
        .endm

        .macro  SINGLE name, instruction:vararg
        ACTION  \name
        AT      \name, \instruction
        ret
        .endm

        .text
user_done:                              # where an action in ring 3 returns to
        int     VECTOR_DONE

        ACTION  divide
        xor     edx, edx
        mov     eax, 1
        xor     ecx, ecx
        AT      divide, div rcx
        ret

        SINGLE  ud2, ud2
        SINGLE  int3, int3
        SINGLE  into_opcode, .byte 0xCE
        SINGLE  push_es_opcode, .byte 0x06
        SINGLE  load_ds, mov ds, edi
        SINGLE  int_user, int VECTOR_USER
        SINGLE  int_trap, int VECTOR_TRAP
        SINGLE  int_kernel, int VECTOR_KERNEL
        SINGLE  int_absent, int VECTOR_ABSENT
        SINGLE  int_to_32, int VECTOR_TO_32
        SINGLE  int_task, int VECTOR_TASK
        SINGLE  int_ist, int VECTOR_IST
        SINGLE  int_bad, int VECTOR_BAD
        SINGLE  cli, cli
        SINGLE  hlt, hlt
        SINGLE  mov_from_cr0, mov rax, cr0
        SINGLE  mov_from_cr8, mov rax, cr8
        SINGLE  swapgs, swapgs
        SINGLE  read, mov al, [rdi]
        SINGLE  write, mov [rdi], al
        SINGLE  call, call rdi
        SINGLE  sysret, sysretq

        ACTION  single_step
        pushfq
        or      dword ptr [rsp], 1 << 8
        popfq
        AT      single_step, nop
        ret

        ACTION  int_misaligned          # RSP is 8 modulo 16 here, and 3 less there
        mov     rax, rsp
        lea     rsp, [rsp - 3]
        mov     [seen_rsp], rsp
        AT      int_misaligned, int VECTOR_USER
        mov     rsp, rax
        ret

        ACTION  nested_return           # there are no tasks to return to: IRET with NT set is #GP
        pushfq
        or      dword ptr [rsp], 1 << 14
        popfq
        AT      nested_return, iretq
        ret

        ACTION  return_nowhere          # an IRET to an address that is not canonical
        mov     rax, rsp
        mov     ecx, ss
        push    rcx
        push    rax
        pushfq
        mov     ecx, cs
        push    rcx
        mov     rcx, 0x0000800000000000
        push    rcx
        AT      return_nowhere, iretq
        ret

        ACTION  in8
        mov     edx, edi
        AT      in8, in al, dx
        ret

        ACTION  out8
        mov     edx, edi
        mov     al, 0xA6
        AT      out8, out dx, al
        ret

        ACTION  popf_all
        pushfq
        push    rdi
        AT      popf_all, popfq
        pushfq
        pop     [seen_rflags]
        popfq
        ret

        ACTION  lose_stack              # RDI is an address where no stack is
        mov     rax, rsp
        mov     rsp, rdi
        AT      lose_stack, int VECTOR_USER
        mov     rsp, rax
        ret

        ACTION  wrmsr_canonical         # FS.base must be canonical
        mov     ecx, 0xC0000100
        xor     eax, eax
        mov     edx, 0x00008000
        AT      wrmsr_canonical, wrmsr
        ret

        ACTION  syscall
        mov     ecx, 0
        mov     r11d, 0
        AT      syscall, syscall
        ret

        ACTION  spin
        AT      spin, jmp at_spin

# To a 32-bit code segment: EDI is the selector. There, in 32-bit mode, INT VECTOR_USER.
        ACTION  enter_32
        ACTION  enter_32_ring0
        push    rdi
        lea     rax, [in_32]
        push    rax
        .byte   0x48
        retf
        .code32
in_32:
        push    es                      # no such instruction in 64-bit mode
        pop     eax
        mov     eax, 0xFFFFFFFF
        inc     eax                     # (in 64-bit mode this byte is a REX prefix)
        AT      enter_32, int VECTOR_USER
        AT      enter_32_ring0, int VECTOR_DONE
        .code64

        .bss
        .balign 16
        .globl  ring0_stack_top, ist_stack_top, user_stack_top
        .skip   8192
ring0_stack_top:
        .skip   8192
ist_stack_top:
        .skip   8192
user_stack_top:
seen_rflags:
        .skip   8
seen_rsp:
        .skip   8
