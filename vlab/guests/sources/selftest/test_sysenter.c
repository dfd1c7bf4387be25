/* SYSENTER and SYSEXIT in 32-bit protected mode (APM2 6.1.2). */
#include "actions.h"
#include "check.h"
#include "segments.h"
#include "tests.h"

enum { GP = 13, MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176,
    FEATURE_SEP = 1 << 11 };

ACTION(sysenter);
ACTION(sysexit);
void sysenter_entry(void);
extern volatile struct {
    uint32_t cs, ss, esp, eflags;
} sysenter_seen;

static void write_msr(uint32_t msr, uint32_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0));
}

static bool has_sysenter(void)
{
    uint32_t eax = 1, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return edx & FEATURE_SEP;
}

void test_system_calls(void)
{
    if (!has_sysenter() || !wanted("sysenter"))
        return;
    write_msr(MSR_SYSENTER_CS, 0);
    check_trap("sysenter.not_set_up", ring3(action_sysenter, 0, IF), GP, 0, at_sysenter);
    write_msr(MSR_SYSENTER_CS, KERNEL_CODE);
    write_msr(MSR_SYSENTER_ESP, (uint32_t)ring0_stack_top - 64);
    write_msr(MSR_SYSENTER_EIP, (uint32_t)sysenter_entry);
    check("sysenter.there_and_back", VECTOR_DONE, ring3(action_sysenter, 0, 0));
    begin_check("sysenter.state");
    check_part("cs", KERNEL_CODE, sysenter_seen.cs & 0xFFFF);
    check_part("ss", KERNEL_DATA, sysenter_seen.ss & 0xFFFF);
    check_part("esp", (uint32_t)ring0_stack_top - 64, sysenter_seen.esp);
    end_check();
    begin_check("sysexit.state");
    check_part("cs", USER_CODE, last_trap.frame.cs);
    check_part("ss", USER_DATA, last_trap.frame.ss);
    check_part("esp", (uint32_t)user_stack_top - 4, last_trap.frame.esp);
    end_check();
    ring3(action_sysenter, 0, IF);
    check("sysenter.clears_if", 0, sysenter_seen.eflags & IF);
    check_trap("sysexit.from_ring_3", ring3(action_sysexit, 0, 0), GP, 0, at_sysexit);
}
