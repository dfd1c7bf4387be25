# The code of the tests, instruction by instruction (actions.h). An action gets one argument on the stack;
# EAX, ECX and EDX are free to change.

#include "segments.h"

        .intel_syntax noprefix

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

# The common case: one instruction, then return.
        .macro  SINGLE name, instruction:vararg
        ACTION  \name
        AT      \name, \instruction
        ret
        .endm

        .set    EFLAGS_TF, 1 << 8
        .set    EFLAGS_NT, 1 << 14

        .text

# ---- Exceptions -------------------------------------------------------------------------------------------

        ACTION  divide
        xor     edx, edx
        mov     eax, 1
        xor     ecx, ecx
        AT      divide, div ecx
        ret

        ACTION  overflow_divide
        mov     eax, 0x80000000
        cdq
        mov     ecx, -1
        AT      overflow_divide, idiv ecx
        ret

        SINGLE  int3, int3
        SINGLE  ud2, ud2
        SINGLE  lock_nop, .byte 0xF0, 0x90

        ACTION  into
        mov     al, 0x7F
        add     al, 1                   # sets OF
        AT      into, into
        ret

        ACTION  into_clear
        xor     eax, eax                # clears OF
        AT      into_clear, into
        ret

        ACTION  bound
        mov     eax, 11
        AT      bound, bound eax, [bounds]
        ret

        ACTION  bound_inside
        mov     eax, 10
        AT      bound_inside, bound eax, [bounds]
        ret

        SINGLE  x87, fnop

        ACTION  x87_divide
        fninit
        fldcw   [unmasked]
        fld1
        fldz
        fdivp
        AT      x87_divide, fwait
        ret

        ACTION  single_step
        pushfd
        or      dword ptr [esp], EFLAGS_TF
        popfd
        AT      single_step, nop
        ret

# INT n with TF set: the step is not reported before the handler has run, and the handler runs without TF.
        ACTION  step_over_int
        pushfd
        or      dword ptr [esp], EFLAGS_TF
        popfd
        AT      step_over_int, int VECTOR_USER
        ret

        SINGLE  breakpoint, nop

        SINGLE  watchpoint, mov dword ptr [watched], eax

        ACTION  nested_return           # IRET with NT set goes to the task that TSS.link names
        pushfd
        or      dword ptr [esp], EFLAGS_NT
        popfd
        AT      nested_return, iretd
        ret

# ---- Segments ---------------------------------------------------------------------------------------------

        ACTION  load_ds
        mov     eax, [esp + 4]
        mov     ecx, ds
        AT      load_ds, mov ds, eax
        mov     ds, ecx
        ret

        ACTION  load_ss
        mov     eax, [esp + 4]
        mov     ecx, ss
        AT      load_ss, mov ss, eax
        mov     ss, ecx
        ret

        ACTION  load_tr
        mov     eax, [esp + 4]
        AT      load_tr, ltr ax
        ret

        ACTION  load_ldtr
        mov     eax, [esp + 4]
        AT      load_ldtr, lldt ax
        ret

        SINGLE  jump_absent, jmp ABSENT_CODE:0
        SINGLE  jump_data, jmp KERNEL_DATA:0
        SINGLE  jump_null, jmp 0:0
        SINGLE  jump_beyond, jmp BEYOND_GDT:0
        SINGLE  jump_short, jmp SHORT_CODE:0x1000

# ---- INT n ------------------------------------------------------------------------------------------------

        SINGLE  int_user, int VECTOR_USER
        SINGLE  int_trap, int VECTOR_TRAP
        SINGLE  int_kernel, int VECTOR_KERNEL
        SINGLE  int_absent, int VECTOR_ABSENT
        SINGLE  int_bad, int VECTOR_BAD
        SINGLE  int_data, int VECTOR_DATA
        SINGLE  int_null, int VECTOR_NULL
        SINGLE  int_last, int VECTOR_LAST + 1
        SINGLE  int_ring1, int VECTOR_RING1
        SINGLE  int_conforming, int VECTOR_CONFORMING
        SINGLE  int_task, int VECTOR_TASK

# ---- Privileged instructions ------------------------------------------------------------------------------

        SINGLE  cli, cli
        SINGLE  sti, sti
        SINGLE  hlt, hlt
        SINGLE  mov_from_cr0, mov eax, cr0
        SINGLE  mov_to_cr3, mov cr3, eax
        SINGLE  mov_from_dr, mov eax, dr7
        SINGLE  lgdt, lgdt [esp]
        SINGLE  lidt, lidt [esp]
        SINGLE  lmsw, lmsw ax
        SINGLE  clts, clts
        SINGLE  invlpg, invlpg [esp]
        SINGLE  wbinvd, wbinvd
        SINGLE  rdtsc, rdtsc

        ACTION  rdmsr
        mov     ecx, 0x174
        AT      rdmsr, rdmsr
        ret

        ACTION  wrmsr
        mov     ecx, 0x174
        xor     eax, eax
        xor     edx, edx
        AT      wrmsr, wrmsr
        ret

        ACTION  in8
        mov     edx, [esp + 4]
        AT      in8, in al, dx
        ret

        ACTION  out8
        mov     edx, [esp + 4]
        mov     al, 0x5A
        AT      out8, out dx, al
        ret

        ACTION  in16
        mov     edx, [esp + 4]
        AT      in16, in ax, dx
        ret

        ACTION  in32
        mov     edx, [esp + 4]
        AT      in32, in eax, dx
        ret

        ACTION  insb
        push    edi
        mov     edx, [esp + 8]
        mov     edi, offset watched
        AT      insb, insb
        pop     edi
        ret

        ACTION  outsb
        push    esi
        mov     edx, [esp + 8]
        mov     esi, offset watched
        AT      outsb, outsb
        pop     esi
        ret

# Try to set every flag with POPF, and to clear every flag, and remember what came of it.
        ACTION  popf_all
        mov     eax, [esp + 4]
        pushfd
        push    eax
        AT      popf_all, popfd
        pushfd
        pop     dword ptr [seen_eflags]
        popfd
        ret

        ACTION  call_gate
        push    0x22222222
        push    0x11111111
        AT      call_gate, call CALL_GATE_32:0
        ret

        SINGLE  call_gate_absent, call CALL_GATE_ABSENT:0

        .globl  call_gate_target
call_gate_target:                       # ring 0, on the ring 0 stack, the parameters copied
        mov     [seen_gate_cs], cs
        mov     eax, [esp + 8]
        mov     [seen_gate_first], eax
        mov     eax, [esp + 12]
        mov     [seen_gate_second], eax
        retf    8

        ACTION  spin                    # until an interrupt ends it
        AT      spin, jmp at_spin

# ---- Memory -----------------------------------------------------------------------------------------------

        ACTION  read
        mov     eax, [esp + 4]
        AT      read, mov al, [eax]
        ret

        ACTION  write
        mov     eax, [esp + 4]
        AT      write, mov [eax], al
        ret

        ACTION  write_word
        mov     eax, [esp + 4]
        AT      write_word, mov [eax], ax
        ret

        ACTION  read_with_ac
        mov     eax, [esp + 4]
        stac
        AT      read_with_ac, mov al, [eax]
        clac
        ret

        ACTION  lose_stack              # the argument is an address where no stack is
        push    ebx
        mov     ebx, esp
        mov     esp, [esp + 8]
        AT      lose_stack, int VECTOR_USER
        pop     ebx
        ret

        ACTION  call
        mov     eax, [esp + 4]
        AT      call, call eax
        ret

# ---- Segment limits ---------------------------------------------------------------------------------------

        .macro  WITH_FS name, instruction:vararg
        ACTION  \name
        mov     eax, [esp + 4]
        mov     ecx, [limit_selector]
        mov     fs, ecx
        AT      \name, \instruction
        ret
        .endm

        WITH_FS fs_read, mov dl, fs:[eax]
        WITH_FS fs_read_word, mov dx, fs:[eax]
        WITH_FS fs_write, mov fs:[eax], dl

        ACTION  cs_write
        mov     eax, [esp + 4]
        AT      cs_write, mov cs:[eax], dl
        ret

        ACTION  ss_read                 # with SS = a short segment, so in ring 3 and without a return
        AT      ss_read, mov dl, ss:[0x1000]
        int     VECTOR_DONE

        .section .rodata
        .balign 4
bounds: .long   -5, 10
unmasked:
        .word   0x037B                  # the x87 control word with division by zero unmasked

        .bss
        .balign 4
        .globl  limit_selector
limit_selector:
        .skip   4
        .globl  seen_eflags, seen_gate_cs, seen_gate_first, seen_gate_second, watched
seen_eflags:
        .skip   4
seen_gate_cs:
        .skip   4
seen_gate_first:
        .skip   4
seen_gate_second:
        .skip   4
watched:
        .skip   4
