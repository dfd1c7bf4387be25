"""The interrupt lines of a virtual PC, from the chips to the processor: what is on each, and their drawing.

Every line and every input has a word beside its colour, for a line that lights up for a moment, and for eyes
that do not tell colours apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from vlab.devices.io_apic import IoApicState, RedirectionEntry
from vlab.devices.local_apic_registers import LocalApicState, SpuriousVector
from vlab.devices.pic8259 import PicPairState
from vlab.devices.state import DeviceState
from vlab.vmm.board import ISA_LINES, pin_of
from vlab.widgets import svg

_NAMES: Final = {
    0: "8254, counter 0", 1: "8042, keyboard", 4: "16550A serial", 8: "MC146818 clock", 9: "ACPI",
    12: "8042, mouse", 14: "ATA disk",
}  # fmt: skip
_ROW, _TOP, _CELL = 42, 50, 34  # pixels
_CHIP, _PIC, _PIN, _APIC = (8, 132), (246, 150), (420, 150), (612, 140)  # left edge and width of each column


class Wire(NamedTuple):
    """word: the state in words. lit: whether something goes on there."""

    word: str
    lit: bool


def wires(
    states: Mapping[str, DeviceState], interrupt: bool, vectors: Mapping[int, int], taken: int
) -> dict[str, Wire]:
    """Say what is on every line. interrupt: the level of INTR at the processor. vectors: how many interrupts
    the guest took since the last look, by vector, where known; taken: of all vectors.
    """
    pic, io_apic, local = states["pic"], states["io_apic"], states["local_apic"]
    assert isinstance(pic, PicPairState)
    assert isinstance(io_apic, IoApicState)
    assert isinstance(local, LocalApicState)
    found: dict[str, Wire] = {}
    for chip, irq in ISA_LINES:
        if chip not in states:
            continue
        found[f"irq{irq}"] = _level(io_apic, pin_of(irq))
        found[f"pic{irq}"] = _pic_input(pic, irq, vectors)
        found[f"pin{irq}"] = _pin(io_apic, pin_of(irq), vectors)
    found["lint0"] = Wire("INT high" if local.extint else "INT low", local.extint)
    found["apic"] = _local_apic(local)
    word = "INTR high" if interrupt else "INTR low"
    found["cpu"] = Wire(f"{word}, {taken:,} taken" if taken else word, interrupt or taken > 0)
    return found


def _level(io_apic: IoApicState, pin: int) -> Wire:
    high = bool(io_apic.levels >> pin & 1)
    return Wire("high" if high else "low", high)


def _pic_input(pair: PicPairState, irq: int, vectors: Mapping[int, int]) -> Wire:
    chip, place = (pair.slave, irq - 8) if irq > 7 else (pair.master, irq)
    requested, served = chip.irr >> place & 1, chip.isr >> place & 1
    masked = chip.imr >> place & 1
    words = [
        word for word, true in (("in service", served), ("requested", requested), ("masked", masked)) if true
    ]
    taken = vectors.get(chip.icw2 & 0xF8 | place, 0)
    return _with_taken(Wire(", ".join(words) or "ready", bool(served or (requested and not masked))), taken)


def _pin(io_apic: IoApicState, pin: int, vectors: Mapping[int, int]) -> Wire:
    entry = RedirectionEntry(io_apic.redirections[pin].entry)
    if entry.MASKED:
        return Wire("masked", False)
    if entry.REMOTE_IRR:
        return _with_taken(Wire("in service", True), vectors.get(entry.VECTOR, 0))
    high = bool(io_apic.levels >> pin & 1)
    wire = Wire(f"to vector {entry.VECTOR:#04x}", bool(high and entry.LEVEL))
    return _with_taken(wire, vectors.get(entry.VECTOR, 0))


def _with_taken(wire: Wire, taken: int) -> Wire:
    return Wire(f"{wire.word}, {taken:,} taken", True) if taken else wire


def _local_apic(state: LocalApicState) -> Wire:
    served, requested = (int.from_bytes(each, "little").bit_length() - 1 for each in (state.isr, state.irr))
    if not SpuriousVector(state.svr).ENABLE:
        return Wire("LINT0 passes", state.extint) if state.extint else Wire("switched off", False)
    words = [f"serves {served:#04x}"] if served >= 0 else []
    words += [f"{requested:#04x} requested"] if requested >= 0 else []
    words += ["LINT0: 8259A"] if state.extint else []
    return Wire(", ".join(words) or "idle", bool(words))


# --- the drawing --------------------------------------------------------------------------------------------


def draw(found: Mapping[str, Wire]) -> str:
    """Draw the lines. Elements with data-wire are lit, those with data-word hold its word."""
    irqs = [int(name.removeprefix("irq")) for name in found if name.startswith("irq")]
    bottom = _TOP + _ROW * len(irqs)
    right, middle = _APIC[0] + _APIC[1], _APIC[0] + _APIC[1] / 2
    parts: list[Element] = [
        svg.text(left, 24, words, font_weight="bold")
        for (left, _), words in ((_CHIP, "Chips"), (_PIC, "8259A pair"), (_PIN, "I/O APIC"))
    ]
    bus = _PIN[0] + _PIN[1] + 20
    parts.append(
        svg.line(bus, _TOP + _CELL / 2, bus, _TOP + _ROW * (len(irqs) - 1) + _CELL / 2, class_="edge")
    )
    for row, irq in enumerate(irqs):
        parts += _drawn_row(_TOP + _ROW * row, irq, found, bus)
    apic, cpu = _TOP + 120, _TOP
    elbow = f"M {_PIC[0] + 75} {bottom - 8} V {bottom + 12} H {middle} V {apic + 90}"
    parts += [
        svg.group(svg.node("path", d=elbow, class_=_class("edge", found["lint0"])), data_wire="lint0"),
        _word(_PIC[0] + 84, bottom + 8, "lint0", found),
        svg.line(bus, apic + 45, _APIC[0], apic + 45, class_="edge"),
        svg.line(middle, apic, middle, cpu + 50, class_=_class("edge", found["cpu"]), data_wire="cpu"),
        _cell(_APIC[0], apic, _APIC[1], 90, "apic", "Local APIC", found),
        _cell(_APIC[0], cpu, _APIC[1], 50, "cpu", "Processor", found),
    ]
    return svg.document(right + 8, bottom + 24, "Interrupt lines from the chips to the processor", *parts)


def _drawn_row(y: int, irq: int, found: Mapping[str, Wire], bus: int) -> list[Element]:
    middle, start = y + _CELL / 2, _CHIP[0] + _CHIP[1]
    chip = "slave" if irq > 7 else "master"
    line = _class("edge", found[f"irq{irq}"])
    return [
        svg.group(
            svg.line(start, middle, _PIC[0], middle, class_=line),
            svg.line(_PIC[0] + _PIC[1], middle, _PIN[0], middle, class_=line),
            data_wire=f"irq{irq}",
        ),
        svg.line(_PIN[0] + _PIN[1], middle, bus, middle, class_="edge"),
        svg.box(_CHIP[0], y, _CHIP[1], _CELL, class_="paper"),
        svg.text(_CHIP[0] + 8, y + 21, _NAMES[irq]),
        svg.text(start + 6, y + 13, f"IRQ {irq}", class_="small"),
        _word(start + 6, y + 30, f"irq{irq}", found),
        _cell(_PIC[0], y, _PIC[1], _CELL, f"pic{irq}", f"{chip} IR{irq % 8}", found),
        _cell(_PIN[0], y, _PIN[1], _CELL, f"pin{irq}", f"pin {pin_of(irq)}", found),
    ]


def _cell(
    x: int, y: int, width: int, height: int, name: str, label: str, found: Mapping[str, Wire]
) -> Element:
    return svg.group(
        svg.box(x, y, width, height, class_=_class("panel", found[name]), data_wire=name),
        svg.text(x + 8, y + 13 + height // 50 * 6, label, class_="small faint"),
        _word(x + 8, y + 28 + height // 50 * 8, name, found),
    )


def _word(x: int, y: int, name: str, found: Mapping[str, Wire]) -> Element:
    return svg.text(x, y, found[name].word, class_="small", data_word=name)


def _class(plain: str, wire: Wire) -> str:
    return f"{plain} now" if wire.lit else plain
