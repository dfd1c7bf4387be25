/* The selectors of the rings guest, for C and for the assembler.
 *
 * SYSENTER and SYSEXIT fix the order (APM2 6.1.2): ring 0 code, ring 0 stack, ring 3 code, ring 3 stack. */
#pragma once

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE 0x1B /* index 3, RPL 3 */
#define USER_DATA 0x23 /* index 4, RPL 3 */
#define TASK_STATE 0x28

#define VECTOR_GP 13
#define VECTOR_SYSCALL 0x80
