"""The magics in an IPython shell of this process: what they show, what they refuse, what they complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("IPython")
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import vlab
from vlab.addresses import held_in
from vlab.errors import UnusableInput, VlabError
from vlab.guests import catalogue
from vlab.guests.assembler import assemblers
from vlab.jupyter import magics, options
from vlab.jupyter.saying import Said, table

needs_assembler = pytest.mark.skipif(not assemblers(), reason="no assembler is here")

WRITE_IT = (
    "is no address; write it in hexadecimal as 0xc0100000, in decimal, or as one of RIP, RSP, CR2, GDTR, IDTR"
)


@pytest.fixture(autouse=True)
def own_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no other test know the guests of one."""
    monkeypatch.setattr(catalogue, "_session", {})


class Notebook:
    """Runs cells. ``said``: what the last one displayed or returned, as words; ``error``: what ended it."""

    def __init__(self, shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.shell, self._capsys = shell, capsys
        self.said, self.error, self.result = "", None, None

    def __call__(self, cell: str) -> str:
        self._capsys.readouterr()
        done = self.shell.run_cell(cell, store_history=False)
        self.error, self.result = done.error_in_exec, done.result
        self.said = self._capsys.readouterr().out
        return self.said

    def complete(self, line: str) -> list[str]:
        with provisionalcompleter():
            return [found.text for found in self.shell.Completer.completions(line, len(line))]


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    made = InteractiveShell.instance(colors="nocolor")
    vlab.load_ipython_extension(made)
    yield made
    vlab.unload_ipython_extension(made)
    InteractiveShell.clear_instance()


@pytest.fixture
def notebook(shell: Any, capsys: pytest.CaptureFixture[str]) -> Iterator[Notebook]:
    shell.user_ns["vlab"] = vlab
    yield Notebook(shell, capsys)
    for name, value in list(shell.user_ns.items()):
        if isinstance(value, vlab.VM):
            value.close()
            del shell.user_ns[name]


@pytest.fixture
def hello(notebook: Notebook) -> vlab.VM:
    notebook("vm = vlab.VM('hello', trace='full')")
    return notebook.shell.user_ns["vm"]


# --- %%asm -------------------------------------------------------------------------------------------------


@needs_assembler
def test_a_cell_shows_what_its_code_did_to_the_registers(notebook: Notebook) -> None:
    said = notebook("%%asm --bits 32\nmov eax, 40\nadd eax, 2\nmov cr2, eax")
    assert notebook.error is None
    assert "the code ran to its end (15 bytes, 32 bits, hardware/nested, as vm)" in said
    assert "* eax    00000000 -> 0000002a" in said
    assert "  ecx    00000000\n" in said
    assert "* cr2    00000000 -> 0000002a" in said
    assert "exits: HLT 1" in said
    assert notebook.shell.user_ns["vm"].registers().rax == 42


@needs_assembler
def test_16_bit_code_finds_the_machine_as_the_firmware_leaves_it(notebook: Notebook) -> None:
    said = notebook("%%asm\nmov al, 'x'\nmov dx, 0x3f8\nout dx, al")
    assert "* edx    00000080 -> 000003f8" in said
    assert "* eip    00007c00 -> " in said
    assert "console:\nx\n" in said  # and nothing of what the firmware wrote
    assert "exits: HLT 1, IOIO 1" in said


@needs_assembler
def test_64_bit_code_is_in_long_mode(notebook: Notebook) -> None:
    said = notebook("%%asm --bits 64\nmov r15, 5\nmov rax, cr3")
    assert "* r15    0000000000000000 -> 0000000000000005" in said
    assert "* rax    0000000000000000 -> 0000000000094000" in said


@needs_assembler
def test_a_fault_is_told_with_its_story(notebook: Notebook) -> None:
    said = notebook("%%asm --bits 32\nud2")
    assert "triple fault: the guest's exception handling failed three times over (" in said
    assert "1. delivering #UD raised #GP" in said
    assert "at 0x100000: ud2" in said
    assert said.count("triple fault: the guest's") == 1


@needs_assembler
def test_the_monitor_and_the_variable_can_be_chosen(notebook: Notebook) -> None:
    said = notebook("%%asm --bits=32 --monitor trap-emulate --vm old\npushf\npop eax")
    assert "trap-emulate/shadow, as old" in said
    assert notebook.shell.user_ns["old"].monitor == "trap-emulate"
    assert notebook("%%asm --bits 32 --paging shadow --memory 8M\nnop").count("hardware/shadow") == 1
    assert notebook.shell.user_ns["vm"].memory_bytes == 8 << 20


@needs_assembler
def test_so_many_exits_are_waited_for_and_shown(notebook: Notebook) -> None:
    said = notebook("%%asm --steps 2 --trace\nmov eax, 1\ncpuid\nxor eax, eax\ncpuid\ncpuid")
    assert "2 exits done; the guest is at " in said
    assert "exits: CPUID 2" in said
    rows = [line.split() for line in said.splitlines() if " CPUID " in line and "leaf" in line]
    assert [(row[0], row[2]) for row in rows] == [("1", "CPUID"), ("2", "CPUID")]
    assert "leaf 0x1, subleaf 0x0" in said


@needs_assembler
@pytest.mark.parametrize("monitor", ["none", "hardware", "trap-emulate"])
def test_a_guest_that_waits_for_an_interrupt_has_halted(notebook: Notebook, monitor: str) -> None:
    said = notebook(f"%%asm --until-halt --monitor {monitor}\nmov bx, 5\nsti\nagain: hlt\njmp again")
    assert "the guest waits in HLT, just before 0x7c05" in said


@needs_assembler
def test_code_that_loops_for_ever_is_stopped_after_a_while(notebook: Notebook) -> None:
    said = notebook("%%asm --bits 32 --timeout 0.2\nnop\nagain: jmp again")
    assert (
        "the time ran out: 0.2 seconds of wall time, at 0x100001: jmp 0x100001; --timeout S gives it more"
        in said
    )


@needs_assembler
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("cell", ["%%asm --bits 32 --until-halt\nagain: jmp again", "%vm run"])
def test_ctrl_c_stops_a_guest_that_loops_for_ever_and_says_where_it_was(
    notebook: Notebook, cell: str
) -> None:
    notebook("%%asm --bits 32 --timeout 0.1\nagain: jmp again")
    press = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
    press.start()
    said = notebook(cell)
    press.join()
    assert isinstance(notebook.error, KeyboardInterrupt)
    assert "interrupted at 0x100000: jmp 0x100000; the guest is paused there" in said
    assert "Traceback" not in said
    assert not notebook.shell.user_ns["vm"].running
    assert "eax" in notebook("%vm regs")


@needs_assembler
def test_a_mistake_in_the_code_is_shown_with_its_line_in_the_cell_and_a_caret(notebook: Notebook) -> None:
    said = notebook("%%asm --bits 32\nmov eax, 1\n  mvo ebx, 2")
    assert said.strip() == "line 3: 'mvo' is no instruction; did you mean mov?\n      mvo ebx, 2\n      ^"
    assert isinstance(notebook.error, VlabError)


@needs_assembler
def test_what_it_shows_in_a_notebook_is_safe_html(notebook: Notebook) -> None:
    code = "\n".join(f"mov al, {ord(letter)}\nout dx, al" for letter in "<b>\x1b")
    notebook(f"%%asm --bits 32\nmov dx, 0x3f8\n{code}")
    found = notebook.result._repr_html_()
    assert "&lt;b&gt;·" in found
    assert 'aria-label="changed"' in found
    assert "<b>" not in found


@needs_assembler
def test_a_cell_that_is_run_again_lets_the_vm_of_before_go(notebook: Notebook) -> None:
    from vlab.session import open_vms

    notebook("%%asm --bits 32\nnop")
    before = len(open_vms())
    notebook("%%asm --bits 32\nnop")
    assert len(open_vms()) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--bit 32", "%%asm: there is no option '--bit'; did you mean --bits?"),
        ("--bits 8", "%%asm --bits: '8' is not possible; give 16, 32 or 64"),
        ("--bits", "%%asm --bits: its value is missing; write --bits 16|32|64"),
        ("--trace=yes", "%%asm --trace: it takes no value, and 'yes' is given; leave that out"),
        ("--steps 0", "%%asm --steps: '0' is no number to use here; give a whole number from 1"),
        ("--timeout soon", "%%asm --timeout: 'soon' is no number to use here; give seconds, such as 5"),
        ("--timeout nan", "%%asm --timeout: 'nan' is no number to use here; give seconds, such as 5"),
        ("--vm 1x", "%%asm --vm: '1x' is no name for a variable; use letters, digits and '_'"),
        ("mov", "%%asm: 'mov' is no option; the code begins on the next line"),
        ("--steps 1 --until-halt", "%%asm: --steps and --until-halt are both given; choose one of them"),
        ("--vm 'x", '%%asm: "--vm \'x" has a quote without its partner; add it'),
        (
            "--monitor kvm",
            "%%asm --monitor: 'kvm' is not possible; give none, trap-emulate, binary-translation or hardware",
        ),
        pytest.param(
            "--paging direct",
            "paging: 'direct' does not go with the monitor hardware; choose nested or shadow",
            marks=needs_assembler,
        ),
        pytest.param(
            "--memory 1K",
            "memory: '1K' is not between 2M and 3G; ask for more",
            marks=needs_assembler,
        ),
        pytest.param(
            "--steps 1 --monitor none",
            "%%asm --steps: the bare machine has no exits to count; choose another --monitor",
            marks=needs_assembler,
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_a_sentence(
    notebook: Notebook, line: str, message: str
) -> None:
    assert notebook(f"%%asm {line}\nnop").strip() == message
    assert isinstance(notebook.error, UnusableInput)


# --- %%guest -----------------------------------------------------------------------------------------------


@needs_assembler
def test_a_guest_of_a_cell_boots_by_its_name(notebook: Notebook) -> None:
    said = notebook("%%guest adder --bits 32\n_start: mov eax, 5\nvalue: .long 7")
    assert "guest 'adder': elf32, " in said
    assert "13 bytes of code at 0x100000" in said
    assert "value   0x100005" in said
    assert "boot it with vm = vlab.VM('adder')" in said
    notebook("v = vlab.VM('adder', monitor='trap-emulate')")
    assert notebook.error is None


@needs_assembler
def test_a_guest_that_is_made_again_is_the_new_one_and_the_old_vm_keeps_its_own(notebook: Notebook) -> None:
    notebook("%%guest again --bits 32\nmov eax, 1")
    notebook("old = vlab.VM('again'); start = old.snapshot(); old.run()")
    notebook("%%guest again --bits 32\nmov eax, 2")
    notebook("new = vlab.VM('again'); new.run(); old.restore(start); old.run()")
    assert notebook.error is None
    names = notebook.shell.user_ns
    assert (names["old"].registers().rax, names["new"].registers().rax) == (1, 2)


@needs_assembler
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "%%guest: give it one name, such as %%guest mine, by which vlab.VM('mine') finds it"),
        ("a b", "%%guest: give it one name, such as %%guest mine, by which vlab.VM('mine') finds it"),
        ("hello", "name: 'hello' is a bundled guest; choose another name"),
        ("'a b'", "name: 'a b' is not possible; use letters, digits, '.', '_' and '-'"),
        ("../../x", "name: '../../x' is not possible; use letters, digits, '.', '_' and '-'"),
        ("x --lang c", "%%guest: there is no option '--lang'; there are --bits"),
    ],
)
def test_a_guest_without_a_usable_name_is_refused(notebook: Notebook, line: str, message: str) -> None:
    assert notebook(f"%%guest {line}\nnop").strip() == message


# --- %vm ---------------------------------------------------------------------------------------------------


def test_a_run_shows_why_it_stopped_and_what_the_guest_wrote(notebook: Notebook, hello: vlab.VM) -> None:
    said = notebook("%vm run --until hello --timeout 30")
    assert "what was waited for has happened; the guest is at 0x" in said
    assert "console:\nvlab firmware: 16 MiB of memory\nhello" in said
    assert "exits: IOIO" in said
    assert "the guest ended with status 0 (success)" in notebook("%vm run")


def test_steps_go_forth_and_back(notebook: Notebook, hello: vlab.VM) -> None:
    stops = []
    for _ in range(3):  # the exits of one block can share a stop
        notebook("%vm step")
        stops.append(hello.exits.total)
    assert f"back at the state after exit {stops[0]}; the guest is at" in notebook("%vm back 2")
    assert hello.exits.total == stops[0]
    notebook("%vm step 2")
    assert hello.exits.total == stops[1]


def test_a_moment_is_kept_and_gone_back_to(notebook: Notebook, hello: vlab.VM) -> None:
    assert "snapshot '1': " in notebook("%vm snapshot")
    notebook("%vm step 9")
    assert "snapshot 'later': " in notebook("%vm snapshot later")
    there = hello.exits.total
    assert "after 0 exits" in notebook("%vm restore 1")
    assert f"after {there} exits" in notebook("%vm restore later")
    assert notebook.complete("%vm restore ") == ["1", "later"]
    assert "vm has no snapshot 'x'; there are 1, later" in notebook("%vm restore x")


def test_it_shows_registers_code_walks_and_exits(notebook: Notebook, hello: vlab.VM) -> None:
    notebook("%vm step 3")
    said = notebook("%vm regs")
    assert "real mode, CPL 0" in said
    assert "cr0    60000010 ET NW CD" in said
    assert len(notebook("%vm disasm 3").strip().splitlines()) == 4  # with Out[]:
    assert "walk of 0x7c00" in notebook("%vm walk 0x7c00")
    assert f"walk of {held_in(hello.registers())['RIP']:#x}" in notebook("%vm walk rip")
    assert notebook.complete("%vm walk C") == ["CR2"]
    assert f"{hello.exits.total} exits" in notebook("%vm exits")
    last = notebook("%vm exits 2")
    assert "2 exits, each:" in last
    assert "port 0x" in last


def test_it_runs_in_the_background(notebook: Notebook) -> None:
    notebook("vm = vlab.VM('spin')")
    assert "vm runs in the background; %vm pause stops it" in notebook("%vm start")
    assert notebook.shell.user_ns["vm"].running
    assert "running" in notebook("%vm list")
    assert "paused; the guest is at 0x" in notebook("%vm pause")
    assert "vm does not run; it is at 0x" in notebook("%vm pause")


def test_a_trace_is_written(notebook: Notebook, hello: vlab.VM, tmp_path: Path) -> None:
    from vlab.trace.file import load

    notebook("%vm step 4")
    said = notebook(f"%vm trace {tmp_path / 'x.vlabtrace'}")
    assert f"{hello.exits.total} of {hello.exits.total} exits are in " in said
    assert len(load(tmp_path / "x.vlabtrace").exits) == hello.exits.total


def test_the_vm_that_is_meant_is_the_last_one_made_or_chosen(notebook: Notebook) -> None:
    notebook("a = vlab.VM('hello'); b = vlab.VM('spin')")
    assert "b: <VM 'spin'" in notebook("%vm")
    assert "%vm means a now" in notebook("%vm use a")
    assert "a: <VM 'hello'" in notebook("%vm")
    rows = notebook("%vm list").splitlines()
    assert [row.split()[0] for row in rows if row.startswith("*")] == ["*"]
    assert "a  " in next(row for row in rows if row.startswith("*"))
    notebook("c = vlab.VM('rings')")
    assert "c: <VM 'rings'" in notebook("%vm")
    notebook("%vm use a")
    notebook("a.close()")
    assert "c: <VM 'rings'" in notebook("%vm")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wlak 3", "%vm: there is no command 'wlak'; did you mean walk?"),
        ("zzz", f"%vm: there is no command 'zzz'; there are {', '.join(magics._USAGE)}"),
        ("walk", "%vm walk: ADDR is missing; write %vm walk ADDR"),
        ("walk here", f"%vm walk: 'here' {WRITE_IT}"),
        ("walk 7c00", f"%vm walk: '7c00' {WRITE_IT}; did you mean 0x7c00?"),
        ("walk -1", "%vm walk: '-1' is not between 0 and 0xffffffffffffffff; a linear address has 64 bits"),
        ("step x", "%vm step: 'x' is no number to use here; give a whole number from 1"),
        ("step 1 2", "%vm step: '2' is too much; it takes [N] alone"),
        ("regs all", "%vm regs: 'all' is too much; it takes nothing"),
        ("run hello", "%vm run: 'hello' is too much; it takes [--until TEXT] [--timeout S] alone"),
        ("run --untill x", "%vm run: there is no option '--untill'; did you mean --until?"),
        ("step --fast", "%vm step: there is no option '--fast'; it takes none"),
        ("use nix", "vm: 'nix' is no variable with a virtual machine; there are: vm"),
        ("back", "step_back: this is the start of the history"),
        ("trace /", "/"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_done_is_refused_in_a_sentence(
    notebook: Notebook, hello: vlab.VM, line: str, message: str
) -> None:
    said = notebook(f"%vm {line}").strip()
    assert isinstance(notebook.error, VlabError)
    assert "Traceback" not in said
    if line in ("back", "trace /"):
        assert "\n" not in said
    else:
        assert said == message


def test_without_a_vm_it_says_how_to_make_one(notebook: Notebook) -> None:
    for vm in list(notebook.shell.user_ns.values()):
        assert not isinstance(vm, vlab.VM)
    from vlab.session import open_vms

    for vm in open_vms():
        vm.close()
    message = "vm: there is no virtual machine; make one with vm = vlab.VM('hello') or with a %%asm cell"
    assert notebook("%vm regs").strip() == message
    assert message.removeprefix("vm: there is ") in notebook("%vm list")


def test_the_bare_machine_has_no_steps(notebook: Notebook) -> None:
    notebook("vm = vlab.VM('hello', monitor='none')")
    assert "step: the bare machine has no exits to step over" in notebook("%vm step")
    assert isinstance(notebook.error, VlabError)


def test_single_exits_that_were_not_kept_cannot_be_shown(notebook: Notebook) -> None:
    notebook("vm = vlab.VM('hello')")
    notebook("%vm step")
    assert "no single exits are kept; make the VM with trace='full'" in notebook("%vm exits 3")


# --- help and completion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%vm s", ["start", "step", "snapshot"]),
        ("%vm use ", ["vm"]),
        ("%vm run --u", ["--until"]),
        ("%%asm --mon", ["--monitor"]),
        ("%%asm --monitor h", ["hardware"]),
        ("%%asm --monitor=t", ["trap-emulate"]),
        ("%%asm --bits 64 --tr", ["--trace"]),
        ("%%asm --vm ", ["vm"]),
        ("%%guest mine --", ["--bits"]),
        ("%%guest mine --bits ", ["16", "32", "64"]),
        ("%%asm\nstart: cpu", ["cpuid"]),
        ("%%asm\nstart: jmp sta", ["start"]),
        ("%%asm\nmov eax, cr", ["cr0", "cr2", "cr3", "cr4"]),
    ],
)
def test_what_is_begun_is_completed(notebook: Notebook, hello: vlab.VM, line: str, words: list[str]) -> None:
    assert notebook.complete(line) == words


def test_every_command_and_every_option_is_offered_and_explained(notebook: Notebook) -> None:
    from vlab.jupyter.commands import COMMANDS

    assert notebook.complete("%vm ") == list(COMMANDS)
    said = notebook("%vm?")
    for name in COMMANDS:
        assert f"\n  {name} " in said
    assert notebook.complete("%%asm --") == [f"--{option.name}" for option in magics.ASM]
    for option in magics.ASM:
        assert option.usage in notebook("%%asm?")
    assert "%%guest NAME [options]" in notebook("%%guest?")


def test_every_command_and_every_option_is_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "MAGICS.md").read_text(encoding="utf-8")
    for option in (*magics.ASM, *magics.GUEST, *magics.RUN):
        assert f"`{option.usage}`".replace("|", "\\|") in text, option.name
    for name, (usage, _) in magics._USAGE.items():
        assert f"`%vm {name} {usage}`".replace(" `", "`") in text, name


# --- joining -----------------------------------------------------------------------------------------------


def test_import_vlab_in_ipython_brings_the_magics_and_nothing_heavy() -> None:
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\nimport sys, vlab\n"
        "heavy = ('unicorn', 'numpy', 'vlab.session', 'ipywidgets')\n"
        "print(*[name for name in heavy if name in sys.modules])\n"
        "print(shell.find_cell_magic('asm') is None, shell.find_line_magic('vm') is None)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "\nFalse False\n"


def test_the_extension_is_loaded_twice_and_unloaded(notebook: Notebook) -> None:
    notebook("%load_ext vlab")
    notebook("%reload_ext vlab")
    assert notebook("%vm list")
    vlab.unload_ipython_extension(notebook.shell)
    assert "`%vm` not found" in notebook("%vm list") or notebook.shell.find_line_magic("vm") is None
    assert "run" not in notebook.complete("%vm ")
    vlab.load_ipython_extension(notebook.shell)
    assert notebook("%vm list")


def test_a_table_is_words_and_html() -> None:
    found = table(("a", "b"), [("<x>", "1")])
    assert found.words == "a    b\n<x>  1"
    assert "&lt;x&gt;" in found.body
    assert repr(Said("w", "<p>b</p>")) == "w"


def test_an_option_without_choices_completes_nothing() -> None:
    assert options.complete(magics.ASM, ["--memory"], "") == []
