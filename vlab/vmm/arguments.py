"""Arguments of the public face that Python would take and vlab cannot use: refused, with what to give.

Each check raises UnusableInput with the argument's name and its value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from operator import index
from os import PathLike
from threading import TIMEOUT_MAX
from typing import Final

from vlab.errors import UnusableInput
from vlab.machine.machine import Machine
from vlab.trace.recorder import LEVELS
from vlab.vmm.snapshot import Snapshot

_STRATEGY: Final = (
    "name", "attach", "configure", "initial_state", "guest_state", "guest_paging", "handle", "rebuild",
    "save", "restore", "close",
)  # fmt: skip
"""What a PagingStrategy has."""


def whole(name: str, value: object, what: str, least: int = 1, most: int | None = None) -> int:
    """Give a whole number from ``least`` to ``most``, NumPy's included. what: "number of exits ..."."""
    try:
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        limit = f"at least {least}" if most is None else f"a whole number from {least} to {most:#x}"
        raise UnusableInput(f"{name}: {value!r} is no {what}; give {limit}")
    return number


def linear_address(name: str, value: object) -> int:
    """Give a linear address: 64 bits."""
    return whole(name, value, "linear address", 0, (1 << 64) - 1)


def seconds(name: str, value: object) -> float | None:
    """Give a time in seconds, None for one without end. What is below 0 is over at once."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or value != value:  # NaN alone is not itself
        raise UnusableInput(
            f"{name}: {value!r} is no time; give seconds as a number, or None for as long as it takes"
        )
    time = float(value)
    return None if time > TIMEOUT_MAX else time


def keys(name: str, value: object) -> bytes:
    """Give text as the bytes that the console's line carries; bytes as they are."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise UnusableInput(f"{name}: {value!r} is neither text nor bytes; write it in quotes")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UnusableInput(f"{name}: {value!r} holds half a character (a surrogate); leave it out") from None


def snapshot(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is no snapshot, or None where it is ``optional``."""
    if not isinstance(value, Snapshot) and not (optional and value is None):
        raise UnusableInput(f"{name}: {value!r} is no snapshot; give what vm.snapshot() gave")


def function(name: str, value: object, of: str) -> None:
    """Refuse what cannot be called. of: what it is called with."""
    if not callable(value):
        raise UnusableInput(f"{name}: {value!r} is no function of {of}")


def path(name: str, value: object) -> None:
    """Refuse what names no file."""
    if not isinstance(value, (str, PathLike)) or "\0" in str(value):
        raise UnusableInput(f"{name}: {value!r} is no path of a file; write it in quotes")


def options(**given: object) -> None:
    """Check the arguments of ``VM`` and ``VM.load``, each by its name; None is what it is by default."""
    for name, value in given.items():
        if value is not None or name in _NEVER_NONE:
            _CHECKS[name](name, value)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UnusableInput(f"{name}: {value!r} is no text; write it in quotes")


def _guest(name: str, value: object) -> None:
    if not isinstance(value, (str, PathLike)) or "\0" in str(value):
        raise UnusableInput(
            f"{name}: {value!r} is neither a guest's name nor a path; `vlab guests list` shows the names"
        )


def _paging(name: str, value: object) -> None:
    """A name, or an object that has all of a strategy. That a class is none is said elsewhere."""
    missing = [each for each in _STRATEGY if not hasattr(value, each)]
    if missing and not isinstance(value, (str, type)):
        raise UnusableInput(
            f"{name}: {value!r} is neither a name nor a paging strategy, for it has no {missing[0]}; "
            "derive yours from NestedPaging or ShadowPaging"
        )


def _level(name: str, value: object) -> None:
    if value not in LEVELS:
        raise UnusableInput(
            f"{name}: {value!r} is not a level; write {', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
        )


def _capacity(name: str, value: object) -> None:
    whole(name, value, "number of records to keep")


def _monitor(name: str, value: object) -> None:
    """A name or a class; which ones there are is said elsewhere."""
    if not isinstance(value, (str, type)):
        raise UnusableInput(
            f"{name}: {value!r} is neither a monitor's name nor a class; write its name in quotes"
        )


def _mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise UnusableInput(f'{name}: {value!r} is no table of chips; write it as {{"serial": MyUart}}')


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UnusableInput(f"{name}: {value!r} is neither True nor False; give one of them")


def _machine(name: str, value: object) -> None:
    if not isinstance(value, Machine):
        raise UnusableInput(f"{name}: {value!r} is no machine; give a vlab.Machine(), or leave it out")


_NEVER_NONE: Final = frozenset(("guest", "monitor", "clock", "trace_capacity", "history"))
_CHECKS: Final[dict[str, Callable[[str, object], None]]] = {
    "guest": _guest, "monitor": _monitor, "paging": _paging, "initrd": path, "disk": path, "append": _text,
    "clock": _text, "trace": _level, "trace_capacity": _capacity, "history": _flag, "machine": _machine,
    "devices": _mapping,
}  # fmt: skip
