"""What each lesson's solution edition shows when it has run: answers to its predictions, and findings."""

from __future__ import annotations

from typing import Final

from vlab.guests.catalogue import find

SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "00": (
        "hello from a boot sector in real mode",
        "It is: several for each character",
        "It is: it prints the same",
        "It is: far fewer",
        "It is: the guest: it sends each of them back",
        "It is: it reads the x from the serial port",
        "It is: it asks for ever",
        "What did the guest say?: 6 of 8 marks",  # the other marks are for hidden invariants
        "A handler for CPUID: 8 of 10 marks",
    ),
    "01": (
        "It is: none: the guest's own kernel hears of them",
        "It is: no: the same, word for word",
        "It is: both",
        "It is: it executes, and leaves IF alone",
        "It is: more than twenty",
        "It is: the monitor: the real interrupts are off",
        "It is: some exit, the others are right by themselves",
        "on their list and measured: 18 of 18",
        "from what was seen: 10 of 12 marks",
    ),
    "02": (
        "It is: ring 0",
        "It is: the same CLI, again and again",
    ),
    "03": (
        "It is: none",  # exits for its flags, under AMD-V
        "It is: it panics: it sees interrupts on where it has switched them off",
        "It is: 0: POPF left it alone",
        "It is: it boots, and the command works",
        "FAILED kernel.restore_enables",
        "It is: four",
        "silent: 0",
        "It is: no, none",
        "Find the instruction that breaks the guest: 8 of 11 marks",  # the others: for hidden invariants
        "PUSHF and POPF, repaired: 9 of 11 marks",
    ),
    "04": (
        "It is: most of them",
        "It is: about 1 in 40",
        "chained: 4 exits; never chained: 201",
        "It is: 0: POPF was ignored",
    ),
    "05": (
        "It is: 4",
        "It is: 0x7: P, W and U",
        "It is: AA: it still sees the old page",
        "It is: AA: a processor that breaks its promise",
        "Not flushed yet",
        "A 32-bit page walk: 9 of 11 marks",  # the other marks are for hidden invariants
        "reserved bits: 9 of 11 marks",
        "What a TLB has to forget: 8 of 10 marks",
    ),
    "06": (
        "It is: 4: the shadow's",
        "It is: PF, INVLPG and CR",  # exits that go with nested tables
        "It is: A=0 D=0",
        "It is: write-protect",
        "after a write:  A=1 D=1",
        "It is: about as many",  # page faults without AMD-V
        "Answering a miss: 10 of 12 marks",  # the other marks are for hidden invariants
        "Following the guest's tables: 10 of 12 marks",
    ),
    "07": (
        "It is: none of them",
        "hardware: rings: done, 10 times in, 10 times out, 7 refusals",
        "It is: RAX and RSP",
        "It is: CPUID again and again, with changing EAX",
    ),
    "08": (
        "It is: 24",
        "It is: 19",
        "It is: shadow tables",
        "It is: nested tables",
        "It is: not even its first instruction runs",
        "A walk in two dimensions: 9 of 11 marks",  # the other marks are for hidden invariants
        "Nested tables for a guest: 9 of 11 marks",
    ),
    "09": (
        "It is: 1\n",
        "It is: 2\n",
        "It is: nothing: not an exit more",
        *(
            (
                "ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
                "It is: 16550A",
                "Linux takes your chips",
            )
            if find("linux").available
            else ("Linux is not on this computer", "your prediction waits")
        ),
        "It is: it polls one register for ever",
    ),
    "10": (
        "It is: its page tables",
        "It is: about 50 times",
        "It is: more than 200",
        "It is: less than 2",
        'believing: HV_MMU_UPDATE gave 1, and the liar prints "the victim\'s own secret."',
        'checking:  HV_MMU_UPDATE gave -1, and the liar prints "the liar\'s own memory..."',
    ),
    "11": (
        "It is: none",  # a system call under hardware assistance
        "It is: binary translation",  # on the first processor with VT-x
        "It is: hardware over nested tables",
        "It is: some tens",  # touches for each update, at the crossover
        "their difference: 0 each",
    ),
    "12": (
        "It is: 3 or 4",
        "It is: the guest's handler runs in the middle of its critical section",
        "the same on the console: True",
        "It is: about 5",  # exits for each 1,000 blocks
    ),
}
TIMES: Final = {("06", "after a write:  A=1 D=1"): 4}
"""What is shown more than once: on vlab's own shadow, under three monitors and alone."""
