/* Address spaces: two levels of page tables each (SDM3 4.3, APM2 5.2.1).
 *
 *     bits 31-22 of a linear address   index into the page directory, one frame of 1,024 entries
 *     bits 21-12                       index into the page table that the directory's entry names
 *     bits 11-0                        offset in the page
 *
 * The upper quarter of every directory is a copy of the kernel's entries. In the lower three quarters pages come and
 * go for three reasons, and all of them begin as a page fault:
 *     demand paging   a page of heap or stack is not there before it is touched; then it is a frame of zeros
 *     copy-on-write   fork gives the child the parent's frames, read-only for both. Whoever writes first gets a copy;
 *                     the last one left gets the frame itself
 *     a mistake       everything else
 * Bit 9 of an entry, which the processor leaves to us (SDM3 table 4-6), says that a page is read-only only for
 * copy-on-write. CR0.WP makes the kernel's own writes fault on such pages like a program's. */
#include "kernel.h"

enum {
    PRESENT = 1 << 0,
    WRITABLE = 1 << 1,
    USER = 1 << 2,
    COPY_ON_WRITE = 1 << 9,
    FLAGS = PAGE - 1,
    ENTRIES = 1024,
    USER_TABLES = KERNEL_BASE / LARGE_PAGE,
};

uint32_t *kernel_space;

void paging_start(uint32_t size)
{
    kernel_space = first_directory(size);
}

static uint32_t frame_of(uint32_t entry)
{
    return physical_address(entry & ~(uint32_t)FLAGS);
}

static uint32_t *table_of(uint32_t entry)
{
    return frame_memory(frame_of(entry));
}

static uint32_t physical(const void *memory)
{
    return (uint32_t)memory - KERNEL_BASE;
}

/* The entry that maps `address`, or null where not even a table is. */
static uint32_t *find_entry(const uint32_t *directory, uint32_t address)
{
    uint32_t upper = directory[address / LARGE_PAGE];
    return upper & PRESENT ? &table_of(upper)[address / PAGE % ENTRIES] : 0;
}

uint32_t *space_new(void)
{
    uint32_t frame = frame_new();
    uint32_t *directory = frame_memory(frame);
    if (!frame)
        return 0;
    for (unsigned i = USER_TABLES; i < ENTRIES; i++)
        directory[i] = kernel_space[i];
    return directory;
}

/* Map a frame, with a new table if need be; `in_use`: the directory is loaded, or was. */
bool space_map(uint32_t *directory, uint32_t address, uint32_t frame, bool writable, bool in_use)
{
    uint32_t *upper = &directory[address / LARGE_PAGE];
    if (!(*upper & PRESENT)) {
        uint32_t table = frame_new();
        if (!table)
            return false;
        uint32_t value = machine_address(table) | USER | WRITABLE | PRESENT;
        if (in_use) {
            table_in_use(frame_memory(table));
            set_entry(upper, value);
        } else {
            *upper = value;
        }
    }
    uint32_t *entry = find_entry(directory, address);
    uint32_t value = machine_address(frame) | USER | (writable ? WRITABLE : 0) | PRESENT;
    if (in_use)
        set_entry(entry, value);
    else
        *entry = value;
    return true;
}

/* Take away the pages from `from` up to, but not including, `to`, in the loaded address space. */
void space_unmap(uint32_t *directory, uint32_t from, uint32_t to)
{
    for (uint32_t address = from; address < to; address += PAGE) {
        uint32_t *entry = find_entry(directory, address);
        if (!entry || !(*entry & PRESENT))
            continue;
        uint32_t frame = frame_of(*entry);
        set_entry(entry, 0);
        flush_page(address);
        frame_release(frame);
    }
}

/* Give back all frames of the user half, and the tables. They are ordinary memory by now. */
static void release_all(uint32_t *directory)
{
    for (unsigned i = 0; i < USER_TABLES; i++) {
        if (!(directory[i] & PRESENT))
            continue;
        const uint32_t *table = table_of(directory[i]);
        for (unsigned j = 0; j < ENTRIES; j++)
            if (table[j] & PRESENT)
                frame_release(frame_of(table[j]));
        frame_release(physical(table));
    }
    frame_release(physical(directory));
}

void space_free(uint32_t *directory)
{
    tables_unused(directory);
    release_all(directory);
}

/* Share the pages of one table: the child's new one is written directly, the parent's is in use. */
static void share_table(uint32_t *parent, uint32_t *child)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint32_t entry = parent[i];
        if (!(entry & PRESENT))
            continue;
        if (entry & WRITABLE) {
            entry = (entry & ~(uint32_t)WRITABLE) | COPY_ON_WRITE;
            queue_entry(&parent[i], entry);
        }
        child[i] = entry;
        frame_share(frame_of(entry));
    }
}

uint32_t *space_fork(uint32_t *parent)
{
    uint32_t *child = space_new();
    for (unsigned i = 0; child && i < USER_TABLES; i++) {
        if (!(parent[i] & PRESENT))
            continue;
        uint32_t table = frame_new();
        if (!table) {
            release_all(child);
            child = 0;
            break;
        }
        child[i] = machine_address(table) | USER | WRITABLE | PRESENT;
        share_table(table_of(parent[i]), frame_memory(table));
    }
    flush_all(parent); /* its pages have lost their W, also if the fork fails half-way */
    if (child)
        tables_in_use(child);
    return child;
}

/* A write to a shared page: the last one keeps the frame, the others get copies. */
static bool unshare(uint32_t *entry, uint32_t address)
{
    uint32_t old = frame_of(*entry), frame = old;
    if (frame_references(old) > 1) {
        frame = frame_copy(old);
        if (!frame)
            return false;
    }
    set_entry(entry, machine_address(frame) | USER | WRITABLE | PRESENT);
    flush_page(address);
    if (frame != old)
        frame_release(old);
    return true;
}

static bool may_grow_to(uint32_t address)
{
    return (address >= current->heap_start && address < current->heap_end)
        || (address >= STACK_BOTTOM && address < STACK_TOP);
}

/* Resolve a page fault in the user half of the current address space; false if it was a mistake. */
bool page_fault(uint32_t address, bool write, bool present)
{
    address &= ~(uint32_t)FLAGS;
    if (present) {
        uint32_t *entry = find_entry(current->directory, address);
        return write && entry && *entry & COPY_ON_WRITE && unshare(entry, address);
    }
    if (!may_grow_to(address))
        return false;
    uint32_t frame = frame_new();
    if (!frame)
        return false;
    if (!space_map(current->directory, address, frame, true, true)) {
        frame_release(frame);
        return false;
    }
    return true; /* the TLB keeps no absent pages (SDM3 4.10.2.3): nothing to flush */
}

/* For bench.c: change one bit of a page's entry, and forget the translation. */
bool space_flip(const uint32_t *directory, uint32_t address)
{
    uint32_t *entry = address < KERNEL_BASE ? find_entry(directory, address) : 0;
    if (!entry || !(*entry & PRESENT))
        return false;
    set_entry(entry, *entry ^ WRITABLE);
    flush_page(address);
    return true;
}

static bool in_user_half(const void *user, uint32_t size)
{
    return size <= KERNEL_BASE && (uint32_t)user <= KERNEL_BASE - size;
}

int copy_in(void *to, const void *user, uint32_t size)
{
    return in_user_half(user, size) ? copy_bytes(to, user, size) : E_FAULT;
}

int copy_out(void *user, const void *from, uint32_t size)
{
    return in_user_half(user, size) ? copy_bytes(user, from, size) : E_FAULT;
}

int copy_name(char *to, const char *user)
{
    for (unsigned i = 0; i < NAME_SIZE; i++) {
        if (copy_in(&to[i], user + i, 1) < 0)
            return E_FAULT;
        if (!to[i])
            return 0;
    }
    return E_INVALID;
}
