/* Programs: exec builds a new address space from an ELF file (System V ABI, chapters 4 and 5) and enters it.
 *
 * The old address space stays until the new one is complete, so that a failed exec can return. The new one is filled
 * through the kernel's own mapping of all memory; it is not even loaded. On its stack the program finds, from ESP up:
 * how many arguments there are, the address of an array with their addresses, the array (0 at its end), the texts. */
#include "kernel.h"

enum { ELF_MAGIC = 0x464C457F, ELF_EXECUTABLE = 2, ELF_386 = 3, SEGMENT_LOAD = 1, SEGMENT_WRITE = 2, SEGMENTS = 4 };

struct elf_header {
    uint32_t magic, identification[3];
    uint16_t type, machine;
    uint32_t version, entry, program_headers, section_headers, flags;
    uint16_t header_size, program_header_size, program_header_count;
};

struct program_header {
    uint32_t type, offset, address, physical, file_size, memory_size, flags, alignment;
};

/* The texts of the arguments, one behind the other, in the kernel. */
struct arguments {
    unsigned count, size;
    uint16_t offset[ARGUMENTS];
    char text[PAGE / 4];
};

static bool load_page(const struct inode *inode, const struct program_header *segment, uint32_t *directory,
                      uint32_t page)
{
    uint32_t frame = frame_new(), from = page < segment->address ? segment->address : page;
    uint32_t file_end = segment->address + segment->file_size, end = page + PAGE < file_end ? page + PAGE : file_end;
    if (!frame)
        return false;
    bool done = space_map(directory, page, frame, segment->flags & SEGMENT_WRITE, false);
    if (!done)
        frame_release(frame);
    else if (from < end)
        done = inode_read(inode, segment->offset + (from - segment->address),
                          (char *)frame_memory(frame) + from % PAGE, end - from) == (int)(end - from);
    return done;
}

/* Segments do not share pages (user.ld). Returns the end of the segment, 0 for one that cannot be loaded. */
static uint32_t load_segment(const struct inode *inode, const struct program_header *segment, uint32_t *directory)
{
    uint32_t end = segment->address + segment->memory_size;
    if (segment->address < USER_BASE || end < segment->address || end > HEAP_LIMIT
        || segment->file_size > segment->memory_size)
        return 0;
    for (uint32_t page = segment->address & -(uint32_t)PAGE; page < end; page += PAGE)
        if (!load_page(inode, segment, directory, page))
            return 0;
    return end;
}

/* Load all segments. Returns the first address behind them, 0 for a file that is no program. */
static uint32_t load_program(const struct inode *inode, uint32_t *directory, uint32_t *entry)
{
    struct elf_header header;
    uint32_t end = 0;
    if (inode_read(inode, 0, &header, sizeof header) != sizeof header || header.magic != ELF_MAGIC
        || header.type != ELF_EXECUTABLE || header.machine != ELF_386 || header.program_header_count > SEGMENTS)
        return 0;
    for (unsigned i = 0; i < header.program_header_count; i++) {
        struct program_header segment;
        if (inode_read(inode, header.program_headers + i * sizeof segment, &segment, sizeof segment)
            != sizeof segment)
            return 0;
        if (segment.type != SEGMENT_LOAD || !segment.memory_size)
            continue;
        uint32_t segment_end = load_segment(inode, &segment, directory);
        if (!segment_end)
            return 0;
        end = segment_end > end ? segment_end : end;
    }
    *entry = header.entry;
    return end;
}

/* Fill the highest page of the stack. Returns ESP, 0 without memory. */
static uint32_t build_stack(const struct arguments *arguments, uint32_t *directory)
{
    uint32_t frame = frame_new(), top = STACK_TOP - ((arguments->size + 3) & -4u);
    if (!frame)
        return 0;
    if (!space_map(directory, STACK_TOP - PAGE, frame, true, false)) {
        frame_release(frame);
        return 0;
    }
    char *page_end = (char *)frame_memory(frame) + PAGE;
    memcpy(page_end - (STACK_TOP - top), arguments->text, arguments->size);
    uint32_t *word = (uint32_t *)(page_end - (STACK_TOP - top));
    *--word = 0;
    for (unsigned i = arguments->count; i-- > 0;)
        *--word = top + arguments->offset[i];
    uint32_t array = STACK_TOP - (uint32_t)(page_end - (char *)word);
    *--word = array;
    *--word = arguments->count;
    return array - 8;
}

static int replace(const char *name, const struct arguments *arguments, struct frame *frame)
{
    const struct inode *inode = file_find(name);
    uint32_t *directory, *old = current->directory, entry, stack, end;
    if (!inode)
        return E_MISSING;
    if (!(directory = space_new()))
        return E_FULL;
    end = load_program(inode, directory, &entry);
    stack = end ? build_stack(arguments, directory) : 0;
    tables_in_use(directory);
    if (!stack) {
        space_free(directory);
        return E_INVALID;
    }
    current->directory = directory;
    load_directory(directory);
    if (old)
        space_free(old);
    current->heap_start = current->heap_end = (end + PAGE - 1) & -(uint32_t)PAGE;
    memset(current->name, 0, NAME_SIZE);
    for (unsigned i = 0; i < NAME_SIZE - 1 && name[i]; i++)
        current->name[i] = name[i];
    *frame = (struct frame){ .eip = entry, .esp = stack, .eflags = EFLAGS_IF | 2, .cs = USER_CODE, .ss = USER_DATA,
                             .ds = USER_DATA, .es = USER_DATA };
    return 0;
}

static bool append(struct arguments *arguments, char c)
{
    if (arguments->size == sizeof arguments->text)
        return false;
    arguments->text[arguments->size++] = c;
    return true;
}

int exec(const char *name, const char *const *texts, struct frame *frame)
{
    struct arguments arguments = { 0 };
    for (; texts[arguments.count] && arguments.count < ARGUMENTS; arguments.count++) {
        const char *text = texts[arguments.count];
        arguments.offset[arguments.count] = (uint16_t)arguments.size;
        do {
            if (!append(&arguments, *text))
                return E_INVALID;
        } while (*text++);
    }
    return replace(name, &arguments, frame);
}

/* The same for a program's addresses, none of which can be trusted. */
int exec_user(const char *user_name, char *const *user_texts, struct frame *frame)
{
    struct arguments arguments = { 0 };
    char name[NAME_SIZE];
    int result = copy_name(name, user_name);
    if (result < 0)
        return result;
    for (;; arguments.count++) {
        const char *text;
        char c;
        if (copy_in(&text, user_texts + arguments.count, sizeof text) < 0)
            return E_FAULT;
        if (!text)
            break;
        if (arguments.count == ARGUMENTS)
            return E_INVALID;
        arguments.offset[arguments.count] = (uint16_t)arguments.size;
        do {
            if (copy_in(&c, text++, 1) < 0)
                return E_FAULT;
            if (!append(&arguments, c))
                return E_INVALID;
        } while (c);
    }
    return replace(name, &arguments, frame);
}
