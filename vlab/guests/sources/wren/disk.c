/* The disk: the file system of an archive, and where its sectors come from.
 *
 * Without a word `disk=DRIVER` on the command line the kernel looks for no disk. With it, the files of the archive on
 * the disk join those of the RAM disk, read-only. The archive is a tar file in ustar format (POSIX.1-2017, pax, "ustar
 * Interchange Format"), which any Unix makes: for each file a header of one sector, then its contents in whole sectors;
 * a header of zeros ends it.
 *
 * The driver is behind disk_open and disk_transfer (cpu.h). There are three, and nothing here tells them apart:
 *     ata     the PC's own: the processor moves each word itself, through a port (ata.c)
 *     vlab    paravirtual, in a kernel that is not: a command says what to move, and it is done (ata.c)
 *     (any)   in the paravirtual kernel, a hypercall (paravirt.c)
 * Under a monitor each access to a port is an exit. That is all that makes the second one fast. */
#include "kernel.h"

enum { SECTOR = 512, SECTORS = PAGE / SECTOR, REGULAR = '0', OLD_REGULAR = 0 };

struct header {
    char name[100], mode[8], user[8], group[8], size[12], time[12], checksum[8], type, link[100], magic[6];
};

static char buffer[PAGE] __attribute__((aligned(PAGE)));
static uint32_t buffered; /* the first of the sectors in it; 0 for none: no file begins there */

/* Where byte `offset` of a file of `end` bytes is, and how many lie there in one piece; null if that cannot be read. */
char *disk_place(uint32_t sector, uint32_t end, uint32_t offset, uint32_t *size)
{
    uint32_t first = sector + offset / PAGE * SECTORS, rest = PAGE - offset % PAGE;
    uint32_t count = (end - (offset & -(uint32_t)PAGE) + SECTOR - 1) / SECTOR;
    if (first != buffered) {
        buffered = 0;
        if (!disk_transfer(first, count < SECTORS ? count : SECTORS, buffer))
            return 0;
        buffered = first;
    }
    *size = *size < rest ? *size : rest;
    return buffer + offset % PAGE;
}

static uint32_t octal(const char *text, unsigned size)
{
    uint32_t value = 0;
    for (; size && *text >= '0' && *text <= '7'; size--, text++)
        value = value * 8 + (uint32_t)(*text - '0');
    return value;
}

static void mount(void)
{
    for (uint32_t sector = 0;;) {
        static struct header header;
        static const char ustar[] = "ustar";
        if (!disk_transfer(sector, 1, buffer))
            return;
        memcpy(&header, buffer, sizeof header);
        for (unsigned i = 0; i < sizeof ustar - 1; i++)
            if (header.magic[i] != ustar[i])
                return;
        uint32_t size = octal(header.size, sizeof header.size);
        header.name[NAME_SIZE - 1] = 0;
        if (header.type == REGULAR || header.type == OLD_REGULAR)
            file_on_disk(header.name, sector + 1, size);
        sector += 1 + (size + SECTOR - 1) / SECTOR;
    }
}

/* What follows disk= on the command line, up to the next space. */
void disk_start(const char *line)
{
    static const char option[] = "disk=";
    char driver[NAME_SIZE] = "";
    for (const char *word = line; *word && !driver[0]; word++) {
        unsigned i = 0, n = 0;
        while (i < sizeof option - 1 && word[i] == option[i])
            i++;
        if (i < sizeof option - 1 || (word != line && word[-1] != ' '))
            continue;
        for (; word[i] && word[i] != ' ' && n < NAME_SIZE - 1; i++)
            driver[n++] = word[i];
    }
    if (!driver[0])
        return;
    if (disk_open(driver))
        mount();
    else
        say("there is no disk for the driver %s\n", driver);
}
