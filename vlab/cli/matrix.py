"""`vlab matrix`: Popek and Goldberg's theorem, put to the test instruction by instruction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.output import WRITABLE_FILE, say, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from vlab.vmm.matrix import Finding, Matrix, Run

__all__ = ["matrix"]

_STYLES = {"traps": "green", "harmless": "", "differs": "red"}


@click.command()
@click.option("--json", "json_file", type=WRITABLE_FILE, metavar="FILE", help="Write all runs to FILE.")
def matrix(json_file: Path | None) -> int:
    """Execute every sensitive and every privileged instruction of x86, and see which of them trap.

    Popek and Goldberg (1974): a processor can be virtualized by trap-and-emulate when all its sensitive
    instructions are privileged. An instruction is privileged when it traps outside ring 0, and sensitive when
    it changes or shows the state of the machine. On x86 some are sensitive and do not trap.

    Each instruction runs at CPL 0 on the guest's own processor, then at CPL 1 and at CPL 3 on that of a
    monitor (other tables, interrupts on, IOPL 0), then as an AMD-V guest with its intercept set:

    \b
      #GP, #UD   it traps: the monitor hears of it, and can do it instead
      harmless   it executes, with the result that the first run gave
      differs    it executes, with another result, and nobody is told
      same       (AMD-V) it executes in the guest, as in the first run
      PUSHF ...  (AMD-V) the monitor gets it, by the exit of that name

    What differs is compared with the list of Robin and Irvine (2000). docs/MATRIX.md explains the table.

    \b
    Exit status: 0 when the runs give the documented set, 1 otherwise.
    """
    from rich.console import Console

    from vlab.vmm.matrix import measure

    found = measure()
    console = Console(highlight=False)
    console.print(_table(found))
    console.print()
    for line in _conclusion(found):
        console.print(line, markup=False)
    if json_file:
        write_json(json_file, [_as_json(finding, found) for finding in found.findings])
    return _verdict(found)


def _table(found: Matrix) -> Table:
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=0)
    for heading in ("instruction", "CPL 0", "CPL 1", "CPL 3", "AMD-V"):
        table.add_column(heading, no_wrap=True)
    table.add_column("the guest gets")
    group = ""
    for finding in found.findings:
        if finding.form.group != group:
            group = finding.form.group
            table.add_section()
            table.add_row(f"[bold]{group}[/]")
        table.add_row(
            escape(finding.form.name),
            finding.cpl0.trap.partition("(")[0] or "ok",
            _cell(finding, finding.cpl1),
            _cell(finding, finding.cpl3),
            _svm(finding),
            escape(_difference(finding)),
        )
    return table


def _cell(finding: Finding, run: Run) -> str:
    outcome = finding.outcome(run).value
    style, text = _STYLES[outcome], run.trap or outcome
    text = text.partition("(")[0]
    return f"[{style}]{text}[/]" if style else text


def _svm(finding: Finding) -> str:
    if finding.exits:
        return finding.svm.trap
    return "[dim]same[/]" if finding.right_under_svm else "[red]WRONG[/]"


def _difference(finding: Finding) -> str:
    """Tell the first difference at CPL 1, or at CPL 3 where there is none at CPL 1."""
    for run in (finding.cpl1, finding.cpl3):
        for difference in finding.differences(run):
            return difference.text
    return ""


def _conclusion(found: Matrix) -> list[str]:
    from vlab.isa.sensitive_forms import ROBIN_IRVINE
    from vlab.vmm.matrix import BESIDE

    agree = [name for name in ROBIN_IRVINE if name in found.trouble]
    reasons: dict[str, list[str]] = {}
    for name in sorted(found.trouble - set(ROBIN_IRVINE)):
        reasons.setdefault(BESIDE.get(name, "unexpected"), []).append(name)
    all_names = {finding.form.instruction for finding in found.findings}
    sizes = f"Privileged: {len(found.privileged)}. Sensitive: {len(found.sensitive)}."
    return [
        f"{len(found.findings)} forms of {len(all_names)} instructions. {sizes}",
        f"Sensitive, and not trapping: {len(found.trouble)}. x86 needs more than trap-and-emulate.",
        f"On the list of Robin and Irvine, {len(agree)} of {len(ROBIN_IRVINE)}: {', '.join(agree)}.",
        *(f"Not on it: {', '.join(names)} ({why})." for why, names in reasons.items()),
    ]


def _verdict(found: Matrix) -> int:
    from vlab.vmm.matrix import EXPECTED

    for name in sorted(found.trouble ^ EXPECTED):
        should = "should have trapped, and executed" if name in found.trouble else "should have got through"
        say(f"{name} {should}: this machine is not the documented one")
    for finding in found.wrong_under_svm:
        say(f"{finding.form.name} under AMD-V gave {finding.svm.text}, where {finding.cpl0.text} is right")
    return 0 if found.as_expected else 1


def _as_json(finding: Finding, found: Matrix) -> dict[str, object]:
    from vlab.isa.sensitive_forms import ROBIN_IRVINE
    from vlab.vmm.matrix import EXPECTED

    form = finding.form
    return {
        "instruction": form.instruction,
        "name": form.name,
        "group": form.group,
        "encoding": form.encoding.hex(),
        "mode": "64-bit" if form.long64 else "protected 32-bit",
        "reference": form.reference,
        "cpl0": {"outcome": "traps" if finding.cpl0.trap else "executes", "text": finding.cpl0.text},
        "cpl0_of_the_monitor": {
            "outcome": "traps" if finding.elsewhere.trap else "executes",
            "text": finding.elsewhere.text,
        },
        "cpl1": _ring_as_json(finding, finding.cpl1),
        "cpl3": _ring_as_json(finding, finding.cpl3),
        "svm": {
            "intercept": None if form.exit_ is None else form.exit_.name,
            "outcome": "exits" if finding.exits else "same" if finding.right_under_svm else "differs",
            "text": finding.svm.text,
        },
        "privileged": finding.privileged,
        "sensitive": bool(finding.sensitive),
        "sensitive_because": finding.sensitive,
        "class": finding.verdict.value,
        "sensitive_unprivileged": finding.trouble,
        "sets": {
            "privileged": form.instruction in found.privileged,
            "sensitive": form.instruction in found.sensitive,
            "sensitive_unprivileged": form.instruction in found.trouble,
            "expected": form.instruction in EXPECTED,
            "robin_irvine": form.instruction in ROBIN_IRVINE,
            "robin_irvine_requirement": form.step or None,
        },
    }


def _ring_as_json(finding: Finding, run: Run) -> dict[str, object]:
    return {
        "outcome": finding.outcome(run).value,
        "text": run.text,
        "differences": [
            {"what": each.what, "got": each.got, "right": each.right} for each in finding.differences(run)
        ],
    }
