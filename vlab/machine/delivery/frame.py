"""The frame that delivery leaves on the handler's stack.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and Intel SDM vol. 3, order 325384-083 (SDM3).
A frame is one number with the item of the lowest address (pushed last) in its low bits, so that in the
common case it is one write.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlab.isa.state import Segment
from vlab.isa.vectors import Vector
from vlab.machine.delivery.core import BIG, MASK32, RF, Core
from vlab.machine.faults import CpuFault, Event, EventKind

_EXCEPTION = EventKind.EXCEPTION
_SOFTWARE = (EventKind.SOFTWARE_INT, EventKind.INT3, EventKind.INTO, EventKind.ICEBP)

# Bit n is set when exception n is a fault. #DB is left out: the one that is a fault, for an instruction
# breakpoint, pushes RF unchanged too. #BP and #OF are traps, #DF and #MC aborts (APM2 table 8-1).
_FAULTS = sum(1 << n for n in (0, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19, 21))

_SS = int(Vector.SS)


def pushed_flags(event: Event, rflags: int) -> int:
    """Give the flags image to push: RF set for faults, clear after software interrupts (SDM3 18.3.1.1)."""
    if event.kind is _EXCEPTION:
        return rflags | RF if _FAULTS >> event.vector & 1 else rflags
    return rflags & ~RF if event.kind in _SOFTWARE else rflags


def pushed_error_code(event: Event) -> int | None:
    """Give the error code to push, None for none: only exceptions have one (APM2 8.4)."""
    return event.error_code if event.kind is _EXCEPTION else None


def pack(items: Sequence[int], width: int) -> int:
    """Make a frame of ``items``, the one for the lowest address first, each cut to ``width`` bytes."""
    bits = 8 * width
    mask = (1 << bits) - 1
    frame = 0
    for item in reversed(items):
        frame = frame << bits | item & mask
    return frame


def store(core: Core, linear: int, frame: int, count: int, width: int, *, user: bool) -> None:
    """Write a frame of ``count`` items to ``linear``..; a fault is the one of the first push that fails."""
    try:
        core.write(linear, count * width, frame, user=user)
    except CpuFault:
        # Once more as the processor pushes, downwards, to fault at the address where it would.
        for index in reversed(range(count)):
            push_item(core, linear + index * width, frame, index, width, user=user)


def push_item(core: Core, linear: int, frame: int, index: int, width: int, *, user: bool) -> None:
    """Write item ``index`` of a frame to ``linear``."""
    item = frame >> 8 * width * index & ((1 << 8 * width) - 1)
    try:
        core.write(linear, width, item, user=user)
    except CpuFault as fault:
        fault.met("the stack", linear)
        raise


def push(
    core: Core, stack: Segment, pointer: int, frame: int, count: int, width: int, *, code: int, user: bool
) -> int:
    """Push a frame on a 16- or 32-bit stack and give the new stack pointer.

    ``code``: the error code of the #SS for a frame outside the segment's limit (APM2 4.12, 8.7.3).
    """
    mask = MASK32 if stack.attributes & BIG else 0xFFFF
    # A pointer of 0 pushes at the top of the segment.
    low = ((pointer & mask) or mask + 1) - count * width
    if low >= 0:
        if not _within(stack, low, count * width, mask):
            raise CpuFault(_SS, code, why=_no_room(stack, low))
        store(core, (stack.base + low) & MASK32, frame, count, width, user=user)
    else:
        low = _push_around(core, stack, pointer & mask, frame, count, width, mask, code, user)
    return low if mask == MASK32 else pointer & 0xFFFF_0000 | low


def _within(stack: Segment, offset: int, size: int, mask: int) -> bool:
    last = offset + size - 1
    if stack.attributes & 0xC == 0x4:  # data, expand-down: the valid offsets lie above the limit
        return offset > stack.limit and last <= mask
    return last <= min(stack.limit, mask)


def _push_around(
    core: Core,
    stack: Segment,
    offset: int,
    frame: int,
    count: int,
    width: int,
    mask: int,
    code: int,
    user: bool,
) -> int:
    """Push item by item where the stack pointer wraps around offset 0."""
    places = []
    for _ in range(count):
        offset = (offset - width) & mask
        if not _within(stack, offset, width, mask):
            raise CpuFault(_SS, code, why=_no_room(stack, offset))
        places.append(offset)
    for index, place in zip(reversed(range(count)), places, strict=True):
        push_item(core, (stack.base + place) & MASK32, frame, index, width, user=user)
    return offset


def _no_room(stack: Segment, offset: int) -> str:
    return (
        f"a push to {stack.selector:04x}:{offset:x} is outside the stack segment"
        f" (limit {stack.limit:#x}{', expand-down' if stack.attributes & 0xC == 0x4 else ''})"
    )
