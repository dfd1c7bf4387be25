/* The optional compiled helper: counts basic blocks, stops the emulator between two instructions, and does
 * the processor's part of the most frequent #VMEXITs.
 *
 * Without it vlab does the same in Python, with identical results and less speed (vlab/machine/stops.py,
 * exit_hook.py and svm.py). The structure is declared a second time in stops.py; both sides check its size.
 * Sections are those of AMD APM vol. 2, rev. 3.42.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define VLAB_API __declspec(dllexport)
#else
#define VLAB_API __attribute__((visibility("default")))
#endif

struct vlab_control {
    uint64_t blocks;            /* blocks entered since power-on */
    volatile uint64_t deadline; /* stop before the block that would make `blocks` exceed this; 0: at once */
    uint64_t interrupt;         /* number of the last interrupt hook, UINT64_MAX when none came */
    uint64_t window;            /* interrupt_request as it was before a stop; 0 when it was clear */
    uint64_t settling;          /* not 0: an instruction is being undone, no exit may be served */
    uint64_t mode;              /* ring, and VM of eflags, in the last block; UNKNOWN after an exit */
    uint8_t *vmcb;              /* of the guest on the processor; NULL: its exits are none of ours */
    volatile uint64_t limit;    /* `deadline`; 0 to look around before each block: always outside ring 0 */
    uint64_t plain;             /* the plain exits that the VMCB intercepts: bit n for EXITCODE 0x60 + n */
    volatile uint32_t *pending; /* the emulator's interrupt_request */
    int (*stop)(void *);        /* uc_emu_stop */
    uint64_t *eflags;           /* of the emulator's processor structure, and its digest of the mode */
    const uint32_t *hflags;
    const uint32_t *cs;         /* the selector in CS */
    void (*other)(void *, uint32_t); /* Python: any other interrupt hook */
    int (*serve)(uint32_t);          /* Python: the monitor, asked with an EXITCODE; a VERDICT_... */
    int (*again)(uint32_t);          /* Python: VMRUN with something in the VMCB to look at; 0: leave */
};

enum {
    ENGINE_EXIT = 0x100,       /* what the emulator adds to EXITCODE in the numbers of its interrupt hook */
    VMEXIT_INTR = 0x60,        /* the first EXITCODE of word 3 of the intercepts */
    VMEXIT_VINTR = 0x164,      /* ENGINE_EXIT + EXITCODE of the virtual-interrupt window */
    VIRTUAL_INTERRUPT = 0x100, /* in interrupt_request */
    INTERRUPT_FLAG = 0x200,    /* in eflags */
    SHADOW = 8,                /* in hflags: the instruction after STI or a load of SS */
    RING = 3,                  /* in hflags and in selectors */
    VIRTUAL_8086 = 1 << 17,    /* in eflags */
    UNKNOWN = 4,               /* no ring */
    WRONG_RING = 0x1000,       /* a number that no interrupt hook has */
    ARITHMETIC = 0x8D5,        /* CF PF AF ZF SF OF */
    CC_SRC = 2,                /* from eflags on, in 64-bit words: what the arithmetic flags are made of, */
    CC_OP = 4,                 /* and how, in the low half */
    CC_OP_EFLAGS = 1           /* CC_SRC holds them as they are */
};

enum { VERDICT_LEAVE, VERDICT_RUN, VERDICT_LOOK }; /* what `serve` gives */

/* The VMCB's control area (APM2 appendix B). */
enum { TLB_CONTROL = 0x5C, V_INTR = 0x60, EXIT_FIELDS = 0x68, EVENTINJ = 0xA8, CLEAN = 0xC0 };
enum { V_IRQ = 1 << 8, ALL_CLEAN = 0x1FFF };
static const uint32_t VALID = 1u << 31; /* in EVENTINJ */

VLAB_API uint64_t vlab_control_size(void) { return sizeof(struct vlab_control); }

/* Whether the program is in a ring that it had no right to enter. The emulator lets it in two ways: 64-bit code of
 * rings 1 and 2 gets to ring 0 by loading a null selector into SS, and IRET goes to virtual-8086 mode from any
 * ring, not from ring 0 alone (Intel SDM vol. 2A, "MOV", "IRET"). Everywhere else the ring is that of CS. */
static int ring_is_wrong(const struct vlab_control *control, uint64_t mode)
{
    const uint64_t last = control->mode;
    if (last == UNKNOWN)
        return 0;
    if (mode & VIRTUAL_8086)
        return !(last & VIRTUAL_8086) && (last & RING) != 0;
    return (mode & RING) < (last & RING) && (*control->cs & RING) != (mode & RING);
}

/* Have uc_emu_start return. It joins the arithmetic flags with eflags, and after some instructions (CMPXCHG8B,
 * LOOPE) an operand stands for them: its other bits are no flags, and least of all IOPL and VM. */
static void halt(struct vlab_control *control, void *uc)
{
    if ((uint32_t)control->eflags[CC_OP] == CC_OP_EFLAGS)
        control->eflags[CC_SRC] &= ARITHMETIC;
    control->stop(uc);
}

/* Do before a block what there is to do but seldom. */
static __attribute__((noinline)) void look_around(struct vlab_control *control, void *uc)
{
    const uint64_t mode = (*control->hflags & RING) | (*control->eflags & VIRTUAL_8086);
    if (mode != 0 || (*control->pending & VIRTUAL_INTERRUPT)) {
        control->limit = 0;
    } else {
        /* Another thread that asks for a stop clears `deadline` first and then `limit`: do not undo that. */
        const uint64_t deadline = control->deadline;
        control->limit = deadline;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (control->deadline != deadline)
            control->limit = 0;
    }
    /* The emulator looks for interrupts between blocks, but not on the way of an indirect jump to a block
     * that it has translated before: STI, RET would lose the window, or not, as the past of its cache has it. */
    if ((*control->pending & VIRTUAL_INTERRUPT) && (*control->eflags & INTERRUPT_FLAG) &&
        !(*control->hflags & SHADOW)) {
        control->interrupt = VMEXIT_VINTR;
        *control->pending = 0; /* else the window would be reported again and again */
        halt(control, uc);
    } else if (mode != control->mode && ring_is_wrong(control, mode)) {
        control->interrupt = WRONG_RING;
        halt(control, uc);
    } else {
        control->mode = mode;
        if (control->blocks >= control->deadline)
            halt(control, uc);
        else
            control->blocks++;
    }
}

/* UC_HOOK_BLOCK. A block that is not entered is not counted, so stopping and resuming leaves no mark. This runs
 * before every block, so in ring 0 it is two comparisons and no more. */
VLAB_API void vlab_block(void *uc, uint64_t address, uint32_t size, void *data)
{
    struct vlab_control *control = data;
    const uint64_t blocks = control->blocks;
    (void)address;
    (void)size;
    if (__builtin_expect(blocks >= control->limit || (*control->hflags & RING), 0))
        look_around(control, uc);
    else
        control->blocks = blocks + 1;
}

/* Have uc_emu_start return with the number of an interrupt hook. The emulator looks for interrupts once more
 * before it stops: none may come of it. */
static void leave(struct vlab_control *control, void *uc, uint32_t number)
{
    control->interrupt = number;
    control->window = *control->pending;
    *control->pending = 0;
    halt(control, uc);
}

/* #VMEXIT's writing (APM2 15.6) for an exit that its code says all about: the interrupt shadow, EXITCODE, and
 * zeros for EXITINFO1, EXITINFO2 and EXITINTINFO. */
static void write_exit(uint8_t *vmcb, uint64_t shadow, uint64_t code)
{
    const uint64_t fields[5] = {shadow, code, 0, 0, 0};
    memcpy(vmcb + EXIT_FIELDS, fields, sizeof fields);
}

static uint32_t word(const uint8_t *vmcb, int offset)
{
    uint32_t value;
    memcpy(&value, vmcb + offset, sizeof value);
    return value;
}

/* Whether VMRUN would find nothing in the VMCB that it does not know: no event to inject, no virtual interrupt
 * offered or just withdrawn, no TLB flush asked for, no field marked as changed (APM2 15.15.3). */
static int nothing_new(const struct vlab_control *control)
{
    const uint8_t *vmcb = control->vmcb;
    return word(vmcb, CLEAN) == ALL_CLEAN && word(vmcb, TLB_CONTROL) == 0 && !(word(vmcb, V_INTR) & V_IRQ) &&
           !(word(vmcb, EVENTINJ) & VALID) && !(*control->pending & VIRTUAL_INTERRUPT);
}

/* UC_HOOK_INTR: an exception or an intercepted instruction, with the processor between two instructions. To
 * return is to go on with the program. A plain exit of the guest goes straight to its monitor. */
VLAB_API void vlab_interrupt(void *uc, uint32_t number, void *data)
{
    struct vlab_control *control = data;
    const uint32_t code = number - ENGINE_EXIT, bit = code - VMEXIT_INTR;
    control->mode = UNKNOWN; /* who serves the exit may change rings */
    if (control->vmcb == NULL || control->settling || bit >= 64 || !(control->plain >> bit & 1)) {
        control->other(uc, number);
        return;
    }
    if (number == VMEXIT_VINTR)
        *control->pending = 0; /* else the window would be reported again and again */
    write_exit(control->vmcb, (*control->hflags & SHADOW) != 0, code);
    int verdict = control->serve(code);
    if (verdict == VERDICT_RUN && !nothing_new(control))
        verdict = VERDICT_LOOK;
    if (verdict == VERDICT_LOOK)
        verdict = control->again(code) ? VERDICT_RUN : VERDICT_LEAVE;
    if (verdict == VERDICT_LEAVE)
        leave(control, uc, number);
}

#if !defined(_WIN32)
#include <signal.h>

/* The emulator aborts the process over a few instructions, such as LOCK BT with a register for operand. C lets a
 * handler of SIGABRT leave abort() for good (C11 7.22.4.1); this one has the guest raise #UD instead. Translation
 * is abandoned in the same way whenever a page that it reads code from turns out to be absent. */
struct vlab_guard {
    void *env;                       /* the emulator's processor structure */
    void (*raise)(void *, int);      /* its raise_exception, which does not return */
    int (*start)(void *, uint64_t, uint64_t, uint64_t, size_t); /* uc_emu_start */
    int (*in_python)(void);          /* PyGILState_Check: 1 inside a callback, whose aborts are not ours */
    uint64_t aborted;                /* not 0: the last #UD was raised so */
};

enum { UNDEFINED = 6 }; /* the vector of #UD */
static _Thread_local struct vlab_guard *running;
static struct sigaction before;

static void on_abort(int signal)
{
    struct vlab_guard *guard = running;
    if (guard != NULL && !guard->in_python()) {
        guard->aborted = 1;
        guard->raise(guard->env, UNDEFINED);
    }
    /* Somebody else's: abort() ends the process once this returns. */
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN && !(before.sa_flags & SA_SIGINFO))
        before.sa_handler(signal);
}

/* Called once in a process, before vlab_start. */
VLAB_API void vlab_guard_aborts(void)
{
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = SA_NODEFER};
    sigaction(SIGABRT, &action, &before);
}

/* uc_emu_start under the guard. */
VLAB_API int vlab_start(void *uc, uint64_t address, struct vlab_guard *guard)
{
    struct vlab_guard *outer = running;
    running = guard;
    int error = guard->start(uc, address, 0, 0, 0);
    running = outer;
    return error;
}
#endif
