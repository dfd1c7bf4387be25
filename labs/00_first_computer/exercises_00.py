"""A first computer: the exercises, their points and their hints."""

from __future__ import annotations

from typing import Final

import cpuid_checks_00 as cpuid
import spoken_checks_00 as spoken

from vlab.grading.exercise import Exercise, Invariant

SPOKEN: Final = Exercise(
    "spoken",
    "What did the guest say?",
    ("spoken",),
    (
        Invariant("text", 2, "the text is read out of exits by OUT and CPUID", spoken.text),
        Invariant("reads", 1, "what the guest reads from the chip is no part of its text", spoken.reads),
        Invariant("ports", 2, "bytes for other ports are no part of it", spoken.ports),
        Invariant("divisor", 1, "bytes that set the chip's speed are no part of it", spoken.divisor),
        Invariant(
            "others",
            2,
            "all that holds for other guests, and for a kernel that boots",
            spoken.others,
            hidden=True,
        ),
    ),
    hints=(
        "Go through the exits in their order, and collect characters in a string.",
        "Only 'IOIO' exits count, with bit 24 of info1 set and 0x3F8 in its bits 15:0. info2 is the code.",
        "Remember whether the last byte for 0x3FB had bit 7 set. While it has, skip what goes to 0x3F8.",
    ),
)

CPUID_EXERCISE: Final = Exercise(
    "cpuid",
    "A handler for CPUID",
    ("cpuid",),
    (
        Invariant("goes_on", 1, "the guest goes on behind CPUID, with the processor's answer", cpuid.goes_on),
        Invariant("vendor", 2, "leaf 0 gives your vendor, and the guest prints it", cpuid.vendor),
        Invariant(
            "present",
            1,
            "leaf 1 says that there is a monitor, and is the processor's own else",
            cpuid.present,
        ),
        Invariant("name", 2, "leaf 4000_0000h gives the monitor's name", cpuid.name),
        Invariant("rest", 2, "all other leaves and subleaves are the processor's", cpuid.rest),
        Invariant("long_mode", 2, "all of it holds for a 64-bit guest", cpuid.long_mode, hidden=True),
    ),
    hints=(
        "Begin with the processor's answer for cpu.eax and cpu.ecx, and change what three leaves are to say.",
        "words(vendor) gives the three 32-bit words; a, b, c = words(vendor) takes them apart.",
        "Leaf 0 wants the words in EBX, EDX, ECX; leaf 0x40000000 in EBX, ECX, EDX, and EAX = 0x40000000.",
    ),
)

EXERCISES: tuple[Exercise, ...] = (SPOKEN, CPUID_EXERCISE)
