/* Numbers that the assembler and the compiler share. */
#pragma once

#define ROM_SEGMENT 0xF000
#define DATA_SEGMENT 0x9F00 /* the extended BIOS data area, just below 640 KiB */
#define BASE_MEMORY_KIB 636 /* what INT 12h reports: all below DATA_SEGMENT */
#define BOOT_ADDRESS 0x7C00
#define BOOT_DRIVE 0x80

/* Offsets in struct registers (bios.h). */
#define R_EAX 0
#define R_EBX 4
#define R_ECX 8
#define R_EDX 12
#define R_ESI 16
#define R_EDI 20
#define R_EBP 24
#define R_ESP 28
#define R_DS 32
#define R_ES 34
#define R_FS 36
#define R_GS 38
#define R_SS 40
#define R_FLAGS 42
#define R_CS 44
#define R_IP 46

/* What a service asks entry.S to do next (enum verdict). */
#define V_DONE 0
#define V_SLEEP_AND_RETRY 1
#define V_SPIN_AND_RETRY 2
