/* Pipes: a ring of bytes between processes. A reader sleeps while it is empty, a writer while it is full; the end of
 * the file is an empty ring without a writer. Positions only count up: their difference is how full the ring is, and
 * their remainder is the place in it. */
#include "kernel.h"

enum { PIPES = 12, RING = 512 };

struct pipe {
    bool readers, writers; /* whether an open file is there: descriptors are counted in files.c */
    uint32_t read, written;
    char ring[RING];
};

static struct pipe pipes[PIPES];

struct pipe *pipe_new(void)
{
    for (struct pipe *pipe = pipes; pipe < &pipes[PIPES]; pipe++)
        if (!pipe->readers && !pipe->writers) {
            pipe->readers = pipe->writers = true;
            pipe->read = pipe->written = 0;
            return pipe;
        }
    return 0;
}

void pipe_close(struct pipe *pipe, bool writing_end)
{
    if (writing_end)
        pipe->writers = false;
    else
        pipe->readers = false;
    wake_up(pipe);
}

/* Sleep until the other end has done something; false if this process is to end. */
static bool wait_for(struct pipe *pipe)
{
    uint32_t flags = irq_save();
    if (!current->killed)
        sleep_on(pipe);
    irq_restore(flags);
    return !current->killed;
}

/* How many of `size` bytes from `position` on lie in the ring in one piece. */
static uint32_t piece_of(uint32_t position, uint32_t size)
{
    uint32_t rest = RING - position % RING;
    return size < rest ? size : rest;
}

int pipe_read(struct pipe *pipe, char *to, uint32_t size)
{
    uint32_t done = 0;
    while (pipe->read == pipe->written && pipe->writers)
        if (!wait_for(pipe))
            return E_KILLED;
    while (done < size && pipe->read != pipe->written) {
        uint32_t filled = pipe->written - pipe->read, wanted = size - done;
        uint32_t piece = piece_of(pipe->read, wanted < filled ? wanted : filled);
        if (copy_out(to + done, &pipe->ring[pipe->read % RING], piece) < 0)
            return E_FAULT;
        pipe->read += piece;
        done += piece;
    }
    wake_up(pipe);
    return (int)done;
}

int pipe_write(struct pipe *pipe, const char *from, uint32_t size)
{
    for (uint32_t done = 0; done < size;) {
        while (pipe->written - pipe->read == RING && pipe->readers) {
            wake_up(pipe);
            if (!wait_for(pipe))
                return E_KILLED;
        }
        if (!pipe->readers)
            return E_PIPE;
        uint32_t room = RING - (pipe->written - pipe->read), rest = size - done;
        uint32_t piece = piece_of(pipe->written, rest < room ? rest : room);
        if (copy_in(&pipe->ring[pipe->written % RING], from + done, piece) < 0)
            return E_FAULT;
        pipe->written += piece;
        done += piece;
    }
    wake_up(pipe);
    return (int)size;
}
