"""What each port, and each address of the APICs, is called: the names that their data sheets use.

One address can be two registers, one for reading and one for writing; a name here is that of the access.
"""

from __future__ import annotations

from typing import Final

from vlab.devices import io_apic, local_apic_registers
from vlab.devices.serial_registers import Offset
from vlab.machine.bus import Window

Names = dict[int, str | tuple[str, str]]
"""Offset in a window -> name, or the names for reading and for writing."""

_LOCAL_APIC: Final = (
    "ID", "VERSION", "TPR", "APR", "PPR", "EOI", "REMOTE_READ", "LDR", "DFR", "SVR", "ESR", "ICR_LOW",
    "ICR_HIGH", "INITIAL_COUNT", "CURRENT_COUNT", "DIVIDE",
)  # fmt: skip
_LVT: Final = ("timer", "thermal", "performance", "LINT0", "LINT1", "error")
_PIC: Final[Names] = {0: ("IRR or ISR", "ICW1, OCW2 or OCW3"), 1: ("IMR", "IMR or ICW2 to ICW4")}
_CRTC: Final[Names] = {4: "CRTC index", 5: "CRTC data", 0xA: ("input status 1", "feature control")}
_VGA: Final[Names] = {
    0x10: ("attribute index", "attribute index or data"), 0x11: "attribute data",
    0x12: ("input status 0", "miscellaneous output"), 0x13: "subsystem enable", 0x14: "sequencer index",
    0x15: "sequencer data", 0x16: "DAC mask", 0x17: ("DAC state", "DAC read index"), 0x18: "DAC write index",
    0x19: "DAC data", 0x1A: "feature control", 0x1C: "miscellaneous output", 0x1E: "graphics index",
    0x1F: "graphics data", **_CRTC, **{0x20 + offset: name for offset, name in _CRTC.items()},
}  # fmt: skip


def _apic_names() -> Names:
    names: Names = {getattr(local_apic_registers, name): name.replace("_", " ") for name in _LOCAL_APIC}
    for name in ("ISR", "TMR", "IRR"):
        first = getattr(local_apic_registers, name)
        names |= {first + 0x10 * n: f"{name} {32 * n} to {32 * n + 31}" for n in range(8)}
    return names | {local_apic_registers.LVT + 0x10 * n: f"LVT {name}" for n, name in enumerate(_LVT)}


_NAMES: Final[dict[str, Names]] = {
    "8259 pair 0x20": _PIC,
    "8259 pair 0xa0": _PIC,
    "8259 pair 0x4d0": {0: "ELCR of the master", 1: "ELCR of the slave"},
    "8254 timer": {0: "counter 0", 1: "counter 1", 2: "counter 2", 3: "control word"},
    "8042 command": {0: ("status", "command")},
    "8042 data": {0: ("output buffer", "input buffer")},
    "MC146818 clock": {0: "index", 1: "data"},
    "16550A serial port": {
        Offset.DATA: ("RBR", "THR"), Offset.IER: "IER", Offset.IIR_FCR: ("IIR", "FCR"), Offset.LCR: "LCR",
        Offset.MCR: "MCR", Offset.LSR: "LSR", Offset.MSR: "MSR", Offset.SCR: "SCR",
    },
    "VGA": _VGA,
    "ATA disk": {
        0: "data", 1: ("error", "features"), 2: "sector count", 3: "LBA low", 4: "LBA mid", 5: "LBA high",
        6: "device", 7: ("status", "command"),
    },
    "ATA control": {0: ("alternate status", "device control")},
    "vlab disk": {0: "LBA", 4: "sectors", 8: "buffer", 12: ("status", "command")},
    "ACPI power management": {0: "PM1 status", 2: "PM1 enable", 4: "PM1 control", 8: "PM timer"},
    "local APIC": _apic_names(),
    "I/O APIC": {io_apic.INDEX: "index", io_apic.WINDOW: "window", io_apic.EOI: "EOI"},
}  # fmt: skip
_DIVISOR: Final = {Offset.DATA: "divisor, low byte", Offset.IER: "divisor, high byte"}


def register_name(window: Window, address: int, *, write: bool, divisor: bool = False) -> str:
    """Name the register at ``address`` of a window of the board's; an empty string where it has no name.

    divisor: whether the serial port's DLAB bit was 1.
    """
    offset = address - window.first
    if divisor and window.name == "16550A serial port" and offset in _DIVISOR:
        return _DIVISOR[offset]
    name = _NAMES.get(window.name, {}).get(offset, "")
    return name if isinstance(name, str) else name[write]
