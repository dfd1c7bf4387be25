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
    const uint64_t *eflags;     /* of the emulator's processor structure, and its digest of the mode */
    const uint32_t *hflags;
};

enum {
    VMEXIT_VINTR = 0x164,      /* 0x100 + EXITCODE of the virtual-interrupt window */
    VIRTUAL_INTERRUPT = 0x100, /* in interrupt_request */
    INTERRUPT_FLAG = 0x200,    /* in eflags */
    SHADOW = 8                 /* in hflags: the instruction after STI or a load of SS */
};

VLAB_API uint64_t vlab_control_size(void) { return sizeof(struct vlab_control); }

/* UC_HOOK_BLOCK. A block that is not entered is not counted, so stopping and resuming leaves no mark. */
VLAB_API void vlab_block(void *uc, uint64_t address, uint32_t size, void *data)
{
    struct vlab_control *control = data;
    (void)address;
    (void)size;
    /* The emulator looks for interrupts between blocks, but not on the way of an indirect jump to a block
     * that it has translated before: STI, RET would lose the window, or not, as the past of its cache has it. */
    if ((*control->pending & VIRTUAL_INTERRUPT) && (*control->eflags & INTERRUPT_FLAG) &&
        !(*control->hflags & SHADOW)) {
        control->interrupt = VMEXIT_VINTR;
        *control->pending = 0; /* else the window would be reported again and again */
        control->stop(uc);
        return;
    }
    if (control->blocks >= control->deadline) {
        control->stop(uc);
        return;
    }
    control->blocks++;
}
