/* SYSCALL and SYSRET (APM2 6.1.1), SWAPGS, and the MSRs behind them. */
#include "actions64.h"
#include "segments64.h"

enum {
    UD = 6,
    GP = 13,
    EFER = 0xC0000080,
    STAR = 0xC0000081,
    LSTAR = 0xC0000082,
    SFMASK = 0xC0000084,
    FS_BASE = 0xC0000100,
    GS_BASE = 0xC0000101,
    KERNEL_GS_BASE = 0xC0000102,
    EFER_SCE = 1,
};

/* syscall64.S */
extern const char syscall_entry[], syscall_entry_32[];
extern volatile struct {
    uint64_t cs, ss, rsp, rcx, r11, rflags;
} syscall_seen;

static uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void calls(void)
{
    write_msr(STAR, (uint64_t)USER_CODE_32 << 48 | (uint64_t)KERNEL_CODE << 32);
    write_msr(LSTAR, (uint64_t)syscall_entry);
    write_msr(SFMASK, IF | DF_FLAG);
    check("syscall.msr_reads_back", (uint64_t)syscall_entry, read_msr(LSTAR));
    check("syscall.there_and_back", VECTOR_DONE, ring3(action_syscall, 0, IF | DF_FLAG));
    begin_check("syscall.state");
    check_part("cs", KERNEL_CODE, syscall_seen.cs & 0xFFFF);
    check_part("ss", KERNEL_DATA, syscall_seen.ss & 0xFFFF);
    check_part("rsp_stays", (uint64_t)user_stack_top - 8, syscall_seen.rsp);
    check_part("rcx", (uint64_t)after_syscall, syscall_seen.rcx);
    check_part("r11", IF | DF_FLAG | RFLAGS_FIXED, syscall_seen.r11 & (IF | DF_FLAG | TF | RFLAGS_FIXED));
    check_part("rflags_masked", 0, syscall_seen.rflags & (IF | DF_FLAG));
    end_check();
    begin_check("sysret.state");
    check_part("cs", USER_CODE, last_trap.cs);
    check_part("ss", USER_DATA, last_trap.ss);
    check_part("rflags", IF | DF_FLAG, last_trap.rflags & (IF | DF_FLAG));
    end_check();
    write_msr(LSTAR, (uint64_t)syscall_entry_32);
    check("sysret.to_32_bits", VECTOR_DONE, ring3(action_syscall, 0, 0));
    check("sysret.to_32_bits_cs", USER_CODE_32, last_trap.cs);
}

static void switched_off(void)
{
    write_msr(EFER, read_msr(EFER) & ~(uint64_t)EFER_SCE);
    check_trap("syscall.switched_off", ring3(action_syscall, 0, 0), UD, 0, at_syscall);
    check_trap("sysret.switched_off", ring0(action_sysret, 0), UD, 0, at_sysret);
    write_msr(EFER, read_msr(EFER) | EFER_SCE);
}

static void segment_bases(void)
{
    static const uint64_t words[2] = { 0x1111111111111111, 0x2222222222222222 };
    uint64_t fs, gs, swapped;
    write_msr(FS_BASE, (uint64_t)&words[1]);
    write_msr(GS_BASE, (uint64_t)&words[0]);
    write_msr(KERNEL_GS_BASE, (uint64_t)&words[1]);
    __asm__ volatile("mov %0, fs:[0]\n\tmov %1, gs:[0]\n\tswapgs\n\tmov %2, gs:[0]\n\tswapgs"
                     : "=&r"(fs), "=&r"(gs), "=&r"(swapped));
    check("msr.fs_base", words[1], fs);
    check("msr.gs_base", words[0], gs);
    check("msr.swapgs", words[1], swapped);
    check("msr.gs_base_is_back", (uint64_t)&words[0], read_msr(GS_BASE));
}

void test_syscall64(void)
{
    calls();
    switched_off();
    segment_bases();
}
