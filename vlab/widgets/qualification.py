"""What the two numbers of an exit's record mean, as tables that Python and the browser both decode by.

Every name of a bit is that of its declaration in `vlab.isa`; no manual is copied here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from vlab.isa import sensitive, svm_exits, vectors
from vlab.isa.fields import Register
from vlab.isa.msr import Msr
from vlab.isa.vectors import Vector
from vlab.vmm import exits
from vlab.vmm.exits import EXIT_TYPES, REASONS
from vlab.vmm.paravirtual.interface import VECTOR as HYPERCALL
from vlab.vmm.paravirtual.interface import Call

Part = dict[str, Any]
"""One value: ``name``, ``meaning``; which number (``info``, 1 or 2) and which of its bits (``lo``, ``hi``);
``as``: "hex", "count", "flag" or "name" (of a code that is ours alone); ``names`` of particular contents, by
their decimal digits; ``only``: the values of the first number for which the part means anything."""

_ALL: Final = 63


@dataclass(frozen=True, slots=True)
class Decoded:
    """One named value, ready to show. bits: where it is, such as "info1 15:0"."""

    name: str
    bits: str
    text: str
    meaning: str
    is_flag: bool

    def __str__(self) -> str:
        return f"{self.name} {self.text}"


def _part(name: str, info: int, meaning: str, *, lo: int = 0, hi: int = _ALL, **more: Any) -> Part:
    return {"name": name, "info": info, "lo": lo, "hi": hi, "meaning": meaning, "as": "hex"} | more


def _register(kind: type[Register], info: int, **more: Any) -> list[Part]:
    """The fields of a declared register, the highest first."""
    reference = f"{kind.REFERENCE}: " if kind.REFERENCE else ""
    return [
        _part(
            field.name, info, reference + field.meaning, lo=field.lo, hi=field.hi,
            **({"as": "flag"} if field.width == 1 else {}),
            **({"names": {str(key): name for key, name in field.values.items()}} if field.values else {}),
            **more,
        )
        for field in reversed(kind.fields())
    ]  # fmt: skip


def _names(names: Mapping[int, str]) -> dict[str, Any]:
    return {"names": {str(int(number)): name for number, name in names.items()}}


def _in_or_out(yes: str, no: str) -> dict[str, Any]:
    return _names({0: no, 1: yes}) | {"as": "name"}


def _instructions() -> dict[str, Any]:
    return _names({family: sensitive.mnemonic(family) for family in sensitive.Sensitive}) | {"as": "name"}


def _port() -> list[Part]:
    return [
        _part("port", 1, "the port's number", hi=15),
        _part("bytes", 1, "width of the access", lo=16, hi=23, **{"as": "count"}),
        _part(
            "direction",
            1,
            "which way",
            lo=24,
            hi=24,
            **_in_or_out("OUT: to the device", "IN: from it"),
        ),
        _part("value", 2, "what was moved"),
    ]


def _exception() -> list[Part]:
    meanings = {int(v): f"{v} {v.meaning}" for v in Vector}
    with_selector = [int(v) for v in (Vector.TS, Vector.NP, Vector.SS, Vector.GP)]
    return [
        _part("vector", 1, "which exception (APM2 8.2)", **_names(meanings)),
        _part("error code", 2, "what the processor pushed with it (APM2 8.4)"),
        *_register(vectors.SelectorError, 2, only=with_selector),
    ]


def _hypercall() -> list[Part]:
    calls = _names({call: f"{call.name}" for call in Call})
    return [
        _part("number", 1, "EAX: which call", **calls),
        _part("vector", 2, "of the INT that made it; 0 for VMMCALL", **_names({HYPERCALL: "INT 82h"})),
    ]


_PARTS: Final[dict[type[exits.Exit], list[Part]]] = {
    exits.Cpuid: [_part("leaf", 1, "EAX"), _part("subleaf", 2, "ECX")],
    exits.PortAccess: _port(),
    exits.MsrAccess: [
        _part("number", 1, "ECX: which MSR", **_names({msr: msr.name for msr in Msr})),
        _part("direction", 2, "which way", **_in_or_out("WRMSR", "RDMSR")),
    ],
    exits.NestedPageFault: [
        _part("address", 1, "guest-physical: EXITINFO2"),
        _part("fault", 2, "EXITINFO1"),
        *_register(svm_exits.NptFaultInfo, 2),
    ],
    exits.PageFault: [
        _part("address", 1, "linear: CR2"),
        _part("error code", 2, "what the processor pushed"),
        *_register(vectors.PageFaultError, 2),
    ],
    exits.ExceptionExit: _exception(),
    exits.ControlRegisterAccess: [
        _part("register", 1, "which", **_names({n: f"CR{n}" for n in range(16)})),
        _part("direction", 2, "which way", **_in_or_out("write", "read")),
    ],
    exits.InvalidatePage: [_part("address", 1, "linear")],
    exits.TimeStampRead: [_part("instruction", 1, "which", **_in_or_out("RDTSCP", "RDTSC"))],
    exits.Hypercall: _hypercall(),
    exits.PrivilegedInstruction: [
        _part("exit code", 1, "EXITCODE (APM2 appendix C)", **_names({c: c.name for c in svm_exits.SvmExit}))
    ],
    exits.SensitiveInstruction: [_part("instruction", 1, "what trapped", **_instructions())],
    exits.SoftwareInterrupt: [
        _part("vector", 1, "of the INT", **_names({3: "INT3", 4: "INTO", HYPERCALL: "INT 82h"}))
    ],
    exits.CallOut: [_part("instruction", 1, "what the monitor carries out", **_instructions())],
    exits.CacheMiss: [
        _part("target", 1, "the guest's RIP that has no translation"),
        _part("transfer", 2, "how it came there", **_in_or_out("indirect: a lookup", "direct: a jump")),
    ],
}


@cache
def tables() -> dict[str, Any]:
    """Give, by reason, its ``meaning`` and the ``parts`` of its two numbers, as plain JSON."""
    return {
        reason: {"meaning": _meaning(kind), "parts": _PARTS.get(kind, [])}
        for reason, kind in zip(REASONS, EXIT_TYPES, strict=True)
    }


def _meaning(kind: type[exits.Exit]) -> str:
    """The first sentence of the declaration's docstring, without the section, which is that of AMD-V."""
    said = " ".join((kind.__doc__ or "").split())
    return said.partition(". ")[0].removesuffix(".").partition(" (APM2")[0]


def decode(reason: str, info1: int, info2: int) -> list[Decoded]:
    """Decode an exit's qualification; nothing for a reason without one, raw numbers for an unknown one."""
    if reason not in tables():
        return [
            Decoded(f"info{n}", f"info{n}", f"{value:#x}", "of an exit that this vlab does not know", False)
            for n, value in enumerate((info1, info2), 1)
        ]
    return list(_decoded(tables()[reason]["parts"], info1, info2))


def _decoded(parts: list[Part], info1: int, info2: int) -> Iterator[Decoded]:
    for part in parts:
        if "only" in part and info1 not in part["only"]:
            continue
        number, lo, hi = (info1, info2)[part["info"] - 1], part["lo"], part["hi"]
        value = number >> lo & (1 << hi - lo + 1) - 1
        place = f"info{part['info']}"
        if (lo, hi) != (0, _ALL):
            place += f" {hi}:{lo}" if hi > lo else f" {lo}"
        text = f"{value:#x}" if part["as"] == "hex" else str(value)
        named = part.get("names", {}).get(str(value))
        shown = text if named is None else named if part["as"] == "name" else f"{named} ({text})"
        yield Decoded(part["name"], place, shown, part["meaning"], part["as"] == "flag")


def summary(reason: str, info1: int, info2: int) -> str:
    """Tell the qualification in one line: values by name, and those flags that are set."""
    found = decode(reason, info1, info2)
    values = [str(each) for each in found if not each.is_flag]
    flags = [each.name for each in found if each.is_flag and each.text == "1"]
    return ", ".join(values + ([f"bits {' '.join(flags)}"] if flags else []))
