/* The selectors of the 64-bit half; those for ring 3 in the order of SYSRET. */
#pragma once

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE_32 0x1B
#define USER_DATA 0x23
#define USER_CODE 0x2B
#define TASK_STATE 0x30
#define KERNEL_CODE_32 0x40
#define ABSENT_DATA 0x48
#define BOTH_BITS 0x50
#define GDT_BYTES 0x58
#define BEYOND_GDT 0x1F0

#define VECTOR_DONE 0x80
#define VECTOR_USER 0x81
#define VECTOR_TRAP 0x82
#define VECTOR_KERNEL 0x83
#define VECTOR_ABSENT 0x84
#define VECTOR_TO_32 0x85  /* a gate to a 32-bit code segment */
#define VECTOR_TASK 0x86   /* a task gate, of which there are none any more */
#define VECTOR_IST 0x87
#define VECTOR_BAD 0x88
#define IRQ_BASE 0x20
