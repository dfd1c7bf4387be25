"""What differs between two runs of random programs, and the least programs that show it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.vmm import translation_driver as driver
from tests.vmm.state_differences import state_differences
from tests.vmm.translation_random_lab import Ending, Program, World

_NAMES32 = (
    "es",
    "ds",
    "rdi",
    "rsi",
    "rbp",
    "-",
    "rbx",
    "rdx",
    "rcx",
    "rax",
    "vector",
    "error",
    "rip",
    "cs",
    "rflags",
    "ss",
    "fs",
    "gs",
    "cr2",
    "rsp",
)
_NAMES64 = (
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rbp",
    "rsi",
    "rdi",
    *(f"r{n}" for n in range(8, 16)),
    "vector",
    "error",
    "rip",
    "cs",
    "rflags",
    "rsp",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "cr2",
)
_FINISHED64 = (
    "cr0",
    "cr4",
    "dr0",
    "dr1",
    "dr7",
    "fs base",
    "gs base",
    "kernel gs base",
    "tr",
    "ldtr",
    "gdtr",
    "idtr",
)
_FINISHED32 = ("cr0", "cr4", "dr0", "dr1", "dr7", "tr", "ldtr", "gdtr", "idtr")


def records(log: bytes, bits: int) -> Iterator[dict[str, int | bytes]]:
    """Take a log apart: one record for each interrupt, with more at the end of a program."""
    names, layout = (_NAMES64, "<22Q4HQ") if bits == 64 else (_NAMES32, "<15I3H2xII")
    more, finished = (_FINISHED64, "<2I6QHH10s10s") if bits == 64 else (_FINISHED32, "<5IHH6s6s")
    place = 0
    while place + struct.calcsize(layout) <= len(log):
        record = dict(zip(names, struct.unpack_from(layout, log, place), strict=True))
        place += struct.calcsize(layout)
        if record["vector"] == driver.FINISH and place + struct.calcsize(finished) + 512 <= len(log):
            record |= zip(more, struct.unpack_from(finished, log, place), strict=True)
            place = place + struct.calcsize(finished) + 15 & -16
            # Between the two is where the last x87 instruction was: in the translation.
            record["x87"] = log[place : place + 8]
            record["sse"] = log[place + 24 : place + 512]
            place += 512
        record.pop("-", None)
        yield record


def differences(one: Ending, two: Ending, world: World) -> list[str]:
    """Tell what is not the same at the first interrupt, and else at the end."""
    found = [] if one.stop == two.stop else [f"end: {one.stop} {two.stop}"]
    before: dict[str, int | bytes] = {}
    for first, second in zip(records(one.log, world.bits), records(two.log, world.bits), strict=False):
        if first != second:
            found += [f"{name}: {_text(value)} {_text(second.get(name))}" for name, value in first.items()
                      if value != second.get(name)]  # fmt: skip
            at = ", ".join(f"{name} {_text(first[name])}" for name in ("vector", "rip"))
            last = ", ".join(f"{name} {_text(before.get(name))}" for name in ("vector", "rip"))
            return [*found, f"seen by {at}; the one before was {last}"]
        before = first
    found += [f"at the end, {each}" for each in state_differences(one.state, two.state)]
    if one.memory != two.memory:
        pairs = enumerate(zip(one.memory, two.memory, strict=True))
        places = [
            (n if n < 0xA0000 else n - 0xA0000 + driver.FIX, *pair) for n, pair in pairs if pair[0] != pair[1]
        ]
        found += [f"[{n:#x}]: {a:02x} {b:02x}" for n, a, b in places[:12]]
    return found


def _text(value: int | bytes | None) -> str:
    return f"{value:x}" if isinstance(value, int) else value.hex() if value is not None else "none"


# --- shrinking ----------------------------------------------------------------------------------------------

Item = TypeVar("Item")


def least(items: Sequence[Item], fails: Callable[[Sequence[Item]], bool]) -> Sequence[Item]:
    """Drop as many of the items as can be while it still fails: halves first, then ever smaller parts."""
    size = max(1, len(items) // 2)
    while items:
        place, before = 0, len(items)
        while place < len(items):
            fewer = [*items[:place], *items[place + size :]]
            if fails(fewer):
                items = fewer
            else:
                place += size
        if size == 1 and len(items) == before:
            break
        size = max(1, size // 2)
    return items


def shrunk(programs: Sequence[Program], fails: Callable[[Sequence[Program]], bool]) -> Sequence[Program]:
    """Give programs of which no unit can be left out without their running alike."""
    programs = least(programs, lambda fewer: bool(fewer) and fails(fewer))
    places = [
        (n, slot, unit)
        for n, program in enumerate(programs)
        for slot, units in enumerate(program.slots)
        for unit in range(len(units))
    ]

    def only(kept: Iterable[tuple[int, int, int]]) -> list[Program]:
        there = set(kept)
        return [
            replace(
                program,
                slots=tuple(
                    tuple(unit for k, unit in enumerate(units) if (n, slot, k) in there)
                    for slot, units in enumerate(program.slots)
                ),
            )
            for n, program in enumerate(programs)
        ]

    return only(least(places, lambda kept: fails(only(kept))))


def listing(program: Program) -> list[str]:
    """Disassemble what is there of a program."""
    import capstone

    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[program.world.bits]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    bases = " ".join(
        f"{name}={base:#x}" for name, base in zip(("cs", "ds", "ss", "fs"), program.bases, strict=True)
    )
    name = f"program {program.number} of seed {program.seed}, {program.world.name}"
    lines = [f"{name}, {bases}, sp {program.stack:#x}"]
    for number, units in enumerate(program.slots):
        place = program.slot_at(number)
        for unit in units:
            code = unit.at(place)
            text = "; ".join(f"{i.mnemonic} {i.op_str}".strip() for i in decoder.disasm(code, place))
            lines.append(f"  {place:x}: {code.hex():30} {text}")
            place += len(code)
    return lines
