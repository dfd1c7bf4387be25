"""Where each monitor has the guest run: rings and modes, the ways out and back, and the manual's sections.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2), and vol. 3, rev. 3.36 (APM3). What Intel calls root
and non-root operation, AMD calls host and guest mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vlab.errors import UnusableInput
from vlab.isa.state import Mode
from vlab.trace.storage import Source


@dataclass(frozen=True, slots=True)
class Technique:
    """One answer to the question who owns ring 0.

    plane: "guest" or "host", the mode in which the guest runs. rings: the real ring of the guest's rings 0
    to 3. real_mode: the real ring of guest code in real mode. idea: the answer in a sentence. out, back: what
    the hardware does between the guest and who serves it, with the section. unused: why there is no guest
    mode.
    """

    plane: str
    rings: tuple[int, int, int, int]
    real_mode: int
    monitor: bool
    idea: str
    out: tuple[str, str]
    back: tuple[str, str]
    unused: str = ""

    def place(self, ring: int, mode: Mode) -> str:
        """Name the place in the drawing of guest code in its own ``ring`` and ``mode``: "guest-0"."""
        real = self.real_mode if mode is Mode.REAL else self.rings[ring]
        return f"{self.plane}-{real}"


_DEPRIVILEGED_OUT: Final = ("exception or INT: through the monitor's IDT into ring 0", "APM2 8.7.3")
_DEPRIVILEGED_BACK: Final = ("IRET: back to the outer ring", "APM2 8.7.5")
_COMPRESSED: Final = (1, 1, 2, 3)
_NO_SVM: Final = "not on this processor: it has no AMD-V"

TECHNIQUES: Final[dict[str, Technique]] = {
    "none": Technique(
        "host", (0, 1, 2, 3), 0, False,
        "There is no monitor: the guest's kernel owns ring 0, and the hardware is its own.",
        ("interrupt or exception: through the guest's own IDT", "APM2 8.7.3"),
        ("IRET: back to the outer ring", "APM2 8.7.5"),
        "not in use: nobody executes VMRUN",
    ),
    "trap-emulate": Technique(
        "host", _COMPRESSED, 3, True,
        "Ring deprivileging: the guest's kernel runs at CPL 1, and what it may not do traps to the monitor.",
        _DEPRIVILEGED_OUT, _DEPRIVILEGED_BACK, _NO_SVM,
    ),
    "binary-translation": Technique(
        "host", _COMPRESSED, 3, True,
        "Ring deprivileging: a translation of the guest's kernel runs at CPL 1 and calls the monitor out.",
        _DEPRIVILEGED_OUT, _DEPRIVILEGED_BACK, _NO_SVM,
    ),
    "paravirtual": Technique(
        "host", _COMPRESSED, 3, True,
        "Ring deprivileging: the guest's kernel knows that it is at CPL 1, and calls the monitor by INT 82h.",
        _DEPRIVILEGED_OUT, _DEPRIVILEGED_BACK, _NO_SVM,
    ),
    "hardware": Technique(
        "guest", (0, 1, 2, 3), 0, True,
        "AMD-V: the guest has all four rings to itself in guest mode; the monitor is in host mode.",
        ("#VMEXIT: the guest's state goes to the VMCB, the monitor's comes back", "APM2 15.6"),
        ("VMRUN: the guest's state comes from the VMCB", "APM2 15.5.1"),
    ),
}  # fmt: skip

_HARDWARE_SECTIONS: Final = {
    "CPUID": "APM2 15.9", "HLT": "APM2 15.9", "INTR": "APM2 15.13.1", "VINTR": "APM2 15.21.4",
    "IOIO": "APM2 15.10", "MSR": "APM2 15.11", "NPF": "APM2 15.25.6", "PF": "APM2 15.12.15",
    "EXCEPTION": "APM2 15.12", "CR": "APM2 15.8.1", "INVLPG": "APM2 15.9", "RDTSC": "APM2 15.9",
    "VMMCALL": "APM2 15.9", "PRIVILEGED": "APM2 15.9", "SHUTDOWN": "APM2 15.14.3",
}  # fmt: skip
_DEPRIVILEGED_SECTIONS: Final = {
    "TRAP": "#GP, APM2 8.2.14", "INT": "APM3 INT n; APM2 8.7.3", "PF": "APM2 8.4.2", "EXCEPTION": "APM2 8.2",
    "IOIO": "I/O permission, APM2 12.2.4", "INTR": "APM2 8.1", "VINTR": "APM2 8.1",
    "SHUTDOWN": "APM2 8.2.9", "CALLOUT": "docs/TRANSLATION.md", "MISS": "docs/TRANSLATION.md",
    "VMMCALL": "hypercall by INT 82h, APM3 INT n", "PRIVILEGED": "APM2 8.7.5",
}  # fmt: skip


def technique(monitor: str) -> Technique:
    """Give what a monitor does. Raises UnusableInput for one that there is not."""
    if monitor not in TECHNIQUES:
        raise UnusableInput(f"monitor: there is no {monitor!r}; choose one of {', '.join(TECHNIQUES)}")
    return TECHNIQUES[monitor]


def sections(monitor: str) -> dict[str, str]:
    """Give the place to read about each exit, by reason: a section of the manual, or a document."""
    return dict(_HARDWARE_SECTIONS if monitor == "hardware" else _DEPRIVILEGED_SECTIONS)


def as_json(monitor: str) -> dict[str, Any]:
    """Give a technique as plain JSON, for the browser."""
    found = technique(monitor)
    return {
        "name": monitor, "plane": found.plane, "rings": list(found.rings), "real_mode": found.real_mode,
        "monitor": found.monitor, "out": list(found.out), "back": list(found.back),
        "sections": sections(monitor),
    }  # fmt: skip


def guess(source: Source) -> str:
    """Tell by its handlers' names which monitor made a trace that does not say; the bare machine has none."""
    names = set(source.handlers)
    if "virtual CPU" in names:
        return "hardware"
    if "translation" in names:
        missed = dict(zip(source.reasons, source.counts, strict=True)).get("MISS", 0)
        return "binary-translation" if missed else "trap-emulate"
    return "paravirtual" if names else "none"
