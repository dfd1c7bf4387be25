# Instructions around which the moment of an interrupt matters.

        .intel_syntax noprefix
        .globl  irq_hlt, irq_after_hlt, irq_sti_cli, irq_sti_nop, irq_after_nop, irq_popf, irq_after_popf
        .globl  irq_rep_movs, irq_at_rep

        .text
irq_hlt:
        sti
        hlt
irq_after_hlt:
        cli
        ret

irq_sti_cli:                            # no interrupt behind STI before one more instruction has run: CLI
        sti
        cli
        ret

irq_sti_nop:
        sti
        nop
irq_after_nop:
        cli
        ret

irq_popf:                               # POPF delays nothing
        pushfd
        or      dword ptr [esp], 1 << 9
        popfd
irq_after_popf:
        cli
        ret

irq_rep_movs:                           # (void *to, const void *from, uint32_t count), with IF = 1
        push    edi
        push    esi
        mov     edi, [esp + 12]
        mov     esi, [esp + 16]
        mov     ecx, [esp + 20]
        sti
        nop
irq_at_rep:
        rep movsb
        cli
        pop     esi
        pop     edi
        ret
