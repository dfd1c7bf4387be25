/* Traps: exceptions, interrupts and system calls arrive here, and are told apart by their vector.
 *
 * An exception in a program ends the program, unless it is a page fault that paging.c can resolve. An exception in the
 * kernel is a mistake of the kernel; but copy_bytes may touch bad addresses of programs (`fixups` in entry.S). */
#include "kernel.h"

enum { VECTOR_PAGE_FAULT = 14, PF_PRESENT = 1, PF_WRITE = 2 };

/* SDM3 4.7: CR2 holds the address; the error code says whether the page was there, and what was tried. CR2 must
 * be read before another page fault can happen: interrupts are still off. */
static bool resolve_page_fault(const struct frame *frame)
{
    uint32_t address = fault_address();
    return address < KERNEL_BASE && current->directory
        && page_fault(address, frame->error_code & PF_WRITE, frame->error_code & PF_PRESENT);
}

/* An instruction of the kernel that is known to fault: go on elsewhere. */
static bool fix_up(struct frame *frame)
{
    for (unsigned i = 0; i < sizeof fixups / sizeof *fixups; i++)
        if (frame->eip == fixups[i].fault) {
            frame->eip = fixups[i].resume;
            return true;
        }
    return false;
}

static void exception(struct frame *frame, bool from_program)
{
    if (frame->vector == VECTOR_PAGE_FAULT && resolve_page_fault(frame))
        return;
    if (from_program)
        process_exit(STATUS_FAULT + (int)frame->vector);
    if (!fix_up(frame))
        panic("exception %d in the kernel, error code %x at %x, address %x", frame->vector, frame->error_code,
              frame->eip, fault_address());
}

static void interrupt(unsigned irq)
{
    if (irq == IRQ_TIMER)
        timer_interrupt();
    else if (irq == IRQ_SERIAL)
        console_interrupt();
    interrupt_done(irq);
}

void trap(struct frame *frame)
{
    bool from_program = (frame->cs & 3) == 3;
    irq_must_be_off("trap");
    if (frame->vector == VECTOR_SYSCALL) {
        irq_enable();
        frame->eax = (uint32_t)system_call(frame);
        irq_disable();
    } else if (frame->vector >= IRQ_BASE) {
        interrupt(frame->vector - IRQ_BASE);
    } else {
        exception(frame, from_program);
    }
    if (!from_program)
        return;
    if (timer_slice_over())
        schedule();
    if (current->killed)
        process_exit(STATUS_KILLED);
    if (!(frame->eflags & EFLAGS_IF))
        panic("interrupts disabled in a program: its EFLAGS are %x", frame->eflags);
}
