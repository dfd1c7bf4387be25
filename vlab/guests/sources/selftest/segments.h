/* The selectors of the 32-bit half, for C and for the assembler (tables.c has the descriptors). */
#pragma once

#define KERNEL_CODE 0x08 /* the first four in the order of SYSENTER */
#define KERNEL_DATA 0x10
#define USER_CODE 0x1B
#define USER_DATA 0x23
#define MAIN_TASK 0x28
#define OTHER_TASK 0x30
#define FAULT_TASK 0x38
#define MAIN_TASK_16 0x40
#define CODE_16 0x48      /* ring 0, 16 bits; its base is `code16` in gates16.S */
#define DATA_16 0x50      /* ring 0, 16 bits; its base is `stack16` */
#define USER_CODE_16 0x5B /* the same two for ring 3 */
#define USER_DATA_16 0x63
#define RING1_CODE 0x69
#define RING1_DATA 0x71
#define CONFORMING_CODE 0x78
#define ABSENT_DATA 0x80
#define READ_ONLY_DATA 0x88
#define EXECUTE_ONLY_CODE 0x90
#define SHORT_CODE 0x98 /* limit FFF */
#define ABSENT_CODE 0xA0
#define CALL_GATE_32 0xAB /* to `call_gate_target`, two parameters, DPL 3 */
#define CALL_GATE_ABSENT 0xB3
#define LOCAL_TABLE 0xB8
#define REAL_CODE_16 0xC0 /* base REAL_BASE, the way into real mode */
#define REAL_DATA_16 0xC8
#define SHORT_DATA 0xD3   /* limit FFF, DPL 3 */
#define UPPER_DATA 0xDB   /* expands down: from 1000 up, DPL 3 */
#define GDT_ENTRIES 0x1C
#define BEYOND_GDT 0x1F0

#define LOCAL_DATA 0x0C      /* index 1 in the LDT, RPL 0 */
#define LOCAL_ABSENT 0x14    /* index 2 */
#define LOCAL_BEYOND 0x1C    /* index 3: beyond its limit */

/* Vectors that the tests use for themselves. */
#define VECTOR_DONE 0x80     /* DPL 3: the way back from an outer ring */
#define VECTOR_USER 0x81     /* DPL 3, for tests */
#define VECTOR_TRAP 0x82     /* DPL 3, trap gate */
#define VECTOR_KERNEL 0x83   /* DPL 0 */
#define VECTOR_ABSENT 0x84   /* not present */
#define VECTOR_BAD 0x85      /* selector beyond the GDT */
#define VECTOR_DATA 0x86     /* selector of a data segment */
#define VECTOR_NULL 0x87     /* null selector */
#define VECTOR_RING1 0x88    /* to ring 1 */
#define VECTOR_CONFORMING 0x89
#define VECTOR_INT16 0x8A    /* 16-bit interrupt and trap gates */
#define VECTOR_TRAP16 0x8B
#define VECTOR_TASK 0x8C     /* task gate */
#define VECTOR_LAST 0xA0     /* the IDT ends here */
#define IRQ_BASE 0x20

#define POST_PORT 0x80 /* where nothing is read and anything may be written */
