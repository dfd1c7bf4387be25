/* Files: descriptors, open files, and the file system behind them.
 *
 * Three layers, as in every Unix. A descriptor is an index into the process's own table. It names an open file, which
 * has the position, and which several descriptors and, after fork, several processes share. The open file stands for
 * the console, an end of a pipe, or an inode: a file that has a name.
 *
 * The file system has one directory and three kinds of files. Those of the RAM disk (ramdisk.S) are read-only, and lie
 * in the kernel's image in one piece. Those of a disk (disk.c) are read-only too. Those that programs create are
 * writable, and lie in page frames. */
#include "kernel.h"

enum { INODES = 32, OPEN_MAXIMUM = 48, FILE_FRAMES = 16 };

struct inode {
    char name[NAME_SIZE]; /* "": free */
    uint32_t size;
    const char *image;    /* of a file of the RAM disk; else null, and then */
    uint32_t sector;      /* the first one, of a file on a disk; else 0, and then */
    uint32_t frames[FILE_FRAMES];
    unsigned users;       /* open files */
};

enum kind { CLOSED, CONSOLE, INODE, PIPE_READER, PIPE_WRITER };

struct file {
    enum kind kind;
    unsigned references;
    uint32_t position;
    bool writable;
    struct inode *inode;
    struct pipe *pipe;
};

extern const struct {
    char name[NAME_SIZE];
    const char *image;
    uint32_t size;
} ramdisk[];

static struct inode inodes[INODES];
static struct file files[OPEN_MAXIMUM];

/* ---- The file system ---- */

static bool same_name(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

static void copy_text(char *to, const char *name)
{
    while ((*to++ = *name++))
        ;
}

void files_start(void)
{
    for (unsigned i = 0; ramdisk[i].name[0]; i++) {
        copy_text(inodes[i].name, ramdisk[i].name);
        inodes[i].image = ramdisk[i].image;
        inodes[i].size = ramdisk[i].size;
    }
}

struct inode *file_find(const char *name)
{
    for (struct inode *inode = inodes; inode < &inodes[INODES]; inode++)
        if (inode->name[0] && same_name(inode->name, name))
            return inode;
    return 0;
}

static struct inode *create(const char *name)
{
    for (struct inode *inode = inodes; inode < &inodes[INODES]; inode++) {
        if (inode->name[0])
            continue;
        memset(inode, 0, sizeof *inode);
        copy_text(inode->name, name);
        return inode;
    }
    return 0;
}

void file_on_disk(const char *name, uint32_t sector, uint32_t size)
{
    struct inode *inode = file_find(name) ? 0 : create(name);
    if (inode) {
        inode->sector = sector;
        inode->size = size;
    }
}

static bool read_only(const struct inode *inode)
{
    return inode->image || inode->sector;
}

static void empty(struct inode *inode)
{
    for (unsigned i = 0; i < FILE_FRAMES; i++) {
        if (inode->frames[i])
            frame_release(inode->frames[i]);
        inode->frames[i] = 0;
    }
    inode->size = 0;
}

/* Where the bytes from `offset` on are, and how many lie there in one piece; null if they cannot be read. */
static char *place(const struct inode *inode, uint32_t offset, uint32_t *size)
{
    if (inode->image)
        return (char *)inode->image + offset;
    if (inode->sector)
        return disk_place(inode->sector, inode->size, offset, size);
    uint32_t rest = PAGE - offset % PAGE;
    *size = *size < rest ? *size : rest;
    return (char *)frame_memory(inode->frames[offset / PAGE]) + offset % PAGE;
}

/* Read for the kernel or for a program: copy_bytes serves both. Returns the bytes read, E_FAULT, or E_MISSING from a
 * disk that cannot be read. */
int inode_read(const struct inode *inode, uint32_t offset, void *to, uint32_t size)
{
    uint32_t done = 0, rest = offset < inode->size ? inode->size - offset : 0;
    size = size < rest ? size : rest;
    while (done < size) {
        uint32_t piece = size - done;
        const char *from = place(inode, offset + done, &piece);
        if (!from)
            return E_MISSING;
        if (copy_bytes((char *)to + done, from, piece) < 0)
            return E_FAULT;
        done += piece;
    }
    return (int)done;
}

static int inode_write(struct inode *inode, uint32_t offset, const char *user, uint32_t size)
{
    uint32_t done = 0;
    while (done < size) {
        uint32_t piece = size - done, at = offset + done;
        if (at >= FILE_FRAMES * PAGE || (!inode->frames[at / PAGE] && !(inode->frames[at / PAGE] = frame_new())))
            return done ? (int)done : E_FULL;
        char *to = place(inode, at, &piece);
        if (copy_in(to, user + done, piece) < 0)
            return E_FAULT;
        done += piece;
        if (at + piece > inode->size)
            inode->size = at + piece;
    }
    return (int)done;
}

int file_unlink(const char *name)
{
    struct inode *inode = file_find(name);
    if (!inode)
        return E_MISSING;
    if (read_only(inode) || inode->users)
        return E_READ_ONLY;
    empty(inode);
    inode->name[0] = 0;
    return 0;
}

int file_info(unsigned n, struct file_info *info)
{
    for (const struct inode *inode = inodes; inode < &inodes[INODES]; inode++) {
        if (!inode->name[0] || n--)
            continue;
        memcpy(info->name, inode->name, NAME_SIZE);
        info->size = inode->size;
        info->writable = !read_only(inode);
        return 0;
    }
    return E_MISSING;
}

/* ---- Open files and descriptors ---- */

static struct file *new_file(enum kind kind)
{
    for (struct file *file = files; file < &files[OPEN_MAXIMUM]; file++)
        if (file->kind == CLOSED) {
            *file = (struct file){ .kind = kind, .references = 1 };
            return file;
        }
    return 0;
}

static void release(struct file *file)
{
    if (--file->references)
        return;
    if (file->kind == INODE)
        file->inode->users--;
    else if (file->kind != CONSOLE)
        pipe_close(file->pipe, file->kind == PIPE_WRITER);
    file->kind = CLOSED;
}

/* Give the lowest free descriptor to `file`, or release it. */
static int new_descriptor(struct file *file)
{
    if (!file)
        return E_FULL;
    for (int fd = 0; fd < OPEN_FILES; fd++)
        if (!current->files[fd]) {
            current->files[fd] = file;
            return fd;
        }
    release(file);
    return E_FULL;
}

static struct file *lookup(unsigned fd)
{
    return fd < OPEN_FILES ? current->files[fd] : 0;
}

int file_open_console(void)
{
    return new_descriptor(new_file(CONSOLE));
}

int file_open(const char *name, unsigned flags)
{
    struct inode *inode = file_find(name);
    if (!inode && flags != OPEN_WRITE)
        return E_MISSING;
    if (!name[0] || (!inode && !(inode = create(name))))
        return name[0] ? E_FULL : E_INVALID;
    if (flags == OPEN_WRITE && (read_only(inode) || inode->users))
        return E_READ_ONLY; /* who has it open must not see it vanish */
    if (flags == OPEN_WRITE)
        empty(inode);
    struct file *file = new_file(INODE);
    if (file) {
        file->inode = inode;
        file->writable = flags == OPEN_WRITE;
        inode->users++;
    }
    return new_descriptor(file);
}

int file_close(unsigned fd)
{
    struct file *file = lookup(fd);
    if (!file)
        return E_MISSING;
    current->files[fd] = 0;
    release(file);
    return 0;
}

int file_read(unsigned fd, char *user, uint32_t size)
{
    struct file *file = lookup(fd);
    int done;
    if (!file || file->kind == PIPE_WRITER)
        return E_MISSING;
    if ((uint32_t)user >= KERNEL_BASE || size > KERNEL_BASE - (uint32_t)user)
        return E_FAULT;
    switch (file->kind) {
    case CONSOLE: return console_read(user, size);
    case PIPE_READER: return pipe_read(file->pipe, user, size);
    default:
        done = inode_read(file->inode, file->position, user, size);
        if (done > 0)
            file->position += (uint32_t)done;
        return done;
    }
}

/* To the console in pieces, through the kernel: its driver cannot be stopped by a bad address. */
static int write_console(const char *user, uint32_t size)
{
    char text[64];
    for (uint32_t done = 0, piece; done < size; done += piece) {
        piece = size - done < sizeof text ? size - done : sizeof text;
        if (copy_in(text, user + done, piece) < 0)
            return E_FAULT;
        console_write(text, piece);
    }
    return (int)size;
}

int file_write(unsigned fd, const char *user, uint32_t size)
{
    struct file *file = lookup(fd);
    int done;
    if (!file || file->kind == PIPE_READER)
        return E_MISSING;
    switch (file->kind) {
    case CONSOLE: return write_console(user, size);
    case PIPE_WRITER: return pipe_write(file->pipe, user, size);
    default:
        if (!file->writable)
            return E_READ_ONLY;
        done = inode_write(file->inode, file->position, user, size);
        if (done > 0)
            file->position += (uint32_t)done;
        return done;
    }
}

int file_duplicate(unsigned fd)
{
    struct file *file = lookup(fd);
    if (!file)
        return E_MISSING;
    file->references++;
    return new_descriptor(file);
}

int file_pipe(int *user_fds)
{
    struct pipe *pipe = pipe_new();
    int fds[2], result = E_FULL;
    if (!pipe)
        return E_FULL;
    for (int end = 0; end < 2; end++) {
        struct file *file = new_file(end ? PIPE_WRITER : PIPE_READER);
        if (file)
            file->pipe = pipe;
        else
            pipe_close(pipe, end);
        fds[end] = new_descriptor(file);
    }
    if (fds[0] >= 0 && fds[1] >= 0)
        result = copy_out(user_fds, fds, sizeof fds);
    for (int end = 0; end < 2 && result < 0; end++)
        if (fds[end] >= 0)
            file_close((unsigned)fds[end]);
    return result;
}

void files_inherit(struct process *child)
{
    for (unsigned fd = 0; fd < OPEN_FILES; fd++)
        if ((child->files[fd] = current->files[fd]))
            child->files[fd]->references++;
}

void files_close_all(void)
{
    for (unsigned fd = 0; fd < OPEN_FILES; fd++)
        file_close(fd);
}
