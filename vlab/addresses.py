"""Addresses as a person writes them: a number, or the name of a register that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlab.errors import UnusableInput
from vlab.isa.state import CpuState, Mode

REGISTERS: Final = ("RIP", "RSP", "CR2", "GDTR", "IDTR")
"""The registers that hold an address, as ``held_in`` names them."""

_MOST: Final = (1 << 64) - 1


def held_in(state: CpuState) -> dict[str, int]:
    """Give the linear addresses that ``REGISTERS`` hold, by name."""
    long, mask = state.mode is Mode.LONG64, (1 << 32) - 1
    rip = state.rip if long else state.cs.base + state.rip & mask
    rsp = state.rsp if long else state.ss.base + state.rsp & mask
    return {
        "RIP": rip, "RSP": rsp, "CR2": state.cr2, "GDTR": state.gdtr.base, "IDTR": state.idtr.base,
    }  # fmt: skip


def read_address(text: str, held: Mapping[str, int], argument: str = "address") -> int:
    """Read a linear address, or the name of one that a register holds.

    A number without 0x is decimal: 100000 would be hexadecimal to one reader and decimal to another.
    held: by the name of the register, as ``held_in`` gives them; 0 for those not there. argument: what an
    error calls the address. Raises UnusableInput.
    """
    wanted = text.strip().replace("_", "").replace("`", "")
    name = wanted.upper()
    if name in REGISTERS:
        return held.get(name, 0)
    try:
        address = int(wanted, 0) if name.startswith(("0X", "0B", "0O", "-")) else int(wanted, 10)
    except ValueError:
        raise UnusableInput(
            f"{argument}: {text!r} is no address; write it in hexadecimal as 0xc0100000, in decimal, or "
            f"as one of {', '.join(REGISTERS)}{_hint(wanted)}"
        ) from None
    if not 0 <= address <= _MOST:
        raise UnusableInput(
            f"{argument}: {text!r} is not between 0 and {_MOST:#x}; a linear address has 64 bits"
        )
    return address


def _hint(wanted: str) -> str:
    """Say what was probably meant."""
    try:
        return f"; did you mean {int(wanted, 16):#x}?"
    except ValueError:
        return ""
