# From 32-bit protected mode to 64-bit mode, over a first set of page tables: the first GiB onto itself, in
# 2 MiB pages. (AMD APM vol. 2, rev. 3.42, section 14.6, "Enabling and activating long mode".)

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, kernel_stack_top

        .set    CPUID_LONG_MODE, 1 << 29        # function 80000001h, EDX
        .set    PRESENT_WRITABLE, 0x03
        .set    LARGE, 0x80
        .set    CR4_PAE, 1 << 5
        .set    MSR_EFER, 0xC0000080
        .set    EFER_LME_NXE, 1 << 8 | 1 << 11
        .set    CR0_PG_WP, 1 << 31 | 1 << 16
        .set    KERNEL_CODE, 0x08
        .set    DEBUG_EXIT, 0xF4

        .code32
        .text
start:
        cli
        cld
        mov     esp, offset kernel_stack_top
        mov     eax, 0x80000000
        cpuid
        cmp     eax, 0x80000001
        jb      no_long_mode
        mov     eax, 0x80000001
        cpuid
        test    edx, CPUID_LONG_MODE
        jz      no_long_mode

        mov     dword ptr [first_pml4], offset first_pdpt + PRESENT_WRITABLE
        mov     dword ptr [first_pdpt], offset first_pd + PRESENT_WRITABLE
        mov     edi, offset first_pd
        mov     eax, PRESENT_WRITABLE | LARGE
next_entry:
        mov     [edi], eax
        add     eax, 0x200000
        add     edi, 8
        cmp     edi, offset first_pd + 4096
        jb      next_entry

        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, offset first_pml4
        mov     cr3, eax
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_LME_NXE
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG_WP
        mov     cr0, eax                # long mode is active now, in its 32-bit form
        lgdt    [gdt_register]
        jmp     KERNEL_CODE:long_mode   # and a code segment with L = 1 makes it 64-bit

no_long_mode:
        mov     esi, offset sorry
next_character:
        lodsb
        test    al, al
        jz      give_up
        mov     dx, 0x3F8
        out     dx, al
        jmp     next_character
give_up:
        mov     al, 1
        out     DEBUG_EXIT, al
        hlt

        .code64
long_mode:
        xor     eax, eax
        mov     ds, eax
        mov     es, eax
        mov     ss, eax                 # 64-bit mode needs no data segments, not even for the stack
        mov     esp, offset kernel_stack_top
        call    kernel_main

sorry:  .asciz  "longmode: this processor has no long mode\r\n"

        .balign 8
gdt_register:
        .word   8 * 8 - 1
        .quad   gdt

        .data
        .balign 16
        .globl  gdt
gdt:    .quad   0
        .quad   0x00AF9B000000FFFF      # 08: ring 0 code, 64 bits
        .quad   0x00CF93000000FFFF      # 10: ring 0 data
        .quad   0
        .quad   0x00CFF3000000FFFF      # 20: ring 3 data
        .quad   0x00AFFB000000FFFF      # 28: ring 3 code, 64 bits
        .quad   0, 0                    # 30: the TSS, made in tables.c

        .bss
        .balign 4096
first_pml4:
        .skip   4096
first_pdpt:
        .skip   4096
first_pd:
        .skip   4096
        .skip   8192
kernel_stack_top:
