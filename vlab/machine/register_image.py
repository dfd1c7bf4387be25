"""A virtual processor's register file as bytes that outlive the machine: what a snapshot keeps.

The live file holds fields of the machine's own among the guest's: addresses in its memory, what its owner
intercepts, pointers of the emulator. An image has zeroes there, and taking one up leaves them alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vlab.machine import registers as reg
from vlab.machine.processor import Processor
from vlab.machine.registers import Layout

_POINTERS = reg.DR + 64  # behind DR7 the emulator points to its breakpoints
_HSAVE_PA = 8  # behind STAR


@dataclass(frozen=True, slots=True)
class RegisterImage:
    """All registers of one virtual processor.

    build: names the layout of ``file``, the emulator's register file. step_due, hit: the #DB of a single
    step, or of these breakpoints, is still to come. task_priority: CR8. stalled: events delivered in a row
    since the last block.
    """

    build: str
    file: bytes
    step_due: bool
    hit: int
    task_priority: int
    stalled: int


def build_of(layout: Layout) -> str:
    """Name the layout of the register file: equal names, equal meaning of every byte."""
    places = repr((layout.size, layout.vmcb, sorted(layout.msrs.items())))
    return f"unicorn-2.1/{hashlib.sha256(places.encode()).hexdigest()[:16]}"


def take(processor: Processor) -> RegisterImage:
    """Copy the registers of the virtual processor that is on ``processor``, between two runs."""
    engine = processor.engine
    file = bytearray(engine.bytes)
    for start, end in _own_fields(engine.layout):
        file[start:end] = bytes(end - start)
    return RegisterImage(build_of(engine.layout), bytes(file), *processor.unseen)


def put(processor: Processor, image: RegisterImage) -> None:
    """Give the virtual processor that is on ``processor`` other registers; all translations are forgotten."""
    live = processor.engine.bytes
    file = bytearray(image.file)
    for start, end in _own_fields(processor.engine.layout):
        file[start:end] = live[start:end]
    processor.load_registers(bytes(file))
    processor.unseen = image.step_due, image.hit, image.task_priority, image.stalled


def _own_fields(layout: Layout) -> tuple[tuple[int, int], ...]:
    """Give the byte ranges that are the machine's."""
    star = layout.msrs["star"]
    return (
        (star + _HSAVE_PA, star + _HSAVE_PA + 8),
        (layout.vmcb + _POINTERS, layout.vmcb + reg.OLD_EXCEPTION),
        (layout.vmcb, layout.vmcb + reg.NESTED_CR3 + 12),
    )
