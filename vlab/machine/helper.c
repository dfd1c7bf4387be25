/* The optional compiled helper: counts basic blocks and stops the emulator, between two instructions.
 *
 * Without it vlab does the same in Python, with identical results and less speed (vlab/machine/stops.py).
 * The structure is declared a second time there; both sides check its size.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define VLAB_API __declspec(dllexport)
#else
#define VLAB_API __attribute__((visibility("default")))
#endif

struct vlab_control {
    uint64_t blocks;            /* blocks entered since power-on */
    volatile uint64_t deadline; /* stop before the block that would make `blocks` exceed this; 0: at once */
    uint64_t interrupt;         /* number of the last interrupt hook, UINT64_MAX when none came */
    volatile uint32_t *pending; /* the emulator's interrupt_request */
    int (*stop)(void *);        /* uc_emu_stop */
};

enum { VMEXIT_VINTR = 0x164 }; /* 0x100 + EXITCODE of the virtual-interrupt window */

VLAB_API uint64_t vlab_control_size(void) { return sizeof(struct vlab_control); }

/* UC_HOOK_BLOCK. A block that is not entered is not counted, so stopping and resuming leaves no mark. */
VLAB_API void vlab_block(void *uc, uint64_t address, uint32_t size, void *data)
{
    struct vlab_control *control = data;
    (void)address;
    (void)size;
    if (control->blocks >= control->deadline) {
        control->stop(uc);
        return;
    }
    control->blocks++;
}

/* UC_HOOK_INTR. The emulator would raise the interrupt window again and again unless it is withdrawn. */
VLAB_API void vlab_interrupt(void *uc, uint32_t number, void *data)
{
    struct vlab_control *control = data;
    control->interrupt = number;
    if (number == VMEXIT_VINTR)
        *control->pending = 0;
    control->stop(uc);
}
