"""What one record of a trace holds: its columns, its bytes, and the typed view of an exit.

A record is 48 bytes, little-endian, with every field on its natural boundary. The declaration below is the
only one: the packing on the hot path, the NumPy type and the file format are all derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from vlab.isa.state import Mode


class Kind(IntEnum):
    """What a record tells of. Only an EXIT went to the monitor; the others happened between two exits."""

    EXIT = 0
    INTERRUPT = 1
    """An interrupt or exception was delivered to the guest: info1 is the vector, info2 the error code."""
    IO = 2
    """A device was accessed without an exit of its own for it: a port on the bare machine, and registers in
    memory under any monitor. info1 is the port or guest-physical address, info2 the value. RIP is 0 where the
    access was in the middle of a block, at an instruction that is not known. At level "full" alone.
    """
    MARK = 3
    """Someone left a mark: info1 and info2 are theirs."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field of the record: its `struct` code, its meaning, and whether two identical runs agree on it."""

    name: str
    code: str
    meaning: str
    deterministic: bool = True


COLUMNS: Final = (
    Column("time", "Q", "virtual time, ns"),
    Column("rip", "Q", "guest RIP, a linear address in long mode, else an offset in CS"),
    Column("info1", "Q", "first half of the qualification, such as EXITINFO1"),
    Column("info2", "Q", "second half of the qualification, such as EXITINFO2"),
    Column(
        "duration", "I", "wall time that the handler took, ns; 0xFFFFFFFF when longer", deterministic=False
    ),
    Column("reason", "H", "exit reason, an index into the trace's table of reasons; 0 unless kind is EXIT"),
    Column("handler", "H", "who handled it, an index into the trace's table of handlers"),
    Column("mode", "B", "operating mode, an index into MODES"),
    Column("ring", "B", "privilege level that the guest ran at, 0 to 3"),
    Column("vcpu", "B", "number of the virtual processor"),
    Column("flags", "B", "bit 0: the access of an IO record was a write"),
    Column("kind", "B", "Kind of the record"),
)

MODES: Final = tuple(Mode)
"""Mode code -> Mode. The order is part of the file format."""

_PADDING = 3
RECORD: Final = Struct("<" + "".join(column.code for column in COLUMNS) + f"{_PADDING}x")
"""The bytes of any record."""

EXIT_RECORD: Final = Struct("<" + "".join(column.code for column in COLUMNS[:-2]) + f"{_PADDING + 2}x")
"""The bytes of an exit: `flags` and `kind` are zero, so that they cost nothing as padding."""

RECORD_SIZE: Final = RECORD.size

_U64, _U32 = (1 << 64) - 1, (1 << 32) - 1


def pack_clamped(
    kind: int,
    time: int,
    reason: int,
    mode: int,
    ring: int,
    rip: int,
    info1: int,
    info2: int,
    handler: int,
    duration: int,
    vcpu: int,
    flags: int,
) -> bytes:
    """Pack any record; a duration that does not fit saturates, addresses and infos lose high bits."""
    return RECORD.pack(
        max(time, 0) & _U64,
        rip & _U64,
        info1 & _U64,
        info2 & _U64,
        min(max(duration, 0), _U32),
        reason,
        handler,
        mode,
        ring,
        vcpu,
        flags,
        kind,
    )


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """One exit from the guest to the monitor.

    time: virtual time in ns. qualification: (info1, info2), whose meaning depends on the reason. rip: guest
    instruction pointer. ring: 0 to 3. handler: the handler's name. duration: wall time in the handler, in ns.
    """

    time: int
    reason: str
    qualification: tuple[int, int]
    rip: int
    mode: Mode
    ring: int
    handler: str
    duration: int
    vcpu: int

    @property
    def info1(self) -> int:
        """The first half of the qualification."""
        return self.qualification[0]

    @property
    def info2(self) -> int:
        """The second half of the qualification."""
        return self.qualification[1]

    def __str__(self) -> str:
        """Tell the exit in one line."""
        return (
            f"{self.time / 1e6:.6f} ms vcpu {self.vcpu}: {self.reason} ({self.info1:#x}, {self.info2:#x})"
            f" at rip {self.rip:#x}, {self.mode.value}, ring {self.ring}, by {self.handler}"
        )
