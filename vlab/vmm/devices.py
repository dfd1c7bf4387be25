"""`vm.devices`: the chips of a virtual machine by name, with their registers as they are at this moment.

What is shown comes from the chips' states, never from reading them: a read has side effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from vlab.devices.state import DeviceState, Shown, describe
from vlab.errors import UnusableInput
from vlab.machine.bus import Window
from vlab.vmm.board import Board
from vlab.vmm.runner import Runner

TITLES: Final = {
    "pic": "8259A interrupt controllers",
    "local_apic": "local APIC",
    "io_apic": "I/O APIC",
    "pit": "8254 timer",
    "port61": "system control port B",
    "rtc": "MC146818 clock",
    "acpi": "ACPI power management",
    "serial": "16550A serial port",
    "vga": "VGA",
    "keyboard_controller": "8042 keyboard controller",
    "post_code": "POST code",
    "fast_a20": "system control port A",
    "reset_control": "reset control",
    "disk": "vlab disk",
    "ata": "ATA disk",
}
"""What each chip is called."""

_WINDOWS: Final = {"pic": "8259 pair", "keyboard_controller": "8042", "ata": "ATA"}
"""How the names of a chip's windows begin, where that is not its title."""


class UnknownDevice(UnusableInput, KeyError):
    """There is no chip of that name; the message lists those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])


class Chip:
    """One chip. name: in ``vm.devices``. title: what it is called. windows: where it answers."""

    def __init__(self, name: str, windows: tuple[Window, ...], state: Callable[[], DeviceState]) -> None:
        self.name = name
        self.title = TITLES[name]
        self.windows = windows
        self._state = state

    @property
    def where(self) -> str:
        """Its ports, or its guest-physical addresses."""
        places = [f"{each.first:X}h to {each.last:X}h" for each in self.windows if each.count > 1]
        places += [f"{each.first:X}h" for each in self.windows if each.count == 1]
        kind = "address" if any(each.first > 0xFFFF for each in self.windows) else "port"
        several = sum(each.count for each in self.windows) > 1
        return f"{kind}{('es' if kind == 'address' else 's') if several else ''} {', '.join(places)}"

    @property
    def state(self) -> DeviceState:
        """All that it remembers, taken between two blocks of guest code. Raises UnusableInput once closed."""
        return self._state()

    @property
    def registers(self) -> list[Shown]:
        """Its registers: name, value, and the value decoded where bits have names."""
        return describe(self.state)

    def __repr__(self) -> str:
        lines = [f"{self.title}, {self.where}:"]
        lines += [f"  {each.name:28} {shown(each)}" for each in self.registers]
        return "\n".join(lines)


def shown(register: Shown) -> str:
    """Give a register's value as text."""
    value = register.value
    if register.register is not None:
        return repr(register.register)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        more = f" ... ({len(value)} bytes)" if len(value) > 32 else ""
        return value[:32].hex(" ") + more if value else "empty"
    if isinstance(value, int):
        return f"{value:#x} ({value:,})" if value > 9 else str(value)
    return ", ".join(map(str, value)) or "empty" if isinstance(value, tuple) else str(value)


class Devices(Mapping[str, Chip]):
    """The chips of one virtual machine by name. board: their wiring. runner: of the guest."""

    def __init__(self, board: Board, runner: Runner) -> None:
        self.board = board
        self._runner = runner

    def __getitem__(self, name: str) -> Chip:
        """Give a chip. Raises UnknownDevice, a KeyError."""
        device = self.board.devices.get(name)
        if device is None:
            raise UnknownDevice(f"devices: there is none named {name!r}; this VM has {', '.join(self)}")
        return Chip(name, self._windows(name), lambda: self._runner.call(device.save))

    def __iter__(self) -> Iterator[str]:
        return iter(self.board.devices)

    def __len__(self) -> int:
        return len(self.board.devices)

    def states(self) -> dict[str, DeviceState]:
        """Give all states, of one moment between two blocks of guest code."""
        return self._runner.call(self.board.save)

    def chip_at(self, window: Window) -> str | None:
        """Name the chip that a window of the board's belongs to."""
        return next((name for name in self.board.devices if window.name.startswith(_prefix(name))), None)

    def _windows(self, name: str) -> tuple[Window, ...]:
        windows = (*self.board.ports.windows, *self.board.memory_windows.windows)
        return tuple(each for each in windows if each.name.startswith(_prefix(name)))

    def __repr__(self) -> str:
        lines = [f"  {chip.name:20} {chip.title:28} {chip.where}" for chip in self.values()]
        return "\n".join([f"<{len(self)} devices:", *lines, ">"])


def _prefix(name: str) -> str:
    return _WINDOWS.get(name, TITLES[name])
