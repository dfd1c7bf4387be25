# Boot: from what a Multiboot loader leaves behind to C in the upper quarter of the address space.
#
# The loader (or our own boot sector, sector.S, which imitates one) enters at `start` in 32-bit protected mode:
# flat segments, paging and interrupts off, EAX = 2BADB002h, EBX = the physical address of the information
# structure (Multiboot Specification 0.6.96, section 3.2). The kernel is linked at C0100000h but lies at 100000h,
# so until paging is on every address needs KERNEL_BASE subtracted.
#
# The page directory built here maps the first 64 MiB twice, in 4 MB pages (SDM3 4.3: 32-bit paging with CR4.PSE):
# at 0, since the instruction behind MOV CR0 is still fetched from there, and at KERNEL_BASE, for good. Large
# pages make this a table of 32 entries, and cost one TLB entry where small ones would cost 1,024.
#
# A paravirtual kernel (-DPARAVIRT) does none of this. Its monitor has built page tables and switched paging on;
# it finds the entry point `paravirt_start` through the header of hypercall.h. Started by Multiboot, it says that
# it cannot run there.

#include "layout.h"
#include "segments.h"

        .intel_syntax noprefix
        .include "multiboot.inc"
        MULTIBOOT_HEADER
        .globl  start, kernel_directory, boot_stack

        .set    CR4_PSE, 1 << 4
        .set    CR0_PG_WP_EM, 1 << 31 | 1 << 16 | 1 << 2
        .set    LARGE_WRITABLE, 0x83            # PS, R/W, P
        .set    ENTRIES, MEMORY_LIMIT / LARGE_PAGE
        .set    CPUID_PSE, 1 << 3

        .section .multiboot.start, "ax"         # behind the header, where the boot sector expects it
#ifdef PARAVIRT
        .balign 4
        .long   HV_HEADER_MAGIC, HV_VERSION, KERNEL_BASE, paravirt_start
        .long   -(HV_HEADER_MAGIC + HV_VERSION + KERNEL_BASE) - paravirt_start

start:
        jmp     give_up

paravirt_start:                                 # ESI = struct hv_start_info
        mov     esp, offset boot_stack
        cld
        mov     eax, HV_START_MAGIC
        mov     ebx, esi
        jmp     to_c

sorry:  .asciz  "wren: this kernel is paravirtual; it needs a monitor that knows its hypercalls\r\n"
#else
start:
        cli
        cld
        mov     esi, eax                        # (CPUID and STOS want the registers)
        mov     edi, offset bss_start - KERNEL_BASE
        mov     ecx, offset image_end - KERNEL_BASE
        sub     ecx, edi
        shr     ecx, 2
        xor     eax, eax
        rep stosd                               # the boot sector has not cleared it

        mov     ebp, ebx
        mov     eax, 1
        cpuid
        mov     ebx, ebp
        test    edx, CPUID_PSE
        jz      give_up

        mov     edi, offset kernel_directory - KERNEL_BASE
        mov     eax, LARGE_WRITABLE
        xor     ecx, ecx
next_entry:
        mov     [edi + 4 * ecx], eax
        mov     [edi + 4 * ecx + KERNEL_BASE / LARGE_PAGE * 4], eax
        add     eax, LARGE_PAGE
        inc     ecx
        cmp     ecx, ENTRIES
        jb      next_entry

        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     cr3, edi
        mov     eax, cr0
        or      eax, CR0_PG_WP_EM               # WP: copy-on-write holds for the kernel too
        mov     cr0, eax                        # EM: floating point faults; nobody saves its registers
        mov     eax, offset high
        jmp     eax
high:
        mov     esp, offset boot_stack
        mov     eax, esi
        jmp     to_c

sorry:  .asciz  "wren: this processor has no pages of 4 MB\r\n"
#endif

give_up:                                        # say why, and end with PANIC_STATUS
        mov     esi, offset sorry - KERNEL_BASE
        mov     dx, 0x3F8
next_character:
        lodsb
        test    al, al
        jz      said
        out     dx, al
        jmp     next_character
said:
        mov     al, 2
        out     0xF4, al
        cli
        hlt

        .text
to_c:
        push    ebx
        push    eax
        call    kernel_main                     # (magic, information)

        .bss
        .balign 4096
kernel_directory:
        .skip   4096
        .skip   4096
boot_stack:
