"""What follows from the runs: which instructions are privileged, which sensitive, and which are the trouble.

Popek and Goldberg (CACM 17, 1974) define both by what an instruction does in two settings, and so does this
module. *Privileged*: it traps at CPL 1 and 3 and executes at CPL 0. *Sensitive*: it changes the state of the
machine (control-sensitive), or its result is another one on another machine or in another ring
(behaviour-sensitive). Nothing of that is looked up; only of a few instructions, about caches that the
machine has not, it is declared that they are sensitive (``Form.beyond``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from vlab.isa.sensitive_forms import FORMS, ROBIN_IRVINE, Form
from vlab.vmm.matrix.observation import Run
from vlab.vmm.matrix.runs import Laboratory
from vlab.vmm.matrix.worlds import World

_AS_MOV: Final = "it loads a segment register, as their MOV and POP do"
BESIDE: Final = {
    "IRET": "it returns as their RET does, and leaves IF alone as their POPF does",
    **dict.fromkeys(("LDS", "LES", "LFS", "LGS", "LSS"), _AS_MOV),
}
"""What the runs find beside Robin and Irvine's instructions, and under which of theirs it belongs."""

EXPECTED: Final = frozenset(ROBIN_IRVINE) | frozenset(BESIDE)
"""The sensitive, unprivileged instructions of this processor. With others, the machine has changed."""


class Outcome(Enum):
    """How an execution in a lesser ring compares with the one at CPL 0."""

    TRAPS = "traps"
    DIFFERS = "differs"
    HARMLESS = "harmless"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a program got otherwise than its own processor would have given it.

    what: its name; "" where a fault was right, and the instruction executed.
    """

    what: str
    got: str
    right: str

    @property
    def text(self) -> str:
        """The difference in a few words."""
        return f"{self.what} {self.got}, not {self.right}" if self.what else f"no {self.right}"


@dataclass(frozen=True, slots=True)
class Finding:
    """All runs of one form. cpl0: on the bare machine; elsewhere: at CPL 0 of the monitor's machine."""

    form: Form
    cpl0: Run
    elsewhere: Run
    cpl1: Run
    cpl3: Run
    svm: Run

    def outcome(self, run: Run) -> Outcome:
        """Compare ``run`` with the one on the guest's own processor."""
        if run.trap:
            return Outcome.TRAPS
        return Outcome.HARMLESS if run == self.cpl0 else Outcome.DIFFERS

    def differences(self, run: Run) -> tuple[Difference, ...]:
        """Say in what ``run`` silently differs from the one on the guest's own processor."""
        if self.outcome(run) is not Outcome.DIFFERS:
            return ()
        if self.cpl0.trap:
            return (Difference("", "executed", self.cpl0.trap),)
        names = dict.fromkeys((*self.cpl0.seen, *run.seen))
        pairs = ((name, run.seen.get(name), self.cpl0.seen.get(name)) for name in names)
        return tuple(
            Difference(name, got or "unchanged", right or "unchanged")
            for name, got, right in pairs
            if got != right
        )

    @property
    def verdict(self) -> Outcome:
        """The worse of the two rings."""
        outcomes = self.outcome(self.cpl1), self.outcome(self.cpl3)
        return next(each for each in (Outcome.DIFFERS, Outcome.HARMLESS, Outcome.TRAPS) if each in outcomes)

    @property
    def privileged(self) -> bool:
        """Whether it traps in the lesser rings, and there alone."""
        return not self.cpl0.trap and self.verdict is Outcome.TRAPS

    @property
    def sensitive(self) -> str:
        """Why it is sensitive, "" when it is not."""
        changed = self.cpl0.system | self.elsewhere.system
        if changed:
            return f"changes {', '.join(sorted(changed))}"
        if self.cpl0 != self.elsewhere:
            return "shows whose machine it is"
        if self.verdict is Outcome.DIFFERS:
            return "shows which ring it is in"
        return f"is about {self.form.beyond}" if self.form.beyond else ""

    @property
    def trouble(self) -> bool:
        """Whether it is sensitive and executes in a lesser ring all the same."""
        return bool(self.sensitive) and self.verdict is not Outcome.TRAPS

    @property
    def exits(self) -> bool:
        """Whether AMD-V gives it to the monitor, by the intercept that is for it."""
        return self.form.exit_ is not None and self.svm.trap == self.form.exit_.name

    @property
    def right_under_svm(self) -> bool:
        """Whether AMD-V gives it to the monitor, or executes it as the guest's own processor would."""
        return self.exits or self.svm == self.cpl0


@dataclass(frozen=True, slots=True)
class Matrix:
    """The findings, and the sets of instructions, by name, that follow from them."""

    findings: tuple[Finding, ...]

    def _some(self, holds: Callable[[Finding], bool]) -> frozenset[str]:
        return frozenset(each.form.instruction for each in self.findings if holds(each))

    @property
    def privileged(self) -> frozenset[str]:
        """Those of which all forms are privileged."""
        return self._some(lambda each: True) - self._some(lambda each: not each.privileged)

    @property
    def sensitive(self) -> frozenset[str]:
        """Those with a sensitive form."""
        return self._some(lambda each: bool(each.sensitive))

    @property
    def trouble(self) -> frozenset[str]:
        """Those with a form that is sensitive and does not trap: why x86 is not virtualizable by trapping."""
        return self._some(lambda each: each.trouble)

    @property
    def wrong_under_svm(self) -> tuple[Finding, ...]:
        """What AMD-V does not put right; nothing, it is hoped."""
        return tuple(each for each in self.findings if not each.right_under_svm)

    @property
    def as_expected(self) -> bool:
        """Whether the runs gave ``EXPECTED``, and AMD-V all of it right."""
        return self.trouble == EXPECTED and not self.wrong_under_svm


def measure(forms: Iterable[Form] = FORMS) -> Matrix:
    """Execute ``forms``, each in five settings. All of them take about a second."""
    own = World.make(0, own=True)
    elsewhere, ring1, ring3 = (World.make(ring, own=False) for ring in (0, 1, 3))
    laboratory = Laboratory()
    try:
        return Matrix(
            tuple(
                Finding(
                    form,
                    laboratory.plain(form, own),
                    laboratory.plain(form, elsewhere),
                    laboratory.plain(form, ring1),
                    laboratory.plain(form, ring3),
                    laboratory.under_svm(form, own),
                )
                for form in forms
            )
        )
    finally:
        laboratory.close()
