"""Rings: which instructions are privileged, which sensitive, decided from what was seen of them.

The observations are those of `vlab.vmm.matrix`: each instruction is executed, alone, in several settings. The
definitions are those of Popek and Goldberg, CACM 17(7), 1974, as `vlab.vmm.matrix.findings` applies them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from random import Random
from reprlib import repr as shorten
from typing import Final

from vlab.grading.exercise import Broken, Exercise, Invariant
from vlab.grading.facade import Value
from vlab.grading.trial import Trial
from vlab.isa.sensitive_forms import FORMS, Form
from vlab.vmm.matrix import Finding, Run
from vlab.vmm.matrix.runs import Laboratory
from vlab.vmm.matrix.worlds import World

SETTINGS: Final = ("ring0", "elsewhere", "ring1", "ring3")


def told(run: Run) -> dict[str, Value]:
    """Give a run as the student's functions get it."""
    return {"trap": run.trap, "seen": dict(run.seen), "system": list[Value](sorted(run.system))}


def runs_of(finding: Finding) -> dict[str, Value]:
    """Give the runs of one form as the student's functions get them."""
    runs = finding.cpl0, finding.elsewhere, finding.cpl1, finding.cpl3
    return {name: told(run) for name, run in zip(SETTINGS, runs, strict=True)}


# --- measuring ----------------------------------------------------------------------------------------------


@cache
def _laboratory() -> Laboratory:
    """Give the machine that all forms are executed on, made when it is first wanted."""
    return Laboratory()


@cache
def _worlds() -> tuple[World, World, World, World]:
    own, elsewhere = World.make(0, own=True), World.make(0, own=False)
    return own, elsewhere, World.make(1, own=False), World.make(3, own=False)


def _measure(form: Form) -> Finding:
    """Execute a form in the four settings."""
    ring0, elsewhere, ring1, ring3 = (_laboratory().plain(form, world) for world in _worlds())
    return Finding(form, ring0, elsewhere, ring1, ring3, svm=ring0)


_MEASURABLE: Final = {form.name: form for form in FORMS if not form.beyond}
"""All but those whose effect cannot be seen here, such as on caches."""
_STORES: Final = (
    "SMSW EAX", "SLDT AX", "STR AX", "MOV EAX, CS", "MOV EAX, SS", "MOV EAX, DS", "MOV EAX, CR0",
    "MOV EAX, CR2", "MOV EAX, CR3", "MOV EAX, CR4", "MOV EAX, DR7",
)  # fmt: skip
_REGISTERS: Final = (0, 1, 2, 3, 6, 7)  # all but ESP and EBP


def _varied(form: Form, rng: Random) -> Form:
    """Give the form another register, or another port."""
    code = form.code
    if form.name in _STORES:
        code = f"{code[:-2]}{int(code[-2:], 16) | rng.choice(_REGISTERS):02x}"
    elif form.name in ("IN AL, imm", "OUT imm, AL"):
        code = f"{code[:-2]}{rng.randrange(0x100):02x}"
    return replace(form, code=code)


def _ordinary(rng: Random) -> Form:
    """Make an instruction that has nothing to do with the machine."""
    one, other = rng.sample(_REGISTERS, 2)
    name, code = rng.choice(
        (
            ("ADD", f"01{0xC0 | one << 3 | other:02x}"),
            ("XOR", f"31{0xC0 | one << 3 | other:02x}"),
            ("LEA", f"8d{0x40 | one << 3 | other:02x}{rng.randrange(0x80):02x}"),
            ("MOV [mem]", f"89{5 | one << 3:02x}DATA"),
            ("PUSH", f"{0x50 | one:02x}"),
            ("BSWAP", f"0f{0xC8 | one:02x}"),
        )
    )
    values = {each: rng.getrandbits(32) for each in ("rax", "rcx", "rdx", "rbx", "rsi", "rdi")}
    return Form("ordinary", name, name, code, registers=values)


def _faulty(rng: Random) -> Form:
    """Make an instruction that no ring may execute, or that fails in each."""
    name, code = rng.choice((("DIV by 0", "f7f3"), ("UD2", "0f0b"), ("VMMCALL", "0f01d9")))
    return Form("ordinary", name, name, code, registers={"rax": rng.getrandbits(32)})


def _some(rng: Random, names: Iterable[str], count: int) -> list[Form]:
    return [_varied(_MEASURABLE[name], rng) for name in rng.sample(sorted(names), count)]


# --- asking -------------------------------------------------------------------------------------------------


def _asks(trial: Trial, function: str, finding: Finding, hint: str) -> None:
    """Ask the student about one form, and compare."""
    said = trial.student.call(function, runs_of(finding))
    if not isinstance(said, bool):
        raise Broken(
            f"{function} gave {shorten(said)}, and it is to give True or False",
            hint="`and` and `or` give one of their operands, such as a text; bool(...) gives True or False.",
        )
    right = finding.privileged if function == "privileged" else bool(finding.sensitive)
    if said != right:
        reason = f": it {finding.sensitive}" if function == "sensitive" and right else ""
        raise Broken(f"{function} gave {said} for {_described(finding)}; {right} is right{reason}", hint=hint)


def _described(finding: Finding) -> str:
    """Tell what was seen, setting by setting."""
    runs = finding.cpl0, finding.elsewhere, finding.cpl1, finding.cpl3
    seen = "; ".join(f"{name}: {run.text}" for name, run in zip(SETTINGS, runs, strict=True))
    return f"{finding.form.name} ({seen})"


def _privileged_ones(trial: Trial) -> None:
    rng = trial.rng
    forms = _some(rng, _CHANGING | _TELLING, 4) + _some(rng, _HOLES, 3) + [_ordinary(rng), _faulty(rng)]
    rng.shuffle(forms)
    hint = "Privileged: it traps in ring 1 and in ring 3, and does not in ring 0."
    for form in forms:
        _asks(trial, "privileged", _measure(form), hint)


def _sensitive_ones(trial: Trial, names: Iterable[str], hint: str) -> None:
    for form in _some(trial.rng, names, 4):
        _asks(trial, "sensitive", _measure(form), hint)


_CHANGING: Final = frozenset(
    ("CLI", "STI", "HLT", "MOV CR0, EAX", "MOV CR3, EAX", "MOV CR4, EAX", "CLTS", "LGDT [mem]", "LIDT [mem]",
     "LLDT AX", "LTR AX", "WRMSR", "IN AL, imm", "OUT imm, AL", "MOV DR7, EAX")
)  # fmt: skip
_TELLING: Final = frozenset(
    (
        "MOV EAX, CR0",
        "MOV EAX, CR2",
        "MOV EAX, CR3",
        "MOV EAX, CR4",
        "MOV EAX, DR7",
        "RDMSR",
        "RDTSC",
        "RDPMC",
    )
)
_RING: Final = frozenset(
    (
        "LAR of CS",
        "MOV EAX, CS",
        "MOV EAX, SS",
        "PUSH CS",
        "PUSH SS",
        "CALL far",
        "VERR, RPL 1",
        "POP DS, RPL 1",
    )
)
_HARMLESS: Final = frozenset(
    ("MOV EAX, DS", "MOV DS, AX", "PUSH DS", "JMP far", "VERR", "LSL of DS", "CPUID", "MOV SS, AX", "RET far")
)
_HOLES: Final = frozenset(
    ("PUSHF", "POPF", "SMSW EAX", "SGDT [mem]", "SIDT [mem]", "SLDT AX", "STR AX", "LAR of the TSS", *_RING)
)


def _changes(trial: Trial) -> None:
    _sensitive_ones(
        trial,
        _CHANGING,
        "What an instruction does to the machine is named in `system`, in ring 0 or elsewhere.",
    )


def _tells(trial: Trial) -> None:
    _sensitive_ones(
        trial,
        _TELLING,
        "Two runs in ring 0, on two machines, with two results: it shows whose machine it is.",
    )


def _shows_ring(trial: Trial) -> None:
    _sensitive_ones(
        trial, _RING, "It executes in ring 1 or 3, and what is seen is not what is seen in ring 0."
    )


def _innocuous(trial: Trial) -> None:
    rng = trial.rng
    trapping = ("MOV SS, AX", "RET far")
    forms = [_ordinary(rng), _ordinary(rng), _faulty(rng), *_some(rng, trapping, 1)]
    forms += _some(rng, _HARMLESS.difference(trapping), 3)
    hint = "A trap is no difference: whoever traps shows the guest nothing. Ring 0 gave the same elsewhere."
    for form in forms:
        _asks(trial, "sensitive", _measure(form), hint)


def _mixture(rng: Random) -> list[Finding]:
    forms = [
        *_some(rng, _RING, 2), *_some(rng, _HOLES - _RING, 3), *_some(rng, _CHANGING, 2),
        *_some(rng, _TELLING, 2), *_some(rng, _HARMLESS, 2), _ordinary(rng), _faulty(rng),
    ]  # fmt: skip
    return [_measure(form) for form in forms]


def _offenders(trial: Trial) -> None:
    _blames(trial, _mixture(trial.rng))


def _blames(trial: Trial, findings: list[Finding]) -> None:
    """Ask for the instructions to blame, whose names are labels here: what was seen has to decide."""
    rng = trial.rng
    rng.shuffle(findings)
    names = sorted({each.form.instruction for each in findings})
    labels = dict(
        zip(names, (f"X{number}" for number in rng.sample(range(10, 100), len(names))), strict=True)
    )
    measured: list[Value] = [
        {"instruction": labels[each.form.instruction], "runs": runs_of(each)} for each in findings
    ]
    said = trial.student.call("offenders", measured)
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        raise Broken(
            f"offenders gave {shorten(said)}, and it is to give a list of names", hint="sorted(...) of a set."
        )
    blamed = [each for each in said if isinstance(each, str)]
    hint = (
        "An instruction is to blame when one of its forms is sensitive and executes in ring 1 or in ring 3."
    )
    most, times = Counter(blamed).most_common(1)[0] if blamed else ("", 0)
    if times > 1:
        raise Broken(f"offenders names {shorten(most)} {times} times; once is enough", hint=hint)
    right = {labels[each.form.instruction]: each for each in findings if each.trouble}
    for label in blamed:
        if label not in right:
            found = [each for each in findings if labels[each.form.instruction] == label]
            what = _described(found[0]) if found else "an unknown one"
            raise Broken(
                f"offenders blames {shorten(label)}, {what}, which is harmless to a monitor", hint=hint
            )
    for label, finding in right.items():
        if label not in blamed:
            raise Broken(
                f"offenders leaves {label!r} out, {_described(finding)}: it {finding.sensitive}",
                hint=hint,
            )


def _all_forms(trial: Trial) -> None:
    """Try a mixture with operands of its own, and whatever else can be measured."""
    rng = trial.rng
    forms = [*_some(rng, _MEASURABLE, 12), *_some(rng, ("MOV SS, AX", "RET far"), 1)]
    findings = _mixture(rng) + [_measure(form) for form in forms]
    for finding in findings:
        for function in ("privileged", "sensitive"):
            _asks(trial, function, finding, "The definitions hold for every instruction there is.")
    _blames(trial, findings)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "classify",
        "Popek and Goldberg, from what was seen",
        ("privileged", "sensitive", "offenders"),
        (
            Invariant(
                "privileged",
                2,
                "what traps outside ring 0 alone is privileged",
                _privileged_ones,
            ),
            Invariant("changes", 2, "what changes the machine is sensitive", _changes),
            Invariant("tells", 1, "what shows whose machine it is, is sensitive", _tells),
            Invariant("ring", 2, "what shows or depends on the ring is sensitive", _shows_ring),
            Invariant("innocuous", 1, "what does the same everywhere is not sensitive", _innocuous),
            Invariant("offenders", 2, "the instructions that break the theorem are named", _offenders),
            Invariant("all", 2, "all of it holds for all measured forms", _all_forms, hidden=True),
        ),
        hints=(
            "Write down the three reasons for which an instruction can be sensitive. Each is one line.",
            "A run is a dict: `==` compares trap, seen and system at once. An empty text or list is false.",
            "In rings 1 and 3 a run is different when its trap is empty and it is not equal to ring 0's.",
        ),
    ),
)
