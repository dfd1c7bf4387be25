#include "check.h"

#include "console.h"

struct tally *tally;

/* What QEMU 7.2's TCG does otherwise than the manuals say, and processors do: single checks and whole
 * groups. */
static const char *const tcg_differs[] = {
    "limit",                        /* limits, types and null selectors count when loaded, not when used */
    "pae.reserved_bit",             /* the error code lacks P; it was right in QEMU 5.0 */
    "long.paging.reserved_bit",
    "long.gate_absent",             /* the vector is multiplied by 16, not by 8, in the error code */
    "long.task_gate",
    "long.benign_then_absent",
    "long.ring3.int_to_ring_0_gate",
    "long.msr_not_canonical",       /* not checked */
};

static const char *current;
static bool current_failed;

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool known_to_differ(const char *name)
{
    for (unsigned i = 0; tally->is_tcg && i < sizeof tcg_differs / sizeof tcg_differs[0]; i++)
        if (same(name, tcg_differs[i]))
            return true;
    return false;
}

void detect_tcg(void)
{
    uint32_t eax = 1, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    if (!(ecx >> 31))
        return; /* no hypervisor here */
    eax = 0x40000000;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    tally->is_tcg = ebx == 0x54474354 && ecx == 0x43544743 && edx == 0x47435447; /* "TCGTCGTCGTCG" */
}

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
    if (expected == got || current_failed || known_to_differ(current))
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
    if (known_to_differ(current)) {
        tally->skipped++;
        say("skip %s\n", current);
    } else if (current_failed) {
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
    if (known_to_differ(name)) {
        tally->skipped++;
        say("skip %s\n", name);
        return false;
    }
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
