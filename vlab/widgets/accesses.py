"""The log of the guest's accesses to its devices, out of the trace: port by port, with names."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from vlab.devices.serial_registers import LineControl, Offset
from vlab.trace.events import Kind
from vlab.vmm.exits import PortAccess
from vlab.vmm.register_names import register_name

if TYPE_CHECKING:
    from vlab.trace.storage import Rows, Source
    from vlab.vmm.devices import Devices

KEPT: Final = 200
"""How many accesses a log keeps."""
_LOOK: Final = 1 << 13
"""How many new records are looked through at once; of a flood of them, the newest."""
_LCR: Final = 0x3F8 + Offset.LCR  # of the serial port, whose DLAB bit gives two registers other names

Access = tuple[int, str, str, str, str, str]
"""Virtual time in ns, chip, register, address, "reads" or "writes", value in hexadecimal."""


class AccessLog:
    """The newest accesses, ``kept`` oldest first."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._seen: tuple[int, int] | None = None
        self._divisor = False
        self.kept: deque[Access] = deque(maxlen=KEPT)
        self.vectors: dict[int, int] = {}

    def look(self, source: Source) -> list[Access] | None:
        """Take in what is new in the trace, and give it; None when time was turned back and all is new.

        ``vectors`` then counts the interrupts that the guest took in the meantime, by vector.
        """
        self.vectors = {}
        version, seen = source.version, self._seen
        if version == seen:
            return []
        self._seen = version
        again = seen is not None and (version[0] != seen[0] or version[1] < seen[1])
        if again or seen is None:
            self.kept.clear()
            self._divisor = False
            rows = source.rows(_LOOK)
        else:
            rows = source.rows(min(version[1] - seen[1], _LOOK))
        new = self._accesses(rows, source)[-KEPT:]
        if not (again or seen is None):
            self._count_vectors(rows)
        self.kept.extend(new)
        return None if again else new

    def _count_vectors(self, rows: Rows) -> None:
        taken = rows["info1"][rows["kind"] == Kind.INTERRUPT].tolist()
        for vector in taken:
            self.vectors[vector] = self.vectors.get(vector, 0) + 1

    def _accesses(self, rows: Rows, source: Source) -> list[Access]:
        """Give those records that tell of a device's registers."""
        kind, reason = rows["kind"], rows["reason"]
        told = (kind == Kind.IO) | (kind == Kind.EXIT) & (reason == source.reasons.index("IOIO"))
        chosen = rows[told][-2 * KEPT :]
        columns = (chosen[name].tolist() for name in ("time", "kind", "info1", "info2", "flags"))
        found = []
        for time, what, info1, info2, flags in zip(*columns, strict=True):
            if what == Kind.IO:
                access = self._access(time, info1, info2, bool(flags & 1))
            else:
                port = PortAccess(info1, info2)
                access = self._access(time, port.port, info2, port.output)
            if access is not None:
                found.append(access)
        return found

    def _access(self, time: int, address: int, value: int, write: bool) -> Access | None:
        board = self._devices.board
        memory = address > 0xFFFF
        window = (board.memory_windows if memory else board.ports).find(address)
        if memory and window is None:
            return None
        name = ""
        chip = "nobody answers"
        if window is not None:
            chip = window.name.partition(" 0x")[0]
            name = register_name(window, address, write=write, divisor=self._divisor)
        if address == _LCR and write:
            self._divisor = bool(value & LineControl.DLAB.mask)
        place = f"{address:X}h"
        return time, chip, name, place, "writes" if write else "reads", f"{value:#x}"
