/* The command line: words of the form name=number, in any order (Multiboot Specification 0.6.96, section
 * 3.3). */
#include "options.h"

#include <stdbool.h>
#include <stddef.h>

#include "window.h"

enum { FLAGS = 0, UPPER_KIB = 2, COMMAND_LINE = 4 }; /* words of the information structure */
enum { HAS_COMMAND_LINE = 1 << 2, MOST_OF_ANYTHING = 1 << 24 };

static const struct { const char *name; size_t place; } known[] = {
    { "pages=", offsetof(struct options, pages) },     { "rounds=", offsetof(struct options, rounds) },
    { "touches=", offsetof(struct options, touches) }, { "updates=", offsetof(struct options, updates) },
    { "large=", offsetof(struct options, large) },
};

/* Return what follows `name` in `text`, or NULL if that begins otherwise. */
static const char *after(const char *text, const char *name)
{
    while (*name)
        if (*text++ != *name++)
            return NULL;
    return text;
}

static const char *read_number(const char *text, uint32_t *number)
{
    *number = 0;
    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++) {
        *number = *number * 10 + (uint32_t)(*text - '0');
        if (*number > MOST_OF_ANYTHING)
            return NULL;
    }
    return *text == ' ' || !*text ? text : NULL;
}

static const char *read_word(const char *text, struct options *options)
{
    if (*text == '/') { /* the image's path, which some loaders put first */
        while (*text && *text != ' ')
            text++;
        return text;
    }
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++) {
        const char *number = after(text, known[i].name);
        if (number)
            return read_number(number, (uint32_t *)((char *)options + known[i].place));
    }
    return NULL;
}

static bool within_limits(const struct options *options, uint32_t upper_kib)
{
    return options->pages >= 1 && options->pages <= MOST_PAGES && options->large <= 1
        && window_end(options->pages, options->large) <= (1024 + (uint64_t)upper_kib) << 10;
}

int read_options(const uint32_t *information, struct options *options)
{
    *options = (struct options){ .pages = 64, .rounds = 1, .touches = 1024, .updates = 0, .large = 0 };
    const char *text = "";
    if (information[FLAGS] & HAS_COMMAND_LINE)
        text = (const char *)(uint64_t)information[COMMAND_LINE];
    while (text && *text)
        text = *text == ' ' ? text + 1 : read_word(text, options);
    return text && within_limits(options, information[UPPER_KIB]);
}
