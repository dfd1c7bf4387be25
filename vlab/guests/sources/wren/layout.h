/* The linear address space, for C and for the assembler.
 *
 *     00000000  nothing, so that a null pointer faults
 *     00400000  the program: code, data, and the heap above them (it grows up to HEAP_LIMIT)
 *     BFFF0000  the user stack (it grows down from STACK_TOP, page by page, as it is touched)
 *     C0000000  the kernel: all physical memory, in order, in pages of 4 MB
 *
 * Physical address p is linear address KERNEL_BASE + p, the same in every address space; so the kernel reaches any
 * frame without mapping it first, and survives a load of CR3. */
#pragma once

#define KERNEL_BASE 0xC0000000
#define USER_BASE 0x00400000
#define HEAP_LIMIT 0x80000000
#define STACK_TOP 0xC0000000
#define STACK_BOTTOM 0xBFFF0000

#define PAGE 4096
#define LARGE_PAGE 0x400000
#define MEMORY_LIMIT 0x4000000 /* bytes of physical memory that the kernel uses at most */
