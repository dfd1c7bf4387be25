/* From boot to the first program.
 *
 * The first program is the shell; but if a word of the command line is the name of a file, it is that one, and what
 * follows an equals sign is its argument: `selftest`, `forkwait=40`. When the first program ends, the machine does.
 * `disk=ata` and the like are for disk.c. */
#include "kernel.h"

enum { COMMAND_LINE = 128 };

static char command_line[COMMAND_LINE];

/* Leave in the buffer the first word that names a program; else `sh`. */
static const char *choose_program(void)
{
    for (char *word = command_line; *word;) {
        char *end = word, *name_end, separator;
        while (*end && *end != ' ')
            end++;
        for (name_end = word; name_end < end && *name_end != '='; name_end++)
            ;
        char after = *end;
        separator = *name_end;
        *end = *name_end = 0;
        bool found = file_find(word);
        *end = after;
        *name_end = separator;
        if (found) {
            *end = 0;
            return word;
        }
        word = after ? end + 1 : end;
    }
    return "sh";
}

/* Called by boot.S. */
void kernel_main(uint32_t magic, const void *information)
{
    const char *text;
    uint32_t size = memory_size(magic, information, &text);
    for (unsigned i = 0; i < COMMAND_LINE - 1 && text[i]; i++)
        command_line[i] = text[i];
    if (size > MEMORY_LIMIT)
        size = MEMORY_LIMIT;
    size &= -(uint32_t)PAGE;

    devices_start();
    load_trap_table();
    paging_start(size);
    frames_start(size);
    files_start();
    say("wren: hello\n");
    disk_start(command_line);
    timer_start();
    const char *program = choose_program();
    static char selftest[] = "selftest 0"; /* how many checks the kernel itself has passed */
    if (file_find(program) == file_find("selftest")) {
        selftest[sizeof selftest - 2] = (char)('0' + kernel_check());
        program = selftest;
    }
    process_start(program);
}
