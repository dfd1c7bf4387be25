/* What can be asked of the processor without a fault: CPUID, the time-stamp counter, selectors,
 * self-modifying code, and the string instructions. */
#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tests.h"

struct cpuid { uint32_t eax, ebx, ecx, edx; };

enum { ZF = 1 << 6 };
enum { FEATURE_FPU = 1 << 0, FEATURE_PSE = 1 << 3, FEATURE_TSC = 1 << 4, FEATURE_MSR = 1 << 5,
    FEATURE_PAE = 1 << 6 };

static struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

static bool printable(uint32_t word)
{
    for (unsigned i = 0; i < 4; i++, word >>= 8)
        if ((word & 0xFF) < 0x20 || (word & 0xFF) > 0x7E)
            return false;
    return true;
}

static void test_cpuid(void)
{
    struct cpuid zero = cpuid(0), one = cpuid(1), extended = cpuid(0x80000000);
    const uint32_t needed = FEATURE_FPU | FEATURE_PSE | FEATURE_TSC | FEATURE_MSR | FEATURE_PAE;
    begin_check("cpuid.vendor_is_text");
    check_part("", true, printable(zero.ebx) && printable(zero.edx) && printable(zero.ecx));
    end_check();
    check("cpuid.has_leaf_1", true, zero.eax >= 1);
    check("cpuid.features", needed, one.edx & needed);
    check("cpuid.family_is_set", true, (one.eax >> 8 & 0xF) != 0);
    if (extended.eax >= 0x80000004 && extended.eax >> 16 == 0x8000)
        check("cpuid.brand_begins_with_text", true, printable(cpuid(0x80000002).eax));
}

static uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void test_time_stamp_counter(void)
{
    bool monotonic = true;
    uint64_t first = rdtsc(), previous = first;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t now = rdtsc();
        monotonic &= now >= previous;
        previous = now;
    }
    check("rdtsc.never_goes_back", true, monotonic);
    check("rdtsc.goes_on", true, previous > first);
}

static uint32_t flags_of_verr(uint16_t selector)
{
    uint32_t flags;
    __asm__ volatile("verr %1\n\tpushfd\n\tpop %0" : "=r"(flags) : "r"(selector));
    return flags & ZF;
}

static uint32_t flags_of_verw(uint16_t selector)
{
    uint32_t flags;
    __asm__ volatile("verw %1\n\tpushfd\n\tpop %0" : "=r"(flags) : "r"(selector));
    return flags & ZF;
}

static uint32_t limit_of(uint32_t selector)
{
    uint32_t limit = 0xDEAD;
    __asm__ volatile("lsl %0, %1" : "+r"(limit) : "r"(selector));
    return limit;
}

static uint32_t rights_of(uint32_t selector)
{
    uint32_t rights = 0xDEAD;
    __asm__ volatile("lar %0, %1" : "+r"(rights) : "r"(selector));
    return rights;
}

static void test_selector_questions(void)
{
    check("selector.verr_read_only", ZF, flags_of_verr(READ_ONLY_DATA));
    check("selector.verw_read_only", 0, flags_of_verw(READ_ONLY_DATA));
    check("selector.verr_execute_only", 0, flags_of_verr(EXECUTE_ONLY_CODE));
    check("selector.lsl", 0xFFF, limit_of(SHORT_CODE));
    check("selector.lsl_in_pages", 0xFFFFFFFF, limit_of(KERNEL_DATA));
    check("selector.lsl_beyond_gdt", 0xDEAD, limit_of(BEYOND_GDT));
    check("selector.lar", 0x00C09300, rights_of(KERNEL_DATA) & 0x00F0FF00);
    check("selector.lar_of_a_gate", 0x0000EC00, rights_of(CALL_GATE_32) & 0xFF00);
}

/* Write into the instruction that comes next but one; a jump lets the processor see it. */
static void test_self_modifying_code(void)
{
    uint32_t result;
    __asm__ volatile("mov dword ptr [1f + 1], 0x5678\n\t"
                     "jmp 1f\n"
                     "1:\tmov eax, 0x1234"
                     : "=a"(result) : : "memory");
    check("code.modified", 0x5678, result);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 10; i++) {
        __asm__ volatile("mov dword ptr [1f + 1], %1\n\t"
                         "jmp 1f\n"
                         "1:\tmov eax, 0"
                         : "=&a"(result) : "r"(i) : "memory");
        sum += result;
    }
    check("code.modified_in_a_loop", 45, sum);
}

static void test_strings(void)
{
    static uint8_t from[64], to[64];
    uint8_t *edi, *esi;
    uint32_t ecx;
    for (unsigned i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 7);
    __asm__ volatile("rep movsb" : "=D"(edi), "=S"(esi), "=c"(ecx) : "D"(to), "S"(from), "c"(64) : "memory");
    begin_check("string.rep_movs");
    check_part("edi", (uint32_t)(to + 64), (uint32_t)edi);
    check_part("esi", (uint32_t)(from + 64), (uint32_t)esi);
    check_part("ecx", 0, ecx);
    check_part("last", from[63], to[63]);
    end_check();
    __asm__ volatile("std\n\trep movsb\n\tcld"
                     : "=D"(edi), "=S"(esi), "=c"(ecx) : "D"(to + 9), "S"(from + 19), "c"(10) : "memory");
    check("string.backwards", (uint32_t)to - 1, (uint32_t)edi);
    to[40] ^= 1;
    __asm__ volatile("repe cmpsb" : "=D"(edi), "=S"(esi), "=c"(ecx) : "D"(to + 20), "S"(from + 20), "c"(44)
                     : "memory", "cc");
    check("string.repe_cmps_stops_behind_the_difference", (uint32_t)to + 41, (uint32_t)edi);
    __asm__ volatile("rep stosb" : "=D"(edi), "=c"(ecx) : "D"(to), "c"(0), "a"(0) : "memory");
    check("string.no_repetition", (uint32_t)to, (uint32_t)edi);
}

void test_processor(void)
{
    test_cpuid();
    test_time_stamp_counter();
    test_selector_questions();
    test_self_modifying_code();
    test_strings();
}
