# Handlers outside ring 0: they note where they run and what the processor has pushed, and leave by INT.

#include "segments.h"

        .intel_syntax noprefix
        .globl  ring1_entry, conforming_entry
        .globl  action_look_at_segments, at_look_at_segments, after_look_at_segments
        .globl  seen_cs, seen_ss, seen_esp, seen_ds, seen_es, seen_frame

        .text
ring1_entry:
conforming_entry:                       # DS is still the user's, which both may use
        mov     [seen_cs], cs
        mov     [seen_ss], ss
        mov     [seen_esp], esp
        .irp    n, 0, 1, 2, 3, 4
        mov     eax, [esp + 4 * \n]
        mov     [seen_frame + 4 * \n], eax
        .endr
        int     VECTOR_DONE

action_look_at_segments:
        mov     [seen_ds], ds
        mov     [seen_es], es
        int     VECTOR_DONE

# Ring 3 again; its way there is `int VECTOR_USER` with a handler that returns with ES = kernel data.
at_look_at_segments:
after_look_at_segments:
        int     VECTOR_USER
        mov     [seen_es], es
        int     VECTOR_DONE

        .bss
        .balign 4
seen_cs:
        .skip   4
seen_ss:
        .skip   4
seen_esp:
        .skip   4
seen_ds:
        .skip   4
seen_es:
        .skip   4
seen_frame:
        .skip   20
