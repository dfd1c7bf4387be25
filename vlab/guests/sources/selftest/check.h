/* The report: one line for each check, and a count. Used by the 32-bit and by the 64-bit half. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct tally {
    uint32_t passed, failed, skipped;
    uint32_t is_tcg;        /* this is QEMU's TCG, which is known to get some checks wrong */
    uint8_t skip_list[128]; /* from the command line: skip=NAME,NAME leaves out every check that begins so */
};

extern struct tally *tally;

/* Find out whether this is QEMU's TCG. */
void detect_tcg(void);

/* Print `ok NAME`, or `FAIL NAME expected X got Y`, or `skip NAME` if this emulator is known to get it
 * wrong. */
void check(const char *name, uint64_t expected, uint64_t got);

/* A check of several values prints one line: `part` names the one that is wrong, "" while all are right. Use
 * begin_check, any number of check_part, end_check. */
void begin_check(const char *name);
void check_part(const char *part, uint64_t expected, uint64_t got);
void end_check(void);

/* Whether a check, or a group of them, may run; prints `skip NAME` if not. */
bool wanted(const char *name);
