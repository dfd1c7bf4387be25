/* Two drivers for a disk, natively: the one that every PC needs, and a paravirtual one beside it.
 *
 * ATA by programmed I/O (ATA/ATAPI-6, T13/1410D): registers say which sectors, a command starts, and when DRQ shows
 * that a sector is there, the processor reads its 256 words from one port. Interrupts stay off: for so few sectors,
 * asking is shorter than being told.
 *
 * The vlab disk belongs to no PC: a command has the address of a buffer in it, and when the OUT has finished, the
 * sectors are there. An unmodified kernel with such a driver is a hybrid: it knows of its monitor for one device. */
#include "kernel.h"
#include "port.h"

enum {
    ATA = 0x1F0, /* the command block's registers, from here: */
    COUNT = 2, SECTOR_LOW = 3, SECTOR_MIDDLE = 4, SECTOR_HIGH = 5, DEVICE = 6, STATUS = 7, COMMAND = 7,
    ATA_CONTROL = 0x3F6,
    NO_INTERRUPTS = 2,
    READ_SECTORS = 0x20,
    LBA = 0xE0, /* sectors are numbered from 0; bits 3-0 are the highest of the number */
    ERROR = 0x01, DATA_REQUEST = 0x08, DEVICE_READY = 0x40, BUSY = 0x80,
    WORDS = 256, /* of a sector */

    VLAB = 0x5D0, /* 32-bit registers: first sector, count, physical address; then a byte, the command or status */
    VLAB_COUNT = 4, VLAB_BUFFER = 8, VLAB_COMMAND = 12,
    VLAB_READ = 1,
    NOBODY = 0xFF, /* what a port reads as where nothing listens */
};

static bool paravirtual;

static uint8_t status_when_done(void)
{
    uint8_t status;
    while ((status = in8(ATA + STATUS)) & BUSY)
        ;
    return status;
}

static bool same(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

bool disk_open(const char *driver)
{
    if (same(driver, "vlab")) {
        paravirtual = true;
        return in8(VLAB + VLAB_COMMAND) != NOBODY;
    }
    if (!same(driver, "ata"))
        return false;
    out8(ATA + DEVICE, LBA);
    if (in8(ATA + STATUS) == NOBODY)
        return false;
    out8(ATA_CONTROL, NO_INTERRUPTS);
    return status_when_done() & DEVICE_READY;
}

static bool ata_read(uint32_t sector, uint32_t count, char *to)
{
    out8(ATA + DEVICE, (uint8_t)(LBA | (sector >> 24 & 0xF)));
    out8(ATA + COUNT, (uint8_t)count);
    out8(ATA + SECTOR_LOW, (uint8_t)sector);
    out8(ATA + SECTOR_MIDDLE, (uint8_t)(sector >> 8));
    out8(ATA + SECTOR_HIGH, (uint8_t)(sector >> 16));
    out8(ATA + COMMAND, READ_SECTORS);
    for (; count; count--) {
        uint32_t words = WORDS;
        if ((status_when_done() & (ERROR | DATA_REQUEST)) != DATA_REQUEST)
            return false;
        __asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"(ATA) : "memory");
    }
    return true;
}

static bool vlab_read(uint32_t sector, uint32_t count, const char *to)
{
    out32(VLAB, sector);
    out32(VLAB + VLAB_COUNT, count);
    out32(VLAB + VLAB_BUFFER, (uint32_t)to - KERNEL_BASE);
    out8(VLAB + VLAB_COMMAND, VLAB_READ);
    return !in8(VLAB + VLAB_COMMAND);
}

bool disk_transfer(uint32_t sector, uint32_t count, char *to)
{
    return paravirtual ? vlab_read(sector, count, to) : ata_read(sector, count, to);
}
