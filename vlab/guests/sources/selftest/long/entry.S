# Into long mode and back out of it (APM2 14.6, 14.7). Called in 32-bit protected mode, paging off, with the
# tally's address on the stack; all 32-bit registers but EAX, ECX and EDX are kept.

#include "segments64.h"

        .intel_syntax noprefix
        .globl  long_entry, gdt, kernel_stack_top

        .set    CR4_PAE, 1 << 5
        .set    MSR_EFER, 0xC0000080
        .set    EFER_SCE, 1 << 0
        .set    EFER_LME, 1 << 8
        .set    EFER_NXE, 1 << 11
        .set    CR0_PG, 1 << 31
        .set    CR0_WP, 1 << 16

        .section .text.entry, "ax"
        .code32
long_entry:
        pushad
        mov     ebx, [esp + 36]         # the tally
        cld
        mov     edi, offset bss_start
        mov     ecx, offset bss_end
        sub     ecx, edi
        xor     eax, eax
        rep stosb
        mov     [saved_esp], esp
        sgdt    [saved_gdt]
        sidt    [saved_idt]
        mov     esp, offset kernel_stack_top

        call    build_first_tables
        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, offset pml4
        mov     cr3, eax
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_SCE | EFER_LME | EFER_NXE
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG | CR0_WP
        mov     cr0, eax
        lgdt    [gdt_register]
        jmp     KERNEL_CODE:in_long_mode

# The first GiB onto itself, for all rings, in 2 MiB pages.
build_first_tables:
        mov     dword ptr [pml4], offset low_pdpt + 7
        mov     dword ptr [low_pdpt], offset low_directory + 7
        mov     edi, offset low_directory
        mov     eax, 0x87
        mov     ecx, 512
1:      mov     [edi], eax
        add     eax, 0x200000
        add     edi, 8
        loop    1b
        ret

        .code64
in_long_mode:
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, offset kernel_stack_top
        mov     edi, ebx
        call    long_main

        push    KERNEL_CODE_32          # back: first to a 32-bit code segment
        lea     rax, [leave_long_mode]
        push    rax
        .byte   0x48                    # a far return with 64-bit operands
        retf

        .code32
leave_long_mode:
        mov     eax, KERNEL_DATA        # 32-bit code needs segments; a visit to ring 3 has nulled them
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     eax, cr0                # then paging off, which ends long mode
        and     eax, ~CR0_PG
        mov     cr0, eax
        mov     ecx, MSR_EFER
        rdmsr
        and     eax, ~(EFER_SCE | EFER_LME | EFER_NXE)
        wrmsr
        mov     eax, cr4
        and     eax, ~CR4_PAE
        mov     cr4, eax
        lgdt    [saved_gdt]
        lidt    [saved_idt]
        mov     esp, [saved_esp]
        mov     eax, 0x10               # KERNEL_DATA of the 32-bit half
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        jmp     0x08:1f
1:      popad
        ret

        .balign 8
gdt_register:
        .word   GDT_BYTES - 1
        .quad   gdt

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00AF9B000000FFFF      # KERNEL_CODE
        .quad   0x00CF93000000FFFF      # KERNEL_DATA
        .quad   0x00CFFB000000FFFF      # USER_CODE_32
        .quad   0x00CFF3000000FFFF      # USER_DATA
        .quad   0x00AFFB000000FFFF      # USER_CODE
        .quad   0, 0                    # TASK_STATE, made in tables64.c
        .quad   0x00CF9B000000FFFF      # KERNEL_CODE_32
        .quad   0x00CF13000000FFFF      # ABSENT_DATA
        .quad   0x00EF9B000000FFFF      # BOTH_BITS: L and D set, which is reserved

        .bss
        .balign 4096
        .globl  pml4, low_pdpt, low_directory
pml4:
        .skip   4096
low_pdpt:
        .skip   4096
low_directory:
        .skip   4096
        .skip   16384
kernel_stack_top:
saved_esp:
        .skip   4
saved_gdt:
        .skip   8
saved_idt:
        .skip   8
