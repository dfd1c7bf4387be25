/* The selectors, for C and for the assembler (SDM3 3.4.2: index times 8, plus the requested privilege level).
 *
 * All segments but the TSS are flat: base 0, limit 4 GiB. They cannot be done without, since CS and SS hold the
 * privilege level, but protection is left to paging. The order is that of SYSENTER, should it ever be used. */
#pragma once

#ifdef PARAVIRT
#include "hypercall.h"
#define KERNEL_CODE HV_KERNEL_CODE
#define KERNEL_DATA HV_KERNEL_DATA
#define USER_CODE HV_USER_CODE
#define USER_DATA HV_USER_DATA
#else
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE 0x1B
#define USER_DATA 0x23
#define TASK_STATE 0x28
#endif
