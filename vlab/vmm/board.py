"""The virtual PC: which chips it has, where they answer and how their lines run.

The board knows buses, clock and guest memory; it knows nothing of monitors. A monitor (or the bare machine)
routes port and memory accesses to ``ports`` and ``memory_windows``, watches ``interrupt`` and takes vectors
with ``acknowledge``.
"""

# The lambdas below look up what they call when they are called: the chips are wired in circles.
# ruff: noqa: PLW0108

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from vlab.devices import debug_ports
from vlab.devices.acpi_pm import AcpiPm
from vlab.devices.ata_disk import CONTROL as ATA_CONTROL
from vlab.devices.ata_disk import AtaDisk
from vlab.devices.i8042 import I8042
from vlab.devices.io_apic import IoApic
from vlab.devices.local_apic import LocalApic
from vlab.devices.paravirtual_disk import ParavirtualDisk
from vlab.devices.pic8259 import WINDOWS as PIC_WINDOWS
from vlab.devices.pic8259 import Pic8259Pair
from vlab.devices.pit8254 import Pit8254
from vlab.devices.port61 import Port61
from vlab.devices.rtc_mc146818 import RtcMc146818
from vlab.devices.serial16550a import Serial16550A
from vlab.devices.state import DeviceState
from vlab.devices.vga_text import PORT_BASE as VGA_PORTS
from vlab.devices.vga_text import PORT_COUNT as VGA_PORT_COUNT
from vlab.devices.vga_text import VgaText
from vlab.devices.wiring import Device
from vlab.machine.bus import Bus
from vlab.machine.clock import Alarms, Clock

LOCAL_APIC_BASE: Final = 0xFEE00000
IO_APIC_BASE: Final = 0xFEC00000
VGA_TEXT_BASE: Final = 0xB8000
VGA_TEXT_SIZE: Final = 0x8000
EPOCH: Final = 1_767_225_600
"""Wall-clock time at power-on under the deterministic clock: 2026-01-01 00:00:00 UTC."""

_SERIAL_IRQ, _KEYBOARD_IRQ, _RTC_IRQ, _MOUSE_IRQ, _ACPI_IRQ, _ATA_IRQ = 4, 1, 8, 12, 9, 14
_TIMER_PIN = 2  # of the I/O APIC, where the MP and ACPI tables say that IRQ 0 arrives

ISA_LINES: Final = (
    ("pit", 0), ("keyboard_controller", _KEYBOARD_IRQ), ("serial", _SERIAL_IRQ), ("rtc", _RTC_IRQ),
    ("acpi", _ACPI_IRQ), ("keyboard_controller", _MOUSE_IRQ), ("ata", _ATA_IRQ),
)  # fmt: skip
"""Which chip drives which ISA interrupt line."""


REPLACEABLE: Final = ("pic", "pit", "rtc", "serial", "keyboard_controller")
"""The chips that a user may bring instead: called like vlab's own class of that chip, with the same wires."""

Makers = Mapping[str, Callable[..., Any]]
_C = TypeVar("_C")
_NONE: Final[Makers] = MappingProxyType({})


def pin_of(irq: int) -> int:
    """Give the pin of the I/O APIC that an ISA interrupt line leads to."""
    return _TIMER_PIN if irq == 0 else irq


@dataclass(slots=True)
class BoardEvents:
    """What the board tells its monitor. ``attention``: look at ``interrupt`` soon. ``reset``, ``power_off``,
    ``debug_exit``: the guest asked for it. ``output``: a byte of the serial console. ``dma``:
    a device wrote so many bytes at a guest-physical address.
    """

    attention: Callable[[], None] = lambda: None
    reset: Callable[[str], None] = lambda _why: None
    power_off: Callable[[], None] = lambda: None
    debug_exit: Callable[[int], None] = lambda _status: None
    output: Callable[[int], None] = lambda _byte: None
    debug_output: Callable[[int], None] = lambda _byte: None
    a20: Callable[[bool], None] = lambda _level: None
    post_code: Callable[[int], None] = lambda _code: None
    dma: Callable[[int, int], None] = lambda _gpa, _size: None


class Board:
    """The chips of one virtual machine.

    memory: the guest's RAM from guest-physical 0. disk: contents of the firmware's disk, None for none.
    epoch: seconds since 1970 at virtual time 0. makers: what makes some of the REPLACEABLE chips, by name.
    """

    def __init__(
        self,
        clock: Clock,
        memory: memoryview,
        *,
        disk: bytearray | None = None,
        epoch: int = EPOCH,
        makers: Makers = _NONE,
    ) -> None:
        self.clock = clock
        self._makers = makers
        self.alarms = Alarms(clock)
        self.events = BoardEvents()
        self.ports = Bus("I/O ports")
        self.memory_windows = Bus("memory")
        self.interrupt = False
        self._a20_gates = [True, True]
        self._local_apic_on = True
        self._make_interrupt_controllers()
        self._make_timers(len(memory), epoch)
        self._make_console(memory)
        self._make_system(memory, disk)
        self._wire_ports()

    # --- chips ------------------------------------------------------------------------------------------

    def _chip(self, name: str, usual: Callable[..., _C], **wires: Any) -> _C:
        """Make a chip: the user's own where there is one."""
        make: Callable[..., _C] = self._makers.get(name, usual)
        return make(**wires)

    def _timed(self, expire: Callable[[], None]) -> Callable[[int | None], None]:
        return self.alarms.alarm(expire).schedule

    def _make_interrupt_controllers(self) -> None:
        self.pic = self._chip("pic", Pic8259Pair, output=self._pic_output)
        self.local_apic = LocalApic(
            now=self.clock.now,
            schedule=self._timed(lambda: self.local_apic.expire()),
            output=self._apic_output,
            eoi_broadcast=lambda vector: self.io_apic.eoi(vector),
            pic_acknowledge=self.pic.acknowledge,
        )
        self.io_apic = IoApic(
            deliver=lambda vector, mode, level: self.local_apic.deliver(vector, mode, level), identity=1
        )
        self.local_apic.enter_virtual_wire()  # as firmware leaves it: the 8259 speaks through LINT0
        self.memory_windows.add(
            LOCAL_APIC_BASE, 4096, "local APIC", self.local_apic.read, self.local_apic.write, width=4
        )
        self.memory_windows.add(
            IO_APIC_BASE, 4096, "I/O APIC", self.io_apic.read, self.io_apic.write, width=4
        )

    def irq(self, number: int) -> Callable[[bool], None]:
        """Give the line of ISA interrupt ``number``: it reaches the 8259 pair and the I/O APIC both."""
        pin = pin_of(number)
        pic, io_apic = self.pic.set_line, self.io_apic.set_line

        def line(level: bool) -> None:
            pic(number, level)
            io_apic(pin, level)

        return line

    def _make_timers(self, memory_bytes: int, epoch: int) -> None:
        now = self.clock.now
        self.pit = self._chip(
            "pit", Pit8254, now=now, schedule=self._timed(lambda: self.pit.expire()), irq0=self.irq(0)
        )
        self.port61 = Port61(now=now, set_gate2=self.pit.set_gate2, out2=self.pit.out2)
        self.rtc = self._chip(
            "rtc",
            RtcMc146818,
            now=now,
            schedule=self._timed(lambda: self.rtc.expire()),
            irq=self.irq(_RTC_IRQ),
            epoch_seconds=epoch,
            memory_bytes=memory_bytes,
        )
        self.acpi = AcpiPm(
            now=now,
            schedule=self._timed(lambda: self.acpi.expire()),
            sci=self.irq(_ACPI_IRQ),
            power_off=lambda: self.events.power_off(),
        )

    def _make_console(self, memory: memoryview) -> None:
        self.serial = self._chip(
            "serial",
            Serial16550A,
            irq=self.irq(_SERIAL_IRQ),
            transmit=lambda byte: self.events.output(byte),
        )
        self.vga = VgaText(memory=memory[VGA_TEXT_BASE : VGA_TEXT_BASE + VGA_TEXT_SIZE], now=self.clock.now)
        self.keyboard_controller = self._chip(
            "keyboard_controller",
            I8042,
            irq_keyboard=self.irq(_KEYBOARD_IRQ),
            irq_mouse=self.irq(_MOUSE_IRQ),
            a20=lambda level: self._set_a20(0, level),
            reset=lambda: self.events.reset("the keyboard controller (port 64h)"),
        )

    def _make_system(self, memory: memoryview, disk: bytearray | None) -> None:
        events = self.events
        self.post_code = debug_ports.PostCode(report=lambda code: events.post_code(code))
        self.debug_console = debug_ports.DebugConsole(transmit=lambda byte: events.debug_output(byte))
        self.debug_exit = debug_ports.DebugExit(stop=lambda status: events.debug_exit(status))
        self.fast_a20 = debug_ports.FastA20(
            a20=lambda level: self._set_a20(1, level),
            reset=lambda: events.reset("system control port A (92h)"),
        )
        self.reset_control = debug_ports.ResetControl(
            reset=lambda: events.reset("the reset control register (CF9h)")
        )
        self.disk: ParavirtualDisk | None = None
        self.ata: AtaDisk | None = None
        if disk is not None:
            dma = _Dma(memory, lambda gpa, size: events.dma(gpa, size))
            self.disk = ParavirtualDisk(image=disk, read_memory=dma.read, write_memory=dma.write)
            self.ata = AtaDisk(
                capacity=self.disk.capacity,
                load=self.disk.load,
                store=self.disk.store,
                irq=self.irq(_ATA_IRQ),
            )

    def _wire_ports(self) -> None:
        add = self.ports.add
        for port, count, offset in PIC_WINDOWS:
            add(port, count, f"8259 pair {port:#x}", *_shifted(self.pic, offset))
        add(0x40, 4, "8254 timer", self.pit.read, self.pit.write)
        add(0x60, 1, "8042 data", *_shifted(self.keyboard_controller, 0))
        add(0x61, 1, "system control port B", self.port61.read, self.port61.write)
        add(0x64, 1, "8042 command", *_shifted(self.keyboard_controller, 4))
        add(0x70, 2, "MC146818 clock", self.rtc.read, self.rtc.write)
        add(0x80, 1, "POST code", self.post_code.read, self.post_code.write)
        add(0x92, 1, "system control port A", self.fast_a20.read, self.fast_a20.write)
        add(0xE9, 1, "debug console", self.debug_console.read, self.debug_console.write)
        add(0xF4, 1, "debug exit", self.debug_exit.read, self.debug_exit.write)
        add(VGA_PORTS, VGA_PORT_COUNT, "VGA", self.vga.read, self.vga.write, width=2)
        add(0x3F8, 8, "16550A serial port", self.serial.read, self.serial.write)
        add(0x600, 12, "ACPI power management", self.acpi.read, self.acpi.write, width=4)
        add(0xCF9, 1, "reset control", self.reset_control.read, self.reset_control.write)
        if self.disk is not None and self.ata is not None:  # one disk, at two controllers
            add(0x5D0, 16, "vlab disk", self.disk.read, self.disk.write, width=4)
            add(0x1F0, 8, "ATA disk", self.ata.read, self.ata.write, width=4)
            add(0x3F6, 1, "ATA control", *_shifted(self.ata, ATA_CONTROL))

    def _set_a20(self, source: int, level: bool) -> None:
        """Two gates in parallel: the line is low only while both hold it low."""
        self._a20_gates[source] = level
        self.events.a20(any(self._a20_gates))

    # --- interrupts -------------------------------------------------------------------------------------

    def _set_interrupt(self, level: bool) -> None:
        if level != self.interrupt:
            self.interrupt = level
            self.events.attention()  # when it falls, too: a window that was asked for is not wanted any more

    def _pic_output(self, level: bool) -> None:
        """The 8259's INT pin is wired to LINT0, and to the processor itself while the APIC is switched
        off.
        """
        self.local_apic.set_extint(level)
        if not self._local_apic_on:
            self._set_interrupt(level)

    def _apic_output(self, level: bool) -> None:
        if self._local_apic_on:
            self._set_interrupt(level)

    def switch_local_apic(self, on: bool) -> None:
        """Follow the enable bit of the APIC_BASE MSR (SDM3 10.4.3)."""
        self._local_apic_on = on
        self._set_interrupt(self.local_apic.pending() if on else self.pic.pending())

    def acknowledge(self) -> int:
        """Take the vector of the pending interrupt, as the processor's INTA cycle does."""
        return self.local_apic.acknowledge() if self._local_apic_on else self.pic.acknowledge()

    # --- state ------------------------------------------------------------------------------------------

    @property
    def devices(self) -> Mapping[str, Device[Any]]:
        """All chips by name."""
        chips: dict[str, Device[Any]] = {
            "pic": self.pic,
            "local_apic": self.local_apic,
            "io_apic": self.io_apic,
            "pit": self.pit,
            "port61": self.port61,
            "rtc": self.rtc,
            "acpi": self.acpi,
            "serial": self.serial,
            "vga": self.vga,
            "keyboard_controller": self.keyboard_controller,
            "post_code": self.post_code,
            "fast_a20": self.fast_a20,
            "reset_control": self.reset_control,
        }
        if self.disk is not None:
            chips["disk"] = self.disk
        if self.ata is not None:
            chips["ata"] = self.ata
        return chips

    def save(self) -> dict[str, DeviceState]:
        """Give the state of every chip."""
        return {name: chip.save() for name, chip in self.devices.items()}

    def restore(self, states: Mapping[str, DeviceState]) -> None:
        """Bring every chip back; they set their alarms again.

        They drive their lines, too, so the interrupt controllers come last: what those have seen is in their
        own states, and is not to be seen a second time.
        """
        self.alarms.reset()
        chips = dict(self.devices)
        controllers = {name: chips.pop(name) for name in ("io_apic", "pic", "local_apic")}
        for name, chip in (chips | controllers).items():
            chip.restore(states[name])


class _Chip(Protocol):
    def read(self, offset: int, size: int = 1) -> int: ...
    def write(self, offset: int, value: int, size: int = 1) -> None: ...


def _shifted(chip: _Chip, first: int) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None]]:
    """Give the chip's access functions for a window whose first offset is ``first``."""

    def read(offset: int, size: int) -> int:
        return chip.read(offset + first, size)

    def write(offset: int, value: int, size: int) -> None:
        chip.write(offset + first, value, size)

    return read, write


class _Dma:
    """A device's way to guest memory: all of it is RAM from address 0."""

    def __init__(self, memory: memoryview, wrote: Callable[[int, int], None]) -> None:
        self._memory = memory
        self._wrote = wrote

    def read(self, gpa: int, size: int) -> bytes | None:
        """Read, or None beyond the end of the RAM."""
        return bytes(self._memory[gpa : gpa + size]) if gpa + size <= len(self._memory) else None

    def write(self, gpa: int, data: bytes) -> bool:
        """Write, or False beyond the end of the RAM."""
        if gpa + len(data) > len(self._memory):
            return False
        self._memory[gpa : gpa + len(data)] = data
        self._wrote(gpa, len(data))
        return True
