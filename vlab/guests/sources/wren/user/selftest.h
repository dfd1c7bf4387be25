/* The self-test of wren, from a program's point of view: tests are functions that return whether all was well. */
#pragma once

#include "user.h"

struct test {
    const char *name;
    bool (*run)(void);
};

/* One table for each file, ended by a test without a name. */
extern const struct test memory_tests[], process_tests[], file_tests[], protection_tests[];

/* Run `body` in a child; what wait says of it. */
int child_status(int (*body)(void));

/* Run a line of the shell with its output in a file; whether it ends with `status` and prints `output`. */
bool shell_prints(const char *line, const char *output, int status);

/* Whether a file holds exactly this. */
bool file_holds(const char *name, const char *text);

/* Write a new file; whether all of it could be written. */
bool make_file(const char *name, const char *text, unsigned size);
