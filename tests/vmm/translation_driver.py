"""The driver of random programs, as machine code: interrupt handlers that log, repair and start programs.

All vectors lead to one routine. It appends the interrupted state to a log, then does what the vector asks:

- FINISH: the program is over. It logs control registers and the x87 and SSE state too, puts back what
  programs change, and starts the next one from the record that NEXT points to; without one, it ends the
  guest.
- #PF in the pages from FIX on: it maps the page for good, and the program goes on.
- #DB: the eighth time it clears RFLAGS.TF, and the program goes on. So it does after INT n.
- Anything else is met by skipping to the next slot of SLOT bytes, which begin BIAS bytes before a multiple.

It returns with RFLAGS.RF clear, which the bare machine's PUSHF would show.

The stubs push their vector, and a zero where the processor pushed no error code.
"""

from __future__ import annotations

import struct
from typing import Final

LOG_POINTER, NEXT, STEPS, CONTROL, FPU = 0x4000, 0x4008, 0x4010, 0x4018, 0x4200
"""Variables: where the log goes on, the next program, #DB that are left, CR0 and CR4, an FXSAVE image."""
HANDLER, STUBS, DRIVER_STACK = 0x5000, 0x6000, 0x7000
TABLES: Final = 0x8000
"""Page tables: legacy ones of two pages, or long mode's, of five."""
LOG, LOG_END = 0x180000, 0x1EF000
FIX, FIX_END, MISSING = 0x1F0000, 0x1FA000, 0x1FA000
"""Pages that are not there until they are used; the last two are read-only until then. MISSING never is."""
SLOT, BIAS = 128, 0x3B
FINISH = 0x31
VECTORS = 64
STEPS_AT_ONCE = 8

HANDLER32: Final = bytes.fromhex(
    "601e06fc6a101f6a1007"  # pusha; push ds; push es; cld; push 0x10; pop ds; push 0x10; pop es
    "8b3d0040000089e6b90f00000036f3a5"  # mov edi,0x4000; mov esi,esp; mov ecx,0xf; rep movs
    "8c178c67028c6f040f20d0"  # mov [edi],ss; mov [edi+0x2],fs; mov [edi+0x4],gs; mov eax,cr2
    "89470889670c83c710"  # mov [edi+0x8],eax; mov [edi+0xc],esp; add edi,0x10
    "893d0040000081ff00f01e000f8327010000"  # mov 0x4000,edi; cmp edi,0x1ef000; jae 167
    "8b44242883f8317471772383f80e"  # mov eax,[esp+0x28]; cmp eax,0x31; je ba; ja 6e; cmp eax,0xe
    "744083f801742583e80383f8017611"  # je 90; cmp eax,0x1; je 7a; sub eax,0x3; cmp eax,0x1; jbe 6e
    "8b44243083c03b83c87f83e83a"  # 5d: mov eax,[esp+0x30]; add eax,0x3b; or eax,0x7f; sub eax,0x3a
    "89442430"  # mov [esp+0x30],eax
    "8064243afe071f6183c408cf"  # 6e: and [esp+0x3a],0xfe; pop es; pop ds; popa; add esp,0x8; iret
    "ff0d1040000075ecc6051040000008"  # 7a: dec 0x4010; jne 6e; mov 0x4010,0x8
    "80642439feebde"  # and [esp+0x39],0xfe; jmp 6e
    "0f20d03d00001f0072c33d00a01f00"  # 90: mov eax,cr2; cmp eax,0x1f0000; jb 5d; cmp eax,0x1fa000
    "73bc89c3c1eb0c2500f0ffff83c807"  # jae 5d; mov ebx,eax; shr ebx,0xc; and eax,0xfffff000; or eax,0x7
    "89049d009000000f0138ebb4"  # mov [ebx*4+0x9000],eax; invlpg [eax]; jmp 6e
    "0f20c0ab0f20e0ab"  # ba: mov eax,cr0; stos [edi],eax; mov eax,cr4; stos [edi],eax
    "0f21c0ab0f21c8ab0f21f8"  # mov eax,dr0; stos [edi],eax; mov eax,dr1; stos [edi],eax; mov eax,dr7
    "ab0f000f0f0047020f014704"  # stos [edi],eax; str [edi]; sldt [edi+0x2]; sgdtd [edi+0x4]
    "0f014f0aa1184000000f22c0a11c400000"  # sidtd [edi+0xa]; mov eax,0x4018; mov cr0,eax; mov eax,0x401c
    "0f22e0b8000400000f23f883c71f"  # mov cr4,eax; mov eax,0x400; mov dr7,eax; add edi,0x1f
    "83e7f00fae0781c700020000"  # and edi,0xfffffff0; fxsave [edi]; add edi,0x200
    "893d004000000fae0d00420000c6051040000008"  # mov 0x4000,edi; fxrstor 0x4200; mov 0x4010,0x8
    "b90a000000b800001f00bfc0970000"  # mov ecx,0xa; mov eax,0x1f0000; mov edi,0x97c0
    "83f90275020c05"  # 127: cmp ecx,0x2; jne 12e; or al,0x5
    "ab0500100000e2f10f20d8"  # 12e: stos [edi],eax; add eax,0x1000; loop 127; mov eax,cr3
    "0f22d88b35084000008b0685c0741f"  # mov cr3,eax; mov esi,0x4008; mov eax,[esi]; test eax,eax; je 167
    "83050840000050b90f0000008e16"  # add 0x4008,0x50; mov ecx,0xf; mov ss,[esi]
    "8b6604"  # mov esp,[esi+0x4]
    "ff748e04e2fa0fa90fa1071f"  # 159: push [esi+ecx*4+0x4]; loop 159; pop gs; pop fs; pop es; pop ds
    "61cf"  # popa; iret
    "b000e6f4"  # 167: mov al,0x0; out 0xf4,al
    "ebfe"  # 16b: jmp 16b
)

HANDLER64: Final = bytes.fromhex(
    "415741564155415441534152"  # push r15; push r14; push r13; push r12; push r11; push r10
    "415141505756555352"  # push r9; push r8; push rdi; push rsi; push rbp; push rbx; push rdx
    "5150fc8b3c25004000004889e6"  # push rcx; push rax; cld; mov edi,0x4000; mov rsi,rsp
    "b916000000f348a58c1f8c4702"  # mov ecx,0x16; rep movs; mov [rdi],ds; mov [rdi+0x2],es
    "8c67048c6f060f20d048894708"  # mov [rdi+0x4],fs; mov [rdi+0x6],gs; mov rax,cr2; mov [rdi+0x8],rax
    "4883c710893c250040000081ff00f01e00"  # add rdi,0x10; mov 0x4000,edi; cmp edi,0x1ef000
    "0f83c70100008b44247883f8310f84ad000000"  # jae 21a; mov eax,[rsp+0x78]; cmp eax,0x31; je 10d
    "772e83f80e746983f801744983e803"  # ja 90; cmp eax,0xe; je d0; cmp eax,0x1; je b5; sub eax,0x3
    "83f801761c"  # cmp eax,0x1; jbe 90
    "488b8424880000004883c03b4883c87f"  # 74: mov rax,[rsp+0x88]; add rax,0x3b; or rax,0x7f
    "4883e83a4889842488000000"  # sub rax,0x3a; mov [rsp+0x88],rax
    "80a4249a000000fe58595a5b5d"  # 90: and [rsp+0x9a],0xfe; pop rax; pop rcx; pop rdx; pop rbx; pop rbp
    "5e5f41584159415a415b415c"  # pop rsi; pop rdi; pop r8; pop r9; pop r10; pop r11; pop r12
    "415d415e415f4883c41048cf"  # pop r13; pop r14; pop r15; add rsp,0x10; iretq
    "ff0c251040000075d2c604251040000008"  # b5: dec 0x4010; jne 90; mov 0x4010,0x8
    "80a42499000000feebc0"  # and [rsp+0x99],0xfe; jmp 90
    "0f20d0488d980000e1ff4881fb00a00000"  # d0: mov rax,cr2; lea rbx,[rax-0x1f0000]; cmp rbx,0xa000
    "739189c3c1eb0c2500f0ffff83c807"  # jae 74; mov ebx,eax; shr ebx,0xc; and eax,0xfffff000; or eax,0x7
    "8904dd00b000000f0138eb94"  # mov [rbx*8+0xb000],eax; invlpg [rax]; jmp 90
    "0f32ab89d0abc3"  # fc: rdmsr; stos [rdi],eax; mov eax,edx; stos [rdi],eax; ret
    "ad8b164883c6040f30c3"  # 103: lods eax,[rsi]; mov edx,[rsi]; add rsi,0x4; wrmsr; ret
    "0f20c0ab0f20e0ab"  # 10d: mov rax,cr0; stos [rdi],eax; mov rax,cr4; stos [rdi],eax
    "0f21c048ab0f21c848ab"  # mov rax,dr0; stos [rdi],rax; mov rax,dr1; stos [rdi],rax
    "0f21f848abb9000100c0e8ceffffff"  # mov rax,dr7; stos [rdi],rax; mov ecx,0xc0000100; call fc
    "ffc1e8c7ffffffffc1e8c0ffffff0f000f"  # inc ecx; call fc; inc ecx; call fc; str [rdi]
    "0f0047020f0147040f014f0e"  # sldt [rdi+0x2]; sgdt [rdi+0x4]; sidt [rdi+0xe]
    "8b0425184000000f22c08b04251c400000"  # mov eax,0x4018; mov cr0,rax; mov eax,0x401c
    "0f22e0b8000400000f23f883c727"  # mov cr4,rax; mov eax,0x400; mov dr7,rax; add edi,0x27
    "83e7f00fae0781c700020000"  # and edi,0xfffffff0; fxsave [rdi]; add edi,0x200
    "893c25004000000fae0c2500420000c604251040000008"  # mov 0x4000,edi; fxrstor 0x4200; mov 0x4010,0x8
    "b90a000000b800001f00bf80bf0000"  # mov ecx,0xa; mov eax,0x1f0000; mov edi,0xbf80
    "83f90275020c05"  # 19c: cmp ecx,0x2; jne 1a3; or al,0x5
    "48ab0500100000e2f00f20d8"  # 1a3: stos [rdi],rax; add eax,0x1000; loop 19c; mov rax,cr3
    "0f22d88b3425084000008b0685c0"  # mov cr3,rax; mov esi,0x4008; mov eax,[rsi]; test eax,eax
    "745b81042508400000c00000008e1e8e4602"  # je 21a; add 0x4008,0xc0; mov ds,[rsi]; mov es,[rsi+0x2]
    "8e66048e6e064883c608"  # mov fs,[rsi+0x4]; mov gs,[rsi+0x6]; add rsi,0x8
    "b9000100c0e820ffffffffc1e819ffffffffc1"  # mov ecx,0xc0000100; call 103; inc ecx; call 103; inc ecx
    "e812ffffffb914000000bc00700000"  # call 103; mov ecx,0x14; mov esp,0x7000
    "ff74cef8e2fa58595a5b"  # 1fb: push [rsi+rcx*8-0x8]; loop 1fb; pop rax; pop rcx; pop rdx; pop rbx
    "5d5e5f41584159415a415b415c"  # pop rbp; pop rsi; pop rdi; pop r8; pop r9; pop r10; pop r11; pop r12
    "415d415e415f48cf"  # pop r13; pop r14; pop r15; iretq
    "b000e6f4"  # 21a: mov al,0x0; out 0xf4,al
    "ebfe"  # 21e: jmp 21e
)


def stubs(first: int = STUBS, handler: int = HANDLER) -> bytes:
    """One for each vector, 16 bytes apart: push 0 where there is no error code; push its number; jmp."""
    out = b""
    for vector in range(VECTORS):
        stub = b"" if vector in (8, 10, 11, 12, 13, 14, 17) else b"\x6a\0"
        stub += bytes((0x6A, vector))
        place = first + 16 * vector + len(stub) + 5
        out += (stub + b"\xe9" + struct.pack("<i", handler - place)).ljust(16, b"\x90")
    return out


def gates(selector: int, bits: int) -> bytes:
    """Give the IDT: interrupt gates of CPL 0."""
    places = (STUBS + 16 * vector for vector in range(VECTORS))
    gate = 0x8E00 << 32 | selector << 16
    return b"".join(struct.pack("<Q", gate | place) + bytes(8 if bits == 64 else 0) for place in places)
