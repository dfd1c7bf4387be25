/* INT 19h: read the first sector of the disk and see whether it is bootable. INT 18h: say why there is
 * nothing. */
#include "bios.h"

static const char *refusal = "no disk";

/* AX = 0 if a boot sector lies at 0000:7C00 now. */
enum verdict load_boot_sector(void)
{
    caller.ax = 1;
    if (!disk_init())
        refusal = "there is no disk";
    else if (disk_transfer(false, 0, 1, BOOT_ADDRESS))
        refusal = "the disk's first sector cannot be read";
    else if (*(volatile uint16_t __seg_fs *)(BOOT_ADDRESS + 510) != 0xAA55)
        refusal = "the disk's first sector does not end in 55 AA";
    else
        caller.ax = 0;
    return DONE;
}

enum verdict nothing_to_boot(void)
{
    print("Nothing to boot: ");
    print(refusal);
    print(".\r\n");
    return DONE;
}
