# From 32-bit protected mode to 64-bit mode, over page tables that map the first GiB onto itself in 2 MiB
# pages. (AMD APM vol. 2, rev. 3.42, section 14.6, "Enabling and activating long mode".)

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, first_top_table

        .set    CPUID_LONG_MODE, 1 << 29        # function 80000001h, EDX
        .set    PRESENT_WRITABLE, 0x03
        .set    LARGE, 0x80
        .set    ACCESSED_DIRTY, 0x60
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
        mov     esp, offset stack_top
        mov     ebp, ebx                # the Multiboot information: CPUID overwrites EBX
        mov     eax, 0x80000000
        cpuid
        cmp     eax, 0x80000001
        jb      no_long_mode
        mov     eax, 0x80000001
        cpuid
        test    edx, CPUID_LONG_MODE
        jz      no_long_mode

        mov     dword ptr [first_top_table], offset low_pointers + PRESENT_WRITABLE
        mov     dword ptr [low_pointers], offset low_directory + PRESENT_WRITABLE
        mov     edi, offset low_directory
        mov     eax, PRESENT_WRITABLE | LARGE | ACCESSED_DIRTY
next_entry:
        mov     [edi], eax
        add     eax, 0x200000
        add     edi, 8
        cmp     edi, offset low_directory + 4096
        jb      next_entry

        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, offset first_top_table
        mov     cr3, eax
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, EFER_LME_NXE
        wrmsr
        mov     eax, cr0
        or      eax, CR0_PG_WP
        mov     cr0, eax
        lgdt    [gdt_register]
        jmp     KERNEL_CODE:long_mode

no_long_mode:
        mov     al, 2
        out     DEBUG_EXIT, al
        hlt

        .code64
long_mode:
        xor     eax, eax
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, offset stack_top
        mov     edi, ebp
        call    kernel_main

        .balign 8
gdt:    .quad   0
        .quad   0x00AF9B000000FFFF      # 08: ring 0 code, 64 bits
gdt_register:
        .word   2 * 8 - 1
        .quad   gdt

        .bss
        .balign 4096
first_top_table:
        .skip   4096
low_pointers:
        .skip   4096
low_directory:
        .skip   4096
        .skip   8192
stack_top:
