/* Real-mode code for virtual-8086 mode (v86.S): it is copied to V86_BASE and runs with CS = V86_BASE / 16. */
#pragma once

#define V86_BASE 0x7000
#define V86_STACK 0x0800 /* SP at the start; SS is the same segment */

#ifndef __ASSEMBLER__
extern char v86_code[], v86_code_end[];

/* Offsets of the pieces, and of the instruction that is looked at. */
#define V86_PIECE(name) extern char v86_##name[], v86_at_##name[], v86_after_##name[]
V86_PIECE(int_done); V86_PIECE(int_kernel); V86_PIECE(cli); V86_PIECE(sti); V86_PIECE(pushf); V86_PIECE(popf);
V86_PIECE(iret); V86_PIECE(hlt); V86_PIECE(in); V86_PIECE(divide); V86_PIECE(ud2); V86_PIECE(mov_cr0);
V86_PIECE(lgdt); V86_PIECE(lldt); V86_PIECE(store); V86_PIECE(int3); V86_PIECE(spin);
#endif
