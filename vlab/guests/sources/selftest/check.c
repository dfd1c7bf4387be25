#include "check.h"

#include "console.h"

struct tally *tally;

static const char *current;
static bool current_failed;

static void put_number(uint64_t value)
{
    if (value >> 32)
        say("0x%x%08x", (uint32_t)(value >> 32), (uint32_t)value);
    else
        say("0x%x", (uint32_t)value);
}

void begin_check(const char *name)
{
    current = name;
    current_failed = false;
}

void check_part(const char *part, uint64_t expected, uint64_t got)
{
    if (expected == got || current_failed)
        return;
    current_failed = true;
    say("FAIL %s%s%s expected ", current, *part ? "." : "", part);
    put_number(expected);
    say(" got ");
    put_number(got);
    say("\n");
}

void end_check(void)
{
    if (current_failed) {
        tally->failed++;
    } else {
        tally->passed++;
        say("ok %s\n", current);
    }
}

void check(const char *name, uint64_t expected, uint64_t got)
{
    begin_check(name);
    check_part("", expected, got);
    end_check();
}

/* Whether the entry of the skip list at `entry` (up to a comma) is a beginning of `name`. */
static bool begins(const uint8_t *entry, const char *name)
{
    while (*entry && *entry != ',')
        if (*entry++ != (uint8_t)*name++)
            return false;
    return true;
}

bool wanted(const char *name)
{
    for (const uint8_t *entry = tally->skip_list; *entry;) {
        if (*entry != ',' && begins(entry, name)) {
            tally->skipped++;
            say("skip %s\n", name);
            return false;
        }
        while (*entry && *entry != ',')
            entry++;
        entry += *entry == ',';
    }
    return true;
}
