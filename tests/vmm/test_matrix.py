"""Popek and Goldberg, measured: what traps, what differs in silence, and the sets that follow."""

from __future__ import annotations

import pytest

from vlab.isa.sensitive_forms import FORMS, ROBIN_IRVINE, Form
from vlab.isa.svm_exits import SvmExit
from vlab.machine.identity import Identity
from vlab.vmm.matrix import BESIDE, EXPECTED, Difference, Finding, Matrix, Outcome, Run, measure
from vlab.vmm.virtual_cpu import virtual_identity

TRAPS, DIFFERS, HARMLESS = Outcome.TRAPS, Outcome.DIFFERS, Outcome.HARMLESS


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return measure()


@pytest.fixture
def finding(matrix: Matrix) -> dict[str, Finding]:
    return {each.form.name: each for each in matrix.findings}


@pytest.mark.parametrize(
    ("name", "ring1", "ring3"),
    [
        ("CLI", TRAPS, TRAPS),
        ("HLT", TRAPS, TRAPS),
        ("MOV CR0, EAX", TRAPS, TRAPS),
        ("RDTSC", TRAPS, TRAPS),
        ("IN AL, DX", TRAPS, TRAPS),
        ("INSB", TRAPS, TRAPS),
        ("SYSCALL", TRAPS, TRAPS),
        ("INT n", TRAPS, TRAPS),
        ("INT n, gate given", DIFFERS, DIFFERS),
        ("PUSHF", DIFFERS, DIFFERS),
        ("POPF", DIFFERS, DIFFERS),
        ("SGDT [mem]", DIFFERS, DIFFERS),
        ("LAR of CS", DIFFERS, DIFFERS),
        ("MOV EAX, CS", DIFFERS, DIFFERS),
        ("MOV EAX, DS", HARMLESS, HARMLESS),
        ("MOV DS, AX", HARMLESS, HARMLESS),
        ("MOV DS, AX, RPL 1", DIFFERS, DIFFERS),
        ("MOV SS, AX", TRAPS, TRAPS),
        ("JMP far", HARMLESS, HARMLESS),
        ("CALL far", DIFFERS, DIFFERS),
        ("IRET", TRAPS, TRAPS),
        ("IRET to ring 3", DIFFERS, DIFFERS),
        ("RET far to ring 3", HARMLESS, DIFFERS),
        ("RET far, RPL 1", DIFFERS, TRAPS),
        ("CPUID", HARMLESS, HARMLESS),
    ],
)
def test_a_form_is_classified_by_its_runs(
    finding: dict[str, Finding], name: str, ring1: Outcome, ring3: Outcome
) -> None:
    found = finding[name]
    assert (found.outcome(found.cpl1), found.outcome(found.cpl3)) == (ring1, ring3)


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("PUSHF", "[sp] 0x202, not 0x2"),
        ("POPF", "IF unchanged, not 1"),
        ("SMSW EAX", "eax 0x33, not 0x19"),
        ("SLDT AX", "eax 0x80, not 0x50"),
        ("STR AX", "eax 0x70, not 0x40"),
        ("MOV EAX, CS", "eax 0x9, not 0x8"),
        ("PUSH CS", "[sp] 0x9, not 0x8"),
        ("CALL far", "[sp+4] 0x9, not 0x8"),
        ("VERR, RPL 1", "ZF 1, not unchanged"),
        ("POP DS, RPL 1", "no #GP(0x10)"),
        ("IRET to ring 3", "IF unchanged, not 1"),
    ],
)
def test_a_silent_difference_says_what_the_guest_got_and_what_was_right(
    finding: dict[str, Finding], name: str, difference: str
) -> None:
    found = finding[name]
    assert found.differences(found.cpl1)[0].text == difference


@pytest.mark.parametrize(
    ("name", "trap"),
    [
        ("CLI", "#GP(0)"),
        ("LTR AX", "#GP(0)"),
        ("SYSCALL", "#UD"),
        ("INT n", "#GP(0x182)"),
        ("IRET", "#GP(0x8)"),
    ],
)
def test_a_trap_is_named_with_its_error_code(finding: dict[str, Finding], name: str, trap: str) -> None:
    assert (finding[name].cpl1.text, finding[name].cpl3.text) == (trap, trap)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("STI", "IF=1"),
        ("HLT", "processor=halted"),
        ("LTR AX", "tr=0x68"),
        ("SWAPGS", "gs.base=0x3000, kernel_gs_base=0x0"),
        ("MOV CR8, RAX", "cr8=0x5"),
        ("OUT DX, AL", "port 0x80=0x42"),
        ("INSB", "edi=0x20001, [mem]=0x5a, port 0x80=read"),
        ("SYSENTER", "at=the entry"),
        ("MOV DR0, EAX", "dr0=0x6000"),
        ("INVLPG [mem]", "done"),
        ("VMRUN", "#UD"),
    ],
)
def test_on_the_bare_processor_an_instruction_does_its_work(
    finding: dict[str, Finding], name: str, text: str
) -> None:
    assert finding[name].cpl0.text == text


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CLI", "changes IF"),
        ("LIDT [mem]", "changes idtr"),
        ("RET far to ring 3", "changes ring"),
        ("MOV EAX, CR3", "shows whose machine it is"),
        ("RDTSC", "shows whose machine it is"),
        ("MOV EAX, CS", "shows which ring it is in"),
        ("WBINVD", "is about the caches"),
        ("JMP far", ""),
        ("CPUID", ""),
    ],
)
def test_an_instruction_is_sensitive_for_a_reason(finding: dict[str, Finding], name: str, why: str) -> None:
    assert finding[name].sensitive == why


def test_amd_v_gives_the_monitor_what_it_has_an_intercept_for_and_gets_the_rest_right(matrix: Matrix) -> None:
    assert matrix.wrong_under_svm == ()
    # #UD comes before the intercept of what a processor has not.
    missed = {each.form.name for each in matrix.findings if each.form.exit_ and not each.exits}
    assert missed == {"MONITOR", "MWAIT"}
    exits = {each.form.exit_ for each in matrix.findings if each.exits}
    assert {
        SvmExit.CPUID,
        SvmExit.EXCP_BP,
        SvmExit.IOIO,
        SvmExit.GDTR_READ,
        SvmExit.READ_CR8,
        SvmExit.VMRUN,
    } <= exits


def test_what_differs_in_silence_under_trap_and_emulate_is_right_under_amd_v(matrix: Matrix) -> None:
    silent = [each for each in matrix.findings if each.verdict is DIFFERS]
    assert len(silent) > len(EXPECTED)
    assert all(each.right_under_svm for each in silent)


def test_the_derived_set_is_the_documented_one(matrix: Matrix) -> None:
    assert matrix.trouble == EXPECTED == set(ROBIN_IRVINE) | set(BESIDE)
    assert len(ROBIN_IRVINE) == len(set(ROBIN_IRVINE)) == 18
    assert matrix.as_expected


def test_popek_and_goldbergs_condition_does_not_hold_on_x86(matrix: Matrix) -> None:
    assert not matrix.sensitive <= matrix.privileged
    assert not matrix.trouble & matrix.privileged
    assert matrix.trouble <= matrix.sensitive


def test_the_privileged_instructions_are_those_of_the_manual(matrix: Matrix) -> None:
    # Those with a privilege check, and what the monitor's settings make trap (IOPL, CR4, EFER, the bitmap).
    assert matrix.privileged == {
        "CLI", "STI", "HLT", "MOV CRn", "CLTS", "LMSW", "MOV DRn", "LGDT", "LIDT", "LLDT", "LTR", "INT3",
        "SYSENTER", "SYSEXIT", "SYSCALL", "SYSRET", "SWAPGS", "RDMSR", "WRMSR", "RDPMC", "RDTSC", "RDTSCP",
        "INVLPG", "INVD", "WBINVD", "IN", "OUT", "INS", "OUTS",
    }  # fmt: skip


NOT_OFFERED = (
    # form, and the CPUID bit that says so (APM3 appendix E): leaf, register, bit
    (Form("registers", "XSETBV", "XSETBV", "0f01d1", SvmExit.XSETBV, registers={"rax": 1}), 1, 2, 26),
    (Form("caches", "INVPCID", "INVPCID", "660f388205DATA", SvmExit.INVPCID, registers={"rax": 2}), 7, 1, 10),
    (Form("registers", "RDPRU", "RDPRU", "0f01fd", SvmExit.RDPRU), 0x80000008, 1, 4),
)


@pytest.mark.parametrize(
    ("form", "leaf", "register", "bit"), NOT_OFFERED, ids=lambda each: getattr(each, "name", "")
)
def test_what_the_matrix_leaves_out_is_not_offered_and_undefined_in_every_ring(
    form: Form, leaf: int, register: int, bit: int
) -> None:
    assert form.instruction not in {each.instruction for each in FORMS}
    for identity in (Identity(), virtual_identity()):
        assert not identity.cpuid(leaf, 0)[register] >> bit & 1
    (found,) = measure([form]).findings
    runs = found.cpl0, found.elsewhere, found.cpl1, found.cpl3, found.svm
    assert {run.text for run in runs} == {"#UD"}
    assert not found.privileged
    assert not found.sensitive


def test_two_measurements_agree(matrix: Matrix) -> None:
    assert measure() == matrix


def test_every_encoding_is_there_once_with_its_operands() -> None:
    names = [form.name for form in FORMS]
    assert len(names) == len(set(names))
    by_name = {form.name: form for form in FORMS}
    assert by_name["JMP far"].encoding.hex() == "ea001001000800"
    assert by_name["SGDT [mem]"].encoding.hex() == "0f010500000200"
    assert by_name["SGDT [mem]"].reference == "APM3 SGDT"
    assert {form.instruction for form in FORMS if form.step == "3B"} == set(ROBIN_IRVINE[:6])
    assert {form.instruction for form in FORMS if form.step == "3C"} == set(ROBIN_IRVINE[6:])


def test_another_set_is_not_taken_for_the_documented_one() -> None:
    few = measure([form for form in FORMS if form.instruction in ("CLI", "POPF")])
    assert few.trouble == {"POPF"}
    assert few.privileged == {"CLI"}
    assert not few.as_expected


def test_a_guest_that_gets_something_else_under_amd_v_is_noticed() -> None:
    done, wrong = Run("", {"eax": "0x1"}), Run("", {"eax": "0x2"})
    finding = Finding(Form("x", "X", "X", "90"), done, done, done, wrong, wrong)
    assert Matrix((finding,)).wrong_under_svm == (finding,)
    assert finding.differences(wrong) == (Difference("eax", "0x2", "0x1"),)
