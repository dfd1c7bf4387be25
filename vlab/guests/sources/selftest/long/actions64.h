/* The actions of the 64-bit half (actions64.S). */
#pragma once

#include "tests64.h"

ACTION(divide); ACTION(ud2); ACTION(int3); ACTION(into_opcode); ACTION(push_es_opcode); ACTION(load_ds);
ACTION(single_step); ACTION(int_user); ACTION(int_trap); ACTION(int_kernel); ACTION(int_absent);
ACTION(int_to_32);
ACTION(int_task); ACTION(int_ist); ACTION(int_bad); ACTION(int_misaligned); ACTION(nested_return);
ACTION(return_nowhere); ACTION(cli); ACTION(hlt); ACTION(mov_from_cr0); ACTION(mov_from_cr8); ACTION(in8);
ACTION(out8); ACTION(swapgs); ACTION(popf_all); ACTION(read); ACTION(write); ACTION(call); ACTION(lose_stack);
ACTION(syscall); ACTION(sysret); ACTION(spin); ACTION(enter_32); ACTION(enter_32_ring0);
ACTION(wrmsr_canonical);

extern volatile uint64_t seen_rflags, seen_rsp;
