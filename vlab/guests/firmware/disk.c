/* INT 13h over the "vlab disk", a paravirtual controller of three registers: sector, count, and where in
 * memory. There is one disk. It is the first hard disk, 80h; if it has at most the size of a diskette it
 * is also the first diskette drive, 00h. */
#include "bios.h"

enum {
    LBA_PORT = 0x5D0, /* 32 bits each; after CAPACITY the number of sectors is read here */
    COUNT_PORT = 0x5D4,
    BUFFER_PORT = 0x5D8,
    COMMAND_PORT = 0x5DC, /* 8 bits; reads as the status */

    COMMAND_READ = 1,
    COMMAND_WRITE = 2,
    COMMAND_CAPACITY = 3,

    HARD_DISK = 0x80,
    DISKETTE = 0x00,
    LARGEST_DISKETTE = 5760, /* sectors: 2.88 MB */

    STATUS_OK = 0x00,
    STATUS_BAD_COMMAND = 0x01,
    STATUS_NOT_FOUND = 0x04,
    STATUS_NO_PARAMETERS = 0x07,
    STATUS_FAILED = 0x20,
    STATUS_NOT_READY = 0x80,
};

struct geometry { uint32_t cylinders, heads, sectors; };

static uint32_t capacity; /* sectors; 0: no disk */
static struct geometry shape;

/* The tracks that programs count in. An image of a diskette's size has that diskette's; a smaller or an
 * unusual one up to 2880 sectors is taken for the beginning of a 1.44 MB diskette, which is what boot
 * sectors with their geometry built in expect. All others have 63 sectors to a track, and 16 or 255 heads. */
static struct geometry geometry_for(uint32_t sectors)
{
    static const struct { uint16_t sectors; uint8_t cylinders, heads, track; } diskettes[] = {
        { 320, 40, 1, 8 }, { 360, 40, 1, 9 }, { 640, 40, 2, 8 }, { 720, 40, 2, 9 }, { 1440, 80, 2, 9 },
        { 2400, 80, 2, 15 }, { LARGEST_DISKETTE, 80, 2, 36 },
    };
    for (unsigned i = 0; i < sizeof diskettes / sizeof diskettes[0]; i++)
        if (diskettes[i].sectors == sectors)
            return (struct geometry){ diskettes[i].cylinders, diskettes[i].heads, diskettes[i].track };
    if (sectors <= 2880)
        return (struct geometry){ 80, 2, 18 };
    uint32_t heads = sectors <= 1024u * 16 * 63 ? 16 : 255;
    uint32_t cylinders = sectors / (heads * 63);
    return (struct geometry){ cylinders > 1024 ? 1024 : cylinders ? cylinders : 1, heads, 63 };
}

static bool is_diskette(void)
{
    return capacity && (capacity <= 2880 || capacity == LARGEST_DISKETTE);
}

bool disk_init(void)
{
    out8(COMMAND_PORT, COMMAND_CAPACITY);
    capacity = in8(COMMAND_PORT) == 0 ? in32(LBA_PORT) : 0;
    shape = geometry_for(capacity);
    bda->disk_count = capacity != 0;
    if (is_diskette())
        bda->equipment |= 1;
    return capacity != 0;
}

/* Move sectors between the disk and physical memory. Returns an INT 13h status. */
uint8_t disk_transfer(bool write, uint32_t lba, uint32_t count, uint32_t physical)
{
    if (!capacity)
        return STATUS_NOT_READY;
    if (lba >= capacity || count > capacity - lba)
        return STATUS_NOT_FOUND;
    out32(LBA_PORT, lba);
    out32(COUNT_PORT, count);
    out32(BUFFER_PORT, physical);
    out8(COMMAND_PORT, write ? COMMAND_WRITE : COMMAND_READ);
    return in8(COMMAND_PORT) ? STATUS_FAILED : STATUS_OK;
}

static bool drive_is_there(void)
{
    return capacity && (caller.dl == HARD_DISK || (caller.dl == DISKETTE && is_diskette()));
}

/* AH=02h, 03h, 04h: AL sectors at cylinder CH and CL bits 7-6, head DH, sector CL bits 5-0, to or from
 * ES:BX. */
static uint8_t transfer_by_geometry(void)
{
    uint32_t cylinder = caller.ch | (caller.cl & 0xC0u) << 2, sector = caller.cl & 0x3Fu;
    if (cylinder >= shape.cylinders || caller.dh >= shape.heads || sector == 0 || sector > shape.sectors)
        return STATUS_NOT_FOUND;
    if (caller.al == 0)
        return STATUS_BAD_COMMAND;
    uint32_t lba = (cylinder * shape.heads + caller.dh) * shape.sectors + sector - 1;
    if (caller.ah == 0x04)
        return lba < capacity && caller.al <= capacity - lba ? STATUS_OK : STATUS_NOT_FOUND;
    return disk_transfer(caller.ah == 0x03, lba, caller.al, caller.es * 16u + caller.bx);
}

/* AH=08h. */
static uint8_t read_parameters(void)
{
    uint32_t last = shape.cylinders - 1;
    caller.ch = (uint8_t)last;
    caller.cl = (uint8_t)(shape.sectors | (last >> 2 & 0xC0));
    caller.dh = (uint8_t)(shape.heads - 1);
    if (caller.dl == DISKETTE) {
        caller.bx = shape.sectors == 36 ? 6 : shape.sectors == 18 ? 4 : shape.sectors == 15 ? 2 : 1;
        caller.es = ((volatile uint16_t __seg_fs *)0)[2 * 0x1E + 1];
        caller.di = ((volatile uint16_t __seg_fs *)0)[2 * 0x1E];
    }
    caller.dl = 1;
    caller.al = 0;
    return STATUS_OK;
}

/* AH=15h: AH = 3 is a hard disk of CX:DX sectors, 1 a diskette without a change line. */
static void read_type(void)
{
    if (caller.dl == HARD_DISK) {
        caller.ah = 3;
        caller.cx = (uint16_t)(capacity >> 16);
        caller.dx = (uint16_t)capacity;
    } else {
        caller.ah = 1;
    }
}

/* AH=42h, 43h, 44h: the packet at DS:SI has the block count at 2, the buffer at 4 and the 64-bit LBA at 8. */
static uint8_t transfer_by_packet(void)
{
    use_segment(caller.ds);
    uint32_t packet = caller.si;
    uint32_t count = far16(packet + 2), buffer = far16(packet + 6) * 16u + far16(packet + 4);
    uint32_t lba = far32(packet + 8), lba_high = far32(packet + 12);
    uint8_t status = STATUS_OK;
    if (far8(packet) < 16)
        return STATUS_BAD_COMMAND;
    if (lba_high)
        status = STATUS_NOT_FOUND;
    else if (caller.ah == 0x44)
        status = lba < capacity && count <= capacity - lba ? STATUS_OK : STATUS_NOT_FOUND;
    else if (count)
        status = disk_transfer(caller.ah == 0x43, lba, count, buffer);
    use_segment(caller.ds);
    if (status)
        far16(packet + 2) = 0; /* blocks that were moved */
    return status;
}

/* AH=48h: fill the result at DS:SI, 26 bytes of version 1. */
static uint8_t read_extended_parameters(void)
{
    use_segment(caller.ds);
    uint32_t result = caller.si;
    if (far16(result) < 26)
        return STATUS_BAD_COMMAND;
    far16(result) = 26;
    far16(result + 2) = 2; /* the geometry is valid */
    far32(result + 4) = shape.cylinders;
    far32(result + 8) = shape.heads;
    far32(result + 12) = shape.sectors;
    far32(result + 16) = capacity;
    far32(result + 20) = 0;
    far16(result + 24) = 512;
    return STATUS_OK;
}

static uint8_t installation_check(void)
{
    if (caller.bx != 0x55AA)
        return STATUS_BAD_COMMAND;
    caller.bx = 0xAA55;
    caller.cx = 1; /* functions 42h-44h, 47h, 48h */
    return STATUS_OK;
}

static uint8_t extended_function(void)
{
    if (caller.dl != HARD_DISK)
        return STATUS_BAD_COMMAND;
    switch (caller.ah) {
    case 0x41: return installation_check();
    case 0x42:
    case 0x43:
    case 0x44: return transfer_by_packet();
    case 0x47: return STATUS_OK; /* seek */
    case 0x48: return read_extended_parameters();
    default: return STATUS_BAD_COMMAND;
    }
}

static uint8_t classic_function(void)
{
    switch (caller.ah) {
    case 0x00: /* reset */
    case 0x0C: /* seek */
    case 0x0D: /* reset the hard disk */
    case 0x10: /* ready? */
    case 0x11: /* recalibrate */
        return STATUS_OK;
    case 0x01: return caller.dl == HARD_DISK ? bda->disk_status : bda->diskette[3];
    case 0x02:
    case 0x03:
    case 0x04: return transfer_by_geometry();
    case 0x08: return read_parameters();
    default: return STATUS_BAD_COMMAND;
    }
}

/* INT 13h. */
enum verdict disk_service(void)
{
    uint8_t status, drive = caller.dl, function = caller.ah;
    if (!drive_is_there())
        status = function == 0x08 ? STATUS_NO_PARAMETERS : drive == HARD_DISK || !drive ? STATUS_NOT_READY
                                                                                        : STATUS_BAD_COMMAND;
    else if (function == 0x15) {
        read_type();
        answer_flag(FLAG_CARRY, false);
        return DONE;
    } else {
        status = function >= 0x40 ? extended_function() : classic_function();
    }
    if (function >= 0x02 && function <= 0x04 && status)
        caller.al = 0; /* sectors that were moved */
    if (drive & 0x80)
        bda->disk_status = status;
    else
        bda->diskette[3] = status;
    caller.ah = function == 0x41 && !status ? 0x21 : status; /* 41h answers with its version */
    answer_flag(FLAG_CARRY, status != STATUS_OK && function != 0x01);
    return DONE;
}
