/* The hypercall interface: what the paravirtual kernel asks of its monitor, and what it may rely on.
 *
 * THE IDEA. The kernel runs in ring 1, its programs in ring 3, the monitor in ring 0. Everything that would need
 * ring 0, and everything whose meaning would silently change in ring 1 (PUSHF and POPF above all), is not
 * executed but asked for. The kernel's page tables are the ones that the processor walks ("direct paging"): the
 * kernel may read them but not write them, and each change goes through the monitor, which checks it.
 *
 * THE CALL. INT 82h with EAX = the number (HV_... below) and EBX, ECX, EDX, ESI, EDI = the arguments. The result
 * comes back in EAX: 0 or a count for success, or a negative error (HV_E...). All other registers and the flags are
 * preserved. Ring 3 has no use of INT 82h: it is answered with #GP(82h * 8 + 2), as a gate of DPL 1 does. Pointer
 * arguments are linear addresses in the kernel's part; one that is not mapped, or lies in the monitor's part, gives
 * HV_EFAULT. A number that is not defined gives HV_ENOSYS.
 *
 * MEMORY. The guest has `memory_size` bytes of physical memory from 0, a multiple of 4096, all of it RAM (there is no
 * hole below 1 MiB), contiguous in the machine:
 *     machine address = guest-physical address + machine_base        (machine_base may be 0)
 * Entries of page tables, CR3 and the entry addresses of HV_MMU_UPDATE hold MACHINE addresses. Linear addresses:
 *     C0000000h + p        guest-physical address p, in pages of 4 KB, writable, supervisor (not U/S), in every
 *                          page directory; except page tables and directories in use, which are read-only: a
 *                          store into one is a #PF like any other
 *     FC000000h and up     the monitor's own: it fills page directory entries 1008 to 1023 by itself when a
 *                          directory is pinned, whatever the kernel has put there
 *
 * THE START. The image is an ELF file with a header of five words on a 4-byte boundary in its first 8 KiB:
 *     HV_HEADER_MAGIC, HV_VERSION, linear base, linear entry point, minus the sum of the four
 * The monitor loads the segments to their physical addresses (p_paddr) and builds, above the image, the start-info
 * page, the shared-info page, and page tables for the memory map above. It enters at the entry point with paging and
 * CR0.WP on, CR0.EM on too (floating point faults with #NM), CS and SS/DS/ES the flat selectors HV_KERNEL_CODE and
 * HV_KERNEL_DATA, ESI = the linear address of struct hv_start_info, `interrupts_on` 0, IOPL 0. ESP and the other
 * registers are undefined, and so is memory outside the image and the two pages. The first directory maps nothing
 * below C0000000h.
 *
 * TRAPS. What happens in ring 1 or 3 is delivered through the table of HV_SET_TRAP_TABLE as through interrupt
 * gates: from ring 3 the stack is the one of HV_SET_KERNEL_STACK, from ring 1 the one in use. Pushed are SS and ESP
 * (from ring 3 only), EFLAGS, CS, EIP, and the error code where SDM3 6.15 has one. In the pushed EFLAGS, IF is
 * `interrupts_on` as it was; delivery sets `interrupts_on` to 0. CS has RPL 1 or 3. For #PF, `fault_address` is the
 * CR2 of a real processor, and the error code's U/S bit is 0 from ring 1. INT n in ring 3 works if `privilege` of
 * the table's entry n is 3, else it gives #GP(n * 8 + 2). DS, ES, FS and GS are left as they are. A trap without an
 * entry in the table, or one whose stack cannot be written, ends the guest.
 *
 * EVENTS take the place of device interrupts. Event n sets bit n of `events_pending`. As soon as `interrupts_on` is
 * 1, the monitor clears the lowest pending bit and delivers vector HV_EVENT_VECTOR + n like a trap without error
 * code. The kernel sets and clears `interrupts_on` by plain stores; having set it, it must look at
 * `events_pending`, and call HV_DELIVER_EVENTS if that is not 0.
 *
 * VALIDATION. A frame has one use at a time: page directory, page table, or plain (mapped writable, or not at all).
 * It becomes a directory by HV_PIN, and a table when a pinned directory refers to it; then it must not be mapped
 * writable anywhere, and what is in it is checked. It becomes plain again when the last reference is gone.
 *   - An entry with P = 0 is always in order. Of an entry with P = 1 the frame must be the guest's own.
 *   - In a table's entry: W must be 0 if the frame is a directory or table. PCD, PWT, PAT and G must be 0.
 *   - In a directory's entry: the frame must be fit to be a table. PS (4 MB pages), PCD and PWT must be 0. Entries
 *     768 to 1007 must be those of the first directory (A and D aside), or 0: all address spaces share the kernel's
 *     tables. Once the directory is pinned, its entries 768 to 1023 cannot be written.
 *   - A present page in the kernel's part never has U/S set.
 * A violation gives HV_EINVAL, and nothing has been changed by the entry in question.
 *
 * SHADOW PAGING. The monitor may keep tables of its own for the processor instead, made from the guest's. The guest is
 * the same: it is told that machine_base is 0, so its tables hold guest-physical addresses. Then nothing is validated,
 * since nothing that is in them can do harm: HV_MMU_UPDATE refuses only an address that is not in the guest's memory.
 * An entry that refers to other memory ends the guest when it is used; entries 1008 to 1023 are not looked at. */
#pragma once

#define HV_VECTOR 0x82
#define HV_HEADER_MAGIC 0x6E657257 /* "Wren" */
#define HV_START_MAGIC 0x6E657258  /* in EAX, as the kernel's own boot code hands it to C */
#define HV_VERSION 1

#define HV_KERNEL_CODE 0x19 /* base 0; the limit may be anything from FBFFFFFFh on */
#define HV_KERNEL_DATA 0x21
#define HV_USER_CODE 0x2B
#define HV_USER_DATA 0x33

/* The calls: arguments in EBX, ECX, ... in the order given. */
#define HV_SET_TRAP_TABLE 1     /* (struct hv_trap *table): it ends with an entry whose eip is 0; copied */
#define HV_SET_KERNEL_STACK 2   /* (ss, esp): the stack for traps from ring 3; ss is HV_KERNEL_DATA */
#define HV_LOAD_CR3 3           /* (machine address of a pinned directory); flushes the TLB */
#define HV_PIN 4                /* (machine address of a frame): it becomes a directory, and is checked */
#define HV_UNPIN 5              /* (machine address): no directory any more. HV_EBUSY if it is loaded */
#define HV_MMU_UPDATE 6         /* (struct hv_mmu_update *, count): in order; result = how many were done,
                                 * fewer than count if one was refused; HV_EINVAL if the first one was.
                                 * The monitor may leave stale TLB entries: flush. */
#define HV_UPDATE_VA_MAPPING 7  /* (linear address, entry): writes the page-table entry that maps the address in
                                 * the loaded directory, and flushes the address from the TLB */
#define HV_FLUSH_PAGE 8         /* (linear address): INVLPG */
#define HV_FLUSH_ALL 9          /* (): as a load of CR3 */
#define HV_IRET 10              /* (): returns from a trap. On the stack, from ESP up: EAX (restored), EIP, CS,
                                 * EFLAGS, and if CS has RPL 3, ESP, SS. `interrupts_on` becomes IF of EFLAGS;
                                 * of EFLAGS itself IF, IOPL, VM, VIF and VIP are not taken. CS and SS must be
                                 * the four selectors above; else the guest ends. */
#define HV_DELIVER_EVENTS 11    /* (): deliver now what is pending, if `interrupts_on` is 1 */
#define HV_BLOCK 12             /* (): sets `interrupts_on` to 1, and returns after an event has been delivered */
#define HV_YIELD 13             /* (): lets other guests run */
#define HV_CONSOLE_WRITE 14     /* (address, length): bytes to the console, as they are */
#define HV_CONSOLE_READ 15      /* (address, length): result = how many bytes of input were there */
#define HV_SET_TIMER 16         /* (low, high): raise HV_EVENT_TIMER once, when `time` is at least high:low
                                 * (nanoseconds); 0 cancels */
#define HV_SHUTDOWN 17          /* (status, 8 bits): ends the guest as a write to port F4h would */

#define HV_DISK_READ 18         /* (struct hv_disk_read *): sectors of 512 bytes into the kernel's part.
                                 * HV_EINVAL if the disk does not have them, or there is none */

#define HV_EVENT_VECTOR 32
#define HV_EVENT_TIMER 0
#define HV_EVENT_CONSOLE 4 /* there is input; raised again whenever more arrives */

#define HV_EINVAL (-1)
#define HV_EFAULT (-2)
#define HV_EBUSY (-3)
#define HV_ENOSYS (-4)

#ifndef __ASSEMBLER__
#include <stdint.h>

struct hv_start_info { /* all addresses linear, unless they say otherwise */
    uint32_t magic;            /* 00h: HV_HEADER_MAGIC */
    uint32_t memory_size;      /* 04h: bytes of guest-physical memory, from 0 */
    uint32_t machine_base;     /* 08h: machine address of guest-physical 0, a multiple of 4096 */
    uint32_t directory;        /* 0Ch: the first page directory, pinned and loaded */
    uint32_t free_start;       /* 10h: guest-physical address from which on all memory is unused */
    uint32_t shared_info;      /* 14h: struct hv_shared_info, writable */
    uint32_t command_line;     /* 18h: text with a NUL at its end */
};

struct hv_shared_info {
    volatile uint32_t interrupts_on;  /* 00h: the kernel's IF: 1 = events may be delivered */
    volatile uint32_t events_pending; /* 04h: bit n: event n waits */
    volatile uint32_t fault_address;  /* 08h: of the last #PF delivered */
    volatile uint32_t reserved;       /* 0Ch: 0 */
    volatile uint64_t time;           /* 10h: nanoseconds since the start, as of the last entry to the guest */
};

struct hv_trap {
    uint16_t vector;    /* 00h */
    uint16_t privilege; /* 02h: 3 if INT n may be used from ring 3, else 1 */
    uint32_t cs;        /* 04h: HV_KERNEL_CODE */
    uint32_t eip;       /* 08h */
};

struct hv_disk_read {
    uint32_t sector;  /* 00h: the first one */
    uint32_t count;   /* 04h: at most 128 */
    uint32_t address; /* 08h: linear address of the buffer, in the kernel's part */
};

struct hv_mmu_update {
    uint32_t entry; /* 00h: machine address of an entry of a table or pinned directory, a multiple of 4 */
    uint32_t value; /* 04h: what to write there */
};
#endif
