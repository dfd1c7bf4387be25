/* Page frames: which 4 KB of physical memory are free, and how many users the others have.
 *
 * The free ones are a list through their own first words: they can be written, since all memory is mapped at
 * KERNEL_BASE. A frame that copy-on-write shares between processes has several references, and is free again when
 * the last one goes. The kernel's image, and what lies below it, never is. */
#include "kernel.h"

static uint16_t references[MEMORY_LIMIT / PAGE];
static uint32_t first_free; /* 0: none */
static unsigned free_count;

void frames_start(uint32_t size)
{
    uint32_t lowest = first_free_frame();
    for (uint32_t frame = size - PAGE; frame >= lowest; frame -= PAGE) {
        references[frame / PAGE] = 1;
        frame_release(frame);
    }
}

static uint32_t take(void)
{
    uint32_t frame = first_free;
    if (!frame)
        return 0;
    first_free = *(uint32_t *)frame_memory(frame);
    free_count--;
    references[frame / PAGE] = 1;
    return frame;
}

/* Zeroed: what the last user left there is nobody's business. */
uint32_t frame_new(void)
{
    uint32_t frame = take(), count = PAGE / 4;
    void *to = frame_memory(frame);
    if (frame)
        __asm__ volatile("rep stosd" : "+D"(to), "+c"(count) : "a"(0) : "memory");
    return frame;
}

uint32_t frame_copy(uint32_t original)
{
    uint32_t frame = take(), count = PAGE / 4;
    void *to = frame_memory(frame);
    const void *from = frame_memory(original);
    if (frame)
        __asm__ volatile("rep movsd" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return frame;
}

void frame_share(uint32_t frame)
{
    references[frame / PAGE]++;
}

void frame_release(uint32_t frame)
{
    if (!references[frame / PAGE])
        panic("frame %x is released twice", frame);
    if (--references[frame / PAGE])
        return;
    *(uint32_t *)frame_memory(frame) = first_free;
    first_free = frame;
    free_count++;
}

unsigned frame_references(uint32_t frame)
{
    return references[frame / PAGE];
}

unsigned frames_free(void)
{
    return free_count;
}
