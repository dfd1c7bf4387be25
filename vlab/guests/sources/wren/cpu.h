/* The processor and the PC, as the rest of the kernel sees them: everything privileged is behind this header.
 *
 * There are two implementations, chosen when the kernel is compiled. The native one executes the instructions
 * (below, and in tables.c and devices.c). The paravirtual one, with -DPARAVIRT, asks a monitor instead (below, and
 * in paravirt.c); hypercall.h is that conversation. No other file tells them apart.
 *
 * Critical sections. Interrupt handlers share data with the rest of the kernel, so the rest switches
 * interrupts off while it uses them. It may be called with interrupts off already; hence it saves the flag, and
 * restores what was:
 *     uint32_t flags = irq_save();
 *     ...
 *     irq_restore(flags);
 * Natively that is PUSHF, CLI and POPF. In ring 0 they do what they say. In any outer ring CLI faults, which a monitor
 * can emulate, but PUSHF shows the real IF and POPF leaves it alone without a fault (SDM2, POPF: CPL > IOPL): this
 * kernel cannot run in ring 1 unnoticed, and irq_must_be_off is where it notices. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"
#include "segments.h"

enum {
    EFLAGS_IF = 1 << 9,
    IRQ_BASE = 32, /* the vector of IRQ 0: the first that is not reserved for exceptions (SDM3 6.2) */
    IRQ_TIMER = 0,
    IRQ_SERIAL = 4,
    VECTOR_SYSCALL = 0x80,
    TICKS_PER_SECOND = 100,
};

extern char trap_entries[]; /* entry.S: one entry of TRAP_ENTRY_SIZE bytes for each vector */
enum { TRAP_ENTRY_SIZE = 16, TRAP_VECTORS = 48 };

/* tables.c or paravirt.c */
void load_trap_table(void);                 /* vectors 0-47 from the kernel alone, 80h from programs too */
void set_kernel_stack(uint32_t top);        /* where the next entry from a program begins to push */
uint32_t memory_size(uint32_t magic, const void *information, const char **command_line);
uint32_t first_free_frame(void);            /* physical address */
uint32_t *first_directory(uint32_t size);   /* it maps `size` bytes of memory at KERNEL_BASE, and nothing else */

/* devices.c or paravirt.c */
void devices_start(void);                   /* serial port and interrupt controllers; the timer does not tick yet */
void timer_start(void);
void timer_again(void);                     /* in the timer's handler */
void interrupt_done(unsigned irq);
void serial_write(const char *text, uint32_t size);
int serial_read(void);                      /* the next byte, or -1 */
void touch_device(void);                    /* the cheapest access to a device, without effect */
void power_off(uint8_t status) __attribute__((noreturn));

/* ata.c or paravirt.c */
bool disk_open(const char *driver);         /* whether there is a disk for it */
bool disk_transfer(uint32_t sector, uint32_t count, char *to); /* read; `to` is in one page of the kernel's */

/* Page tables. A directory or table that is in use is changed with set_entry; or, if many changes follow one
 * another, with queue_entry and a flush_all at the end. */
void tables_in_use(uint32_t *directory);    /* it and its tables of the user half are complete: load it or not */
void table_in_use(uint32_t *table);         /* one more table, about to be entered into a directory in use */
void tables_unused(uint32_t *directory);    /* ordinary memory again, tables and all; it is not loaded */

#ifndef PARAVIRT
static inline uint32_t irq_save(void)
{
    uint32_t flags;
    __asm__ volatile("pushfd\n\t"
                     "pop %0\n\t"
                     "cli" : "=r"(flags) : : "memory");
    return flags;
}

static inline void irq_restore(uint32_t flags)
{
    __asm__ volatile("push %0\n\t"
                     "popfd" : : "r"(flags) : "memory", "cc");
}

static inline void irq_disable(void)
{
    __asm__ volatile("cli" : : : "memory");
}

static inline void irq_enable(void)
{
    __asm__ volatile("sti" : : : "memory");
}

static inline bool irq_enabled(void)
{
    uint32_t flags;
    __asm__ volatile("pushfd\n\t"
                     "pop %0" : "=r"(flags));
    return flags & EFLAGS_IF;
}

/* Sleep until an interrupt has been handled. STI takes effect behind the next instruction, so that none can slip
 * in between and leave HLT waiting for the one after it. */
static inline void idle(void)
{
    __asm__ volatile("sti\n\t"
                     "hlt" : : : "memory");
}

static inline uint32_t fault_address(void)
{
    uint32_t address;
    __asm__ volatile("mov %0, cr2" : "=r"(address));
    return address;
}

static inline uint32_t machine_address(uint32_t physical)
{
    return physical;
}

static inline uint32_t physical_address(uint32_t machine)
{
    return machine;
}

static inline void load_directory(uint32_t *directory)
{
    __asm__ volatile("mov cr3, %0" : : "r"((uint32_t)directory - KERNEL_BASE) : "memory");
}

static inline void set_entry(uint32_t *entry, uint32_t value)
{
    *(volatile uint32_t *)entry = value;
}

static inline void queue_entry(uint32_t *entry, uint32_t value)
{
    set_entry(entry, value);
}

static inline void flush_page(uint32_t address)
{
    __asm__ volatile("invlpg [%0]" : : "r"(address) : "memory");
}

static inline void flush_all(uint32_t *directory)
{
    load_directory(directory);
}
#else
extern struct hv_shared_info *shared;
extern uint32_t machine_base;

static inline int32_t hypercall(uint32_t number, uint32_t first, uint32_t second)
{
    int32_t result;
    __asm__ volatile("int %c1" : "=a"(result) : "i"(HV_VECTOR), "a"(number), "b"(first), "c"(second) : "memory");
    return result;
}

void set_entry(uint32_t *entry, uint32_t value); /* paravirt.c */
void queue_entry(uint32_t *entry, uint32_t value);
void flush_page(uint32_t address);
void flush_all(uint32_t *directory);
void load_directory(uint32_t *directory);

static inline void irq_disable(void)
{
    shared->interrupts_on = 0;
}

static inline void irq_enable(void)
{
    shared->interrupts_on = 1;
    if (shared->events_pending)
        hypercall(HV_DELIVER_EVENTS, 0, 0);
}

static inline bool irq_enabled(void)
{
    return shared->interrupts_on;
}

static inline uint32_t irq_save(void)
{
    uint32_t flags = shared->interrupts_on ? EFLAGS_IF : 0;
    irq_disable();
    return flags;
}

static inline void irq_restore(uint32_t flags)
{
    if (flags & EFLAGS_IF)
        irq_enable();
    else
        irq_disable();
}

static inline void idle(void)
{
    hypercall(HV_BLOCK, 0, 0);
}

static inline uint32_t fault_address(void)
{
    return shared->fault_address;
}

static inline uint32_t machine_address(uint32_t physical)
{
    return physical + machine_base;
}

static inline uint32_t physical_address(uint32_t machine)
{
    return machine - machine_base;
}
#endif
