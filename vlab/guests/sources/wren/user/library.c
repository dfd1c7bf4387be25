/* What programs expect of C: text, printf, malloc. */
#include "user.h"

static void print_list(int fd, const char *format, va_list *arguments)
{
    char text[256];
    write(fd, text, format_text(text, sizeof text, format, arguments));
}

void fprintf(int fd, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_list(fd, format, &arguments);
    va_end(arguments);
}

void printf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_list(1, format, &arguments);
    va_end(arguments);
}

unsigned strlen(const char *text)
{
    unsigned size = 0;
    while (text[size])
        size++;
    return size;
}

bool equal(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

int number(const char *text)
{
    int value = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = value * 10 + *text - '0';
    }
    return value;
}

/* malloc: blocks in a list, each with a header. The first free one that is large enough is taken, and what it has too
 * much becomes a block of its own; free neighbours are joined on the way. The heap grows by sbrk. */
struct block {
    struct block *next;
    unsigned size;
    bool used;
};

static struct block *blocks;

static void join_with_free(struct block *block)
{
    while (block->next && !block->next->used
           && (char *)(block + 1) + block->size == (char *)block->next) {
        block->size += sizeof *block + block->next->size;
        block->next = block->next->next;
    }
}

static void split(struct block *block, unsigned size)
{
    if (block->size < size + 2 * sizeof *block)
        return;
    struct block *rest = (struct block *)((char *)(block + 1) + size);
    *rest = (struct block){ block->next, block->size - size - sizeof *rest, false };
    block->next = rest;
    block->size = size;
}

void *malloc(unsigned size)
{
    struct block **link = &blocks;
    size = (size + 7) & -8u;
    for (; *link; link = &(*link)->next) {
        if ((*link)->used)
            continue;
        join_with_free(*link);
        if ((*link)->size >= size)
            break;
    }
    if (!*link) {
        unsigned wanted = (size + sizeof **link + 4095) & -4096u;
        int grown = (int)sbrk((int)wanted);
        if (grown < 0)
            return 0;
        *link = (struct block *)grown;
        **link = (struct block){ 0, wanted - sizeof **link, false };
    }
    split(*link, size);
    (*link)->used = true;
    return *link + 1;
}

void free(void *memory)
{
    if (memory)
        ((struct block *)memory - 1)->used = false;
}
