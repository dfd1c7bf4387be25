/* The paravirtual side of cpu.h: what natively is tables.c and devices.c, asked of the monitor (hypercall.h).
 *
 * Page tables are the delicate part. A new address space is built in ordinary memory, at full speed; then its frames
 * are made read-only in the kernel's own mapping, and the directory is pinned: from there on the monitor knows them as
 * page tables, and changes them at our request. Fork changes hundreds of entries of the parent: they go in batches,
 * since one call of 64 changes costs little more than one call of one. */
#include "kernel.h"

#include "hypercall.h"

enum { PRESENT = 1, WRITABLE = 2, BATCH = 64, TICK_NANOSECONDS = 1000000000 / TICKS_PER_SECOND };

struct hv_shared_info *shared;
uint32_t machine_base;

static const struct hv_start_info *start;
static struct hv_mmu_update batch[BATCH];
static unsigned batch_size;
static uint64_t next_tick;

uint32_t memory_size(uint32_t magic, const void *information, const char **command_line)
{
    start = information;
    shared = (struct hv_shared_info *)start->shared_info;
    machine_base = start->machine_base;
    if (magic != HV_START_MAGIC || start->magic != HV_HEADER_MAGIC)
        panic("the monitor speaks another version");
    *command_line = (const char *)start->command_line;
    return start->memory_size;
}

uint32_t first_free_frame(void)
{
    return (start->free_start + PAGE - 1) & -(uint32_t)PAGE;
}

uint32_t *first_directory(uint32_t size)
{
    (void)size; /* the monitor has mapped all memory */
    return (uint32_t *)start->directory;
}

void load_trap_table(void)
{
    static struct hv_trap table[TRAP_VECTORS + 2];
    uint32_t entry = (uint32_t)trap_entries;
    for (unsigned n = 0; n <= TRAP_VECTORS; n++, entry += TRAP_ENTRY_SIZE)
        table[n] = (struct hv_trap){ (uint16_t)n, 1, KERNEL_CODE, entry };
    table[TRAP_VECTORS].vector = VECTOR_SYSCALL;
    table[TRAP_VECTORS].privilege = 3;
    hypercall(HV_SET_TRAP_TABLE, (uint32_t)table, 0);
}

void set_kernel_stack(uint32_t top)
{
    hypercall(HV_SET_KERNEL_STACK, KERNEL_DATA, top);
}

/* ---- Page tables ---- */

static uint32_t machine_of(const void *memory)
{
    return machine_address((uint32_t)memory - KERNEL_BASE);
}

static void must(int32_t result, int32_t expected, const char *what)
{
    if (result != expected)
        panic("the monitor refuses %s: %d", what, result);
}

static void send_batch(void)
{
    unsigned size = batch_size;
    batch_size = 0;
    if (size)
        must(hypercall(HV_MMU_UPDATE, (uint32_t)batch, size), (int32_t)size, "changes of page tables");
}

void queue_entry(uint32_t *entry, uint32_t value)
{
    batch[batch_size++] = (struct hv_mmu_update){ machine_of(entry), value };
    if (batch_size == BATCH)
        send_batch();
}

void set_entry(uint32_t *entry, uint32_t value)
{
    queue_entry(entry, value);
    send_batch();
}

void flush_page(uint32_t address)
{
    hypercall(HV_FLUSH_PAGE, address, 0);
}

void flush_all(uint32_t *directory)
{
    (void)directory;
    send_batch();
    hypercall(HV_FLUSH_ALL, 0, 0);
}

void load_directory(uint32_t *directory)
{
    must(hypercall(HV_LOAD_CR3, machine_of(directory), 0), 0, "a page directory");
}

/* How the kernel's own mapping shows a frame. */
static void show_frame(const void *memory, uint32_t flags)
{
    uint32_t entry = machine_of(memory) | flags | PRESENT;
    must(hypercall(HV_UPDATE_VA_MAPPING, (uint32_t)memory, entry), 0, "a mapping");
}

static void show_tables(const uint32_t *directory, uint32_t flags)
{
    for (unsigned i = 0; i < KERNEL_BASE / LARGE_PAGE; i++)
        if (directory[i] & PRESENT)
            show_frame(frame_memory(physical_address(directory[i] & -(uint32_t)PAGE)), flags);
    show_frame(directory, flags);
}

void table_in_use(uint32_t *table)
{
    show_frame(table, 0);
}

void tables_in_use(uint32_t *directory)
{
    show_tables(directory, 0);
    must(hypercall(HV_PIN, machine_of(directory), 0), 0, "to pin a page directory");
}

void tables_unused(uint32_t *directory)
{
    must(hypercall(HV_UNPIN, machine_of(directory), 0), 0, "to unpin a page directory");
    show_tables(directory, WRITABLE);
}

/* ---- Devices ---- */

void devices_start(void)
{
    /* the monitor has */
}

void timer_start(void)
{
    next_tick = shared->time;
    timer_again();
}

/* The alarm rings once. The next one is due a tick after this one was, however late we are; but not in the past. */
void timer_again(void)
{
    next_tick += TICK_NANOSECONDS;
    if (next_tick <= shared->time)
        next_tick = shared->time + TICK_NANOSECONDS;
    hypercall(HV_SET_TIMER, (uint32_t)next_tick, (uint32_t)(next_tick >> 32));
}

void interrupt_done(unsigned irq)
{
    (void)irq; /* an event is over when it has been delivered */
}

void serial_write(const char *text, uint32_t size)
{
    hypercall(HV_CONSOLE_WRITE, (uint32_t)text, size);
}

int serial_read(void)
{
    char byte;
    return hypercall(HV_CONSOLE_READ, (uint32_t)&byte, 1) == 1 ? (uint8_t)byte : -1;
}

void touch_device(void)
{
    hypercall(HV_CONSOLE_READ, KERNEL_BASE, 0);
}

/* Whatever the driver is called, here it is a hypercall. */
bool disk_open(const char *driver)
{
    static char sector[512];
    (void)driver;
    return disk_transfer(0, 1, sector);
}

bool disk_transfer(uint32_t sector, uint32_t count, char *to)
{
    struct hv_disk_read request = { sector, count, (uint32_t)to };
    return !hypercall(HV_DISK_READ, (uint32_t)&request, 0);
}

void power_off(uint8_t status)
{
    for (;;)
        hypercall(HV_SHUTDOWN, status, 0);
}
