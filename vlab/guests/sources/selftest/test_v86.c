/* Virtual-8086 mode: how it is entered, left, and policed (APM2 8.7.6, 8.8). VME is not used. */
#include "v86.h"

#include "check.h"
#include "segments.h"
#include "tables.h"
#include "tests.h"
#include "trap32.h"

enum { DE = 0, BP = 3, UD = 6, GP = 13, IN_IDT = 2, SEGMENT = V86_BASE / 16 };
enum { ES = 0x1111, DS = 0x2222, FS = 0x3333, GS = 0x4444 };

static uint32_t offset(const char *label)
{
    return (uint32_t)(label - v86_code);
}

static uint32_t run(const char *piece, uint32_t eflags)
{
    const struct outer where = {
        .eip = offset(piece), .cs = SEGMENT, .eflags = EFLAGS_FIXED | VM | eflags, .esp = V86_STACK,
        .ss = SEGMENT,
        .es = ES, .ds = DS, .fs = FS, .gs = GS,
    };
    return run_outer(&where);
}

static void check_v86(const char *name, uint32_t got, uint32_t vector, uint32_t error_code, const char *ip)
{
    begin_check(name);
    check_part("vector", vector, got);
    check_part("error_code", error_code, last_trap.frame.error_code);
    check_part("ip", offset(ip), last_trap.frame.eip);
    check_part("vm", VM, last_trap.frame.eflags & VM);
    end_check();
}

static void the_way_out(void)
{
    check_v86("v86.int", run(v86_int_done, IOPL(3) | IF), VECTOR_DONE, 0, v86_after_int_done);
    begin_check("v86.frame");
    check_part("cs", SEGMENT, last_trap.frame.cs);
    check_part("ss", SEGMENT, last_trap.frame.ss);
    check_part("esp", V86_STACK, last_trap.frame.esp);
    check_part("es", ES, last_trap.frame.v86_es);
    check_part("ds", DS, last_trap.frame.v86_ds);
    check_part("fs", FS, last_trap.frame.v86_fs);
    check_part("gs", GS, last_trap.frame.v86_gs);
    check_part("eflags", IOPL(3) | IF, last_trap.frame.eflags & (IOPL(3) | IF | TF | NT));
    check_part("stack", (uint32_t)ring0_stack_top, last_trap.frame_end);
    end_check();
    begin_check("v86.handler");
    check_part("vm", 0, last_trap.handler_eflags & VM);
    check_part("if", 0, last_trap.handler_eflags & IF);
    check_part("cs", KERNEL_CODE, last_trap.handler_cs);
    check_part("ss", KERNEL_DATA, last_trap.handler_ss);
    check_part("ds", 0, last_trap.frame.ds & 0xFFFF);
    check_part("es", 0, last_trap.frame.es & 0xFFFF);
    check_part("fs", 0, last_trap.frame.fs & 0xFFFF);
    check_part("gs", 0, last_trap.frame.gs & 0xFFFF);
    end_check();
}

/* INT n, CLI, STI, PUSHF, POPF and IRET need IOPL 3. */
static void io_privilege(void)
{
    check_v86("v86.int_without_iopl", run(v86_int_done, 0), GP, 0, v86_at_int_done);
    check_v86("v86.cli_without_iopl", run(v86_cli, IOPL(2) | IF), GP, 0, v86_at_cli);
    check_v86("v86.sti_without_iopl", run(v86_sti, IOPL(2)), GP, 0, v86_at_sti);
    check_v86("v86.pushf_without_iopl", run(v86_pushf, IOPL(2)), GP, 0, v86_at_pushf);
    check_v86("v86.popf_without_iopl", run(v86_popf, IOPL(2)), GP, 0, v86_at_popf);
    check_v86("v86.iret_without_iopl", run(v86_iret, IOPL(2)), GP, 0, v86_at_iret);
    check("v86.cli_with_iopl", VECTOR_DONE, run(v86_cli, IOPL(3) | IF));
    check("v86.cli_has_cleared_if", 0, last_trap.frame.eflags & IF);
    check("v86.pushf_with_iopl", VECTOR_DONE, run(v86_pushf, IOPL(3)));
    check("v86.pushf_pushes_a_word", V86_STACK - 2, last_trap.frame.esp);
    check_v86("v86.int_to_ring_0_gate", run(v86_int_kernel, IOPL(3)), GP, VECTOR_KERNEL * 8 + IN_IDT,
        v86_at_int_kernel);
    check_v86("v86.int3_to_ring_0_gate", run(v86_int3, IOPL(3)), GP, BP * 8 + IN_IDT, v86_at_int3);
}

static void always_forbidden(void)
{
    check_v86("v86.hlt", run(v86_hlt, IOPL(3)), GP, 0, v86_at_hlt);
    check_v86("v86.mov_from_cr0", run(v86_mov_cr0, IOPL(3)), GP, 0, v86_at_mov_cr0);
    check_v86("v86.lgdt", run(v86_lgdt, IOPL(3)), GP, 0, v86_at_lgdt);
    check_v86("v86.lldt", run(v86_lldt, IOPL(3)), UD, 0, v86_at_lldt);
    check_v86("v86.divide", run(v86_divide, IOPL(3)), DE, 0, v86_at_divide);
    check_v86("v86.invalid_opcode", run(v86_ud2, 0), UD, 0, v86_at_ud2);
}

/* Ports follow the bitmap alone, whatever IOPL is. The piece reads POST_PORT. */
static void ports(void)
{
    check_v86("v86.in_denied", run(v86_in, IOPL(3)), GP, 0, v86_at_in);
    main_task.io_map[POST_PORT / 8] = 0;
    check("v86.in_allowed", VECTOR_DONE, run(v86_in, IOPL(3)));
    main_task.io_map[POST_PORT / 8] = 0xFF;
}

static void addresses(void)
{
    volatile uint16_t *place = (volatile uint16_t *)((ES << 4) + 0x10);
    uint16_t before = *place;
    *place = 0;
    check("v86.store", VECTOR_DONE, run(v86_store, IOPL(3)));
    check("v86.store_is_at_segment_times_16", 0x8086, *place);
    *place = before;
}

static void skip_one_byte(struct frame32 *frame)
{
    frame->eip++;
}

/* A monitor's work: take the #GP of a HLT, step over it, and return to virtual-8086 mode. */
static void emulate(void)
{
    trap_set_handler(GP, skip_one_byte);
    uint32_t vector = run(v86_hlt, IOPL(3));
    trap_set_handler(GP, 0);
    check_v86("v86.emulated_and_continued", vector, VECTOR_DONE, 0, v86_after_hlt + 2);
    check("v86.segments_survive_the_handler", GS, last_trap.frame.v86_gs);
}

void test_virtual_8086(void)
{
    __builtin_memcpy((void *)V86_BASE, v86_code, (unsigned)(v86_code_end - v86_code));
    the_way_out();
    io_privilege();
    always_forbidden();
    ports();
    addresses();
    emulate();
}
