/* Small pieces of code with their places marked: `action_NAME` runs it, `at_NAME` is the instruction that
 * is looked at, `after_NAME` the one behind it (actions.S). */
#pragma once

#include "trap32.h"

#define ACTION(name) extern action action_##name; extern const char at_##name[], after_##name[]

/* Exceptions. */
ACTION(divide); ACTION(overflow_divide); ACTION(int3); ACTION(into); ACTION(into_clear); ACTION(bound);
ACTION(bound_inside); ACTION(ud2); ACTION(lock_nop); ACTION(x87); ACTION(x87_divide); ACTION(single_step);
ACTION(breakpoint); ACTION(watchpoint); ACTION(nested_return); ACTION(step_over_int);

/* Loading segments; the argument is the selector. */
ACTION(load_ds); ACTION(load_ss); ACTION(load_tr); ACTION(load_ldtr); ACTION(jump_absent); ACTION(jump_data);
ACTION(jump_null); ACTION(jump_beyond); ACTION(jump_short);

/* INT n. */
ACTION(int_user); ACTION(int_trap); ACTION(int_kernel); ACTION(int_absent); ACTION(int_bad); ACTION(int_data);
ACTION(int_null); ACTION(int_last); ACTION(int_ring1); ACTION(int_conforming); ACTION(int_task);

/* Privileged instructions, and ports; the argument is the port. */
ACTION(cli); ACTION(sti); ACTION(hlt); ACTION(mov_from_cr0); ACTION(mov_to_cr3); ACTION(mov_from_dr);
ACTION(lgdt); ACTION(lidt); ACTION(lmsw); ACTION(clts); ACTION(rdmsr);
ACTION(wrmsr); ACTION(invlpg); ACTION(wbinvd);
ACTION(in8); ACTION(out8); ACTION(in16); ACTION(in32); ACTION(insb); ACTION(outsb); ACTION(rdtsc);
ACTION(popf_all); ACTION(call_gate); ACTION(call_gate_absent); ACTION(spin);

/* Memory; the argument is the address. */
ACTION(read); ACTION(write); ACTION(write_word); ACTION(call); ACTION(read_with_ac); ACTION(lose_stack);

/* The same through FS; the argument is the address, `limit_selector` what FS is loaded with. */
ACTION(fs_read); ACTION(fs_read_word); ACTION(fs_write); ACTION(cs_write); ACTION(ss_read);
extern uint32_t limit_selector;

/* What popf_all left in EFLAGS, and what the call gate's target found. */
extern volatile uint32_t seen_eflags, seen_gate_cs, seen_gate_first, seen_gate_second;
extern volatile uint32_t watched;
